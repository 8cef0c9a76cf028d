"""One text while it is written: what may come next, what is taken back, what is certain by now, and where it ends."""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from movieplotgpt.generation.names import open_name, returning_name
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.rules import Wish, rules_of
from movieplotgpt.generation.sampling import Chosen, History
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.text.pieces import cut_pieces, fit_header, overlap_for
from movieplotgpt.text.plans import MOST_ITEMS
from movieplotgpt.text.sentences import ends_sentence, word_spans
from movieplotgpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from movieplotgpt.text.copies import CopyIndex

Seed: TypeAlias = int | Sequence[int]
FinishReason = Literal["stop", "length", "unmet", "stopped"]
MAX_TOKENS = {"bpe": 640, "char": 2048, "byte": 2048}  # where none is asked for
TOKENS_A_CHARACTER = {"bpe": 0.5, "char": 1.3, "byte": 1.3}  # at most, and some to end a sentence
FREE_REPETITIONS = {"bpe": 5, "char": 20, "byte": 20}  # tokens: a name and the words around it
SECOND_THOUGHTS = 500  # of one text; then it may be as it is
PATIENCE = 50  # characters after which a wish is worth one nat more, up to URGENT
CALM = 0.4  # of the greatest length: until then nothing pulls a text to its end
_TAIL = 40  # characters by whose end a sentence's end is known
_NAMES = 4_000  # characters in which a name may return
URGENT = 10.0  # nats: a wish that is begun is finished


