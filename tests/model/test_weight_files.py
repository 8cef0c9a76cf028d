"""Weights in several files are the same weights; what is wrong with a file is said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, write_model_files
from movieplotgpt.model.weight_files import BYTES, INDEX, WHOLE, load_weights, weight_files, weights_sha256

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


def test_bytes_are_a_quarter_of_float32_and_nearly_the_same_model(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "bytes", checkpoint, dtype=torch.int8)
    (file,) = weight_files(tmp_path / "bytes")
    assert file.name == BYTES and not (tmp_path / "bytes" / WHOLE).exists()
    loaded = load_checkpoint(tmp_path / "bytes").model.state_dict()
    for name, weight in checkpoint.model.state_dict().items():
        if weight.ndim == 2:
            step = weight.abs().amax(1, keepdim=True) / 127
            assert (loaded[name] - weight).abs().le(step / 2 + 1e-9).all()
            assert len(loaded[name][0].unique()) <= 255
        else:
            assert torch.equal(loaded[name], weight)
    stored = load_file(file)
    matrices = {name: value for name, value in stored.items() if value.ndim == 2}
    assert {value.dtype for value in matrices.values()} == {torch.int8}
    assert stored.keys() - matrices.keys() >= {name + ".scale" for name in matrices}
    again = load_checkpoint(tmp_path / "bytes")
    save_checkpoint(tmp_path / "again", again, dtype=torch.int8)  # rounded weights stay what they are
    assert all(
        torch.equal(loaded[name], value)
        for name, value in load_checkpoint(tmp_path / "again").model.state_dict().items()
    )


def test_transformers_finds_no_weights_in_bytes(tmp_path: Path, checkpoint: Checkpoint) -> None:
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path / "bytes", checkpoint, dtype=torch.int8)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "bytes")


@pytest.mark.parametrize("damage", ["no scales", "too few"])
def test_bytes_without_their_scales_are_damaged(tmp_path: Path, checkpoint: Checkpoint, damage: str) -> None:
    save_checkpoint(tmp_path / "bytes", checkpoint, dtype=torch.int8)
    path = tmp_path / "bytes" / BYTES
    stored = load_file(path)
    name = "model.embed_tokens.weight"
    scale = stored.pop(f"{name}.scale")
    save_file({**stored, **({f"{name}.scale": scale[:-1].clone()} if damage == "too few" else {})}, path)
    said = rf"{BYTES} is damaged \({name} has no scale for each row\); copy or download the model again"
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(tmp_path / "bytes")


def test_weights_may_be_read_by_whoever_may_read_the_rest(divided: Path) -> None:
    assert len({path.stat().st_mode for path in divided.iterdir()}) == 1
