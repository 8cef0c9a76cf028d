"""One text while it is written: what may come next, what is taken back, what is certain by now, and where it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from movieplotgpt.generation.mentions import URGENT, Mentions
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.rules import rules_of
from movieplotgpt.generation.sampling import Chosen, History
from movieplotgpt.generation.second_thoughts import SecondThoughts
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.written_text import WrittenText
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
CALM = 0.4  # of the greatest length: until then nothing pulls a text to its end
_TAIL = 40  # characters by whose end a sentence's end is known


class Writing:
    """One text while it is written: its tokens, the window it continues in, and what ends it.

    With ``is_plan`` no word is repeated, and no list gets too long. ``copies`` is asked where the config avoids copies. Text
    that may still be taken back (``SecondThoughts``) is not yet certain, and not yet streamed.

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
        begun = _last_words(prompt.begun, context_length * tokenizer.longest_token)
        self.body: list[int] = [*encode(begun)]
        self.random = np.random.default_rng(seed)
        self.chosen: list[Chosen] = []
        self.finish_reason: FinishReason | None = None
        self.unmet: tuple[str, ...] = ()
        self._is_plan, self._title, self._kind = is_plan, prompt.title, tokenizer.kind
        self._rules = rules_of(tokenizer, config)
        self.written = WrittenText(tokenizer, begun)
        self.second_thoughts = SecondThoughts(config, self._rules, prompt.title, self.written, copies)
        self._mentions = Mentions(self._rules)
        self._faded = False  # what is read once is not read twice again, even when the text goes back

    @property
    def readings(self) -> int:
        """How often the next token is read: twice after two headers, once when guidance has faded, never after the end."""
        return 0 if self.finish_reason else 1 if self._faded else len(self.headers)

    @property
    def guidance(self) -> float:
        """The strength of guidance for the next token."""
        strength, fade = self.config.guidance or 1.0, self.config.guidance_characters
        return strength if fade is None else 1 + (strength - 1) * max(0.0, 1 - len(self.written.text) / fade)

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
        return self.written.text[: self.written.told]

    @property
    def certain_tokens(self) -> int:
        """How many of the tokens make that text."""
        return self.tokens if self.finish_reason else self.written.certain_tokens

    @property
    def title_gain(self) -> float | None:
        """By how many nats a token the title made the text likelier, its own words left out; None if read only once.

        A title makes its own words likelier than any others: with them the best text would be the one that repeats it.
        """
        if len(self.headers) < 2:
            return None
        if not self.chosen:
            return 0.0
        text, starts = self.written.text, self.written.lengths
        spans = [*word_spans(self._title, text), (math.inf, math.inf)]
        gains, number = [], 0
        for each, start, stop in zip(self.chosen, starts, [*starts[1:], len(text)], strict=True):
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
            | self.second_thoughts.forbidden(self.tokens)
            | rules.completing(self.written.end(rules.banned.longest))
            | self._mentions.spoiling(self._searched())
        )
        if not self._may_end():
            forbidden = forbidden | {self.end_id}
        return History(
            self.body[-self.context_length :],
            forbidden,
            rules.breakers,
            FREE_REPETITIONS[self._kind],
            self._urged(),
            frozenset() if self.body else rules.vocabulary.small_letters,
            rules.never,
        )

    def _beyond_plan(self) -> frozenset[int]:
        """Return the tokens that would repeat a word of a plan, or make one of its lists too long."""
        if not self._is_plan:
            return frozenset()
        repeating = self._rules.vocabulary.words.intersection(self.body)
        full = self.written.text.rpartition(";")[2].count(",") >= MOST_ITEMS - 1
        return repeating | self._rules.vocabulary.commas if full else repeating

    def unmentioned(self, stop: int | None = None) -> list[str]:
        """Return the words that must be mentioned and are not in the text up to ``stop``."""
        end = None if stop is None else len(self.written.begun) + stop
        return [wish.text for wish in self._mentions.missing(self._searched(), end)]

    def _searched(self) -> str:
        """Return the text that wishes are looked for in."""
        return self.written.whole if self._mentions.wishes else ""

    def _urged(self) -> dict[int, float]:
        """Return the bias of the end, and of the tokens that lead to what must be mentioned."""
        pull, text = self._pull_to_end(), self._searched()
        ends = {self.end_id: pull} if pull else {}
        return ends | self._mentions.urged(text, len(self.written.text), self.body, self._kind)

    def _pull_to_end(self) -> float:
        """Return the bias of the end in nats: the one that was set and, after a sentence, one that grows with the length of the text.

        Where a length was set nothing is added to it.
        """
        open_ended = self.config.max_tokens is None and self.config.target_characters is None
        late = self.tokens / self.max_tokens - CALM if open_ended else 0.0
        pull = URGENT * late / (1 - CALM) if late > 0 and ends_sentence(self.written.text[-_TAIL:]) else 0.0
        return (self.config.end_bias or 0.0) + pull

    def take(self, chosen: Chosen) -> tuple[str, int]:
        """Add a token; return the text that is certain by now, and how many tokens were taken back."""
        written = self.written
        if chosen.id == self.end_id:
            written.finish()
            return self._finish("stop", len(written.text)), 0
        self._faded = self._faded or len(written.text) >= (self.config.guidance_characters or math.inf)
        self.body.append(chosen.id)
        self.chosen.append(chosen)
        written.push(chosen.id)
        if back := self.second_thoughts.tokens_to_take_back(self.chosen):
            self._take_back(back)
            return "", back
        if self._was_long_enough():
            stop = written.lengths.pop()
            del self.body[-1], self.chosen[-1]
            return self._finish("stop" if self._has_its_length(stop) else "length", stop), 0
        found = [place for stop in self._rules.stops if (place := written.text.find(stop, written.told)) >= 0]
        if found:
            return self._finish("stop", min(found)), 0
        if self.tokens == self.max_tokens + self._grace:  # half a character is left out
            return self._finish("length", len(written.text)), 0
        certain = len(written.text) - self.second_thoughts.uncertain()
        return written.tell(max(written.told, certain)), 0

    def _may_end(self) -> bool:
        config = self.config
        if self.unmentioned():
            return False
        if config.min_tokens is not None and self.tokens < config.min_tokens:
            return False
        return config.target_characters is None or 2 * len(self.written.text) >= config.target_characters

    def _was_long_enough(self) -> bool:
        """Return whether the text was long enough and the last token begins a new sentence: a full stop may end a number's part."""
        text, before = self.written.text, self.written.lengths[-1]
        enough = self._has_its_length(before) or (self._grace and self.tokens > self.max_tokens)
        if not enough or not ends_sentence(text[max(0, before - _TAIL) : before]):
            return False
        new = text[before:]
        return new[:1].isspace() and not new.strip()[:1].islower() and not self.unmentioned(before)

    def _has_its_length(self, characters: int) -> bool:
        return self.config.target_characters is not None and characters >= self.config.target_characters

    def _take_back(self, count: int) -> None:
        """Forget the last ``count`` tokens, and forbid the first of them where it stood."""
        place = self.tokens - count
        self.second_thoughts.take_back(place, self.chosen[place].id)
        del self.chosen[place:], self.body[len(self.body) - count :]
        self.written.cut(place, [each.id for each in self.chosen])
        self._mentions.cut(len(self.written.whole))

    def _finish(self, reason: FinishReason, stop: int) -> str:
        self.unmet = (*(f"does not mention {wish}" for wish in self.unmentioned(stop)), *self.second_thoughts.unmended)
        self.finish_reason = "unmet" if self.unmet else reason
        return self.written.tell(stop)


def _last_words(text: str, most: int) -> str:
    """Return the last ``most`` characters at most of ``text``, from a blank on if they have one."""
    if len(text) <= most:
        return text
    last = text[-most:]
    return last[max(0, last.find(" ")) :]
