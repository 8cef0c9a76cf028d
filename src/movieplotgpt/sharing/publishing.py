"""Publish a run: a model folder with its card, entered in the manifest."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from movieplotgpt import atomic
from movieplotgpt.checksums import file_sha256
from movieplotgpt.engine.model_config import parameters
from movieplotgpt.engine.places import resolve
from movieplotgpt.engine.weight_files import weights_sha256
from movieplotgpt.errors import CheckpointError, ConfigError, DataError
from movieplotgpt.evaluation.record import Evaluation, read_evaluation
from movieplotgpt.generation.copying import PUBLISHED as COPIES_FOLDER
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, write_description, write_model_files
from movieplotgpt.sharing.model_card import SAMPLE_TOKENS, CardSettings, card_for, model_card, with_usage
from movieplotgpt.sharing.published import (
    CARDS,
    MANIFEST,
    README,
    FileEntry,
    IndexEntry,
    ModelEntry,
    WeightsManifest,
    check_name,
    problems_of,
    read_manifest,
)
from movieplotgpt.tables import Table
from movieplotgpt.text.copies import CopyIndex
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.hints import hint_settings, usual_values
from movieplotgpt.text.token_files import PreparedCorpus

LARGEST = 64_000_000  # bytes of a published folder: it lies in the repository
LARGEST_FILE = 29_900_000  # bytes of weights in one file, which stays below 30 MB with its header


def publish(source: str | Path, name: str, weights: Path, *, evaluation: Path | None = None) -> ModelEntry:
    """Write the checkpoint ``source`` as ``weights/name`` in bfloat16, with its card, and enter it in the manifest.

    Publishing a published model again is how its numbers get onto its card: rounded weights stay what they are.

    Raises:
        CheckpointError: the checkpoint cannot be read, the folder would be too large, or other weights were evaluated.
        ConfigError: the name is not a folder name, ``weights/cards.toml`` has no card for it, or its folder holds other files.
        DataError: the evaluation cannot be read.
        StorageError: the disk refuses; what was published before is untouched.
    """
    check_name(name)
    card = card_for(name, weights / CARDS)
    manifest = read_manifest(weights)
    _refuse_foreign_files(weights / name, manifest.models.get(name))
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


def refresh(name: str, weights: Path, data: Path | None = None) -> ModelEntry:
    """Write what goes with the weights of a published model as this version writes it, and enter it in the manifest.

    These are the JSON files that other programs read, and the card's section on use. The weights stay as they are. ``data``,
    the prepared corpus the model was trained on, adds the usual values of its hints if the model does not record them.

    Raises:
        CheckpointError: a file is not the published one, or cannot be read.
        DataError: ``data`` is not the corpus that the model was trained on.
        ConfigError: no such model is published, or ``weights/cards.toml`` has no card for it.
        StorageError: the disk refuses; what was published before is untouched.
    """
    manifest, folder = read_manifest(weights), weights / name
    if name not in manifest.models:
        raise ConfigError(f"{weights} has no model {name!r}; it has {', '.join(manifest.models) or 'none'}")
    if wrong := problems_of(folder, manifest.models[name].files):
        raise CheckpointError(f"{folder} is not as published: {'; '.join(wrong)}; get or publish it again")
    card, checkpoint = card_for(name, weights / CARDS), load_checkpoint(folder)
    if data:
        checkpoint = replace(checkpoint, info=_with_hint_values(checkpoint, PreparedCorpus.load(data)))
    with atomic.replacing_folder(folder) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        write_description(partial, checkpoint, torch.bfloat16)
        text = (folder / README).read_text(encoding="utf-8")
        atomic.write_text(partial / README, with_usage(text, name, card, checkpoint))
        files = _files(partial)
    changed = {"files": files, "size": sum(file.size for file in files.values())}
    entry = manifest.models[name].model_copy(update=changed)
    _write_manifest(weights, manifest.model_copy(update={"models": {**manifest.models, name: entry}}))
    return entry


def publish_copies(data: Path, name: str, weights: Path) -> IndexEntry:
    """Write the copy index of the prepared corpus ``data`` as ``weights/copies/name.npz``, for all models trained on it.

    Raises:
        ConfigError: the name is not a file name.
        DataError: there is no prepared corpus, or its index is damaged.
        StorageError: the disk refuses; what was published before is untouched.
    """
    check_name(name)
    manifest = read_manifest(weights)
    index = CopyIndex.of_corpus(PreparedCorpus.load(data))
    path = weights / COPIES_FOLDER / f"{name}.npz"
    index.save(path)
    facts = {"sha256": file_sha256(path), "size": path.stat().st_size}
    entry = IndexEntry(**facts, corpus_hash=index.corpus_hash, works=len(index.titles))
    copies = dict(sorted({**manifest.copies, name: entry}.items()))
    _write_manifest(weights, manifest.model_copy(update={"copies": copies}))
    return entry


def weights_readme(manifest: WeightsManifest) -> str:
    """The table of published models in Markdown."""
    lines = [
        "# Published weights",
        "",
        "Made by `movieplotgpt weights publish`; `movieplotgpt weights verify` checks every file against",
        f"`{MANIFEST}`. Each folder is a Hugging Face model folder in bfloat16 with a model card. What the cards say",
        f"of the texts and their licences is in `{CARDS}`.",
        "",
    ]
    models = []
    for name, entry in manifest.models.items():
        bits = f"{entry.bits_per_character:.3f} ({entry.split})" if entry.bits_per_character else "-"
        size = (f"{entry.parameters / 1e6:.1f} M", f"{entry.size / 1e6:.1f} MB")
        models.append((f"[{name}]({name}/README.md)", entry.summary, *size, bits, entry.licence))
    columns = ("model", "what it writes", "parameters", "size", "bits per character", "licence of the text")
    lines.append(Table(columns, models, words=(columns[1], columns[-1])).markdown())
    if manifest.copies:
        note = (
            f"`{COPIES_FOLDER}/` holds an index of each text, by which `movieplotgpt copies` and `generate --check-copies` find\n"
            "what was copied from it, and name the work. It keeps 16 bits of every eight characters, and no passage."
        )
        indexes = [
            (f"[{name}]({COPIES_FOLDER}/{name}.npz)", f"{index.works:,}", f"{index.size / 1e6:.1f} MB")
            for name, index in manifest.copies.items()
        ]
        lines += ["", Table(("index", "works", "size"), indexes, note).markdown()]
    return "\n".join(lines) + "\n"


def _refuse_foreign_files(folder: Path, published: ModelEntry | None) -> None:
    """Make sure that only a published model is replaced."""
    known = published.files if published else {}
    there = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    if foreign := next((file for file in there if file not in known), None):
        raise ConfigError(f"{folder} holds {foreign}, which is not of a published model; move it, or take another name")


def _samples(folder: Path, card: CardSettings) -> dict[str, str]:
    """Return what the published weights write, one text at a time, as anyone can reproduce it."""
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


def _with_hint_values(checkpoint: Checkpoint, corpus: PreparedCorpus) -> dict[str, Any]:
    """Return the checkpoint's record with the usual values of its hints."""
    if corpus.manifest.corpus_hash != (known := checkpoint.record.corpus.hash):
        raise DataError(
            f"{corpus.folder} is not the corpus that {checkpoint.folder} was trained on; name the one with hash {known}"
        )
    train = corpus.split("train")
    names = [name for name in train.hint_names if name != PLAN]
    values = usual_values(train.hints, names, hint_settings(corpus.manifest.settings))
    recorded = {**checkpoint.info.get("corpus", {}), "hint_values": {name: [*each] for name, each in values.items()}}
    return {**checkpoint.info, "corpus": recorded}


