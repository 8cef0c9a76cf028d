"""A stranger's model folder loads or is refused in one sentence: nothing runs, hangs or takes memory for the asking."""

from __future__ import annotations

import io
import json
import math
import pickle
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from movieplotgpt.engine.model_config import ModelConfig, parameters
from movieplotgpt.errors import CheckpointError, MoviePlotGPTError
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model import checkpoints
from movieplotgpt.model.checkpoints import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    trained_before,
    write_model_files,
)
from movieplotgpt.model.gpt import GPT
from movieplotgpt.sharing.model_card import CardSettings, model_card
from movieplotgpt.text.pretrained import PretrainedTokenizer

Make = Callable[..., Checkpoint]
PUBLISHED = Path(__file__).parents[2] / "weights" / "office-char"
HUGE = (10**6, 10**9, 10**12, 2**31, 2**63, 2**64, 10**400, 1e308, math.inf)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, -0.5, 1e-300, math.nan, *HUGE),
    *("", "x", "\ud800", "\x00", "é", "qwen3", "<0x00>", "F32", "BF16", "I64", "C64", "F8_E4M3", "BOOL"),
    *([], {}, [[]], [0, 10**18], [10**12, 10**12], [0, 2**64], {"a": {}}),
)


TRAINED = {
    "step": 7,
    "tokens": 3584,
    "seconds": 2.5,
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
    "torch": "2",
}
INFO = {  # all that a model may record
    "corpus": {"hash": "c" * 64, "split_hash": "5" * 64, "source": "films.csv", "source_sha256": "a" * 64},
    "settings": {
        "corpus": {"hints": {"Decade": {"kind": "decade", "column": "Year"}}},
        "distillation": {"teachers": ["x"], "weight": 0.5, "temperature": 1.0},
        "optimizer": {"kind": "muon"},
        "sampling": {},
        "windows": {"no_title": 0.1},
    },
    "training": {**TRAINED, "validation_bits_per_character": 1.5, "curve": [[7, 1.5]]},
    "trained_before": [{**TRAINED, "corpus_hash": None}],
    "evaluation": {"bits_per_character": 1.5},
    "average": [{"name": "a", "weight": 1}],
    "end_bias": 0.1,
}

CARD = CardSettings(models=("a",), summary="s", licence="other", data="d", limits="l", example="Ada")


def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle may execute anything")

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for name in ("load", "jit.load", "serialization._legacy_load", "serialization._load"):
        monkeypatch.setattr(f"torch.{name}", refuse)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no published weights are here")
def test_a_published_model_loads_and_writes_without_a_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    no_pickle(monkeypatch)
    with pytest.raises(AssertionError, match="a pickle may execute anything"):
        torch.load(io.BytesIO())
    generator = PlotGenerator.load(PUBLISHED)
    assert generator.plot(prompt="Ada: ", seed=1, max_tokens=20).tokens == 20
    assert generator.checkpoint.tokenizer.kind == "char"


