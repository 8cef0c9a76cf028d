"""Plans: names that return and telling words, counted with what the training split says of words."""

from __future__ import annotations

import pytest

from movieplotgpt.text.formatting import PLAN, Document
from movieplotgpt.text.plans import MOST_ITEMS, Planner, lay_out_plan, plan_parts, with_plans

TEXT = (
    "Edward Lyle (Gene Hackman) is a lawyer in Paris. One day a stranger gives Lyle a tape, and the lawyer hides the tape. "
    "Then Dr. Brill, an American, finds Edward Lyle. Brill's daughter Meg waits at the harbour, and Lyle sees Meg."
)


@pytest.fixture(scope="module")
def planner() -> Planner:
    common = "Then the man and the woman see the house. One day the stranger waits, and he finds the house again."
    said = "She meets Lyle and Brill and Meg in Paris. The American sees an American, and the American waits at the harbour."
    tapes = "The lawyer hides a tape at the harbour."
    return Planner.learn([*[common] * 40, *[said] * 6, *[tapes] * 6])


def test_names_are_those_that_return_in_the_order_they_come(planner: Planner) -> None:
    assert planner.names(TEXT) == ["Edward Lyle", "Brill", "Meg"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Ann meets Bob. Bob leaves.", ["Bob"]),  # once is not enough
        ("Here comes Ann's dog. Then Ann leaves, and so does Ann's dog.", ["Ann"]),  # no possessives
        ("He plays Ann (Ann Lee) and Bob (Bob Lee).", []),  # the cast does not count
        ("An American calls. The American waits for the American.", []),  # words after an article are not names
        ("Then he left. Then he came. Then he slept.", []),  # first words in small letters elsewhere
        ("", []),
    ],
)
def test_what_is_a_name(planner: Planner, text: str, names: list[str]) -> None:
    assert planner.names(text) == names


def test_the_most_mentioned_names_are_kept(planner: Planner) -> None:
    people = ["Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal"]
    text = " ".join(f"Here comes {name}, and {name} leaves." for name in people) + " They miss Hal, and Gus, and Ann."
    names = planner.names(text)
    assert len(names) == MOST_ITEMS
    assert {"Hal", "Gus", "Ann"} <= set(names)
    assert names == sorted(names), "they stand in the order they come"


def test_words_are_rare_elsewhere_and_known_to_the_training_split(planner: Planner) -> None:
    assert {"lawyer", "tape", "harbour"} <= set(planner.words(TEXT))
    assert planner.words(TEXT) == sorted(planner.words(TEXT), key=TEXT.index)
    assert "zyx" not in planner.words("zyx zyxy zyxy and lawyer")
    assert planner.words("The lawyer waits") == ["lawyer", "waits"]


@pytest.mark.parametrize(
    ("plan", "names", "words"),
    [
        ("names: Ann, Bert; words: island, storm", ["Ann", "Bert"], ["island", "storm"]),
        ("Words: island ; Names:Ann,Bert", ["Ann", "Bert"], ["island"]),
        ("names: Ann Lee", ["Ann Lee"], []),
        ("Ann, island; Bert,\nstorm", ["Ann", "Bert"], ["island", "storm"]),
        ("names: ; words:", [], []),
        ("", [], []),
    ],
)
def test_a_plan_is_read_as_people_write_it(plan: str, names: list[str], words: list[str]) -> None:
    assert plan_parts(plan) == (names, words)


def test_a_plan_made_is_a_plan_read(planner: Planner) -> None:
    plan = planner.plan(TEXT)
    assert plan_parts(plan) == (planner.names(TEXT), planner.words(TEXT))
    assert lay_out_plan(*plan_parts(plan)) == plan


def test_documents_get_their_plan_among_their_hints(planner: Planner) -> None:
    known, empty = with_plans([Document(TEXT, "Tapes", {"Decade": "1990s"}), Document("So it goes.")], planner)
    assert known.hints == {"Decade": "1990s", PLAN: planner.plan(TEXT)}
    assert PLAN not in empty.hints
