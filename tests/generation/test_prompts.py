from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.errors import PromptError
from movieplotgpt.generation.prompts import PromptForm, shortened, usual_hints, without_tokens
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.text.formatting import PLAN

Make = Callable[..., Checkpoint]
SENTENCE = "The plot summary of the movie named 'Inception' is:"


@pytest.fixture
def form(tiny_checkpoint: Make) -> PromptForm:
    return PromptForm(tiny_checkpoint(hints=("Decade", "Genre"), context_length=512))


def test_a_title_takes_the_trained_form(form: PromptForm) -> None:
    prompt = form.from_title("Inception", {"genre": "crime", "Decade": "1970s"})
    assert prompt.header == f"Decade: 1970s\nGenre: crime\n{SENTENCE}\n"
    assert (prompt.title, prompt.begun, prompt.changes) == ("Inception", "", ())


HINTS = {
    "Decade": {"kind": "decade", "column": "Year"},
    "Genre": {"kind": "list", "column": "Genre", "labels": {"crime": ["heist"], "science fiction": ["sci-fi"]}},
}


def told(checkpoint: Checkpoint, hints: object) -> PromptForm:
    return PromptForm(replace(checkpoint, info={"settings": {"corpus": {"hints": hints}}}))


@pytest.mark.parametrize(
    ("hints", "lines", "changes"),
    [
        (
            {"Decade": "1974", "Genre": "Sci-Fi/Heist"},
            ("1970s", "science fiction, crime"),
            ("1974→1970s", "Sci-Fi/Heist→science fiction, crime"),
        ),
        ({"Decade": "1970s", "Genre": "crime"}, ("1970s", "crime"), ()),
        ({"Decade": "the future", "Genre": "weird tale"}, ("the future", "weird tale"), ()),
    ],
)
def test_a_hint_is_read_as_the_corpus_was(
    tiny_checkpoint: Make, hints: dict[str, str], lines: tuple[str, str], changes: tuple[str, ...]
) -> None:
    form = told(tiny_checkpoint(hints=("Decade", "Genre"), context_length=512), HINTS)
    prompt = form.from_title("Inception", hints)
    assert prompt.header == f"Decade: {lines[0]}\nGenre: {lines[1]}\n{SENTENCE}\n"
    assert prompt.changes == changes


