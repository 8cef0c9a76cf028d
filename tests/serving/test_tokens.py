"""Prompts of token ids, and tokens as their bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_tiny_checkpoint

from movieplotgpt.generation.prompts import PromptForm
from movieplotgpt.serving.tokens import BYTES, prompt_ids, read_shown, shown, token_prompt

HEADER = "The plot summary of the movie named 'Ada' is:\n"
FORMS = {
    kind: PromptForm(make_tiny_checkpoint(kind, hints=("Genre",), context_length=256))
    for kind in ("bpe", "char", "byte")
}


@given(st.sampled_from(sorted(FORMS)), st.lists(st.integers(0, 300), max_size=30), st.booleans())
def test_ids_come_back_as_they_were(kind: str, ids: list[int], titled: bool) -> None:
    form = FORMS[kind]
    start = form.tokenizer.encode(HEADER).tolist() if titled else []
    whole = [*start, *(id_ for id_ in ids if id_ < form.tokenizer.vocab_size)]
    prompt = token_prompt(form, whole)
    marked = whole[:1] == [form.tokenizer.end_id]
    assert prompt_ids(form.tokenizer, prompt) == whole[marked:]
    assert prompt.marker == ("END_OF_PLOT" if marked else "")
    assert token_prompt(form, [form.tokenizer.end_id, *whole]).marker == "END_OF_PLOT"
    assert prompt.header + prompt.begun == form.tokenizer.decode(whole[marked:]) or "\ufffd" in prompt.begun


def test_a_header_is_known_by_its_ids_only() -> None:
    form = FORMS["bpe"]
    own = form.tokenizer.encode("Genre: drama\n" + HEADER).tolist()
    known = token_prompt(form, [*own, 300])
    assert (known.title, known.begun_ids) == ("Ada", (300,)) and known.header.endswith(HEADER)
    letters = [id_ for letter in HEADER for id_ in form.tokenizer.encode(letter).tolist()]
    assert letters != form.tokenizer.encode(HEADER).tolist()
    unknown = token_prompt(form, letters)
    assert (unknown.header, unknown.title, unknown.begun) == ("", "", HEADER)


def test_a_header_that_the_model_reads_only_the_end_of_is_no_header() -> None:
    form = PromptForm(make_tiny_checkpoint("byte", context_length=64))
    ids = form.tokenizer.encode(HEADER).tolist()
    assert token_prompt(form, ids).header == "" and token_prompt(form, ids).begun_ids == tuple(ids)


@given(st.binary(max_size=8))
def test_bytes_come_back_as_they_were(spelling: bytes) -> None:
    assert read_shown(shown(spelling, BYTES)) == spelling


@pytest.mark.parametrize(("spelling", "text"), [(b"caf\xc3\xa9", "café"), (b"\xe2\x80", r"bytes:\xe2\x80"), (b"", "")])
def test_tokens_as_openai_shows_them(spelling: bytes, text: str) -> None:
    assert shown(spelling, BYTES) == text and shown(spelling) == text.removeprefix(BYTES)


def test_what_only_looks_like_bytes_is_text() -> None:
    for text in ("bytes:", r"bytes:\xe", "bytes:e2", r"bytes:\xE2", r"a bytes:\xe2"):
        assert read_shown(text) == text.encode()
