"""The weights that are published: one model folder each, and a manifest by which every byte is checked."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from movieplotgpt import atomic
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.evaluation.record import Evaluation, read_evaluation
from movieplotgpt.generation.copying import PUBLISHED as COPIES_FOLDER
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, resolve, write_model_files
from movieplotgpt.model.sizes import parameters
from movieplotgpt.model.weight_files import weights_sha256
from movieplotgpt.sharing.model_card import SAMPLE_TOKENS, CardSettings, card_for, model_card
from movieplotgpt.text.copies import CopyIndex
from movieplotgpt.text.token_files import PreparedCorpus

MANIFEST, CARDS, README = "manifest.json", "cards.toml", "README.md"
FORMAT_VERSION = 1
LARGEST = 64_000_000  # bytes of a published folder: it lies in the repository
LARGEST_FILE = 29_900_000  # bytes of weights in one file, which stays below 30 MB with its header


class FileEntry(BaseModel):
    """A published file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int


class ModelEntry(BaseModel):
    """A published model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: str
    licence: str
    parameters: int
    bits_per_character: float | None
    split: str | None
    corpus_hash: str | None
    size: int
    files: dict[str, FileEntry]


class IndexEntry(FileEntry):
    """A published index of a training text, by which copies from it are found."""

    corpus_hash: str
    works: int


class WeightsManifest(BaseModel):
    """All published models by name, and the indexes of the texts they were trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    models: dict[str, ModelEntry] = {}
    copies: dict[str, IndexEntry] = {}


def publish(source: str | Path, name: str, weights: Path, *, evaluation: Path | None = None) -> ModelEntry:
    """Write the checkpoint ``source`` as ``weights/name`` in bfloat16, with its card, and enter it in the manifest.

    Publishing a published model again is how its numbers get onto its card: rounded weights stay what they are.

    Raises:
        CheckpointError: the checkpoint cannot be read, the folder would be too large, or other weights were evaluated.
        ConfigError: the name is no folder's, or ``weights/cards.toml`` has no card for it.
        DataError: the evaluation cannot be read.
        StorageError: the disk refuses; what was published before is untouched.
    """
    check_name(name)
    card = card_for(name, weights / CARDS)
    manifest = read_manifest(weights)
    source_sha256 = weights_sha256(resolve(source))
    checkpoint = load_checkpoint(source)
    measured = read_evaluation(evaluation) if evaluation else None
    checkpoint = replace(checkpoint, info=_with_numbers(checkpoint.info, measured))
    folder = weights / name
    with atomic.replacing_folder(folder) as partial:
        write_model_files(partial, checkpoint, dtype=torch.bfloat16, largest_file=LARGEST_FILE)
        rounded = measured is not None and _before_rounding(measured, source_sha256, partial, evaluation)
        samples = _samples(partial, card)
        atomic.write_text(
            partial / README, model_card(name, card, checkpoint, measured, samples=samples, rounded=rounded)
        )
        entry = _entry(partial, card, checkpoint, measured)
        if entry.size > LARGEST:
            raise CheckpointError(
                f"{name} would take {entry.size / 1e6:.0f} MB, and weights in the repository stay under "
                f"{LARGEST / 1e6:.0f} MB; publish a smaller model"
            )
    models = dict(sorted({**manifest.models, name: entry}.items()))
    _write_manifest(weights, manifest.model_copy(update={"models": models}))
    return entry


def publish_copies(data: Path, name: str, weights: Path) -> IndexEntry:
    """Write the copy index of the prepared corpus ``data`` as ``weights/copies/name.npz``, for all models trained on it.

    Raises:
        ConfigError: the name is no file's.
        DataError: there is no prepared corpus, or its index is damaged.
        StorageError: the disk refuses; what was published before is untouched.
    """
    check_name(name)
    manifest = read_manifest(weights)
    index = CopyIndex.of_corpus(PreparedCorpus.load(data))
    path = _index_path(weights, name)
    index.save(path)
    facts = {"sha256": file_sha256(path), "size": path.stat().st_size}
    entry = IndexEntry(**facts, corpus_hash=index.corpus_hash, works=len(index.titles))
    copies = dict(sorted({**manifest.copies, name: entry}.items()))
    _write_manifest(weights, manifest.model_copy(update={"copies": copies}))
    return entry


def _index_path(weights: Path, name: str) -> Path:
    return weights / COPIES_FOLDER / f"{name}.npz"


