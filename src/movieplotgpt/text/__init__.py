"""From sources to token arrays; each public name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from movieplotgpt.text.cleaning import CleaningSettings
    from movieplotgpt.text.corpora import read_documents
    from movieplotgpt.text.download import download_corpus
    from movieplotgpt.text.formatting import END_OF_PLOT, Document, DocumentFormat
    from movieplotgpt.text.prepare import PrepareReport, PrepareSettings, is_prepared
    from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit
    from movieplotgpt.text.tokenizers import Tokenizer

_HOMES = {
    "CleaningSettings": "cleaning",
    "read_documents": "corpora",
    "download_corpus": "download",
    "END_OF_PLOT": "formatting",
    "Document": "formatting",
    "DocumentFormat": "formatting",
    "PrepareReport": "prepare",
    "PrepareSettings": "prepare",
    "is_prepared": "prepare",
    "PreparedCorpus": "token_files",
    "PreparedSplit": "token_files",
    "Tokenizer": "tokenizers",
}

__all__ = [
    "CleaningSettings",
    "read_documents",
    "download_corpus",
    "END_OF_PLOT",
    "Document",
    "DocumentFormat",
    "PrepareReport",
    "PrepareSettings",
    "is_prepared",
    "PreparedCorpus",
    "PreparedSplit",
    "Tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
