"""Weights in several files are the same weights; what is wrong with a file is said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, write_model_files
from movieplotgpt.model.weight_files import INDEX, WHOLE, load_weights, weight_files, weights_sha256

Make = Callable[..., Checkpoint]
LIMIT = 60_000


@pytest.fixture
def checkpoint(tiny_checkpoint: Make) -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture
def divided(tmp_path: Path, checkpoint: Checkpoint) -> Path:
    folder = tmp_path / "divided"
    folder.mkdir()
    write_model_files(folder, checkpoint, largest_file=LIMIT)
    return folder


def test_weights_in_several_files_are_those_in_one(tmp_path: Path, divided: Path, checkpoint: Checkpoint) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    write_model_files(whole, checkpoint)
    assert weight_files(whole) == [whole / WHOLE] and not (whole / INDEX).exists()
    files = weight_files(divided)
    assert len(files) > 1 and not (divided / WHOLE).exists()
    assert files[0].name == f"model-00001-of-{len(files):05}.safetensors"
    assert max(path.stat().st_size for path in files) < LIMIT + 2_000
    ours, theirs = load_weights(divided), load_weights(whole)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    loaded = load_checkpoint(divided).model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in checkpoint.model.state_dict().items())


def test_transformers_reads_them(divided: Path, checkpoint: Checkpoint) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(divided).state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in checkpoint.model.state_dict().items())


def test_the_hash_is_of_every_byte_in_the_order_of_the_names(divided: Path) -> None:
    data = b"".join(path.read_bytes() for path in sorted(divided.glob("*.safetensors")))
    assert weights_sha256(divided) == hashlib.sha256(data).hexdigest()


def test_a_missing_and_a_damaged_file_are_named(divided: Path) -> None:
    first, second = weight_files(divided)[:2]
    second.write_bytes(second.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=rf"{second.name} is damaged .*; copy or download the model again"):
        load_checkpoint(divided)
    first.unlink()
    with pytest.raises(CheckpointError, match=rf"has no {first.name}; copy or download the model again"):
        load_checkpoint(divided)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../b.safetensors"}}',
        '{"weight_map": {"a": "b.pickle"}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_index_is_named(divided: Path, index: str) -> None:
    (divided / INDEX).write_text(index, encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"{INDEX} is damaged \(.*\); copy or download the model again"):
        load_checkpoint(divided)


def test_weights_that_no_index_names_are_missing(divided: Path) -> None:
    index = json.loads((divided / INDEX).read_text(encoding="utf-8"))
    last = weight_files(divided)[-1].name
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file != last}
    (divided / INDEX).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"does not fit .*config\.json: Missing key"):
        load_checkpoint(divided)