def _before_rounding(measured: Evaluation, source_sha256: str, partial: Path, evaluation: Path | None) -> bool:
    """Return whether the numbers are of the source's weights, not of the rounded ones; of others they must not be."""
    if measured.weights_sha256 == weights_sha256(partial):
        return False
    if measured.weights_sha256 == source_sha256:
        return True
    raise CheckpointError(
        f"{evaluation} was measured on other weights (SHA-256 {measured.weights_sha256[:16]}...); "
        "run `movieplotgpt evaluate` on the checkpoint to publish"
    )


def _files(folder: Path) -> dict[str, FileEntry]:
    return {
        path.relative_to(folder).as_posix(): FileEntry(sha256=file_sha256(path), size=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _entry(folder: Path, card: CardSettings, checkpoint: Checkpoint, measured: Evaluation | None) -> ModelEntry:
    files = _files(folder)
    return ModelEntry(
        summary=card.summary,
        licence=card.licence_name or card.licence,
        parameters=parameters(checkpoint.config),
        bits_per_character=measured.likelihood.bits_per_character if measured else None,
        split=measured.likelihood.split if measured else None,
        corpus_hash=checkpoint.record.corpus.hash,
        size=sum(file.size for file in files.values()),
        files=files,
    )


def _write_manifest(weights: Path, manifest: WeightsManifest) -> None:
    manifest.write(weights / MANIFEST)
    atomic.write_text(weights / README, weights_readme(manifest))
