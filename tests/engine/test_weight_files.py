"""Weights are read as they were written; what is wrong with a file is said."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from movieplotgpt.engine import weight_files as weight_files_module
from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.engine.places import cache_folder
from movieplotgpt.engine.quantization import SCALE
from movieplotgpt.engine.weight_files import (
    BYTES,
    INDEX,
    WHOLE,
    load_weights,
    remembered_sha256,
    weight_files,
    weights_sha256,
)
from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint, write_model_files

Make = Callable[..., Checkpoint]


@pytest.fixture
def checkpoint(tiny_checkpoint: Make) -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture
def divided(tmp_path: Path, checkpoint: Checkpoint) -> Path:
    folder = tmp_path / "divided"
    folder.mkdir()
    write_model_files(folder, checkpoint, largest_file=60_000)
    return folder


def load(folder: Path) -> Any:
    return load_folder(folder).weights()


def save(folder: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors, folder / WHOLE)
    return folder


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_numbers_of_every_size_are_read_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    matrix = torch.randn(7, 13, generator=torch.Generator().manual_seed(0)).to(dtype)
    ours = load_weights(save(tmp_path, a=matrix, b=matrix[0].clone(), c=matrix[:0].clone()))
    assert {each.dtype for each in ours.values()} == {np.dtype(np.float32)}
    assert np.array_equal(ours["a"], matrix.float().numpy()) and np.array_equal(ours["b"], matrix[0].float().numpy())
    assert ours["c"].shape == (0, 13)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_other_types_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    save(tmp_path, a=torch.zeros(3, 3).to(dtype))
    said = r"model\.safetensors is damaged \(weights of type \w+ are not supported\); copy or download the model again$"
    with pytest.raises(CheckpointError, match=said):
        load_weights(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("wrong", [[math.nan], [math.inf], [math.inf, -math.inf], [1e300]])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, dtype: torch.dtype, wrong: list[float]) -> None:
    matrix = torch.ones(4, 9, dtype=torch.float64)
    matrix[2, : len(wrong)] = torch.tensor(wrong, dtype=torch.float64)
    save(tmp_path, good=torch.ones(3), bad=matrix.to(dtype))
    said = f"^bad in {tmp_path} is NaN or infinite; copy or download the model again$"
    with pytest.raises(CheckpointError, match=said):
        load_weights(tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scales_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    scale = torch.tensor([1.0, value])
    save_file({"bad": torch.zeros(2, 3, dtype=torch.int8), f"bad{SCALE}": scale}, tmp_path / BYTES)
    with pytest.raises(CheckpointError, match=r"^bad in .* is NaN or infinite; copy or download the model again$"):
        load_weights(tmp_path)


def test_large_weights_are_finite(tmp_path: Path) -> None:
    assert load_weights(save(tmp_path, a=torch.full((50, 50), 3e38)))["a"].max() == np.float32(3e38)


def test_bytes_are_read_as_numbers(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "bytes", checkpoint, dtype=torch.int8)
    stored = load_file(tmp_path / "bytes" / BYTES)
    for name, weight in load_weights(tmp_path / "bytes").items():
        assert weight.dtype == np.float32
        scale = stored.get(name + SCALE)
        expected = stored[name] if scale is None else stored[name].float() * scale[:, None]
        assert np.array_equal(weight, expected.numpy())


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_only_matrices_are_bytes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A vector of bytes times its scales would be a matrix, of which a small file can make a huge one."""
    scale = torch.ones(shape[:1])
    save_file({"a": torch.zeros(shape, dtype=torch.int8), f"a{SCALE}": scale}, tmp_path / BYTES)
    with pytest.raises(CheckpointError, match=rf"{BYTES} is damaged \(a has no scale for each row\)"):
        load_weights(tmp_path)


def test_the_hash_is_of_every_byte_in_the_order_of_the_names(divided: Path) -> None:
    data = b"".join(path.read_bytes() for path in sorted(divided.glob("*.safetensors")))
    assert weights_sha256(divided) == hashlib.sha256(data).hexdigest()


def test_a_missing_and_a_damaged_file_are_named(divided: Path) -> None:
    first, second = weight_files(divided)[:2]
    second.write_bytes(second.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=rf"{second.name} is damaged .*; copy or download the model again"):
        load(divided)
    first.unlink()
    with pytest.raises(CheckpointError, match=rf"has no {first.name}; copy or download the model again"):
        load(divided)


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
        load(divided)


def test_weights_that_no_index_names_are_missing(divided: Path) -> None:
    index = json.loads((divided / INDEX).read_text(encoding="utf-8"))
    last = weight_files(divided)[-1].name
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file != last}
    (divided / INDEX).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"does not fit .*config\.json: \S+ is missing$"):
        load(divided)


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
        load_weights(tmp_path / "bytes")


def aged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hashes that are remembered of a folder whose files count as written long ago."""
    monkeypatch.setattr(weight_files_module, "SETTLED", -1.0)
    assert remembered_sha256(folder) == weights_sha256(folder)
    return cache_folder("hashes")


def test_hash_is_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = aged(folder, monkeypatch)
    monkeypatch.setattr(weight_files_module, "weights_sha256", None)  # it is not asked again
    assert [remembered_sha256(folder)] == [path.read_text() for path in hashes.iterdir()]


def test_hash_of_changed_weights_is_not_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(folder, monkeypatch)
    path = folder / "model.safetensors"
    before, times = weights_sha256(folder), path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"~")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as after `cp -p`
    assert remembered_sha256(folder) == weights_sha256(folder) != before


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"0" * 63, b"graph"])
def test_damaged_memory_is_not_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    (memory,) = aged(folder, monkeypatch).iterdir()
    memory.write_bytes(damage)
    assert remembered_sha256(folder) == weights_sha256(folder) == memory.read_text()


def test_fresh_files_are_hashed_each_time(folder: Path) -> None:
    assert remembered_sha256(folder) == weights_sha256(folder)
    assert not cache_folder("hashes").exists()


def test_cache_that_cannot_be_written_is_no_obstacle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(weight_files_module, "SETTLED", -1.0)
    assert remembered_sha256(folder) == weights_sha256(folder)


def test_old_hashes_are_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = aged(folder, monkeypatch)
    old = hashes / ("0" * 64)
    old.write_text("0" * 64)
    os.utime(old, (0, 0))
    next(path for path in hashes.iterdir() if path != old).unlink()
    remembered_sha256(folder)
    assert old not in set(hashes.iterdir())
