"""The shortest way: a text and a number of minutes -> a whole RunConfig, every choice with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from movieplotgpt.config import build_settings
from movieplotgpt.errors import ConfigError
from movieplotgpt.text.corpora import CorpusSettings, PlainCorpus, TableCorpus, read_documents
from movieplotgpt.text.formatting import PLAN, DocumentFormat
from movieplotgpt.text.sources import TABLE_SUFFIXES, kind_suffix
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
    source: Path, *, minutes: float, title_column: str | None = None, text_column: str | None = None
) -> Suggestion:
    """Pick form, tokenizer and context length for ``source``.

    Raises:
        ConfigError: a table without the name of its text column.
        DataError: the text cannot be read.
    """
    if kind_suffix(source) in TABLE_SUFFIXES and not text_column:
        raise ConfigError(f"{source} is a table; name its text with --text-column (and its titles with --title-column)")
    layout = DocumentFormat(header=f"{title_column}: {{{title_column}}}" if title_column else "")
    corpus: CorpusSettings = TableCorpus(text=text_column) if text_column else PlainCorpus()
    documents = read_documents(corpus, layout, source).documents
    characters = sum(len(document.body) for document in documents)
    with_plans, about_plans = _plans(layout, [len(document.body) for document in documents])
    if with_plans:
        layout = layout.model_copy(update={"hints": (PLAN,)})
    tokenizer, per_token = _tokenizer(characters)
    tokens = max(1.0, 0.9 * characters / per_token)
    context_length = _context_length(tokens, characters / len(documents) / per_token)
    values: dict[str, Any] = {
        "corpus": corpus.model_dump(),
        "format": layout.model_dump(),
        "tokenizer": tokenizer,
        "model": {"size": "auto", "context_length": context_length},
        "training": {"minutes": minutes},
    }
    pieces = f"BPE with {tokenizer['vocab_size']:,} tokens" if tokenizer["kind"] == "bpe" else "single characters"
    return Suggestion(
        build_settings(RunConfig, values),
        characters,
        len(documents),
        (f"{characters:,} characters of text: {pieces}, read {context_length} at once", *about_plans),
    )


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
