"""Which part of a corpus is trained on, and which is kept for measuring.

``group`` decides by a hash of the group's name, so that remakes never straddle and the order of rows does not matter;
``tail`` takes the last part, as published protocols do. Where drawing whole groups would give away too much of the text,
small groups are drawn, or groups are taken by text alone, or documents are cut in blocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from movieplotgpt.config import Settings
from movieplotgpt.errors import DataError
from movieplotgpt.text.duplicates import DuplicateSettings, Groups, group_documents
from movieplotgpt.text.formatting import Document

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

_BLOCK_CHARACTERS = 1_000  # blocks are at least so long, where the text has three of them
_MOST_BLOCKS = 200
_SMALL = 0.1  # a share of the text that may be held out whatever was asked for
_FAR = 3  # times the share expected


class _SplitSettings(Settings):
    def hash(self) -> str:
        """SHA-256 of what decides the split."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


class GroupSplit(_SplitSettings):
    """Whole groups of documents, drawn by a hash of the group's name and the seed."""

    kind: Literal["group"] = "group"
    validation: float = Field(0.01, gt=0, lt=0.5, description="Share of the groups.")
    test: float = Field(0.01, gt=0, lt=0.5, description="Share of the groups.")
    seed: int = Field(0, description="Another seed draws other groups.")
    duplicates: DuplicateSettings = Field(DuplicateSettings(), description="When two documents are one work.")


class TailSplit(_SplitSettings):
    """The last part of the corpus in its order; characters for one document, whole documents for many."""

    kind: Literal["tail"] = "tail"
    validation: float = Field(0.05, gt=0, lt=0.5, description="Share of the characters, before the test part.")
    test: float = Field(0.05, ge=0, lt=0.5, description="Share of the characters at the end; 0 for no test split.")
    duplicates: DuplicateSettings = Field(DuplicateSettings(), description="Only reported here.")

    @model_validator(mode="after")
    def _something_left(self) -> TailSplit:
        if self.validation + self.test > 0.9:
            raise ValueError("validation and test together leave less than a tenth to train on")
        return self


SplitSettings = Annotated[GroupSplit | TailSplit, Field(discriminator="kind")]


_Parts: TypeAlias = dict[Split, list[Document]]


def split_documents(
    documents: Sequence[Document], groups: Groups, settings: GroupSplit | TailSplit
) -> tuple[_Parts, tuple[str, ...]]:
    """Share ``documents`` out, each named by its group; a split keeps their order, and none asked for is empty.

    Returns also a warning where works could not be drawn by their names alone.

    Raises:
        DataError: the corpus is too short to be split at all.
    """
    named = _named(documents, groups)
    if settings.kind == "tail":
        return _by_position(named, settings), ()
    titled = any(document.title for document in documents)
    fewest = 3 if titled else max(3, 1 / min(settings.validation, settings.test))
    works, joined_by_name = len(groups.keys), groups.links["same title"] + groups.links["same page"]
    if works >= fewest:
        split_of = _draw(groups.keys, settings)
        if _leaves_enough(named, split_of, settings):
            return _shared_out(named, split_of), ()
        if small := _draw_small(named, settings):
            return _shared_out(named, small), (
                f"the {works:,} works differ so much in size that only small ones are held out; larger ones are trained on",
            )
    if joined_by_name:
        by_text = group_documents(documents, settings.duplicates, names=False)
        renamed = _named(documents, by_text)
        if len(by_text.keys) >= fewest and (drawn := _draw_fitting(by_text.keys, renamed, settings)):
            return _shared_out(renamed, drawn), (
                f"{len(documents):,} documents have only {works:,} titles or pages, too few to hold some of them out: "
                "validation and test have other texts than training, under the same titles",
            )
    parts = _by_blocks(named, settings)
    few = f"{len(documents):,} documents are only {works:,} works: each is cut, and parts of it are held out"
    return parts, (few,) if len(documents) > works or works >= fewest else ()


def _draw_fitting(keys: Sequence[str], documents: Sequence[Document], settings: GroupSplit) -> dict[str, Split] | None:
    """The draw, or that of small groups if it would take too much; None if there are too few of those."""
    split_of = _draw(keys, settings)
    return split_of if _leaves_enough(documents, split_of, settings) else _draw_small(documents, settings)


def _named(documents: Sequence[Document], groups: Groups) -> list[Document]:
    return [replace(own, group=groups.keys[group]) for own, group in zip(documents, groups.of, strict=True)]


def _shared_out(documents: Sequence[Document], split_of: dict[str, Split]) -> _Parts:
    return {split: [document for document in documents if split_of[document.group] == split] for split in SPLITS}


def _characters(documents: Sequence[Document]) -> dict[str, int]:
    """Characters of each group."""
    sizes = dict.fromkeys((document.group for document in documents), 0)
    for document in documents:
        sizes[document.group] += len(document.body)
    return sizes


def _leaves_enough(documents: Sequence[Document], split_of: dict[str, Split], settings: GroupSplit) -> bool:
    """Return whether the works drawn are not far larger than was asked for, or than so many documents are."""
    sizes = _characters(documents)
    drawn = [size for group, size in sizes.items() if split_of[group] != "train"]
    held_out = sum(drawn) / sum(sizes.values())
    expected = max(settings.validation + settings.test, len(drawn) / len(documents))
    return held_out <= max(_SMALL, _FAR * expected) and 1 - held_out >= (1 - expected) / 2


