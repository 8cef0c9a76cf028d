"""``movieplotgpt info`` and ``doctor``: what a model and a machine are, in words and in JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from movieplotgpt import __version__
from movieplotgpt.cli import main
from movieplotgpt.engine.places import DEFAULT_MODEL, WEIGHTS_FOLDER
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from movieplotgpt.model.hardware import choose_hardware
from movieplotgpt.training.run import TrainingSettings

EXTRAS = {
    "torch": "train",
    "polars": "train",
    "zstandard": "train",
    "matplotlib": "plots",
    "pyppmd": "evaluate",
    "tensorboard": "track",
}
TRAINING = {"step": 7, "tokens": 3584, "seconds": 2.5, "device": "cpu", "precision": "float32", "threads": 1}
OF_TORCH = {"torch", "device", "precision", "compiler", "training threads", "memory"}


@pytest.fixture
def checkpoint(
    tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> Checkpoint:
    """A small model with hints, in the working folder as ``model``."""
    made = tiny_checkpoint("char", hints=("Decade",), context_length=128)
    corpus = {"hash": "abc", "source": "plots.csv", "hint_values": {"Decade": ["1950s", "1960s"]}}
    made.info.update(corpus=corpus, training=TRAINING)
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("model"), made)
    return load_checkpoint("model")


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if ``packages`` were not installed and all other extras were."""
    find = importlib.util.find_spec

    def found(name: str, package: str | None = None) -> Any:
        if name in EXTRAS:
            return None if name in packages else object()
        return find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", found)


