"""``movieplotgpt average``: a model folder like any other, and one line for what cannot be done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from movieplotgpt.cli import main
from movieplotgpt.engine.places import WEIGHTS_FOLDER
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint

BITS = (2.5, 2.25, 2.0)
TRAINING = {"step": 7, "tokens": 3584, "seconds": 2.5, "device": "cpu", "precision": "float32", "threads": 1}


@pytest.fixture
def models(tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three models of other weights: a folder, a run, a published name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(WEIGHTS_FOLDER, "shelf")
    for seed, folder in enumerate(("a", "runs/b/best", "shelf/c")):
        checkpoint = tiny_checkpoint(seed=seed)
        checkpoint.info.update(
            corpus={"hash": "abc"}, training={**TRAINING, "step": seed, "validation_bits_per_character": BITS[seed]}
        )
        save_checkpoint(Path(folder), checkpoint)
    return ["a", "runs/b", "c"]


def embedding(name: str) -> torch.Tensor:
    return load_checkpoint(name).model.model.embed_tokens.weight.detach()


@pytest.mark.parametrize("flag", ["-o", "--out"])
def test_the_mean_is_a_model_that_other_commands_take(
    models: list[str], capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert main(["average", *models, flag, "new/mean"]) == 0
    out, err = capsys.readouterr()
    said = "new/mean: the mean of 3 models; score it with: movieplotgpt evaluate new/mean --data FOLDER\n"
    assert (out, err) == (said, "")
    expected = torch.stack([embedding(name) for name in models]).double().mean(0).float()
    torch.testing.assert_close(embedding("new/mean"), expected, rtol=1e-6, atol=1e-8)
    assert main(["info", "new/mean"]) == 0
    assert main(["info", "new/mean", "--json"]) == 0
    assert main(["generate", "--model", "new/mean", "--title", "Ada", "--max-tokens", "5", "--seed", "1"]) == 0
    assert [path.name for path in Path("new").iterdir()] == ["mean"]


def test_averaged_folder_records_its_members(models: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["average", *models, "--weights", "1", "2", "0.5", "-o", "mean"]) == 0
    capsys.readouterr()
    about = json.loads(Path("mean/movieplotgpt.json").read_text(encoding="utf-8"))
    assert about["average"] == [
        {"name": name, "weight": weight, "step": step, "validation_bits_per_character": bits}
        for step, (name, weight, bits) in enumerate(zip(models, (1, 2, 0.5), BITS, strict=True))
    ]
    assert about.keys() == {"corpus", "average", "format_version", "document_format", "cleaning"}
    assert main(["info", "mean", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["corpus"] == {"hash": "abc"} and "training" not in told


@pytest.mark.parametrize("weights", [["--weights", "1", "3"], ["--weights", "1", "--weights", "3"]])
def test_weights_count_in_the_order_of_the_models(models: list[str], weights: list[str]) -> None:
    assert main(["average", "a", "c", *weights, "-o", "mean"]) == 0
    expected = (embedding("a") + 3 * embedding("c")) / 4
    torch.testing.assert_close(embedding("mean"), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "an average needs two models or more, not 0; name them one after the other"),
        (["a"], "an average needs two models or more, not 1; name them one after the other"),
        (["a", "c", "--weights", "1"], "2 models need 2 weights, not 1; give one for each, in their order"),
        (["a", "c", "--weights", "1", "2", "3"], "2 models need 2 weights, not 3; give one for each, in their order"),
        (
            ["a", "c", "--weights", "1", "-1"],
            "the weights 1, -1 sum to 0; their sum has to be a positive number",
        ),
        (["a", "d"], "there is no model 'd'; published models here: c, or give a folder"),
        (
            ["a", "c", "char"],
            "a and char cannot be averaged: tokenizer.kind is 'bpe' in the first and 'char' in the second; give models "
            "of the same dimensions, tokenizer and format",
        ),
    ],
)
def test_what_cannot_be_averaged_is_one_line_and_leaves_nothing(
    models: list[str],
    tiny_checkpoint: Callable[..., Checkpoint],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    save_checkpoint(Path("char"), tiny_checkpoint("char"))
    assert main(["average", *arguments, "-o", "mean"]) == 1
    assert capsys.readouterr() == ("", f"movieplotgpt: {said}\n")
    assert not Path("mean").exists()


def test_what_is_there_is_never_written_over(models: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("letter").write_text("dear", encoding="utf-8")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    for there in ("a", "runs", "runs/b", "letter"):
        assert main(["average", "a", "c", "-o", there]) == 1
        said = f"movieplotgpt: {there} exists already; name a new folder with --out\n"
        assert capsys.readouterr() == ("", said)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    Path("empty").mkdir()
    assert main(["average", "a", "c", "-o", "empty"]) == 0
    shutil.rmtree("a")
    load_checkpoint("empty")


def test_the_help_teaches_by_example(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["average", "--help"]) == 0
    said = capsys.readouterr().out
    assert "Examples:\n  movieplotgpt average runs/tuned-1 runs/tuned-2 -o runs/mean\n" in said
    assert "--weights 2 1 1 -o" in said
    assert "checkpoints of one run, or fine-tunings of one model" in said
