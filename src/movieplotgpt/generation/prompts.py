"""Lay out a request as the text the model was trained to continue; no prompt fails because of its characters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from movieplotgpt.engine.model_folder import TextModel
from movieplotgpt.errors import PromptError
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.text.cleaning import fold_prompt
from movieplotgpt.text.formatting import PLAN, one_line
from movieplotgpt.text.hints import USUAL, ListHint, hint_settings, join_hints
from movieplotgpt.text.pieces import longest_header
from movieplotgpt.text.plans import lay_out_plan, plan_parts
from movieplotgpt.text.tokenizer import Tokenizer

BROKEN = "\N{REPLACEMENT CHARACTER}"  # for bytes that are not valid UTF-8, which a model may write
MOST_CHANGES = 20  # that are reported
LAST_BYTE = 256  # the ids up to here are the end marker and bytes


@dataclass(frozen=True)
class Prompt:
    """A header in its trained form and, perhaps, the beginning of the body.

    ``changes`` lists what differs from the request, each change once: ``é→e``.
    """

    header: str
    begun: str = ""
    title: str = ""
    hints: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()


class PromptForm:
    """How requests to one model are laid out."""

    def __init__(self, model: TextModel) -> None:
        self.format, self.cleaning, self.tokenizer = model.format, model.cleaning, model.tokenizer
        self.context_length = model.config.context_length
        self._readers = hint_settings(model.info.get("settings"))

    def from_title(self, title: str, hints: Mapping[str, str] | None = None, begin: str = "") -> Prompt:
        """Return a prompt for a title and a beginning; the empty title is the unconditional form, or the BOS token alone without a header.

        Raises:
            PromptError: the model has no titles, does not know a hint, or a hint is given twice.
        """
        folded, changes = self._folded(title)
        folded = one_line(folded)
        if folded and not self.format.header:
            raise PromptError("this model was trained on text without titles; give it the beginning of a text instead")
        values = {}
        for name, text in join_hints((hints or {}).items()).items():
            value, changed = self._folded(text)
            known = self._known_hint(name)
            values[known] = self._trained_hint(known, value)
            if values[known] != one_line(value):
                changed.append(f"{one_line(value)}→{values[known]}")
            changes += changed
        begun, changed = self._folded(begin)
        changes += changed
        header = self.format.header_text(folded, values)
        return self._fitted(Prompt(header, self._without_last_blank(begun), folded, values, first_changes(changes)))

    def with_plan(self, prompt: Prompt, plan: str) -> Prompt:
        """Return the prompt with ``plan`` in its trained form, replacing any plan it had.

        Raises:
            PromptError: the model was trained without plans.
        """
        if not self.format.has_plan:
            raise PromptError("this model was trained without plans; leave the plan out")
        folded, changes = self._folded(plan)
        laid_out = lay_out_plan(*plan_parts(folded))
        hints = {name: text for name, text in prompt.hints.items() if name != PLAN} | {PLAN: laid_out}
        sentence = self.format.sentence(prompt.title)
        lines = prompt.header.removesuffix(sentence).splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(f"{PLAN}: ")]
        header = "".join([*kept, *self.format.hint_lines({PLAN: laid_out}), sentence])
        return self._fitted(replace(prompt, header=header, hints=hints, changes=once((*prompt.changes, *changes))))

    def from_text(self, text: str) -> Prompt:
        """Return a free prompt: the trained sentence in any spelling, the beginning of a body, or both."""
        folded, changes = self._folded(text)
        header, begun = self.format.split_prompt(folded)
        begun = self._without_last_blank(begun)
        title = self.format.title_in(header) if header else ""
        return self._fitted(Prompt(header, begun, title, changes=first_changes(changes)))

    def folded_wishes(self, config: SamplingConfig) -> tuple[SamplingConfig, tuple[str, ...]]:
        """The config with its texts (stop, banned, must_mention) spelled as the model spells, and what was changed in them.

        Raises:
            PromptError: the model has no letters for a wish, or it cannot be mentioned for what is banned.
        """
        texts, changes = {}, list[str]()
        for name in ("stop", "banned", "must_mention"):
            folded = []
            for text in getattr(config, name):
                folded_text, changed = self._folded(text) if BROKEN not in text else (text, [])
                folded.append(folded_text.strip() if name == "must_mention" else folded_text)
                changes += changed
            texts[name] = tuple(text for text in folded if text or name == "must_mention")
        for asked, wish in zip(config.must_mention, texts["must_mention"], strict=True):
            spelled = self.tokenizer.encode(wish).tolist()
            if not spelled or (self.tokenizer.kind == "char" and min(spelled) <= LAST_BYTE):
                raise PromptError(f"this model has no letters for {asked!r}, which must be mentioned; leave it out")
            for banned in texts["banned"]:
                if banned in wish:
                    raise PromptError(f"{asked!r} must be mentioned, but {banned!r} is banned; leave one of them out")
        return config.model_copy(update=texts), first_changes(changes)

    def _without_last_blank(self, begun: str) -> str:
        """In BPE a token is a blank and its word: a blank left over suits no word."""
        return begun.rstrip(" ") if self.tokenizer.kind == "bpe" else begun

    def _known_hint(self, name: str) -> str:
        known = {hint.casefold(): hint for hint in self.format.hints if hint != PLAN}
        if name.casefold() == PLAN.casefold() and self.format.has_plan:
            raise PromptError(f"{name!r} is not given as a hint; give plan=... instead")
        if not known:
            raise PromptError(f"this model was trained without hints, so it has no {name!r}; leave it out")
        if name.casefold() not in known:
            raise PromptError(f"this model knows no hint {name!r}; it knows {', '.join(known.values())}")
        return known[name.casefold()]

    def _trained_hint(self, name: str, value: str) -> str:
        """Return a hint as in the training text (1970s for 1974, science fiction for sci-fi), or unchanged."""
        reader = self._readers.get(name)
        return (reader.value(value) if reader else "") or one_line(value)

    def _folded(self, text: str) -> tuple[str, list[str]]:
        lost = Tokenizer.replaced(text)
        text = text.translate({ord(each): replacement for each, replacement in lost.items()})
        changes = [f"\\u{ord(each):04x}→{replacement}" for each, replacement in lost.items()]
        text, folded = fold_prompt(text, self.cleaning)
        changes += [change if change[2:] else f"{change[:1]!r} left out" for change in folded]
        special = dict.fromkeys((self.format.end, self.tokenizer.end, self.tokenizer.pad))
        text, found = without_tokens(text, [*special])
        return text, [*changes, *(f"{token} left out" for token in found)]

    def _fitted(self, prompt: Prompt) -> Prompt:
        """Shorten a title until the header takes half the context at most; where that is not enough, its end is read."""

        def with_title(title: str) -> str:
            return prompt.header.removesuffix(self.format.sentence(prompt.title)) + self.format.sentence(title)

        if self._fits(prompt.header):
            return prompt
        if not self._fits(with_title("")):
            note = "the model reads only the end of this header, which is longer than half its context"
            return replace(prompt, changes=(*prompt.changes, note))
        title = shortened(prompt.title, lambda begin: self._fits(with_title(begin)))
        note = f"title shortened from {len(prompt.title):,} to {len(title):,} characters"
        return replace(prompt, header=with_title(title), title=title, changes=(*prompt.changes, note))

    def _fits(self, header: str) -> bool:
        room = longest_header(self.context_length)
        return len(header) <= room * self.tokenizer.longest_token and len(self.tokenizer.encode(header)) <= room


def without_tokens(text: str, tokens: Collection[str]) -> tuple[str, list[str]]:
    """Return ``text`` without ``tokens``, and which of them it held; what their removal joins to a token goes as well."""
    if not any(token in text for token in tokens):
        return text, []
    kept, found = list[str](), dict[str, None]()
    for character in text:
        kept.append(character)
        for token in tokens:
            if character == token[-1] and "".join(kept[-len(token) :]) == token:
                del kept[-len(token) :]
                found[token] = None
    return "".join(kept), list(found)


def once(changes: Iterable[str]) -> tuple[str, ...]:
    """Return each change once, in the order they were made."""
    return tuple(dict.fromkeys(changes))


def first_changes(changes: Iterable[str]) -> tuple[str, ...]:
    """Return the first ``MOST_CHANGES`` changes, each once, and how many more there are."""
    each = once(changes)
    more = [f"and {len(each) - MOST_CHANGES:,} more changes"] if len(each) > MOST_CHANGES else []
    return (*each[:MOST_CHANGES], *more)


def shortened(title: str, fits: Callable[[str], bool]) -> str:
    """Return the longest beginning of ``title`` that fits, up to the end of a word if possible."""
    low, high = 0, len(title)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(title[:middle]) else (low, middle - 1)
    words = title[: low + 1].rpartition(" ")[0].rstrip()
    return words if words and fits(words) else title[:low]


def usual_hints(model: TextModel) -> dict[str, tuple[str, ...]]:
    """Return the hints that a person may give to a model, each with usual values; none if the model does not record them."""
    recorded = model.record.corpus.hint_values
    readers = hint_settings(model.info.get("settings"))
    values = {}
    for name in model.format.hints:
        reader = readers.get(name)
        labels = [*reader.labels][:USUAL] if isinstance(reader, ListHint) else []
        values[name] = tuple(recorded.get(name, labels))
    values.pop(PLAN, None)  # has a field of its own
    return values
