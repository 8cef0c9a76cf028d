"""``movieplotgpt export`` says what was written, and whether another program has written from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.cli import main
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.sharing import exporting
from movieplotgpt.sharing.exporting import Exported
from movieplotgpt.sharing.runners import LLAMA_CPP, Runner


@pytest.fixture
def model(tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch) -> str:
    """A small model in the working folder."""
    save_checkpoint(tmp_path / "films", tiny_checkpoint())
    monkeypatch.chdir(tmp_path)
    return "films"


@pytest.mark.parametrize(
    ("agreeing", "verdict"),
    [
        (64, "llama.cpp writes the same 64 greedy tokens"),
        (61, "61 of 64 greedy tokens that llama.cpp writes are the model's choice"),
    ],
)
def test_the_verdict_is_told(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, agreeing: int, verdict: str
) -> None:
    done = Exported(Path("some/films.gguf"), 10_200_000, LLAMA_CPP, 64, agreeing)
    monkeypatch.setattr(exporting, "chosen_types", lambda to, _: {to: "f16"})
    monkeypatch.setattr(exporting, "export", lambda *_: done)
    assert main(["export", model, "--to", "gguf"]) == 0
    assert capsys.readouterr() == (f"some/films.gguf: 10.2 MB; {verdict}\n", "")


def test_what_nobody_has_verified_is_said(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "RUNNERS", {"hf-bf16": Runner("the parrot", "no_such_package", Path())})
    assert main(["export", model, "--to", "hf-bf16"]) == 0
    out, err = capsys.readouterr()
    assert out == "exports/films/hf-bf16: 0.1 MB\n"
    assert err == (
        "movieplotgpt: the parrot has not verified exports/films/hf-bf16, since it is not installed; "
        "pip install no_such_package and export again\n"
    )
    assert main(["export", model, "--to", "hf-bf16"]) == 1
    assert capsys.readouterr().err.startswith("movieplotgpt: exports/films/hf-bf16 is there already; ")


def test_a_type_the_target_has_not_is_an_error(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", model, "--to", "hf-bf16", "--type", "f32"]) == 1
    said = "movieplotgpt: hf-bf16 has no weights of type f32; take one of bf16\n"
    assert capsys.readouterr() == ("", said)