def test_usual_hints_are_those_recorded_or_the_labels_of_a_list(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(hints=("Decade", "Genre", PLAN), context_length=512)
    assert usual_hints(checkpoint) == {"Decade": (), "Genre": ()}
    told_how = {"settings": {"corpus": {"hints": HINTS}}}
    assert usual_hints(replace(checkpoint, info=told_how)) == {"Decade": (), "Genre": ("crime", "science fiction")}
    recorded = {"corpus": {"hint_values": {"Genre": ["crime"], "Unknown": ["x"]}}}
    assert usual_hints(replace(checkpoint, info={**told_how, **recorded})) == {"Decade": (), "Genre": ("crime",)}


@pytest.mark.parametrize("hints", [None, [], "x", {"Decade": {"kind": "year"}}])
def test_hints_without_recorded_readers_stay_as_given(tiny_checkpoint: Make, hints: object) -> None:
    form = told(tiny_checkpoint(hints=("Decade", "Genre"), context_length=512), hints)
    assert form.from_title("Inception", {"Decade": "1974"}).header == f"Decade: 1974\n{SENTENCE}\n"


@pytest.mark.parametrize("ending", ["", " ", "\n", "\r\n", "\\n"])
def test_every_spelling_of_the_sentence_becomes_the_trained_one(form: PromptForm, ending: str) -> None:
    assert form.from_text(SENTENCE + ending) == form.from_title("Inception")


def test_what_follows_the_sentence_is_the_begun_body(form: PromptForm) -> None:
    prompt = form.from_text(SENTENCE + "\nA thief ")
    assert (prompt.header, prompt.begun) == (SENTENCE + "\n", "A thief")


def test_a_prompt_without_the_sentence_is_all_body(form: PromptForm) -> None:
    prompt = form.from_text("Once upon a time")
    assert (prompt.header, prompt.begun) == ("", "Once upon a time")


def test_a_blank_at_the_end_is_kept_where_characters_are_tokens(tiny_checkpoint: Make) -> None:
    assert PromptForm(tiny_checkpoint("char")).from_text("The ").begun == "The "


def test_what_was_folded_is_said_once(form: PromptForm) -> None:
    prompt = form.from_title("Amélie’s café")
    assert prompt.title == "Amelie's cafe"
    assert prompt.changes == ("é→e", "’→'")


def test_nothing_is_folded_for_a_model_of_another_script(tiny_checkpoint: Make) -> None:
    prompt = PromptForm(tiny_checkpoint(fold=False, context_length=512)).from_title("羅生門")
    assert (prompt.title, prompt.changes) == ("羅生門", ())


def test_a_lone_surrogate_is_replaced_and_said(tiny_checkpoint: Make) -> None:
    prompt = PromptForm(tiny_checkpoint(fold=False, context_length=512)).from_title("a\ud800b")
    assert prompt.title == "a\ufffdb"
    assert prompt.changes == ("\\ud800→\ufffd",)


@pytest.mark.parametrize("text", ["A END_OF_PLOTB", "A END_OF_END_OF_PLOTPLOTB", "A ＥＮＤ_OF_PLOTB"])
def test_an_end_marker_in_a_prompt_is_left_out_and_said(form: PromptForm, text: str) -> None:
    prompt = form.from_text(text)
    assert prompt.begun == "A B"
    assert "END_OF_PLOT left out" in prompt.changes


def test_special_tokens_in_a_prompt_are_left_out_and_said(form: PromptForm) -> None:
    prompt = form.from_title("A END_<|p<|pad|>ad|>OF_PLOT<|pad|> lantern")
    assert (prompt.title, prompt.changes) == ("A lantern", ("<|pad|> left out", "END_OF_PLOT left out"))


def test_a_character_that_folds_to_nothing_is_said(form: PromptForm) -> None:
    assert form.from_title("a\u200bb").changes == ("'\\u200b' left out",)


def test_the_empty_title_is_the_unconditional_form(form: PromptForm) -> None:
    assert form.from_title(" \n ").header == "The plot summary of the movie named '' is:\n"


def test_long_title_is_shortened_at_a_word(form: PromptForm) -> None:
    title = "the baker and the widow " * 420  # 10,080 characters
    prompt = form.from_title(title)
    assert title.startswith(prompt.title + " ")
    assert len(form.tokenizer.encode(prompt.header)) <= 256
    assert prompt.header == form.format.sentence(prompt.title)
    longer = form.format.sentence(title[: len(prompt.title) + 8])
    assert len(form.tokenizer.encode(longer)) > 256
    assert prompt.changes == (f"title shortened from 10,079 to {len(prompt.title):,} characters",)
    assert form.from_text(form.format.sentence(title)).title == prompt.title


def test_a_long_word_is_cut_inside() -> None:
    assert shortened("abcdefgh ij", lambda text: len(text) <= 5) == "abcde"
    assert shortened("abc defgh", lambda text: len(text) <= 5) == "abc"
    assert shortened("abc defgh", lambda text: len(text) <= 3) == "abc"


def test_hints_too_long_to_fit_keep_the_headers_end(form: PromptForm) -> None:
    prompt = form.from_title("Mars", {"Genre": "drama, " * 500})
    assert prompt.title == "Mars"
    assert "only the end" in prompt.changes[0]


def test_an_unknown_hint_names_those_there_are(form: PromptForm, tiny_checkpoint: Make) -> None:
    with pytest.raises(PromptError, match="knows no hint 'Origin'; it knows Decade, Genre"):
        form.from_title("Mars", {"Origin": "Turkish"})
    with pytest.raises(PromptError, match="without hints"):
        PromptForm(tiny_checkpoint()).from_title("Mars", {"Origin": "Turkish"})


def test_a_hint_that_is_given_twice_is_refused(form: PromptForm) -> None:
    with pytest.raises(PromptError, match="the hint decade is given twice"):
        form.from_title("Mars", {"Decade": "1970s", "decade": "1980s"})


def test_a_plan_is_no_hint(tiny_checkpoint: Make) -> None:
    form = PromptForm(tiny_checkpoint(hints=("Decade", PLAN), context_length=512))
    with pytest.raises(PromptError, match=r"'plan' is not given as a hint; give plan=\.\.\. instead"):
        form.from_title("Mars", {"plan": "names: Ada"})
    with pytest.raises(PromptError, match=r"knows no hint 'Origin'; it knows Decade$"):
        form.from_title("Mars", {"Origin": "Turkish"})


def test_a_model_without_titles_says_what_to_give(tiny_checkpoint: Make) -> None:
    form = PromptForm(tiny_checkpoint(header=""))
    with pytest.raises(PromptError, match="the beginning of a text instead"):
        form.from_title("Mars")
    assert form.from_title("").header == ""
    assert form.from_text("Ada: ").begun == "Ada:"


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_no_prompt_can_fail(tiny_checkpoint: Make, kind: str) -> None:
    forms = [
        PromptForm(tiny_checkpoint(kind, fold=fold, hints=("Genre",), context_length=128)) for fold in (True, False)
    ]

    @given(st.text(st.characters()), st.sampled_from(forms))
    def holds(text: str, form: PromptForm) -> None:
        for prompt in (form.from_title(text, {"Genre": text}), form.from_text(text), form.from_text(SENTENCE + text)):
            assert "END_OF_PLOT" not in prompt.header + prompt.begun
            (prompt.header + prompt.begun).encode()

    holds()


def test_the_changes_that_are_reported_are_bounded(tiny_checkpoint: Make) -> None:
    form = PromptForm(tiny_checkpoint(context_length=512))
    title = "".join(map(chr, range(0x4E00, 0x4E00 + 3_000)))
    changes = form.from_title("", begin=title + title).changes
    assert len(changes) == 21 and changes[-1] == "and 2,980 more changes"
    note = form.from_title(title).changes[-1]
    assert note.startswith("title shortened from ")


@given(st.lists(st.sampled_from(["<END>", "<E", "ND>", "<PAD>", "<P", "AD>", "<", "a"]), max_size=12).map("".join))
def test_tokens_are_taken_out_until_none_is_left(text: str) -> None:
    left, found = without_tokens(text, ["<END>", "<PAD>"])
    expected = text
    while expected != (expected := expected.replace("<END>", "").replace("<PAD>", "")):
        pass
    assert left == expected and bool(found) == (left != text)