def check_name(name: str) -> None:
    """Make sure that ``name`` can be a folder's; ConfigError if not."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) or name == COPIES_FOLDER:
        raise ConfigError(f"{name!r} cannot name a model; use small letters, digits and hyphens, as in plots-bpe")


def verify(weights: Path) -> list[str]:
    """Names of the published models, every file of theirs being what the manifest says.

    A folder without cards, as an installed package has it, holds some of them only: those have to be whole.

    Raises:
        CheckpointError: a file is missing, differs or is not in the manifest; names all that are wrong.
    """
    manifest = read_manifest(weights)
    publishing = (weights / CARDS).is_file()
    models = {name: entry for name, entry in manifest.models.items() if publishing or (weights / name).exists()}
    wrong = [problem for name, entry in models.items() for problem in problems_of(weights / name, entry)]
    known = {_index_path(weights, name) for name in manifest.copies}
    wrong += [
        f"{path.relative_to(weights)} is not in the manifest"
        for path in sorted((weights / COPIES_FOLDER).glob("*.npz"))
        if path not in known
    ]
    for name, index in manifest.copies.items():
        path = _index_path(weights, name)
        if not path.exists():
            wrong += [f"{path.relative_to(weights)} is missing"] if publishing else []
        elif file_sha256(path) != index.sha256:
            wrong.append(f"{path.relative_to(weights)} differs")
    folders = sorted(path.parent.name for path in weights.glob("[!.]*/config.json"))
    wrong += [f"{folder} is not in the manifest" for folder in folders if folder not in models]
    if wrong:
        raise CheckpointError(f"{weights} does not fit its {MANIFEST}: {'; '.join(wrong)}; get or publish it again")
    return list(models)


def read_manifest(weights: Path) -> WeightsManifest:
    """The manifest of a folder of published models; empty where there is none yet.

    Raises:
        CheckpointError: it is damaged or another version's.
    """
    path = weights / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        manifest = WeightsManifest.model_validate(values)
    except FileNotFoundError:
        return WeightsManifest()
    except (OSError, ValueError, ValidationError):
        raise CheckpointError(f"{path} is damaged; get it again or publish the models anew") from None
    if manifest.format_version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {manifest.format_version}, this version reads {FORMAT_VERSION}; update movieplotgpt"
        )
    return manifest


def weights_readme(manifest: WeightsManifest) -> str:
    """The table of published models in Markdown."""
    lines = [
        "# Published weights",
        "",
        "Made by `movieplotgpt weights publish`; `movieplotgpt weights verify` checks every file against",
        f"`{MANIFEST}`. Each folder is a Hugging Face model folder in bfloat16 with a model card. What the cards say",
        f"of the texts and their licences is in `{CARDS}`.",
        "",
        "| model | what it writes | parameters | size | bits per character | licence of the text |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for name, entry in manifest.models.items():
        bits = f"{entry.bits_per_character:.3f} ({entry.split})" if entry.bits_per_character else "-"
        lines.append(
            f"| [{name}]({name}/README.md) | {entry.summary} | {entry.parameters / 1e6:.1f} M "
            f"| {entry.size / 1e6:.1f} MB | {bits} | {entry.licence} |"
        )
    if manifest.copies:
        lines += [
            "",
            f"`{COPIES_FOLDER}/` holds an index of each text, by which `movieplotgpt copies` and `generate --check-copies` find",
            "what was copied from it, and name the work. It keeps 16 bits of every eight characters, and no passage.",
            "",
            "| index | works | size |",
            "| --- | ---: | ---: |",
        ]
        lines += [
            f"| [{name}]({COPIES_FOLDER}/{name}.npz) | {index.works:,} | {index.size / 1e6:.1f} MB |"
            for name, index in manifest.copies.items()
        ]
    return "\n".join(lines) + "\n"


def _samples(folder: Path, card: CardSettings) -> dict[str, str]:
    """What the published weights write, one text at a time: what anyone gets who asks for the same."""
    generator = PlotGenerator.load(folder)
    titled = bool(generator.checkpoint.format.header)
    return {
        begin: generator.plot(
            title=begin if titled else "", prompt=None if titled else begin, seed=1, max_tokens=SAMPLE_TOKENS
        ).text.strip()
        for begin in card.samples
    }


def _with_numbers(info: dict[str, Any], measured: Evaluation | None) -> dict[str, Any]:
    """The checkpoint's facts, with those of the evaluation that a reader wants first."""
    if measured is None:
        return info
    names = {"bits_per_character", "interval", "split", "prompt", "corpus_hash", "split_hash"}
    return {**info, "evaluation": measured.likelihood.model_dump(mode="json", include=names)}


def _before_rounding(measured: Evaluation, source_sha256: str, partial: Path, evaluation: Path | None) -> bool:
    """Whether the numbers are of the source's weights, not of the rounded ones; of others they must not be."""
    if measured.weights_sha256 == weights_sha256(partial):
        return False
    if measured.weights_sha256 == source_sha256:
        return True
    raise CheckpointError(
        f"{evaluation} was measured on other weights (SHA-256 {measured.weights_sha256[:16]}...); "
        "run `movieplotgpt evaluate` on the checkpoint to publish"
    )


def _entry(folder: Path, card: CardSettings, checkpoint: Checkpoint, measured: Evaluation | None) -> ModelEntry:
    files = {
        path.relative_to(folder).as_posix(): FileEntry(sha256=file_sha256(path), size=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return ModelEntry(
        summary=card.summary,
        licence=card.licence_name or card.licence,
        parameters=parameters(checkpoint.model.config),
        bits_per_character=measured.likelihood.bits_per_character if measured else None,
        split=measured.likelihood.split if measured else None,
        corpus_hash=checkpoint.info.get("corpus", {}).get("hash"),
        size=sum(file.size for file in files.values()),
        files=files,
    )


def _write_manifest(weights: Path, manifest: WeightsManifest) -> None:
    atomic.write_text(weights / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    atomic.write_text(weights / README, weights_readme(manifest))


def problems_of(folder: Path, entry: ModelEntry) -> list[str]:
    """What of a published model is missing, differs or is too much."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    problems = [f"{folder.name}/{name} is not in the manifest" for name in sorted(there - entry.files.keys())]
    for name, file in entry.files.items():
        if name not in there:
            problems.append(f"{folder.name}/{name} is missing")
        elif file_sha256(folder / name) != file.sha256:
            problems.append(f"{folder.name}/{name} differs")
    return problems


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
