"""The words that a text must mention: which are missing, which tokens would spoil one, which lead to the next."""

from __future__ import annotations

from collections.abc import Sequence

from movieplotgpt.generation.rules import Rules, Wish

PATIENCE = 50  # characters after which a wish is worth one nat more, up to URGENT
URGENT = 10.0  # nats: a wish that is begun is finished


class Mentions:
    """Look for wishes in a text that grows; what was searched before is not searched again.

    The texts that are given are everything after the header, what the prompt has begun included.
    """

    def __init__(self, rules: Rules) -> None:
        self.wishes, self._vocabulary = rules.wishes, rules.vocabulary
        self._met: dict[Wish, int] = {}  # where the first mention ends that a further token cannot undo
        self._searched: dict[Wish, int] = {}  # before which there is none

    def missing(self, text: str, end: int | None = None) -> list[Wish]:
        """Return the wishes that ``text`` up to ``end`` does not mention."""
        return [wish for wish in self.wishes if not self._mentions(wish, text, len(text) if end is None else end)]

    def spoiling(self, text: str) -> frozenset[int]:
        """Return the tokens that would make another word of a wish which has just come up: Paris, Parisian."""
        for wish in self.wishes:
            just = wish.at_end.search(text, max(0, len(text) - wish.reach))
            if just and not self._mentions(wish, text, just.start()):
                letters = self._vocabulary.letters
                return letters if just[1] else letters - self._vocabulary.plurals
        return frozenset()

    def urged(self, text: str, written: int, body: Sequence[int], kind: str) -> dict[int, float]:
        """Return the bias of the tokens that begin a missing wish, stronger the more is ``written``, or continue one.

        Args:
            text: As above.
            written: The number of characters that were written.
            body: The tokens of ``text``.
            kind: Of the tokenizer: of characters a blank begins any word, and two letters many.
        """
        bias = {}
        first, sure = (0, 1) if kind == "bpe" else (1, 4)
        for wish in self.missing(text):
            ids = wish.ids
            last = tuple(body[-len(ids) :])
            begun = next(k for k in range(len(ids) - 1, -1, -1) if last[len(last) - k :] == ids[:k])
            if begun >= first:
                bias[ids[begun]] = URGENT if begun >= sure else min(URGENT, written / PATIENCE)
        return bias

    def cut(self, end: int) -> None:
        """Forget what was found at or after ``end``, where the text now ends."""
        self._met = {wish: met for wish, met in self._met.items() if met < end}
        self._searched = {wish: min(searched, end) for wish, searched in self._searched.items()}

    def _mentions(self, wish: Wish, text: str, end: int) -> bool:
        if self._met.get(wish, end + 1) <= end:
            return True
        start = max(0, min(self._searched.get(wish, 0), end) - wish.reach)
        found = wish.mention.search(text, start, end)
        if found is None:
            self._searched[wish] = max(end, self._searched.get(wish, 0))
        elif found.end() < end:
            self._met[wish] = found.end()
        return found is not None
