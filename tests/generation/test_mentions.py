"""What must be mentioned: found where a search of the whole text finds it, at a cost that does not grow with the text."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from movieplotgpt.generation.mentions import PATIENCE, URGENT, Mentions
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.rules import rules_of
from movieplotgpt.generation.sampling import Chosen
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import Writing
from movieplotgpt.text.tokenizer import ByteSettings

BYTES = ByteSettings().train([], "END")


def mentions(text: str, wish: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(wish)}(?:s|es|'s)?(?!\w)", text, re.IGNORECASE) is not None


@given(st.lists(st.sampled_from([*"ab sE'.", "back"]), max_size=60))
@example([*"b  ", "back", *"sssss"])  # what was found is forgotten with the text it was found in
def test_wishes_are_met_where_a_search_of_the_whole_text_finds_them(steps: list[str]) -> None:
    writing = Writing(Prompt("X", "ba "), BYTES, 4, SamplingConfig(must_mention=("ab", "b")), seed=0)
    for step in steps:
        if step == "back":
            if writing.tokens:
                writing._take_back(min(3, writing.tokens))
        else:
            writing.take(Chosen(ord(step) + 1))
        text = "ba " + writing.written.text
        assert writing.unmentioned() == [wish for wish in ("ab", "b") if not mentions(text, wish)]
        cut = len(writing.written.text) // 2
        cut_text = "ba " + writing.written.text[:cut]
        assert writing.unmentioned(cut) == [wish for wish in ("ab", "b") if not mentions(cut_text, wish)]


class Counting:
    """A pattern that adds up the characters it may look at."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern, self.most = pattern, 0

    def search(self, text: str, start: int = 0, end: int | None = None) -> Any:
        self.most = max(self.most, (len(text) if end is None else end) - start)
        return self.pattern.search(text, start, len(text) if end is None else end)


def test_a_wish_is_searched_in_new_text_only() -> None:
    writing = Writing(Prompt("X", "x" * 50), BYTES, 64, SamplingConfig(must_mention=("harbour",)), seed=0)
    [wish] = writing._rules.wishes
    writing.history()
    for name in ("mention", "at_end"):
        object.__setattr__(wish, name, Counting(getattr(wish, name)))
    for _ in range(300):
        writing.history()
        writing.take(Chosen(ord("a") + 1))
    assert wish.mention.most <= 12 and wish.at_end.most <= 12  # type: ignore[attr-defined]


def test_a_wish_is_urged_the_more_the_longer_it_is_missing() -> None:
    mentions = Mentions(rules_of(BYTES, SamplingConfig(must_mention=("boat",))))
    text = "The sea "
    ids = BYTES.encode(text).tolist()
    for written, bias in ((0, 0.0), (PATIENCE, 1.0), (PATIENCE * 100, URGENT)):
        assert mentions.urged(text, written, ids, "char") == {ord("b") + 1: bias}
    begun = BYTES.encode("The sea boa").tolist()
    assert mentions.urged("The sea boa", 1, begun, "char") == {ord("t") + 1: URGENT}
    assert mentions.urged("The boat ", 1, BYTES.encode("The boat ").tolist(), "char") == {}


def test_a_mention_is_not_made_another_word() -> None:
    mentions = Mentions(rules_of(BYTES, SamplingConfig(must_mention=("boat",))))
    spoiling = mentions.spoiling("The boat")
    assert {ord("y") + 1, ord("s") + 1} & spoiling == {ord("y") + 1}  # boats are boats, boaty is not
    assert not mentions.spoiling("The boat is")
    assert mentions.missing("The boat ") == [] and not mentions.spoiling("The boat and a boat")
