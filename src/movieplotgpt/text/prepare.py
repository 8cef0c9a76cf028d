"""From a source file to token arrays: read, clean, group, split, train the tokenizer, encode, write."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from movieplotgpt import atomic
from movieplotgpt.config import Settings
from movieplotgpt.errors import DataError, MoviePlotGPTError
from movieplotgpt.machine import peak_memory
from movieplotgpt.progress_bars import StageReport
from movieplotgpt.records import Record
from movieplotgpt.text.cleaning import NON_ASCII, CleaningSettings, clean_documents
from movieplotgpt.text.copies import COPIES, CopyIndex
from movieplotgpt.text.corpora import CorpusSettings, read_documents
from movieplotgpt.text.duplicates import drop_repeats, group_documents
from movieplotgpt.text.formatting import PLAN, Document, DocumentFormat
from movieplotgpt.text.hints import usual_values
from movieplotgpt.text.plans import Planner, with_plans
from movieplotgpt.text.sources import printable, source_sha256
from movieplotgpt.text.splits import SPLITS, GroupSplit, Split, SplitSettings, split_documents
from movieplotgpt.text.token_files import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    SourceFile,
    SplitCounts,
    is_prepared_folder,
    read_manifest,
    split_files,
    write_split,
)
from movieplotgpt.text.tokenizer import BpeSettings, Tokenizer, TokenizerSettings

REPORT = "report.json"
FILES = {  # of a prepared corpus
    *(MANIFEST, REPORT, COPIES, "tokenizer.json", "tokenizer_config.json"),
    *(file for split in SPLITS for file in split_files(split)),
}
LENGTH_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class PrepareSettings(Settings):
    """Everything that decides what a prepared corpus holds."""

    corpus: CorpusSettings = Field(description="What documents are read from.")
    cleaning: CleaningSettings = Field(CleaningSettings(), description="What is done to each text.")
    format: DocumentFormat = Field(DocumentFormat(), description="How title, hints and body become one text.")
    split: SplitSettings = Field(GroupSplit(), description="What is kept for measuring.")
    tokenizer: TokenizerSettings = Field(BpeSettings(), description="Trained on the training split only.")


class LargestGroup(Record):
    """The group that joined most documents, to see that nothing ran away."""

    documents: int
    titles: list[str]


class PrepareReport(Record):
    """What preparing found and did: the table a person reads.

    ``lengths`` are characters of the cleaned bodies at the quantiles of ``LENGTH_QUANTILES``; ``links`` count what
    joined documents into groups; ``peak_memory`` is in bytes, 0 where the system does not report it. ``notes`` are choices
    made while reading that a person may want to know of, ``warnings`` what makes the splits less than they should be.
    """

    source: str
    rows: int
    documents: int
    dropped: dict[str, int]
    cleaning: dict[str, int]
    non_ascii_before: int
    non_ascii_after: int
    groups: int
    grouped: int
    links: dict[str, int]
    refused_links: int
    largest_group: LargestGroup
    lengths: list[int]
    hints: dict[str, int]
    tokenizer: str
    vocab_size: int
    characters_per_token: float
    splits: dict[Split, SplitCounts]
    corpus_hash: str
    seconds: dict[str, float]
    peak_memory: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def prepare(
    settings: PrepareSettings,
    source: Path,
    out: Path,
    progress: StageReport | None = None,
    *,
    tokenizer: Tokenizer | None = None,
) -> PrepareReport:
    """Prepare ``source`` into the folder ``out``, which is replaced as a whole at the end.

    ``progress`` is called with (stage, done, total) during the work. A ``tokenizer`` given is kept as it is, for
    fine-tuning the model that has it.

    Raises:
        DataError: the source cannot be used.
        StorageError: the disk refuses; what was in ``out`` is untouched.
    """
    _refuse_foreign_folder(out)
    stages = _Stages(progress or (lambda stage, done, total: None))
    with stages.stage("read"):
        stamp = _stamp(source)
        corpus = read_documents(settings.corpus, settings.format, source)
    with stages.stage("clean"):
        before = _count_non_ascii(corpus.documents)
        cleaned, cleaning = clean_documents(corpus.documents, settings.cleaning, settings.format.end)
        documents, dropped = _not_empty(cleaned, corpus.dropped)
    with stages.stage("group"):
        documents, repeated = drop_repeats(documents)
        groups = group_documents(documents, settings.split.duplicates)
    with stages.stage("split"):
        parts, warnings = split_documents(documents, groups, settings.split)
    if settings.format.has_plan:
        with stages.stage("plan"):
            planner = Planner.learn(document.body for document in parts["train"])
            parts = {split: with_plans(own, planner) for split, own in parts.items()}
    with stages.stage("train tokenizer"):
        if tokenizer is None:
            layout = settings.format
            texts = (layout.header_text(own.title, own.hints) + own.body for own in parts["train"])
            tokenizer = settings.tokenizer.train(texts, layout.end)
    with atomic.replacing_folder(out) as folder:
        with stages.stage("encode"):
            done = stages.counter("encode", sum(map(len, parts.values())))
            counts = {
                split: write_split(folder, split, parts[split], settings.format, tokenizer, done) for split in SPLITS
            }
            tokenizer.save(folder, model_max_length=sys.maxsize)
        manifest = _manifest(settings, SourceFile(sha256=corpus.sha256, **stamp), counts, tokenizer, parts["train"])
        with stages.stage("index copies"):
            works = [own.title or own.key for own in parts["train"]]
            index = CopyIndex.build((own.body for own in parts["train"]), works, manifest.corpus_hash)
            index.save(folder / COPIES)
        sizes, largest = np.bincount(groups.of), [documents[i] for i in groups.largest()]
        titles = dict.fromkeys(document.title or document.key for document in largest)
        lengths = np.array([len(document.body) for document in documents])
        unseen = [counts[split] for split in SPLITS if split != "train"]  # by the tokenizer
        report = PrepareReport(
            source=stamp["name"],
            rows=corpus.rows,
            documents=len(documents),
            dropped=_known({**dropped, "repeating a title and its text": repeated}),
            cleaning=_known(cleaning),
            non_ascii_before=before,
            non_ascii_after=_count_non_ascii(documents),
            groups=len(groups.keys),
            grouped=int(sizes[sizes > 1].sum()),
            links=groups.links,
            refused_links=groups.refused,
            largest_group=LargestGroup(documents=len(largest), titles=[*titles][:20]),
            lengths=[int(length) for length in np.quantile(lengths, LENGTH_QUANTILES)],
            hints={
                name: sum(name in document.hints for part in parts.values() for document in part)
                for name in settings.format.hints
            },
            tokenizer=tokenizer.kind,
            vocab_size=manifest.vocab_size,
            characters_per_token=sum(part.characters for part in unseen)
            / max(1, sum(part.body_tokens for part in unseen)),
            splits=counts,
            corpus_hash=manifest.corpus_hash,
            seconds=stages.seconds,
            peak_memory=peak_memory(),
            notes=corpus.notes,
            warnings=warnings,
        )
        report.write(folder / REPORT)
        manifest.write(folder / MANIFEST)
    return report


def is_prepared(settings: PrepareSettings, source: Path, out: Path) -> bool:
    """Return whether ``out`` already holds just what ``prepare`` would write there.

    The source is read again only if its size or time changed.
    """
    try:
        manifest = read_manifest(out)
        if manifest.settings != _dumped(settings) or manifest.cleaner_hash != settings.cleaning.hash():
            return False
        stamp = _stamp(source)
        same = (manifest.source.size, manifest.source.modified_ns) == (stamp["size"], stamp["modified_ns"])
        return same or manifest.source.sha256 == source_sha256(source)
    except MoviePlotGPTError:
        return False


def is_text_of(source: Path, out: Path) -> bool:
    """Return whether ``source`` holds just the text that ``out`` was prepared from, by its SHA-256.

    Raises:
        DataError: one of the two cannot be read.
    """
    return read_manifest(out).source.sha256 == source_sha256(source)


def changed_settings(settings: PrepareSettings, out: Path) -> list[str]:
    """The sections of ``settings`` that are others than those ``out`` was prepared with.

    Raises:
        DataError: the folder is not a prepared corpus.
    """
    known = read_manifest(out).settings
    return [name for name, asked in _dumped(settings).items() if known.get(name) != asked]


def _refuse_foreign_folder(out: Path) -> None:
    """Make sure that nothing is replaced but a prepared corpus, and no file in it that `prepare` did not write."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise DataError(f"{out} is a file; name a folder to prepare into")
    if not is_prepared_folder(out):
        raise DataError(f"{out} is not empty and holds no prepared corpus; name a new folder")
    if foreign := next((path for path in sorted(out.iterdir()) if path.name not in FILES), None):
        raise DataError(f"{foreign} is not of the prepared corpus in {out}; move it, or name a new folder")