@pytest.fixture
def never_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is made that is much larger than the weights of these tests."""

    class Watched(GPT):
        def __init__(self, config: ModelConfig, **settings: Any) -> None:
            assert parameters(config) < 200_000 and config.context_length * config.head_dim <= 1 << 24
            super().__init__(config, **settings)

    monkeypatch.setattr(checkpoints, "GPT", Watched)


@pytest.mark.usefixtures("never_large")
@pytest.mark.parametrize("size", HUGE[1:-2])
@pytest.mark.parametrize(
    "names",
    [
        ("vocab_size",),
        ("hidden_size",),
        ("intermediate_size",),
        ("num_hidden_layers",),
        ("num_attention_heads",),
        ("num_attention_heads", "num_key_value_heads"),
        ("head_dim",),
        ("max_position_embeddings",),
        ("vocab_size", "hidden_size", "num_hidden_layers"),
    ],
)
def test_what_a_config_asks_for_is_refused_before_memory_is_taken(
    tmp_path: Path, tiny_checkpoint: Make, names: tuple[str, ...], size: int
) -> None:
    save_checkpoint(tmp_path / "model", tiny_checkpoint("byte"))
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | dict.fromkeys(names, size)), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json (is damaged|describes a far larger network than)"):
        load_checkpoint(tmp_path / "model")


def test_words_for_a_network_that_the_weights_do_not_fill(tmp_path: Path, tiny_checkpoint: Make) -> None:
    folder = tmp_path / "model"
    checkpoint = tiny_checkpoint("byte")
    save_checkpoint(folder, checkpoint)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))

    def words(**changes: Any) -> str:
        (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(folder)
        return str(caught.value).replace(str(folder), "M")

    here = parameters(checkpoint.config)
    assert words(vocab_size=10**12) == (
        f"M/config.json describes a far larger network than the {here:,} weights of model.safetensors; copy or download "
        "the model again"
    )
    assert words(max_position_embeddings=10**12) == (
        "M/config.json is damaged: context_length 1000000000000 must be 1048576 at most with head_dim 16; copy or "
        "download the model again"
    )


# a mutator


def places(value: Any, path: tuple[Any, ...] = (), depth: int = 4) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside, of long lists to the first few."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    if depth:
        for key, inner in inside:
            yield from places(inner, (*path, key), depth - 1)


def changed(value: Any, draw: random.Random) -> Any:
    """JSON with one to three values taken out, replaced, multiplied or put in the place of others."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        ways = list(places(value))
        shallow = [way for way in ways if len(way) < 3]
        if not ways:
            return value
        *way, key = draw.choice(shallow if draw.random() < 0.6 else ways)
        holder = value
        for step in way:
            holder = holder[step]
        action = draw.random()
        if action < 0.15:
            del holder[key]
        elif action < 0.25 and isinstance(holder, dict):
            holder[draw.choice(("x", "__metadata__", "byte_fallback", "rope_scaling"))] = fresh(draw)
        elif action < 0.4 and isinstance(holder[key], int):
            holder[key] = holder[key] * draw.choice((2, 10, 1000, 10**6)) + draw.choice((0, 1))
        elif action < 0.5 and isinstance(holder, dict):
            holder[key] = json.loads(json.dumps(holder[draw.choice(list(holder))]))
        else:
            holder[key] = fresh(draw)
    return value


def fresh(draw: random.Random) -> Any:
    return json.loads(json.dumps(draw.choice(VALUES)))


def scrambled(data: bytes, draw: random.Random) -> bytes:
    """Bytes with a few changed, taken out or put in."""
    mutable = bytearray(data)
    for _ in range(draw.choice((1, 2, 5))):
        at, action = draw.randrange(len(mutable) + 1), draw.random()
        if action < 0.4:
            mutable[at : at + 1] = draw.randbytes(1)
        elif action < 0.6:
            del mutable[at : at + draw.choice((1, 3, 50))]
        else:
            mutable[at:at] = draw.choice((b"\\u", b"9" * 20, b"[", b"{", b'"', b"\xff", b"e999", draw.randbytes(4)))
    return bytes(mutable)


