"""A prepared corpus on disk: token arrays that are memory-mapped, and a manifest that describes them.

    manifest.json                 written last: hashes, counts, settings
    tokenizer.json ...            the tokenizer, as a model folder has it
    <split>.tokens.npy            the tokens of all documents, one after the other; no end tokens
    <split>.offsets.npy           (documents, segments + 1): where each segment of a document starts, and the last ends
    <split>.documents.parquet     title, hints, characters, group and key of each document

A document's segments are its hint lines in the format's order (empty where not known), the sentence, and the body.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from movieplotgpt.errors import DataError
from movieplotgpt.records import Record
from movieplotgpt.text.cleaning import CleaningSettings
from movieplotgpt.text.duplicates import I64
from movieplotgpt.text.formatting import Document, DocumentFormat
from movieplotgpt.text.splits import SPLITS, Split
from movieplotgpt.text.tokenizer import Ids, Tokenizer
from movieplotgpt.text.tokenizer_json import load_tokenizer

if TYPE_CHECKING:
    import polars as pl

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

_ENCODED_AT_ONCE = 2_000  # documents


class SourceFile(Record, extra="forbid"):
    """Where the text came from; size and time only spare reading it again to see that it is the same."""

    name: str
    size: int
    modified_ns: int
    sha256: str


class SplitCounts(Record, extra="forbid"):
    """How much a split holds. Characters are code points of the bodies that the tokens keep; no end tokens are counted."""

    documents: int
    characters: int
    header_tokens: int
    body_tokens: int


class Manifest(Record, extra="forbid"):
    """What a prepared folder holds. ``corpus_hash`` names the text and its split beside every number.

    ``hint_values`` has the most frequent values of each hint in the training split.
    """

    format_version: int
    corpus_hash: str
    split_hash: str
    cleaner_hash: str
    source: SourceFile
    format: DocumentFormat
    cleaning: CleaningSettings
    settings: dict[str, Any]
    vocab_size: int
    dtype: str
    splits: dict[Split, SplitCounts]
    hint_values: dict[str, tuple[str, ...]] = Field({})


@dataclass(frozen=True)
class PreparedSplit:
    """The documents of one split as token arrays; nothing is read before it is asked for."""

    tokens: Ids
    offsets: I64  # (documents, hints + 3)
    hint_names: tuple[str, ...]
    path: Path

    @property
    def n_documents(self) -> int:
        """How many documents the split has."""
        return len(self.offsets)

    def segment(self, i: int, k: int) -> Ids:
        """The tokens of segment ``k`` of document ``i``: a hint line (empty: not known), the sentence or the body."""
        return self.tokens[self.offsets[i, k] : self.offsets[i, k + 1]]

    def sentence(self, i: int) -> Ids:
        """The tokens of the header's sentence."""
        return self.segment(i, len(self.hint_names))

    def body(self, i: int) -> Ids:
        """The tokens of the body, the end token not among them."""
        return self.segment(i, len(self.hint_names) + 1)

    def header(self, i: int) -> Ids:
        """The tokens of all known hint lines and the sentence."""
        return self.tokens[self.offsets[i, 0] : self.offsets[i, -2]]

    @cached_property
    def n_characters(self) -> I64:
        """Unicode code points of each document's cleaned body, as its tokens keep it."""
        return self._documents["n_characters"].to_numpy()

    @cached_property
    def titles(self) -> list[str]:
        """The title of each document."""
        return self._documents["title"].to_list()

    @cached_property
    def hints(self) -> list[dict[str, str]]:
        """The known hints of each document."""
        rows = self._documents.select(_hint_column(name) for name in self.hint_names).rows()
        return [{name: text for name, text in zip(self.hint_names, row, strict=True) if text} for row in rows]

    @cached_property
    def groups(self) -> list[str]:
        """The name of each document's group: documents that share it are one work."""
        return self._documents["group"].to_list()

    @cached_property
    def keys(self) -> list[str]:
        """Where each document came from: a row, a file, a scene."""
        return self._documents["key"].to_list()

    @cached_property
    def _documents(self) -> pl.DataFrame:
        import polars as pl

        try:
            return pl.read_parquet(self.path, glob=False)  # "[x]" may be a folder
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{self.path} is damaged ({error}); prepare the corpus again") from None


