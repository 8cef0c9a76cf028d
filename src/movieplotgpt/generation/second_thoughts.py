"""Take back what a text must not have: banned texts, copies of the training text, names that return too soon."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from movieplotgpt.generation.names import open_name, returning_name
from movieplotgpt.generation.rules import Rules
from movieplotgpt.generation.sampling import Chosen
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.written_text import WrittenText

if TYPE_CHECKING:
    from movieplotgpt.text.copies import CopyIndex

MOST = 500  # of one text; then it may be as it is
_NAMES = 4_000  # characters in which a name may return


class SecondThoughts:
    """Find what is to be taken back, and remember which token is forbidden where.

    A banned text goes back to its last token; a copy to where in the copied run another token was likeliest; a name to its
    start. The first token that was taken back is then forbidden in its place.

    Attributes:
        count: How often something was taken back.
        unmended: What is wrong with the text and was not taken back, since ``MOST`` second thoughts did not mend it.
    """

    def __init__(
        self, config: SamplingConfig, rules: Rules, title: str, written: WrittenText, copies: CopyIndex | None
    ) -> None:
        self.count, self.unmended = 0, dict[str, None]()
        self._limit, self._distinct = config.avoid_copies, config.distinct_names
        self._rules, self._written, self._copies = rules, written, copies
        self._title_words = frozenset(re.findall(r"\w+", title.casefold()))
        self._forbidden: dict[int, set[int]] = {}  # at which token of those written

    def forbidden(self, place: int) -> set[int]:
        """Return the tokens that were taken back at the ``place``-th token."""
        return self._forbidden.get(place, set())

    def uncertain(self) -> int:
        """Return how many characters at the end may still be taken back, or be the start of a stop string."""
        untold = self._written.text[self._written.told :]
        begun = self._rules.open.begun(untold)
        return max(begun, self._limit or 0, open_name(untold) if self._distinct else 0)

    def tokens_to_take_back(self, chosen: Sequence[Chosen]) -> int:
        """Return how many of the ``chosen`` tokens are to be taken back."""
        back, why = self._spoilt(chosen)
        if back and self.count == MOST:
            self.unmended[why] = None
            return 0
        return back or self._tokens_of_returning_name()

    def take_back(self, place: int, id_: int) -> None:
        """Forbid a token in its place; what was forbidden after it may come again."""
        self.count += 1
        self._forbidden = {at: ids for at, ids in self._forbidden.items() if at <= place}
        self._forbidden.setdefault(place, set()).add(id_)

    def _tokens_of_returning_name(self) -> int:
        if not self._distinct or self.count == MOST:
            return 0
        written, begun = self._written, len(self._written.begun)
        text = written.end(_NAMES)
        before = begun + len(written.text) - len(text)
        found = returning_name(text, begun + written.lengths[-1] - before, self._title_words)
        if found is None or (start := before + found) < begun:
            return 0
        place = bisect_right(written.lengths, start - begun) - 1  # the token that the name starts in
        return len(written.lengths) - place if written.lengths[place] >= written.told else 0

    def _spoilt(self, chosen: Sequence[Chosen]) -> tuple[int, str]:
        """Return how many tokens to take back, and what is wrong with them."""
        written, banned = self._written, self._rules.banned
        if banned.texts:  # one may have begun in what the prompt gave
            text = banned.held_at_end(written.end(banned.longest - 1 + written.new), written.new)
            if text is not None:
                return 1, f"holds {text!r}, which is banned"
        limit = self._limit
        if limit is None or self._copies is None:
            return 0, ""
        if self._copies.reaching_into(written.text[-limit - 32 :], written.new) < limit:
            return 0, ""
        start = max(written.told, len(written.text) - limit)
        inside = range(1, len(chosen) - bisect_left(written.lengths, start) + 1)
        back = max(inside, key=lambda back: chosen[-back].doubt, default=1)
        return back, f"shares {limit} characters in a row with the training text"
