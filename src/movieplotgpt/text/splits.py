"""Which part of a corpus is trained on, and which is kept for measuring.

``group`` decides by a hash of the group's name, so that remakes never straddle and the order of rows does not matter;
``tail`` takes the last part, as published protocols do. A corpus of too few documents to share out is cut in blocks.
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
from movieplotgpt.text.duplicates import DuplicateSettings, Groups
from movieplotgpt.text.formatting import Document

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

_BLOCK_CHARACTERS = 1_000  # blocks are at least so long, where the text has three of them
_MOST_BLOCKS = 200


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


def split_documents(
    documents: Sequence[Document], groups: Groups, settings: GroupSplit | TailSplit
) -> dict[Split, list[Document]]:
    """Share ``documents`` out, each named by its group; a split keeps their order, and none asked for is empty.

    Raises:
        DataError: the corpus is too short to be split at all.
    """
    documents = [replace(own, group=groups.keys[group]) for own, group in zip(documents, groups.of, strict=True)]
    if settings.kind == "tail":
        return _by_position(documents, settings)
    smallest = min(settings.validation, settings.test)
    titled = any(document.title for document in documents)
    if len(groups.keys) < 3 or (not titled and len(groups.keys) * smallest < 1):
        return _by_blocks(documents, settings)
    split_of = _draw(groups.keys, settings)
    return {split: [document for document in documents if split_of[document.group] == split] for split in SPLITS}


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