@dataclass(frozen=True)
class PreparedCorpus:
    """A prepared folder, opened."""

    folder: Path
    manifest: Manifest

    @classmethod
    def load(cls, folder: Path) -> PreparedCorpus:
        """Open ``folder``; the arrays are mapped, not read.

        Raises:
            DataError: it is not a prepared folder, it has another format version, or a file is missing or has a wrong size.
        """
        corpus = cls(folder, read_manifest(folder))
        for split in SPLITS:
            corpus._open(split)
        return corpus

    @property
    def format(self) -> DocumentFormat:
        """How a document is laid out."""
        return self.manifest.format

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer the arrays were made with."""
        return load_tokenizer(self.folder)

    def split(self, name: Split) -> PreparedSplit:
        """The documents of one split.

        Raises:
            DataError: the corpus was prepared without such a split.
        """
        if not self.manifest.splits[name].documents:
            raise DataError(f"{self.folder} has no {name} split; prepare it again with split.{name} above 0")
        return self._open(name)

    def _open(self, name: Split) -> PreparedSplit:
        counts = self.manifest.splits[name]
        columns = len(self.format.hints) + 3
        tokens_file, offsets_file, documents = (self.folder / file for file in split_files(name))
        offsets = _mapped(offsets_file, np.dtype(np.int64), (counts.documents, columns))
        n_tokens = counts.header_tokens + counts.body_tokens
        tokens = _mapped(tokens_file, np.dtype(self.manifest.dtype), (n_tokens,))
        if not documents.is_file():
            raise DataError(f"{documents} is missing; prepare the corpus again")
        return PreparedSplit(tokens, offsets, self.format.hints, documents)


def split_files(name: Split) -> tuple[str, str, str]:
    """The names of the files of a split: tokens, offsets and the table of documents."""
    return f"{name}.tokens.npy", f"{name}.offsets.npy", f"{name}.documents.parquet"


def is_prepared_folder(folder: Path) -> bool:
    """Return whether the manifest in ``folder`` is of a prepared corpus, in this format version or another."""
    try:
        values = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.keys() >= {"format_version", "corpus_hash", "splits"}


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a prepared folder.

    Raises:
        DataError: the manifest is missing, damaged, or of another format version.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["format_version"]
        if version == FORMAT_VERSION:
            return Manifest.model_validate(values)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{folder} is not a prepared corpus: it has no {MANIFEST}; run `movieplotgpt prepare`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path} is damaged; prepare the corpus again") from None
    raise DataError(f"{folder} has format {version}, this version reads {FORMAT_VERSION}; prepare the corpus again")


def write_split(
    folder: Path,
    name: Split,
    documents: Sequence[Document],
    layout: DocumentFormat,
    tokenizer: Tokenizer,
    progress: Callable[[int], None],
) -> SplitCounts:
    """Encode a split and write its three files into ``folder``; ``progress`` is called with the number of documents done."""
    tokens_file, offsets_file, documents_file = (folder / file for file in split_files(name))
    n_segments = len(layout.hints) + 2
    tokens: list[Ids] = [np.empty(0, tokenizer.dtype)]
    lengths = np.zeros((len(documents), n_segments), np.int64)
    lines: dict[str, Ids] = {}
    characters: list[int] = []
    for first in range(0, len(documents), _ENCODED_AT_ONCE):
        part = documents[first : first + _ENCODED_AT_ONCE]
        for i, segments in enumerate(_encode(part, layout, tokenizer, lines), start=first):
            lengths[i] = [len(ids) for ids in segments]
            tokens.extend(segments)
            characters.append(tokenizer.characters(documents[i].body, segments[-1]))
        progress(len(part))
    ends = np.cumsum(lengths.ravel()).reshape(lengths.shape)
    offsets = np.concatenate([ends[:, :1] - lengths[:, :1], ends], axis=1)
    np.save(tokens_file, np.concatenate(tokens))
    np.save(offsets_file, offsets)
    _table(documents, characters, layout).write_parquet(documents_file)
    return SplitCounts(
        documents=len(documents),
        characters=sum(characters),
        header_tokens=int(lengths[:, :-1].sum()),
        body_tokens=int(lengths[:, -1].sum()),
    )


def _encode(
    documents: Sequence[Document], layout: DocumentFormat, tokenizer: Tokenizer, lines: dict[str, Ids]
) -> Iterable[list[Ids]]:
    """The segments of each document; ``lines`` remembers hint lines, of which there are few."""
    bodies = tokenizer.encode_batch([document.body for document in documents])
    sentences = tokenizer.encode_batch([layout.sentence(document.title) for document in documents])
    for document, sentence, body in zip(documents, sentences, bodies, strict=True):
        hints = []
        for name in layout.hints:
            line = "".join(layout.hint_lines({name: document.hints.get(name, "")}))
            if line not in lines:
                lines[line] = tokenizer.encode(line)
            hints.append(lines[line])
        yield [*hints, sentence, body]


def _table(documents: Sequence[Document], characters: Sequence[int], layout: DocumentFormat) -> pl.DataFrame:
    import polars as pl

    texts = ("title", *map(_hint_column, layout.hints), "group", "key")
    rows = [
        (own.title, *map(own.hints.get, layout.hints), own.group, own.key, count)
        for own, count in zip(documents, characters, strict=True)
    ]
    return pl.DataFrame(rows, schema={**dict.fromkeys(texts, pl.String), "n_characters": pl.Int64}, orient="row")


def _hint_column(name: str) -> str:
    return f"hint {name}"


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if np.prod(shape) else None)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; prepare the corpus again") from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}); prepare the corpus again") from None
    if array.dtype != dtype or array.shape != shape:
        raise DataError(f"{path} does not fit the manifest ({array.dtype}, {array.shape}); prepare the corpus again")
    return array