def doctor(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What ``doctor --json`` tells."""
    capsys.readouterr()
    assert main(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    told: dict[str, Any] = json.loads(out)
    return told


def test_info_tells_what_the_model_is(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "model", "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err == ""
    model = checkpoint.model
    assert told["folder"] == "model" and told["hints"] == {"Decade": ["1950s", "1960s"]}
    assert told["parameters"] == sum({id(weight): weight.numel() for weight in model.parameters()}.values())
    assert told["network"] == model.config.model_dump(mode="json")
    assert told["tokenizer"] == {"kind": "char", "ids": checkpoint.tokenizer.vocab_size}
    assert told["document format"] == checkpoint.format.model_dump(mode="json")
    assert told["cleaning"] == {"ascii": True}
    assert (told["corpus"]["source"], told["training"]) == ("plots.csv", TRAINING)
    assert told["KV cache, bytes"] == 2 * 2 * 1 * 16 * 128  # of a byte each


def test_words_tell_what_json_tells(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", "model", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert main(["info", "model"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, value in told.items():
        if isinstance(value, dict):
            place = lines.index(f"{name}:")
            assert [line.partition(":")[0].strip() for line in lines[place + 1 : place + 1 + len(value)]] == list(value)
        else:
            assert f"{name}: {value:,}" in lines if isinstance(value, int) else f"{name}: {value}" in lines


def test_a_run_and_a_published_name_are_found(
    checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("model", "run/best")
    shutil.copytree("model", f"shelf/{DEFAULT_MODEL}")
    monkeypatch.setenv(WEIGHTS_FOLDER, "shelf")
    published = f"shelf/{DEFAULT_MODEL}"
    for arguments, folder in ((["run"], "run/best"), ([DEFAULT_MODEL], published), ([], published)):
        assert main(["info", *arguments, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["folder"] == folder


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nowhere", "there is no model 'nowhere'; published models here: plots-bpe, or give a folder"),
        ("empty", "empty is not a checkpoint: it has no config.json"),
        (
            "broken",
            "broken was saved by another program: it has no movieplotgpt.json; make it a model of movieplotgpt: ",
        ),
        ("later", "later has checkpoint format 99, this version reads 1; install the movieplotgpt that wrote it"),
    ],
)
def test_a_model_that_is_none_is_one_line_and_exit_1(
    checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, said: str
) -> None:
    Path("empty").mkdir()
    for name in ("broken", "later", "shelf/plots-bpe"):
        shutil.copytree("model", name)
    monkeypatch.setenv(WEIGHTS_FOLDER, "shelf")
    Path("broken/movieplotgpt.json").unlink()
    about = json.loads(Path("later/movieplotgpt.json").read_text(encoding="utf-8"))
    Path("later/movieplotgpt.json").write_text(json.dumps({**about, "format_version": 99}), encoding="utf-8")
    assert main(["info", model]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"movieplotgpt: {said}")


def test_doctor_tells_what_text_is_generated_with(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    graphs = tmp_path / "movieplotgpt" / "graphs"
    graphs.mkdir(parents=True)
    (graphs / "a.onnx").write_bytes(bytes(1_500_000))
    (graphs / "a.lock").write_bytes(bytes(9_000_000))
    monkeypatch.setattr("movieplotgpt.engine.byte_products.sums_are_exact", lambda: True)  # it would keep a graph
    told = doctor(capsys)
    assert told["movieplotgpt"] == __version__
    assert told["python"].startswith(platform.python_version())
    assert told["onnxruntime"] == onnxruntime.__version__
    assert told["threads"] == f"3 of {os.cpu_count()} cores"
    assert told["graph cache"] == f"1.5 MB in {graphs}"
    assert told["disk free here"].endswith(" GB")


@pytest.mark.parametrize(("exact", "said"), [(True, "exact: "), (False, "exact, by slower kernels: ")])
def test_doctor_tells_how_products_of_bytes_are_added_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, exact: bool, said: str
) -> None:
    monkeypatch.setattr("movieplotgpt.engine.byte_products.sums_are_exact", lambda: exact)
    assert doctor(capsys)["int8 products"].startswith(said)


def test_doctor_without_a_cache_tells_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert doctor(capsys)["graph cache"] == "none (no home folder is known; name a folder in XDG_CACHE_HOME)"


def test_doctor_without_torch_tells_nothing_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch)
    whole = doctor(capsys)
    hide(monkeypatch, "torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    told = doctor(capsys)
    assert set(whole) - set(told) == OF_TORCH
    assert told["missing"] == ["torch (training and evaluating models): pip install 'movieplotgpt[train]'"]


def test_doctor_tells_what_a_run_would_use(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch)
    told = doctor(capsys)
    reasons = choose_hardware(TrainingSettings()).reasons
    assert (told["device"], told["precision"], told["compiler"]) == reasons
    assert told["torch"] == torch.__version__
    assert told["training threads"] == f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    assert float(told["memory"].removesuffix(" GB")) >= 0
    assert told["missing"] == []


def test_doctor_in_words_has_a_line_for_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch)
    told = doctor(capsys)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:17].strip() for line in lines] == [name for name in told if name != "missing"]
    changing = ("memory", "disk free here")
    assert all(line[18:] == told[line[:17].strip()] for line in lines if line[:17].strip() not in changing)


@pytest.mark.parametrize("package", EXTRAS)
def test_doctor_says_what_is_missing_and_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    hide(monkeypatch, package)
    assert main(["doctor"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not installed")]
    assert line.split()[2] == package
    assert line.endswith(f": pip install 'movieplotgpt[{EXTRAS[package]}]'")
    [told] = doctor(capsys)["missing"]
    assert line.endswith(told)


def test_the_extras_named_are_those_of_the_project(repository: Path) -> None:
    import tomllib

    from movieplotgpt.cli import doctor as module

    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {package: extra for package, (extra, _) in module.EXTRAS.items()} == EXTRAS
    for package, extra in EXTRAS.items():
        assert any(line.startswith(package) for line in project["optional-dependencies"][extra])


def test_doctor_names_the_published_models(
    checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_FOLDER, "shelf")
    assert doctor(capsys)["published models"] == "none"
    for name in ("b", "a"):
        shutil.copytree("model", f"shelf/{name}")
    assert doctor(capsys)["published models"] == "a, b"
