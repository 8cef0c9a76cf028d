"""What the settings of a request mean for a tokenizer: looked up once, and never at a cost that grows with the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.rules import Endings, Vocabulary, rules_of, vocabulary
from movieplotgpt.generation.sampling import Chosen
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import Writing
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.text.tokenizer import ByteSettings, Tokenizer

Make = Callable[..., Checkpoint]
BYTES = ByteSettings().train([], "END")
AB = st.text("ab", max_size=8)
WORDS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)


@pytest.fixture
def tokenizer(tiny_checkpoint: Make) -> Tokenizer:
    return tiny_checkpoint("bpe").tokenizer


@given(WORDS, AB)
def test_what_the_end_of_a_text_begins_is_the_oracles(words: list[str], text: str) -> None:
    endings = Endings(words)
    begun = [size for word in words for size in range(1, len(word)) if text.endswith(word[:size])]
    assert endings.begun(text) == max(begun, default=0)
    rests = {word[size:] for word in words for size in range(1, len(word)) if text.endswith(word[:size])}
    assert set(endings.rests(text, 9)) == rests
    assert set(endings.rests(text, 2)) == {rest for rest in rests if len(rest) <= 2}


@given(WORDS, AB, AB)
def test_what_new_characters_complete_is_the_oracles(words: list[str], old: str, new: str) -> None:
    completed = {word for word in words if word in old + new and (old + new).rfind(word) + len(word) > len(old)}
    found = Endings(words).held_at_end(old + new, len(new))
    assert found in completed if completed else found is None


def test_tokens_are_found_by_their_spelling(tokenizer: Tokenizer) -> None:
    known = vocabulary(tokenizer)
    special = (tokenizer.end_id, tokenizer.pad_id)
    spelled_by = {id_: tokenizer.token_bytes(id_) for id_ in range(tokenizer.vocab_size) if id_ not in special}
    for spelling in (b"a", b" th", b"e", "\u00e9".encode(), b"nothing like it", b","):
        begins = {id_ for id_, spelled in spelled_by.items() if spelled.startswith(spelling)}
        holds = {id_ for id_, spelled in spelled_by.items() if spelling in spelled}
        assert set(known.beginning(spelling)) == begins and set(known.holding([spelling]).tolist()) == holds
    assert known.longest == max(len(tokenizer.token_bytes(id_)) for id_ in range(257, tokenizer.vocab_size))


def test_many_texts_of_one_request_are_one_look_up(tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, calls, encoded = PlotGenerator(tiny_checkpoint("bpe")), list[Any](), list[str]()
    holding, encode = Vocabulary.holding, generator.checkpoint.tokenizer.encode

    def counted(known: Vocabulary, spellings: Iterable[bytes]) -> Any:
        calls.append(spellings)
        return holding(known, spellings)

    def encoding(text: str) -> Any:
        encoded.append(text)
        return encode(text)

    monkeypatch.setattr(Vocabulary, "holding", counted)
    banned = [f"w{number:02}" for number in range(64)]
    requests = generator.requests("Ada", n=256, banned=banned, dry_multiplier=1.0, seed=0)
    monkeypatch.setattr(generator.checkpoint.tokenizer, "encode", encoding)
    assert len(generator.writings(requests)) == 256
    assert len(calls) == 2 and len(encoded) <= 3, (
        "banned texts and breakers; the header, one without a title, no beginning"
    )
    other = SamplingConfig(banned=tuple(banned), dry_multiplier=2.0, temperature=0.3)
    assert rules_of(generator.checkpoint.tokenizer, other) is rules_of(
        generator.checkpoint.tokenizer, other.model_copy(update={"temperature": 1.0})
    )


def test_rules_and_beginning_are_cut_to_the_context(tiny_checkpoint: Make) -> None:
    tokenizer = tiny_checkpoint("bpe").tokenizer
    encoded: list[str] = []

    def encode(text: str) -> list[int]:
        encoded.append(text)
        return tokenizer.encode(text).tolist()

    begun = "storm harbour " * 7_000
    writing = Writing(Prompt("X", begun), tokenizer, 64, SamplingConfig(), seed=0, encode=encode)
    assert max(map(len, encoded)) <= 64 * tokenizer.longest_token and begun.endswith(encoded[-1])
    assert len(writing.history().ids) == 64
    whole = Writing(Prompt("X", begun[-400:]), tokenizer, 64, SamplingConfig(), seed=0)
    assert list(writing.history().ids) == list(whole.history().ids)


def test_the_gain_of_a_long_text_leaves_the_words_of_the_title_out() -> None:
    writing = Writing(Prompt("X", title="a"), BYTES, 64, SamplingConfig(max_tokens=3_000), seed=0, without_title="")
    for _ in range(1_500):
        for character in "a ":
            if not writing.finish_reason:
                writing.take(Chosen(ord(character) + 1, gain=1.0 if character == " " else 5.0))
    assert writing.title_gain == 1.0
