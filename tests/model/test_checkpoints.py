"""A model folder comes back as it was saved, is written whole or not at all, and loads in transformers."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open

from movieplotgpt.errors import CheckpointError, StorageError
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model import checkpoints, weight_files
from movieplotgpt.model.checkpoints import FORMAT_VERSION, Checkpoint, load_checkpoint, resolve, save_checkpoint
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


@pytest.mark.parametrize("dimensions", [{"tie_embeddings": False}, {"rope_theta": 777.0, "norm_eps": 1e-3}])
def test_every_dimension_comes_back(tmp_path: Path, tiny_checkpoint: Make, dimensions: dict[str, Any]) -> None:
    plain = tiny_checkpoint("byte")
    model = GPT(plain.model.config.model_copy(update=dimensions)).eval()
    model.initialize(seed=1)
    checkpoint = Checkpoint(model, plain.tokenizer, plain.format, plain.cleaning, {})
    save_checkpoint(tmp_path / "saved", checkpoint)
    assert_same(load_checkpoint(tmp_path / "saved"), checkpoint)


def test_a_folder_holds_safetensors_and_json_only_and_a_tied_head_once(saved: Path) -> None:
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


def test_a_model_in_training_is_saved_as_it_is_and_loads_for_evaluation(tmp_path: Path, tiny_checkpoint: Make) -> None:
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


# damage


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
        load_checkpoint(saved)
    assert name in str(caught.value) and str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_for_other_programs_are_not_needed(saved: Path) -> None:
    for name in FILES - set(READ):
        (saved / name).unlink()
    load_checkpoint(saved)


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
            load_checkpoint(saved)
        except CheckpointError as error:
            refused += 1
            assert str(saved) in str(error) and "\n" not in str(error)
            assert "config.json" in str(error) or key == "model_type"
    assert refused == len(VALUES) or (key in MUST_FIT and (refused or key.startswith("rope")))


def test_words_for_a_wrong_dimension(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))

    def words(**changes: Any) -> str:
        (saved / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(saved)
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
        "M/model.safetensors does not fit M/config.json: size mismatch for model.layers.0.mlp.gate_proj.weight"
    )
    assert words(num_hidden_layers=3).startswith(
        "M/model.safetensors does not fit M/config.json: Missing key(s) in state_dict"
    )
    assert words(rope_theta=None, rope_parameters=None).startswith("M/config.json is damaged (")


@pytest.mark.parametrize("section", ["document_format", "cleaning"])
@pytest.mark.parametrize("value", [..., None, "x", 3, [], {"nobody_knows": 1}])
def test_a_damaged_section_names_the_file(saved: Path, section: str, value: Any) -> None:
    path = saved / "movieplotgpt.json"
    about = {k: v for k, v in {**json.loads(path.read_text(encoding="utf-8")), section: value}.items() if v is not ...}
    path.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"movieplotgpt\.json is damaged; copy or download the model again$"):
        load_checkpoint(saved)


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, "1", None])
def test_another_format_is_said_with_both_versions(saved: Path, version: Any) -> None:
    about = json.loads((saved / "movieplotgpt.json").read_text(encoding="utf-8"))
    (saved / "movieplotgpt.json").write_text(json.dumps({**about, "format_version": version}), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved)
    assert str(caught.value) == (
        f"{saved} has checkpoint format {version}, this version reads {FORMAT_VERSION}; "
        "install the movieplotgpt that wrote it, or export it again"
    )


def test_a_tokenizer_of_another_model_is_refused(saved: Path, tiny_checkpoint: Make) -> None:
    tokenizer = tiny_checkpoint("bpe").tokenizer
    tokenizer.save(saved, model_max_length=64)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has 400 tokens and the model only 320"):
        load_checkpoint(saved)


# where a name points


@pytest.fixture
def published(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two published models, which the environment names."""
    weights = tmp_path / "published"
    for name in ("plots-bpe", "office-char"):
        shutil.copytree(saved, weights / name)
    (weights / "no-model").mkdir()
    monkeypatch.setenv(checkpoints.WEIGHTS_FOLDER, str(weights))
    return weights


def test_a_published_name_points_to_its_folder(published: Path) -> None:
    assert resolve("plots-bpe") == published / "plots-bpe"
    assert load_checkpoint("office-char").folder == published / "office-char"


def test_a_path_goes_before_a_published_name(
    published: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(saved, tmp_path / "here" / "plots-bpe")
    monkeypatch.chdir(tmp_path / "here")
    assert resolve("plots-bpe") == Path("plots-bpe")
    assert resolve(saved) == saved


def test_a_run_means_its_best_checkpoint_or_else_its_last(tmp_path: Path, saved: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved, run / "last")
    assert resolve(run) == run / "last"
    (run / "best").mkdir()  # nothing in it yet
    assert resolve(run) == run / "last"
    shutil.copytree(saved, run / "best", dirs_exist_ok=True)
    assert resolve(run) == run / "best"
    assert resolve(run / "last") == run / "last"


def test_a_name_nobody_knows_lists_those_there_are(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve("plots-bqe")
    assert str(caught.value) == (
        "there is no model 'plots-bqe'; published models here: office-char, plots-bpe, or give a folder"
    )
    monkeypatch.setenv(checkpoints.WEIGHTS_FOLDER, str(published / "no-model"))
    with pytest.raises(CheckpointError, match=r"^there is no model 'plots-bpe'; no published models are here, or give"):
        resolve("plots-bpe")


def test_a_folder_without_a_model_is_said_to_be_none(published: Path) -> None:
    with pytest.raises(CheckpointError, match=r"published is not a checkpoint: it has no config\.json$"):
        resolve(published)
    with pytest.raises(CheckpointError, match="there is no model 'no-model'"):
        resolve("no-model")


@pytest.mark.parametrize("name", ["", ".", "x" * 300, "a\0b", "a/" * 3000, "~", "https://example.org/model"])
def test_no_name_raises_anything_else(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"^(there is no model|\. is not a checkpoint|[xa/]+ cannot be read \()"):
        resolve(name)


def test_without_the_variable_the_repository_has_the_weights(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(checkpoints.WEIGHTS_FOLDER, raising=False)
    assert checkpoints.weights_folder() == repository / "weights"


# the oracle


def assert_transformers_agrees(folder: Path, titles: list[str], *, tokens: int = 40) -> None:
    """Same class, same ids, same logits, same greedy text."""
    transformers = pytest.importorskip("transformers")
    generator = PlotGenerator.load(folder)
    checkpoint = generator.checkpoint
    end_id = checkpoint.tokenizer.end_id
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert tokenizer.model_max_length == checkpoint.model.config.context_length
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
def test_transformers_loads_the_folder_and_writes_the_same_greedy_text(
    tmp_path: Path, tiny_checkpoint: Make, kind: str
) -> None:
    checkpoint = tiny_checkpoint(kind, context_length=128)
    embedding = checkpoint.model.model.embed_tokens.weight
    with torch.no_grad():  # it is the head as well: a row of zeros is never the likeliest
        embedding[checkpoint.tokenizer.end_id] = 0
        embedding[1 + 0x80 : 1 + 0x100] = 0  # programs differ in how they show bytes that are no UTF-8
    save_checkpoint(tmp_path, checkpoint)
    assert PlotGenerator(checkpoint).plot("Ada", temperature=0, max_tokens=40).tokens == 40
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
