"""Weights written in several files, or as bytes, are the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from movieplotgpt.engine.weight_files import BYTES, INDEX, WHOLE, load_weights, weight_files
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, write_model_files

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
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
    loaded = load_checkpoint(divided).model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in checkpoint.model.state_dict().items())


def test_transformers_reads_them(divided: Path, checkpoint: Checkpoint) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(divided).state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in checkpoint.model.state_dict().items())


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


def test_weights_may_be_read_by_whoever_may_read_the_rest(divided: Path) -> None:
    assert len({path.stat().st_mode for path in divided.iterdir()}) == 1