def mutated(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.3:
        return scrambled(data, draw)
    return json.dumps(changed(json.loads(data), draw)).encode()


def mutate(folder: Path, draw: random.Random) -> str:
    """Change one file, of weights only the header, and name it."""
    path = draw.choice(sorted(folder.iterdir()))
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        [length] = struct.unpack("<Q", data[:8])
        header = mutated(data[8 : 8 + length], draw)
        told = draw.choice((0, 1, 2**62, 2**40, 10**8, len(header) + 5)) if draw.random() < 0.15 else len(header)
        path.write_bytes(struct.pack("<Q", told) + header + data[8 + length :])
    else:
        path.write_bytes(mutated(data, draw))
    return path.name


@pytest.fixture
def folders(tmp_path: Path, tiny_checkpoint: Make) -> list[Path]:
    """A model with each tokenizer, one with that of another, and weights in several files and in bytes."""
    for kind in ("char", "byte", "bpe"):
        save_checkpoint(tmp_path / "sound" / kind, replace(tiny_checkpoint(kind), info=INFO))
    plain = tiny_checkpoint()
    spec = {**json.loads(plain.tokenizer.to_json()), "normalizer": {"type": "NFC"}}
    others = PretrainedTokenizer(spec, plain.tokenizer.end)
    save_checkpoint(tmp_path / "sound" / "pretrained", replace(plain, tokenizer=others))
    (tmp_path / "sound" / "divided").mkdir()
    write_model_files(tmp_path / "sound" / "divided", tiny_checkpoint(), largest_file=60_000)
    save_checkpoint(tmp_path / "sound" / "bytes", tiny_checkpoint(), dtype=torch.int8)
    return sorted((tmp_path / "sound").iterdir())


def survive(folders: list[Path], work: Path, seeds: range) -> tuple[int, int]:
    """How many mutated models were loaded and how many refused; any other end is an error."""
    loaded = refused = 0
    for seed in seeds:
        draw = random.Random(seed)
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(folders[seed % len(folders)], work)
        name = mutate(work, draw)
        try:
            checkpoint = load_checkpoint(work)
            generator = PlotGenerator.load(work)
            generator.engine()
            trained_before(checkpoint)
            model_card("a-name", CARD, checkpoint, None)
        except MoviePlotGPTError as error:
            refused += 1
            assert "\n" not in str(error) and str(work) in str(error), f"seed {seed}, {name}: {error}"
        except BaseException as error:
            raise AssertionError(f"seed {seed}, {name}: {error!r}") from error
        else:
            loaded += 1
            if seed % 10 == 0:
                generator.plot("Ada" if generator.checkpoint.format.header else "", seed=1, max_tokens=3)
    return loaded, refused


@pytest.mark.usefixtures("never_large")
def test_a_mutated_model_loads_or_is_refused(folders: list[Path], tmp_path: Path) -> None:
    loaded, refused = survive(folders, tmp_path / "mutated", range(300))
    assert loaded > 50 and refused > 100, "the mutations are too mild or too wild to tell anything"


@pytest.mark.slow
@pytest.mark.usefixtures("never_large")
def test_thousands_of_mutated_models_load_or_are_refused(folders: list[Path], tmp_path: Path) -> None:
    survive(folders, tmp_path / "mutated", range(300, 3_000))


NO_TRAINING: tuple[Any, ...] = (
    "x",
    [],
    None,
    {},
    {"step": "3"},
    {**TRAINED, "seconds": math.inf},
    {**TRAINED, "step": -1},
)
BY_NAME: dict[str, tuple[Any, ...]] = {
    "settings": (
        *([], None, "x", 3),
        *({name: []} for name in ("sampling", "windows", "corpus", "optimizer", "distillation")),
    ),
    "corpus": ("x", [], None, {"hash": 3}),
    "training": (*NO_TRAINING, {**TRAINED, "curve": [[1]]}, {**TRAINED, "tokens": 10**400}),
    "trained_before": ("x", {}, [3], [{}], None),
    "evaluation": ("x", [], None, {"bits_per_character": "low"}),
    "end_bias": ("x", [], None, math.nan, True),
    "average": ("x", {}, [1]),
}
WRONG = [{name: value} for name, values in BY_NAME.items() for value in values]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_a_model_says_of_its_training_is_checked(
    tmp_path: Path, tiny_checkpoint: Make, wrong: dict[str, Any]
) -> None:
    save_checkpoint(tmp_path / "model", replace(tiny_checkpoint("byte"), info=INFO))
    path = tmp_path / "model" / "movieplotgpt.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **wrong}), encoding="utf-8")
    for load in (load_checkpoint, PlotGenerator.load):
        with pytest.raises(CheckpointError) as caught:
            load(tmp_path / "model")
        assert str(caught.value).startswith(f"{path} is damaged ({next(iter(wrong))}")
        assert str(caught.value).endswith("); copy or download the model again") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["movieplotgpt.json", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5_000, "[]", "null", '"x"', "{}", '{"\\ud800": 1}', "\xff"])
def test_json_that_python_cannot_hold_is_refused(tmp_path: Path, tiny_checkpoint: Make, name: str, text: str) -> None:
    save_checkpoint(tmp_path / "model", tiny_checkpoint("byte"))
    (tmp_path / "model" / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "model")
    assert str(tmp_path / "model") in str(caught.value) and "\n" not in str(caught.value)