def _draw(keys: Sequence[str], settings: GroupSplit) -> dict[str, Split]:
    """Each name's split by its number in [0, 1): below the shares, and at least one name to each split."""
    number = {key: _number(settings.seed, key) for key in keys}
    lowest_first = sorted(number, key=lambda key: (number[key], key))
    split_of: dict[str, Split] = dict.fromkeys(keys, "train")
    n_test = max(1, sum(number[key] < settings.test for key in number))
    n_both = max(n_test + 1, sum(number[key] < settings.test + settings.validation for key in number))
    n_both = min(n_both, len(number) - 1)
    n_test = min(n_test, n_both - 1)
    split_of.update(dict.fromkeys(lowest_first[:n_test], "test"))
    split_of.update(dict.fromkeys(lowest_first[n_test:n_both], "validation"))
    return split_of


def _draw_small(documents: Sequence[Document], settings: GroupSplit) -> dict[str, Split] | None:
    """Groups no larger than a split or a document should be, drawn until a split is full or has a quarter of them.

    None if there are too few.
    """
    sizes = _characters(documents)
    total = sum(sizes.values())
    most = max(min(settings.validation, settings.test), 1 / len(documents)) * total
    small = [group for group, size in sizes.items() if size <= most]
    lowest_first = sorted(small, key=lambda group: (_number(settings.seed, group), group))
    split_of: dict[str, Split] = dict.fromkeys(sizes, "train")
    wanted: tuple[tuple[Split, float], ...] = (("test", settings.test), ("validation", settings.validation))
    for split, share in wanted:
        full = taken = 0
        while lowest_first and full < share * total and taken < max(1, len(small) // 4):
            group, taken = lowest_first.pop(0), taken + 1
            split_of[group] = split
            full += sizes[group]
    complete = {*split_of.values()} == {*SPLITS}
    return split_of if complete and _leaves_enough(documents, split_of, settings) else None


def _number(seed: int, key: str) -> float:
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _by_blocks(documents: Sequence[Document], settings: GroupSplit) -> dict[Split, list[Document]]:
    """Cut documents at line ends into blocks, draw blocks, and put neighbours of one split together again."""
    total = sum(len(document.body) for document in documents)
    size = total // min(_MOST_BLOCKS, max(3, total // _BLOCK_CHARACTERS))
    blocks = _blocks(documents, size)
    while len({block.name for block in blocks}) < 3 and size > 1:
        size //= 2
        blocks = _blocks(documents, size)
    if len({block.name for block in blocks}) < 3:
        raise DataError(f"the text has {total:,} characters, too few for a training, a validation and a test split")
    split_of = _draw([block.name for block in blocks], settings)
    parts: dict[Split, list[Document]] = {split: [] for split in SPLITS}
    before: tuple[int, Split] | None = None
    for block in blocks:
        split, text = split_of[block.name], block.text
        if before == (block.of, split):
            text = parts[split].pop().body + text
        parts[split].append(replace(documents[block.of], body=text))
        before = (block.of, split)
    return parts


@dataclass(frozen=True, slots=True)
class _Block:
    of: int  # the document it was cut from
    name: str  # blocks of equal documents have equal names
    text: str


def _blocks(documents: Sequence[Document], size: int) -> list[_Block]:
    return [
        _Block(i, f"{document.group} block {number}", text)
        for i, document in enumerate(documents)
        for number, text in enumerate(_cut(document.body, max(1, size)))
    ]


def _cut(body: str, size: int) -> list[str]:
    """Blocks of about ``size`` characters that end at a line's end, else a blank's, else anywhere; joined: ``body``."""
    blocks, start = [], 0
    while len(body) - start >= 2 * size:
        middle = start + size
        cuts = (body.find(border, middle - 1, middle + size // 2) + 1 for border in ("\n", " "))
        stop = next((cut for cut in cuts if cut), middle)
        blocks.append(body[start:stop])
        start = stop
    return [*blocks, body[start:]]


def _by_position(documents: Sequence[Document], settings: TailSplit) -> dict[Split, list[Document]]:
    lengths = [len(document.body) for document in documents]
    total = sum(lengths)
    borders = {
        "train": int(total * (1 - settings.validation - settings.test)),
        "validation": int(total * (1 - settings.test)),
        "test": total,
    }
    if len(documents) == 1:
        cuts = pairwise([0, *borders.values()])
        pieces = [replace(documents[0], body=documents[0].body[start:stop]) for start, stop in cuts]
        parts = {split: [piece] if piece.body else [] for split, piece in zip(SPLITS, pieces, strict=True)}
    else:
        middles = np.cumsum(lengths) - np.array(lengths) / 2
        places = np.searchsorted(list(borders.values()), middles, side="right").clip(max=2)
        parts = {split: [documents[j] for j in np.flatnonzero(places == i).tolist()] for i, split in enumerate(SPLITS)}
    empty = [split for split in SPLITS if not parts[split] and (split != "test" or settings.test)]
    if empty:
        raise DataError(
            f"{len(documents):,} documents ({total:,} characters) leave no {empty[0]} split; use larger shares"
        )
    return parts
