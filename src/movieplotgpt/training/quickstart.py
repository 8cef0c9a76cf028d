"""The shortest way: a text and a number of minutes -> a whole RunConfig, every choice with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from movieplotgpt.config import build_settings, override
from movieplotgpt.errors import ConfigError, DataError
from movieplotgpt.text.corpora import DIVIDERS, CorpusSettings, read_documents
from movieplotgpt.text.delimited import looks_headerless
from movieplotgpt.text.file_kinds import Kind
from movieplotgpt.text.formatting import PLAN, DocumentFormat
from movieplotgpt.text.sources import Source, read_source
from movieplotgpt.text.table_files import Table, column_name, listed, read_table
from movieplotgpt.training.run import RunConfig

ENOUGH_FOR_PLANS = 5_000_000  # characters
LONG_ENOUGH_FOR_A_PLAN = 600  # characters: a plan has about 100


@dataclass(frozen=True)
class Suggestion:
    """Settings for a text, and one sentence for each choice; size and batch are left to ``sizing``.

    ``characters`` and ``documents``: of the whole text.
    """

    config: RunConfig
    characters: int
    documents: int
    reasons: tuple[str, ...]


def suggest(
    path: Path,
    *,
    minutes: float,
    title_column: str | None = None,
    text_column: str | None = None,
    overrides: Iterable[str] = (),
) -> Suggestion:
    """Pick form, tokenizer and context length for the text or table at ``path``.

    Of ``overrides`` (``section.key=value``) those of the corpus decide how it is read.

    Raises:
        ConfigError: a table without the name of its text column, or an override that does not fit.
        DataError: the text cannot be read.
    """
    layout = DocumentFormat(header=_header(title_column) if title_column else "")
    source = read_source(path)
    chosen, about_corpus = _corpus(source, text_column, [text for text in overrides if text.startswith("corpus.")])
    corpus = read_documents(chosen, layout, source)
    documents = corpus.documents
    characters = sum(len(document.body) for document in documents)
    with_plans, about_plans = _plans(layout, [len(document.body) for document in documents])
    if with_plans:
        layout = layout.model_copy(update={"hints": (PLAN,)})
    tokenizer, per_token = _tokenizer(characters)
    tokens = max(1.0, 0.9 * characters / per_token)
    context_length = _context_length(tokens, characters / len(documents) / per_token)
    values: dict[str, Any] = {
        "corpus": chosen.model_dump(),
        "format": layout.model_dump(),
        "tokenizer": tokenizer,
        "model": {"size": "auto", "context_length": context_length},
        "training": {"minutes": minutes},
    }
    pieces = f"BPE with {tokenizer['vocab_size']:,} tokens" if tokenizer["kind"] == "bpe" else "single characters"
    size = f"{characters:,} characters of text: {pieces}, read {context_length} at once"
    return Suggestion(
        build_settings(RunConfig, values),
        characters,
        len(documents),
        (*corpus.notes, *about_corpus, size, *about_plans),
    )


def column_overrides(title_column: str | None, text_column: str | None) -> tuple[str, ...]:
    """Return the columns of a table as ``section.key=value``."""
    return (
        *([f"corpus.text={json.dumps(text_column)}"] if text_column else []),
        *([f"format.header={json.dumps(_header(title_column))}"] if title_column else []),
    )


def _header(title_column: str) -> str:
    title = column_name(title_column)
    return f"{title}: {{{title}}}"


def _corpus(source: Source, text_column: str | None, overrides: list[str]) -> tuple[CorpusSettings, tuple[str, ...]]:
    """Return how to read a source: as a table if its text column is named, or else as plain text."""
    reasons: tuple[str, ...] = ()
    values: dict[str, Any] = {"kind": "table", "text": text_column} if text_column else {"kind": "plain"}
    if not text_column and not any(text.startswith("corpus.kind=") for text in overrides):
        if not source.of_kind(Kind.TEXT, Kind.DOCUMENT, Kind.OTHER):
            raise ConfigError(_name_a_column(source))
        divider = next(
            (one for one in DIVIDERS if sum(part.data.count(one.encode()) for part in source.parts) > 1), None
        )
        if divider and not any(text.startswith("corpus.separator=") for text in overrides):
            values["separator"] = divider
            reasons = (f"documents are divided at {divider}",)
    corpus = build_settings(RunConfig, override({"corpus": values}, overrides), where=" ".join(overrides)).corpus
    return corpus, reasons


def _name_a_column(source: Source) -> str:
    """Return how to name the text column, with the column of the longest texts as the example."""
    table = read_table(source)
    names = table.choices()
    longest = max(names, key=lambda name: _typical_length(table, name))
    message = f"{source.path} is a table with the columns {listed(names)}; name the one with the text"
    if looks_headerless(table.names):
        return f"{message}, or, if its first line is a row, no_header=True and the number of the column"
    return f"{message}: text_column={longest!r} (and the one with titles, if there is one: title_column=NAME)"


def _typical_length(table: Table, name: str) -> float:
    try:
        lengths = [len(cell or "") for cell in table.column(name)[:500]]
    except DataError:  # it holds no text
        return -1
    return sum(lengths) / len(lengths)


def _plans(layout: DocumentFormat, lengths: list[int]) -> tuple[bool, tuple[str, ...]]:
    """Return whether to train with plans, and the reason; no reason for texts without titles."""
    if not layout.header:
        return False, ()
    characters, typical = sum(lengths), int(median(lengths))
    if characters < ENOUGH_FOR_PLANS:
        return False, (f"no plans: a model needs {ENOUGH_FOR_PLANS:,} characters of text to learn to plan",)
    if typical < LONG_ENOUGH_FOR_A_PLAN:
        return False, (
            f"no plans: half of the texts are shorter than {typical + 1:,} characters, too short to need one",
        )
    return True, (
        f"plans: half of the texts have {typical:,} characters or more, so most are shown with their names and key words",
    )


def _tokenizer(characters: int) -> tuple[dict[str, Any], float]:
    """Settings, and about how many characters one token holds (English prose)."""
    for least, vocab_size, per_token in ((30_000_000, 4096, 3.5), (5_000_000, 2048, 3.0), (1_000_000, 1024, 2.6)):
        if characters >= least:
            return {"kind": "bpe", "vocab_size": vocab_size}, per_token
    return {"kind": "char"}, 1.0


def _context_length(tokens: float, per_document: float) -> int:
    wanted = 512 if per_document > 200 else 256
    while wanted > 32 and tokens < 8 * wanted:
        wanted //= 2
    return wanted
