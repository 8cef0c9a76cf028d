"""The manifest of published models: what there is, and whether every byte of it is as published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from movieplotgpt.checksums import file_sha256
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.generation.copying import PUBLISHED as COPIES_FOLDER
from movieplotgpt.records import Record

MANIFEST, CARDS, README = "manifest.json", "cards.toml", "README.md"
FORMAT_VERSION = 1


class FileEntry(Record, extra="forbid"):
    """A published file."""

    sha256: str
    size: int


class ModelEntry(Record, extra="forbid"):
    """A published model."""

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


class WeightsManifest(Record, extra="forbid"):
    """All published models by name, and the indexes of the texts they were trained on."""

    format_version: int = FORMAT_VERSION
    models: dict[str, ModelEntry] = Field({})
    copies: dict[str, IndexEntry] = Field({})


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
    wrong = [problem for name, entry in models.items() for problem in problems_of(weights / name, entry.files)]
    shelf, indexes = weights / COPIES_FOLDER, {f"{name}.npz": index for name, index in manifest.copies.items()}
    here = {file: index for file, index in indexes.items() if publishing or (shelf / file).exists()}
    wrong += problems_of(shelf, here)
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
    if not path.exists():
        return WeightsManifest()
    said = f"{path} is damaged; get it again or publish the models anew"
    manifest = WeightsManifest.load(path, missing=said, damaged=said, error=CheckpointError)
    if manifest.format_version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {manifest.format_version}, this version reads {FORMAT_VERSION}; update movieplotgpt"
        )
    return manifest


def problems_of(folder: Path, files: Mapping[str, FileEntry]) -> list[str]:
    """Return what is missing, different or foreign in a published folder."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    problems = [f"{folder.name}/{name} is not in the manifest" for name in sorted(there - files.keys())]
    for name, file in files.items():
        if name not in there:
            problems.append(f"{folder.name}/{name} is missing")
        elif file_sha256(folder / name) != file.sha256:
            problems.append(f"{folder.name}/{name} differs")
    return problems
