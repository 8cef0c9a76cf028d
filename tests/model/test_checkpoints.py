"""A model folder comes back as it was saved, is written whole or not at all, and loads in transformers."""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open

from movieplotgpt.engine.model_folder import FORMAT_VERSION
from movieplotgpt.errors import CheckpointError, StorageError
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model import weight_files
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, network, save_checkpoint
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
HOSTILE = [
    "",
    " ",
    "  two  spaces,   three",
    "\r\nlines\r\n\r\nend\n\n\n here\t\tand \t there \n",
    "a\x00b\x1c\x1d c\u0085d\u2028 e\u00a0f\u3000g\ufeff",
    "👩‍👩‍👧‍👦 🏴‍☠️ ok 😀 e\u0301",
    "END_OF_PLOTThe seaEND_OF_PLOTEND_OF_PLOT END_OF_ PLOT xEND_OF_PLOTx END_OF_PLO",
    "<0x0A><0xC3>é<0xff> <unk> </s> <|endoftext|> Ġthe Ċ â",
    "The plot summary of the movie named 'Mars, Texas' is:\nA baker hides the letter.",
]


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(ours: Checkpoint, theirs: Checkpoint) -> None:
    assert ours.model.config == theirs.model.config
    for (name, weight), expected in zip(
        ours.model.state_dict().items(), theirs.model.state_dict().values(), strict=True
    ):
        assert torch.equal(weight, expected), name
    assert ours.tokenizer.to_json() == theirs.tokenizer.to_json()
    assert (ours.format, ours.cleaning) == (theirs.format, theirs.cleaning)


@pytest.fixture
def saved(tmp_path: Path, tiny_checkpoint: Make) -> Path:
    """The folder of a model, alone in its parent."""
    folder = tmp_path / "models" / "ours"
    save_checkpoint(folder, tiny_checkpoint("char"))
    return folder


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path, tiny_checkpoint: Make, kind: str) -> None:
    checkpoint = tiny_checkpoint(kind, hints=("Decade", "Genre"), fold=False)
    save_checkpoint(tmp_path / "saved", checkpoint)
    loaded = load_checkpoint(tmp_path / "saved")
    assert_same(loaded, checkpoint)
    assert loaded.tokenizer.kind == kind
    assert loaded.info == {"made": "for tests", "format_version": FORMAT_VERSION}
    assert loaded.folder == tmp_path / "saved"
    assert not loaded.model.training
    save_checkpoint(tmp_path / "again", loaded)
    assert files_in(tmp_path / "again") == files_in(tmp_path / "saved")