def _not_empty(documents: Sequence[Document], dropped: dict[str, int]) -> tuple[list[Document], dict[str, int]]:
    kept = [document for document in documents if document.body]
    if not kept:
        raise DataError("no document is left after cleaning: every text was empty")
    return kept, {**dropped, "empty after cleaning": len(documents) - len(kept)}


def _known(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _manifest(
    settings: PrepareSettings,
    source: SourceFile,
    counts: dict[Split, SplitCounts],
    tokenizer: Tokenizer,
    train: Sequence[Document],
) -> Manifest:
    cleaner_hash, split_hash = settings.cleaning.hash(), settings.split.hash()
    given = tuple(name for name in settings.format.hints if name != PLAN)  # with plans or without it is the same text
    layout = settings.format.model_copy(update={"hints": given}).model_dump_json()
    corpus = settings.corpus.model_dump_json()
    named = "\n".join([source.sha256, cleaner_hash, split_hash, layout, corpus])
    return Manifest(
        format_version=FORMAT_VERSION,
        corpus_hash=hashlib.sha256(named.encode()).hexdigest(),
        split_hash=split_hash,
        cleaner_hash=cleaner_hash,
        source=source,
        format=settings.format,
        cleaning=settings.cleaning,
        settings=_dumped(settings),
        vocab_size=tokenizer.vocab_size,
        dtype=np.dtype(tokenizer.dtype).name,
        splits=counts,
        hint_values=usual_values((document.hints for document in train), given, getattr(settings.corpus, "hints", {})),
    )


def _dumped(settings: PrepareSettings) -> dict[str, Any]:
    parts = {name: getattr(settings, name) for name in PrepareSettings.model_fields}  # a subclass has more
    return {name: json.loads(part.model_dump_json()) for name, part in parts.items()}


def _stamp(source: Path) -> dict[str, Any]:
    try:
        files = [file for file in source.rglob("*") if file.is_file()] if source.is_dir() else [source]
        facts = [file.stat() for file in files]
    except OSError:
        raise DataError(f"there is no file {source}") from None
    size, modified = sum(fact.st_size for fact in facts), max((fact.st_mtime_ns for fact in facts), default=0)
    return {"name": printable(source.name), "size": size, "modified_ns": modified}


def _count_non_ascii(documents: Sequence[Document]) -> int:
    bodies = (document.body for document in documents if not document.body.isascii())
    return sum(len(run) for body in bodies for run in NON_ASCII.findall(body))


class _Stages:
    """Seconds per stage, and word of each to whoever watches."""

    def __init__(self, progress: StageReport) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.progress(name, 0, 1)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)
        self.progress(name, 1, 1)

    def counter(self, name: str, total: int) -> Callable[[int], None]:
        done = 0

        def add(count: int) -> None:
            nonlocal done
            done += count
            self.progress(name, done, total)

        return add
