"""A model folder is read without PyTorch; what is wrong with it is one sentence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movieplotgpt.engine.model_config import ModelConfig, parameters
from movieplotgpt.engine.model_folder import FORMAT_VERSION, ModelFolder, fitting_weights, load_folder, shapes
from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.model.gpt import GPT

Make = Callable[..., Checkpoint]
FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "movieplotgpt.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
READ = sorted(FILES - {"generation_config.json", "tokenizer_config.json"})  # those are for other programs


def load(folder: Path) -> ModelFolder:
    """Read all of it, its weights as well."""
    model = load_folder(folder)
    model.weights()
    return model


@pytest.fixture
def saved(tmp_path: Path, tiny_checkpoint: Make) -> Path:
    save_checkpoint(tmp_path / "ours", tiny_checkpoint("char"))
    return tmp_path / "ours"


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_folder_is_the_checkpoint_that_was_saved(tmp_path: Path, tiny_checkpoint: Make, kind: str) -> None:
    checkpoint = tiny_checkpoint(kind, hints=("Decade", "Genre"), fold=False)
    save_checkpoint(tmp_path / "saved", checkpoint)
    model = load_folder(tmp_path / "saved")
    assert model.config == checkpoint.config
    assert model.tokenizer.to_json() == checkpoint.tokenizer.to_json()
    assert (model.format, model.cleaning) == (checkpoint.format, checkpoint.cleaning)
    assert model.info == {"made": "for tests", "format_version": FORMAT_VERSION}
    assert model.folder == tmp_path / "saved"
    ours, theirs = model.weights(), checkpoint.weights()
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("tied", [True, False])
def test_shapes_are_those_of_the_network(tied: bool) -> None:
    config = ModelConfig(
        vocab_size=70, n_layer=3, n_embd=24, n_head=4, n_kv_head=2, head_dim=10, n_ff=40, tie_embeddings=tied
    )
    with torch.device("meta"):
        theirs = {name: tuple(weight.shape) for name, weight in GPT(config).named_parameters()}
    assert shapes(config) == theirs
    assert sum(int(np.prod(shape)) for shape in theirs.values()) == parameters(config)


def test_the_weights_are_read_when_they_are_needed(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    model = load_folder(saved)
    for read in (model.weights, model.version):
        with pytest.raises(CheckpointError, match=r"has no model\.safetensors; copy or download the model again$"):
            read()


def test_the_version_changes_with_the_weights(saved: Path) -> None:
    before = load_folder(saved).version()
    assert load_folder(saved).version() == before
    data = bytearray((saved / "model.safetensors").read_bytes())
    data[-3] ^= 1
    (saved / "model.safetensors").write_bytes(data)
    assert load_folder(saved).version() != before


def test_weights_that_cannot_be_read_have_no_version(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    model = load_folder(saved)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        CheckpointError, match=r"cannot be read \(Input/output error\); copy or download the model again$"
    ):
        model.version()


def test_a_tied_head_that_is_stored_is_passed_over(saved: Path) -> None:
    model = load_folder(saved)
    weights = model.weights()
    stored = {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}
    assert fitting_weights(model.config, stored, saved).keys() == weights.keys()


def make_a_folder_of(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "its last byte lost": lambda path: path.write_bytes(path.read_bytes().rstrip()[:-1]),
    "noise": lambda path: path.write_bytes(random.Random(0).randbytes(500)),
    "a page": lambda path: path.write_text("<!DOCTYPE html><title>404</title>", encoding="utf-8"),
    "a pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8"),
    "no object": lambda path: path.write_text("[]", encoding="utf-8"),
    "not UTF-8": lambda path: path.write_bytes(b'{"model_type": "\xff"}'),
    "bottomless": lambda path: path.write_text("[" * 100_000, encoding="utf-8"),
    "a folder": make_a_folder_of,
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_one_sentence_that_names_it(saved: Path, damage: Callable[[Path], Any], name: str) -> None:
    damage(saved / name)
    with pytest.raises(CheckpointError) as caught:
        load(saved)
    assert name in str(caught.value) and str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_for_other_programs_are_not_needed(saved: Path) -> None:
    for name in FILES - set(READ):
        (saved / name).unlink()
    load(saved)


VALUES: list[Any] = [..., None, "x", -1, 0, 3, 2.5, True, [], {}]  # ... takes the key out
MUST_FIT = {  # what may be one of these values all the same: it changes no shape
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_theta",
    "rope_parameters",
    "tie_word_embeddings",
    "max_position_embeddings",
}


@pytest.mark.parametrize(
    "key",
    [
        "model_type",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "head_dim",
        *sorted(MUST_FIT),
    ],
)
def test_a_wrong_dimension_is_one_sentence_that_names_the_file(saved: Path, key: str) -> None:
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    refused = 0
    for value in VALUES:
        changed = {k: v for k, v in {**config, key: value}.items() if v is not ...}
        (saved / "config.json").write_text(json.dumps(changed), encoding="utf-8")
        try:
            load(saved)
        except CheckpointError as error:
            refused += 1
            assert str(saved) in str(error) and "\n" not in str(error)
            assert "config.json" in str(error) or key in ("model_type", "vocab_size")
    assert refused == len(VALUES) or (key in MUST_FIT and (refused or key.startswith("rope")))


def test_words_for_a_wrong_dimension(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))

    def words(**changes: Any) -> str:
        (saved / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
        with pytest.raises(CheckpointError) as caught:
            load(saved)
        return str(caught.value).replace(str(saved), "M")

    again = "copy or download the model again"
    assert (
        words(head_dim=15)
        == f"M/config.json is damaged: head_dim 15 must be even (rotary positions turn pairs); {again}"
    )
    assert words(num_hidden_layers=0) == (
        f"M/config.json is damaged: setting n_layer: input should be greater than or equal to 1, not 0; {again}"
    )
    assert words(model_type="llama") == "M holds a llama model; only the Qwen3 layout can be loaded"
    assert words(intermediate_size=65).startswith(
        "M/model.safetensors does not fit M/config.json: model.layers.0.mlp.gate_proj.weight has the shape (64, 32) "
        "instead of (65, 32)"
    )
    assert words(num_hidden_layers=3).startswith(
        "M/model.safetensors does not fit M/config.json: model.layers.2.input_layernorm.weight is missing"
    )
    assert words(rope_theta=None, rope_parameters=None).startswith("M/config.json is damaged (")


@pytest.mark.parametrize("section", ["document_format", "cleaning"])
@pytest.mark.parametrize("value", [..., None, "x", 3, [], {"nobody_knows": 1}])
def test_a_damaged_section_names_the_file(saved: Path, section: str, value: Any) -> None:
    path = saved / "movieplotgpt.json"
    about = {k: v for k, v in {**json.loads(path.read_text(encoding="utf-8")), section: value}.items() if v is not ...}
    path.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"movieplotgpt\.json is damaged; copy or download the model again$"):
        load(saved)


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, "1", None])
def test_another_format_is_said_with_both_versions(saved: Path, version: Any) -> None:
    about = json.loads((saved / "movieplotgpt.json").read_text(encoding="utf-8"))
    (saved / "movieplotgpt.json").write_text(json.dumps({**about, "format_version": version}), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        load(saved)
    assert str(caught.value) == (
        f"{saved} has checkpoint format {version}, this version reads {FORMAT_VERSION}; "
        "install the movieplotgpt that wrote it, or export it again"
    )


def test_a_tokenizer_of_another_model_is_refused(saved: Path, tiny_checkpoint: Make) -> None:
    tokenizer = tiny_checkpoint("bpe").tokenizer
    tokenizer.save(saved, model_max_length=64)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has 400 tokens and the model only 320"):
        load(saved)


def test_weights_of_another_network_are_named(saved: Path) -> None:
    model = load_folder(saved)
    weights, name = model.weights(), "model.layers.1.mlp.up_proj.weight"

    def words(changed: dict[str, Any]) -> str:
        with pytest.raises(CheckpointError) as caught:
            fitting_weights(model.config, changed, saved)
        return (
            str(caught.value).replace(str(saved), "M").removeprefix("M/model.safetensors does not fit M/config.json: ")
        )

    assert words({key: value for key, value in weights.items() if key != name}) == f"{name} is missing"
    assert words({**weights, "extra.bias": weights[name]}) == "extra.bias is not part of the network"
    assert words({**weights, name: weights[name].T}) == f"{name} has the shape (32, 64) instead of (64, 32)"