@pytest.mark.parametrize("tied", [True, False])
def test_a_network_has_the_weights_it_is_given_and_draws_none(
    tied: bool, tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_checkpoint("byte").config.model_copy(update={"tie_embeddings": tied})
    checkpoint = replace(tiny_checkpoint("byte"), model=GPT(config, seed=1))
    given = {name: value.copy() for name, value in checkpoint.weights().items()}
    monkeypatch.setattr(GPT, "initialize", lambda *_: pytest.fail("weights are drawn that nobody needs"))
    model = network(config, given)
    assert_same(replace(checkpoint, model=model.eval()), checkpoint)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert all(weight.requires_grad and weight.device.type == "cpu" for weight in model.parameters())
    for weight in model.parameters():
        weight.data += 1
    assert all(np.array_equal(value, checkpoint.weights()[name]) for name, value in given.items()), "it is a copy"
    with pytest.raises(RuntimeError, match=r"[Mm]issing"):
        network(config, {name: value for name, value in given.items() if name != "model.norm.weight"})


@pytest.mark.parametrize("dimensions", [{"tie_embeddings": False}, {"rope_theta": 777.0, "norm_eps": 1e-3}])
def test_every_dimension_comes_back(tmp_path: Path, tiny_checkpoint: Make, dimensions: dict[str, Any]) -> None:
    plain = tiny_checkpoint("byte")
    model = GPT(plain.model.config.model_copy(update=dimensions)).eval()
    model.initialize(seed=1)
    checkpoint = replace(plain, config=model.config, model=model, info={})
    save_checkpoint(tmp_path / "saved", checkpoint)
    assert_same(load_checkpoint(tmp_path / "saved"), checkpoint)


def test_folder_holds_safetensors_and_json_only(saved: Path) -> None:
    assert set(files_in(saved)) == FILES
    for name in FILES - {"model.safetensors"}:
        assert isinstance(json.loads((saved / name).read_text(encoding="utf-8")), dict)
    with safe_open(saved / "model.safetensors", "pt") as weights:
        assert "model.embed_tokens.weight" in weights.keys()  # noqa: SIM118 (no dict)
        assert "lm_head.weight" not in weights.keys()  # noqa: SIM118
        assert weights.metadata() == {"format": "pt"}


def test_nothing_is_unpickled(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle may execute anything")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    load_checkpoint(saved)


def test_a_pickle_in_place_of_the_weights_is_not_run(saved: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(saved / "harm"),)

    with (saved / "model.safetensors").open("wb") as file:
        torch.save({"model.norm.weight": Harm()}, file)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        load_checkpoint(saved)
    assert not (saved / "harm").exists()


def test_saving_in_bfloat16_rounds_the_weights_and_nothing_else(tmp_path: Path, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    before = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
    save_checkpoint(tmp_path / "whole", checkpoint)
    save_checkpoint(tmp_path / "rounded", checkpoint, dtype=torch.bfloat16)
    whole, rounded = files_in(tmp_path / "whole"), files_in(tmp_path / "rounded")
    assert {name for name in FILES if whole[name] != rounded[name]} == {"config.json", "model.safetensors"}
    assert len(rounded["model.safetensors"]) < 0.6 * len(whole["model.safetensors"])
    assert json.loads(rounded["config.json"]) == json.loads(whole["config.json"]) | {"torch_dtype": "bfloat16"}
    with safe_open(tmp_path / "rounded" / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118
    loaded = load_checkpoint(tmp_path / "rounded").model.state_dict()
    for name, value in before.items():
        assert torch.equal(checkpoint.model.state_dict()[name], value), "what is saved is left as it was"
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], value.bfloat16().float())


def test_saved_in_training_loads_for_evaluation(tmp_path: Path, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(dropout=0.3)
    checkpoint.model.train()
    save_checkpoint(tmp_path / "saved", checkpoint)
    assert checkpoint.model.training
    loaded = load_checkpoint(tmp_path / "saved")
    assert_same(loaded, checkpoint)
    assert (loaded.model.training, loaded.model.dropout) == (False, 0.0)


# written whole or not at all


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_disk_for_safetensors(_: Any, path: Path, **__: Any) -> None:
    """Its own words for a disk that is full; it leaves a part of a file behind here."""
    path.write_bytes(b"a part")
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def after(times: int, function: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` the first ``times`` times, ``then`` once, ``function`` again: room may be made meanwhile."""
    left = [times]

    def call(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        return (then if left[0] == -1 else function)(*args, **kwargs)

    return call


Break = Callable[[pytest.MonkeyPatch], None]


def sync_fails(times: int) -> Break:
    return lambda patch: patch.setattr(os, "fsync", after(times, os.fsync, full_disk))


FAILURES: dict[str, Break] = {
    "weights": lambda patch: patch.setattr(weight_files, "save_file", full_disk_for_safetensors),
    "first JSON": lambda patch: patch.setattr(Path, "write_text", full_disk),
    "last JSON": lambda patch: patch.setattr(Path, "write_text", after(2, Path.write_text, full_disk)),
    **{f"sync {times}": sync_fails(times) for times in range(9)},  # 2 files of the tokenizer, all 6, the folder
    "moving the old aside": lambda patch: patch.setattr(Path, "rename", after(0, Path.rename, full_disk)),
    "moving the new in": lambda patch: patch.setattr(Path, "rename", after(1, Path.rename, full_disk)),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_a_full_disk_leaves_the_old_model_whole_and_nothing_else(
    saved: Path, tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, failure: Break
) -> None:
    before = files_in(saved.parent)
    checkpoint = tiny_checkpoint("char", seed=5)
    with monkeypatch.context() as patch, pytest.raises(StorageError, match=r"^no space left on the disk for [^\n]*$"):
        failure(patch)
        save_checkpoint(saved, checkpoint)
    assert files_in(saved.parent) == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    save_checkpoint(saved, checkpoint)
    assert_same(load_checkpoint(saved), checkpoint)


@pytest.mark.parametrize("name", ["weights", "last JSON", "sync 0", "sync 8"])
def test_a_full_disk_leaves_nothing_where_there_was_nothing(
    tmp_path: Path, tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patch, pytest.raises(StorageError, match="no space left on the disk"):
        FAILURES[name](patch)
        save_checkpoint(tmp_path / "saved", tiny_checkpoint("byte"))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_replaced_leaves_no_file_of_the_old_one(saved: Path, tiny_checkpoint: Make) -> None:
    (saved / "training").mkdir()
    (saved / "training" / "progress.json").write_text("{}", encoding="utf-8")
    save_checkpoint(saved, tiny_checkpoint("byte"))
    assert set(files_in(saved)) == FILES
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


# the oracle


def assert_transformers_agrees(folder: Path, titles: list[str], *, tokens: int = 40) -> None:
    """Same class, same ids, same logits, same greedy text."""
    transformers = pytest.importorskip("transformers")
    checkpoint = load_checkpoint(folder)
    generator = PlotGenerator(checkpoint, precision="float32")
    end_id = checkpoint.tokenizer.end_id
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert tokenizer.model_max_length == checkpoint.config.context_length
    for text in HOSTILE:
        assert tokenizer(text).input_ids == [end_id, *checkpoint.tokenizer.encode(text)]
    ids_BT = torch.tensor([[end_id, *checkpoint.tokenizer.encode(HOSTILE[-1]).tolist()]])
    with torch.no_grad():
        torch.testing.assert_close(model(ids_BT).logits, checkpoint.model(ids_BT), rtol=0, atol=1e-4)
    for title in titles:
        ours = generator.plot(title, temperature=0, max_tokens=tokens)
        prompt = tokenizer(checkpoint.format.sentence(title), return_tensors="pt")
        written = model.generate(**prompt, max_new_tokens=tokens, do_sample=False)[0, prompt.input_ids.shape[1] :]
        assert tokenizer.decode(written, skip_special_tokens=True) == ours.text
        assert len(written) == ours.tokens + (ours.finish_reason == "stop")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_transformers_writes_the_same_greedy_text(tmp_path: Path, tiny_checkpoint: Make, kind: str) -> None:
    checkpoint = tiny_checkpoint(kind, context_length=128)
    embedding = checkpoint.model.model.embed_tokens.weight
    with torch.no_grad():  # it is the head as well: a row of zeros is never the likeliest
        embedding[checkpoint.tokenizer.end_id] = 0
        embedding[1 + 0x80 : 1 + 0x100] = 0  # programs differ in how they show bytes that are no UTF-8
    save_checkpoint(tmp_path, checkpoint)
    assert PlotGenerator(checkpoint, precision="float32").plot("Ada", temperature=0, max_tokens=40).tokens == 40
    assert_transformers_agrees(tmp_path, ["Mars, Texas", "Ada", ""])


@pytest.mark.slow
def test_transformers_loads_bfloat16_weights_alike(tmp_path: Path, tiny_checkpoint: Make) -> None:
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path, tiny_checkpoint("byte"), dtype=torch.bfloat16)
    theirs, ours = transformers.AutoModelForCausalLM.from_pretrained(tmp_path), load_checkpoint(tmp_path).model
    assert theirs.dtype == torch.bfloat16
    ids_BT = torch.tensor([[0, *range(60)]])
    with torch.no_grad():
        torch.testing.assert_close(theirs.float()(ids_BT).logits, ours(ids_BT), rtol=0, atol=1e-4)