class Writing:
    """One text while it is written: its tokens, the window it continues in, and what ends it.

    With ``is_plan`` no word is repeated, and no list gets too long. ``copies`` is asked where the config avoids copies. A text
    that would hold what it may not goes back: to its last token for a banned text; for a copy to where in the copied run
    another token was likeliest. That token is then forbidden there and another one is drawn. Text that might be taken
    back is not yet certain, and not yet streamed.

    ``unmet`` names, once the text has ended, the wishes it does not meet. ``headers`` are the readings: the prompt's
    header, and where the two are compared, that of no title. Texts of one request share ``encode``, which returns
    the ids of a text. Of what the prompt has begun, only the end that may fit into a context is read.
    """

    def __init__(
        self,
        prompt: Prompt,
        tokenizer: Tokenizer,
        context_length: int,
        config: SamplingConfig,
        *,
        seed: Seed,
        without_title: str | None = None,
        copies: CopyIndex | None = None,
        is_plan: bool = False,
        encode: Callable[[str], Sequence[int]] | None = None,
    ) -> None:
        encode = encode or (lambda text: tokenizer.encode(text).tolist())
        self.config, self.context_length, self.end_id = config, context_length, tokenizer.end_id
        headers = [prompt.header] if without_title is None else [prompt.header, without_title]
        needed = int(TOKENS_A_CHARACTER[tokenizer.kind] * (config.target_characters or 0))
        self.max_tokens = config.max_tokens or max(MAX_TOKENS[tokenizer.kind], needed)
        self._grace = 0 if config.max_tokens else self.max_tokens // 4  # tokens beyond a limit that nobody set
        self.headers = [fit_header([*encode(header)], context_length) for header in headers]
        self._begun = _last_words(prompt.begun, context_length * tokenizer.longest_token)
        self.body: list[int] = [*encode(self._begun)]
        self.random = np.random.default_rng(seed)
        self.chosen: list[Chosen] = []
        self.second_thoughts = 0
        self.finish_reason: FinishReason | None = None
        self.unmet: tuple[str, ...] = ()
        self._is_plan = is_plan
        self._tokenizer, self._title, self._copies = tokenizer, prompt.title, copies
        self._rules = rules_of(tokenizer, config)
        self._title_words = frozenset(re.findall(r"\w+", prompt.title.casefold()))
        self._decoder = tokenizer.decoder()
        self._written = ""  # all text so far, what is held back among it
        self._told = 0  # characters of it
        self._lengths: list[int] = []  # of the text written, before each token
        self._forbidden: dict[int, set[int]] = {}  # at which token of those written
        self._faded = False  # what is read once is not read twice again, even when the text goes back
        self._spoilt_by: dict[str, None] = {}  # what second thoughts did not mend
        self._met: dict[Wish, int] = {}  # where the first mention ends that a further token cannot undo
        self._searched: dict[Wish, int] = {}  # before which there is none

    @property
    def readings(self) -> int:
        """How often the next token is read: twice after two headers, once when guidance has faded, never after the end."""
        return 0 if self.finish_reason else 1 if self._faded else len(self.headers)

    @property
    def guidance(self) -> float:
        """The strength of guidance for the next token."""
        strength, fade = self.config.guidance or 1.0, self.config.guidance_characters
        return strength if fade is None else 1 + (strength - 1) * max(0.0, 1 - len(self._written) / fade)

    @property
    def prompt_tokens(self) -> int:
        """Return how many tokens are read before the first one is written, by all readings."""
        return sum(len(header) + len(self.body) for header in self.headers)

    @property
    def tokens(self) -> int:
        """How many tokens were written."""
        return len(self.chosen)

    @property
    def told(self) -> str:
        """The text that is certain by now; what the prompt had begun is not in it."""
        return self._written[: self._told]

    @property
    def certain_tokens(self) -> int:
        """How many of the tokens make that text."""
        if self.finish_reason:
            return self.tokens
        whole = bisect_right(self._lengths, self._told) - (len(self._written) > self._told)
        return min(whole, bisect_left(self._lengths, self._told))  # of half a character nothing is certain

    @property
    def title_gain(self) -> float | None:
        """By how many nats a token the title made the text likelier, its own words left out; None if read only once.

        A title makes its own words likelier than any others: with them the best text would be the one that repeats it.
        """
        if len(self.headers) < 2:
            return None
        if not self.chosen:
            return 0.0
        stops = [*self._lengths[1:], len(self._written)]
        spans = [*word_spans(self._title, self._written), (math.inf, math.inf)]
        gains, number = [], 0
        for each, start, stop in zip(self.chosen, self._lengths, stops, strict=True):
            while spans[number][1] <= start:
                number += 1
            if each.gain is not None and spans[number][0] >= stop:
                gains.append(each.gain)
        return fmean(gains) if gains else 0.0

    def window(self, reading: int = 0) -> list[int]:
        """Return what the model reads to continue: the BOS token, the header and the piece that training would cut here."""
        header, overlap = self.headers[reading], overlap_for(self.context_length)
        piece = cut_pieces(len(header), len(self.body) + 1, self.context_length, overlap)[-1]
        return [self.end_id, *header, *self.body[piece.start :]]

    def history(self) -> History:
        """Return what the sampling rules use of this text."""
        rules = self._rules
        forbidden = (
            self._beyond_plan()
            | self._forbidden.get(self.tokens, set())
            | rules.completing(self._end(rules.banned.longest))
            | self._another_word()
        )
        if not self._may_end():
            forbidden = forbidden | {self.end_id}
        return History(
            self.body[-self.context_length :],
            forbidden,
            rules.breakers,
            FREE_REPETITIONS[self._tokenizer.kind],
            self._urged(),
            frozenset() if self.body else rules.vocabulary.small_letters,
            rules.never,
        )

    def _end(self, size: int) -> str:
        """Return the last ``size`` characters of the text and what the prompt had begun."""
        if len(self._written) >= size:
            return self._written[len(self._written) - size :]
        return (self._begun + self._written)[-size:]

    def _beyond_plan(self) -> frozenset[int]:
        """Return the tokens that would repeat a word of a plan, or make one of its lists too long."""
        if not self._is_plan:
            return frozenset()
        repeating = self._rules.vocabulary.words.intersection(self.body)
        full = self._written.rpartition(";")[2].count(",") >= MOST_ITEMS - 1
        return repeating | self._rules.vocabulary.commas if full else repeating

    def unmentioned(self, stop: int | None = None) -> list[str]:
        """Return the words that must be mentioned and are not in the text up to ``stop``."""
        return [wish.text for wish in self._unmet(stop)]

    def _unmet(self, stop: int | None = None) -> list[Wish]:
        if not self._rules.wishes:
            return []
        text = self._begun + self._written
        end = len(text) if stop is None else len(self._begun) + stop
        return [wish for wish in self._rules.wishes if not self._mentions(wish, text, end)]

    def _mentions(self, wish: Wish, text: str, end: int) -> bool:
        """Return whether ``text`` up to ``end`` mentions a wish; what was searched before is not searched again."""
        if self._met.get(wish, end + 1) <= end:
            return True
        start = max(0, min(self._searched.get(wish, 0), end) - wish.reach)
        found = wish.mention.search(text, start, end)
        if found is None:
            self._searched[wish] = max(end, self._searched.get(wish, 0))
        elif found.end() < end:
            self._met[wish] = found.end()
        return found is not None

    def _another_word(self) -> frozenset[int]:
        """The tokens that would make another word of a wish which has just come up: Paris, Parisian."""
        text = self._begun + self._written if self._rules.wishes else ""
        for wish in self._rules.wishes:
            just = wish.at_end.search(text, max(0, len(text) - wish.reach))
            if just and not self._mentions(wish, text, just.start()):
                letters = self._rules.vocabulary.letters
                return letters if just[1] else letters - self._rules.vocabulary.plurals
        return frozenset()

    def _urged(self) -> dict[int, float]:
        """Return the bias of the end, and of tokens that begin a wish, the stronger the longer the text, or continue one."""
        pull = self._pull_to_end()
        bias = {self.end_id: pull} if pull else {}
        # of characters a blank begins any word, and two letters many
        first, sure = (0, 1) if self._tokenizer.kind == "bpe" else (1, 4)
        for wish in self._unmet():
            ids = wish.ids
            last = tuple(self.body[-len(ids) :])
            begun = next(k for k in range(len(ids) - 1, -1, -1) if last[len(last) - k :] == ids[:k])
            if begun >= first:
                bias[ids[begun]] = URGENT if begun >= sure else min(URGENT, len(self._written) / PATIENCE)
        return bias

    def _pull_to_end(self) -> float:
        """Return the bias of the end in nats: the one that was set and, after a sentence, one that grows with the length of the text.

        Where a length was set nothing is added to it.
        """
        open_ended = self.config.max_tokens is None and self.config.target_characters is None
        late = self.tokens / self.max_tokens - CALM if open_ended else 0.0
        pull = URGENT * late / (1 - CALM) if late > 0 and ends_sentence(self._written[-_TAIL:]) else 0.0
        return (self.config.end_bias or 0.0) + pull

    def take(self, chosen: Chosen) -> tuple[str, int]:
        """Add a token; return the text that is certain by now, and how many tokens were taken back."""
        if chosen.id == self.end_id:
            self._written += self._decoder.finish()
            return self._finish("stop", len(self._written)), 0
        self._lengths.append(len(self._written))
        self._faded = self._faded or len(self._written) >= (self.config.guidance_characters or math.inf)
        self.body.append(chosen.id)
        self.chosen.append(chosen)
        self._written += self._decoder.push(chosen.id)
        if back := self._tokens_to_take_back():
            self._take_back(back)
            return "", back
        if self._was_long_enough():
            stop = self._lengths.pop()
            del self.body[-1], self.chosen[-1]
            return self._finish("stop" if self._has_its_length(stop) else "length", stop), 0
        found = [place for stop in self._rules.stops if (place := self._written.find(stop, self._told)) >= 0]
        if found:
            return self._finish("stop", min(found)), 0
        if self.tokens == self.max_tokens + self._grace:  # half a character is left out
            return self._finish("length", len(self._written)), 0
        return self._tell(max(self._told, len(self._written) - self._uncertain())), 0

    def _may_end(self) -> bool:
        config = self.config
        if self.unmentioned():
            return False
        if config.min_tokens is not None and self.tokens < config.min_tokens:
            return False
        return config.target_characters is None or 2 * len(self._written) >= config.target_characters

    def _was_long_enough(self) -> bool:
        """Return whether the text was long enough and the last token begins a new sentence: a full stop may end a number's part."""
        before = self._lengths[-1]
        enough = self._has_its_length(before) or (self._grace and self.tokens > self.max_tokens)
        if not enough or not ends_sentence(self._written[max(0, before - _TAIL) : before]):
            return False
        new = self._written[before:]
        return new[:1].isspace() and not new.strip()[:1].islower() and not self.unmentioned(before)

    def _has_its_length(self, characters: int) -> bool:
        return self.config.target_characters is not None and characters >= self.config.target_characters

    def _uncertain(self) -> int:
        """Return how many characters at the end may still be taken back, or be the start of a stop string."""
        untold = self._written[self._told :]
        begun = self._rules.open.begun(untold)
        return max(begun, self.config.avoid_copies or 0, open_name(untold) if self.config.distinct_names else 0)

    def _tokens_to_take_back(self) -> int:
        back, why = self._spoilt()
        if back and self.second_thoughts == SECOND_THOUGHTS:
            self._spoilt_by[why] = None
            return 0
        return back or self._tokens_of_returning_name()

    def _tokens_of_returning_name(self) -> int:
        """Return how many tokens to take back for a name that returns too soon."""
        if not self.config.distinct_names or self.second_thoughts == SECOND_THOUGHTS:
            return 0
        begun = len(self._begun)
        text = self._end(_NAMES)
        before = begun + len(self._written) - len(text)
        found = returning_name(text, begun + self._lengths[-1] - before, self._title_words)
        if found is None or (start := before + found) < begun:
            return 0
        place = bisect_right(self._lengths, start - begun) - 1  # the token that the name starts in
        return self.tokens - place if self._lengths[place] >= self._told else 0

    def _spoilt(self) -> tuple[int, str]:
        """Return how many tokens to take back, and what is wrong with them."""
        new = self._lengths[-1]
        banned = self._rules.banned
        if banned.texts:  # one may have begun in what the prompt gave
            text = banned.held_at_end(
                self._end(banned.longest - 1 + len(self._written) - new), len(self._written) - new
            )
            if text is not None:
                return 1, f"holds {text!r}, which is banned"
        limit = self.config.avoid_copies
        if limit is None or self._copies is None:
            return 0, ""
        last = self._written[-limit - 32 :]
        if self._copies.reaching_into(last, len(self._written) - new) < limit:
            return 0, ""
        start = max(self._told, len(self._written) - limit)
        inside = range(1, self.tokens - bisect_left(self._lengths, start) + 1)
        back = max(inside, key=lambda back: self.chosen[-back].doubt, default=1)
        return back, f"shares {limit} characters in a row with the training text"

    def _take_back(self, count: int) -> None:
        """Forget the last ``count`` tokens, and forbid the first of them where it stood."""
        self.second_thoughts += 1
        place = self.tokens - count
        self._forbidden = {at: ids for at, ids in self._forbidden.items() if at <= place}
        self._forbidden.setdefault(place, set()).add(self.chosen[place].id)
        length = self._lengths[place]
        whole = bisect_left(self._lengths, length)  # the token before it is the last one that has completed a character
        del self.chosen[place:], self.body[len(self.body) - count :], self._lengths[place:]
        self._decoder = self._tokenizer.decoder()
        for each in self.chosen[max(0, whole - 1) :]:
            self._decoder.push(each.id)
        self._written = self._written[:length]
        end = len(self._begun) + length
        self._met = {wish: met for wish, met in self._met.items() if met < end}
        self._searched = {wish: min(searched, end) for wish, searched in self._searched.items()}

    def _tell(self, stop: int) -> str:
        text = self._written[self._told : stop]
        self._told += len(text)
        return text

    def _finish(self, reason: FinishReason, stop: int) -> str:
        self.unmet = (*(f"does not mention {wish}" for wish in self.unmentioned(stop)), *self._spoilt_by)
        self.finish_reason = "unmet" if self.unmet else reason
        return self._tell(stop)


def _last_words(text: str, most: int) -> str:
    """Return the last ``most`` characters at most of ``text``, from a blank on if they have one."""
    if len(text) <= most:
        return text
    last = text[-most:]
    return last[max(0, last.find(" ")) :]
