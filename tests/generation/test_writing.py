"""A text comes to its end: pulled towards it where nobody set a limit, and never in mid-sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from movieplotgpt.generation import writing as writing_module
from movieplotgpt.generation.mentions import URGENT
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.sampling import Chosen
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import CALM, FREE_REPETITIONS, Writing
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.text.plans import MOST_ITEMS
from movieplotgpt.text.tokenizer import ByteSettings

BYTES = ByteSettings().train([], "END")


@pytest.fixture
def start(tiny_checkpoint: Callable[..., Checkpoint]) -> Callable[..., Writing]:
    """A text of a byte tokenizer, by these settings."""
    tokenizer = tiny_checkpoint("byte").tokenizer
    return lambda **settings: Writing(Prompt("X"), tokenizer, 64, SamplingConfig(**settings), seed=0)


def spell(writing: Writing, text: str) -> str:
    """Write ``text`` as far as the limits let it, and return what was told."""
    told = ""
    for byte in text.encode():
        if writing.finish_reason is None:
            told += writing.take(Chosen(byte + 1))[0]
    return told


def pull(writing: Writing) -> float:
    return writing.history().bias.get(writing.end_id, 0.0)


def test_the_end_becomes_likelier_the_longer_the_text(start: Callable[..., Writing]) -> None:
    writing, pulls = start(), []
    for _ in range(8):
        pulls.append(pull(writing))
        spell(writing, "x." * (writing.max_tokens // 16))
    calm = int(CALM * 8) + 1
    assert pulls[:calm] == [0.0] * calm
    assert 0 < pulls[calm] < pulls[-1] < URGENT == pytest.approx(pull(writing))


def test_nothing_pulls_within_a_sentence(start: Callable[..., Writing]) -> None:
    writing = start()
    spell(writing, "x." * (writing.max_tokens // 4))
    assert pull(writing) > 0
    spell(writing, " She")
    assert pull(writing) == 0
    spell(writing, " finds Mr.")
    assert pull(writing) == 0
    spell(writing, " Marsh!")
    assert pull(writing) > 0


@pytest.mark.parametrize("settings", [{"max_tokens": 100}, {"target_characters": 400}])
def test_nothing_pulls_where_a_length_was_set(start: Callable[..., Writing], settings: dict[str, Any]) -> None:
    writing = start(**settings)
    spell(writing, "x" * 90)
    assert pull(writing) == 0


def test_end_bias_adds_to_the_pull(start: Callable[..., Writing]) -> None:
    assert pull(start(end_bias=1.5)) == 1.5 and pull(start(end_bias=-2, max_tokens=9)) == -2
    long, biased = start(), start(end_bias=1.5)
    for writing in (long, biased):
        spell(writing, "x." * (writing.max_tokens // 4))
    assert pull(biased) == pytest.approx(pull(long) + 1.5)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts end before twenty bytes by themselves, and have five more for a sentence."""
    monkeypatch.setattr(writing_module, "MAX_TOKENS", {"byte": 20})


@pytest.mark.usefixtures("short")
def test_at_the_limit_the_sentence_is_finished(start: Callable[..., Writing]) -> None:
    writing = start()
    assert spell(writing, "She finds the harbour. He leaves.") == "She finds the harbour."
    assert writing.finish_reason == "length"


@pytest.mark.usefixtures("short")
def test_a_sentence_that_never_ends_is_cut(start: Callable[..., Writing]) -> None:
    writing = start()
    assert spell(writing, "She finds the harbour and the lighthouse") == "She finds the harbour and"
    assert writing.finish_reason == "length"


def test_a_limit_that_was_set_is_literal(start: Callable[..., Writing]) -> None:
    writing = start(max_tokens=20)
    assert spell(writing, "She finds the harbour. He leaves.") == "She finds the harbou"
    assert writing.finish_reason == "length"


def test_small_letters_are_unusual_at_the_beginning_only(start: Callable[..., Writing]) -> None:
    writing = start()
    tokenizer = BYTES
    unusual = set(writing.history().unusual)
    assert set(tokenizer.encode("az").tolist()) <= unusual and not unusual & set(tokenizer.encode("AZ 1'").tolist())
    spell(writing, "A")
    assert not writing.history().unusual
    begun = Writing(Prompt("X", "A storm"), tokenizer, 64, SamplingConfig(), seed=0)
    assert not begun.history().unusual


def test_the_beginning_of_a_banned_text_is_held_back(start: Callable[..., Writing]) -> None:
    writing = start(banned=["village", "lighthouse"], max_tokens=100)
    assert spell(writing, "She sees the vill") == "She sees the "
    assert spell(writing, "ag") == ""
    assert spell(writing, "rant and the ") == "villagrant and the "
    assert spell(writing, "lighthous") == ""
    assert writing.take(Chosen(ord("e") + 1)) == ("", 1), "the token that completes it is taken back"
    assert spell(writing, "ing") == "lighthousing"
    assert BYTES.decode(writing.body) == writing.told == "She sees the villagrant and the lighthousing"


def test_a_text_that_ends_is_released(start: Callable[..., Writing]) -> None:
    writing = start(banned=["village"], max_tokens=100)
    assert spell(writing, "A vill") == "A "
    assert writing.take(Chosen(writing.end_id)) == ("vill", 0)
    assert writing.told == "A vill"


def test_only_tokens_that_open_with_a_small_letter_are_unusual(tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    tokenizer = tiny_checkpoint("bpe").tokenizer
    writing = Writing(Prompt("X"), tokenizer, 64, SamplingConfig(), seed=0)
    small = {id_ for id_ in range(tokenizer.vocab_size) if tokenizer.decode([id_])[:1].islower()}
    assert small - {tokenizer.end_id, tokenizer.pad_id} == {*writing.history().unusual} - {tokenizer.pad_id}
    assert any(tokenizer.decode([id_])[:2].islower() for id_ in range(tokenizer.vocab_size) if id_ not in small)


def test_the_lists_of_a_plan_have_an_end_and_no_word_twice() -> None:
    plan = Writing(Prompt("X"), BYTES, 64, SamplingConfig(max_tokens=99), seed=0, is_plan=True)
    comma = ord(",") + 1
    for number in range(MOST_ITEMS - 1):
        assert comma not in plan.history().forbidden, number
        spell(plan, "a,")
    assert comma in plan.history().forbidden
    spell(plan, ";")
    assert comma not in plan.history().forbidden


def test_repetitions_that_are_free_are_those_of_the_description() -> None:
    told = SamplingConfig.model_fields["dry_allowed_length"].description or ""
    assert f"{FREE_REPETITIONS['bpe']} tokens, or {FREE_REPETITIONS['char']} characters" in told
    assert FREE_REPETITIONS["byte"] == FREE_REPETITIONS["char"]


def test_the_token_after_the_last_sentence_is_left_out_and_not_taken_back(start: Callable[..., Writing]) -> None:
    writing, told = start(target_characters=10), []
    for byte in b"She finds it. He":
        if writing.finish_reason is None:
            told.append(writing.take(Chosen(byte + 1)))
    assert writing.finish_reason == "stop" and writing.told == "She finds it."
    assert {back for _, back in told} == {0} and writing.tokens == len(writing.told)
