"""``movieplotgpt copies``, and what ``generate`` says of copies."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from movieplotgpt.cli import main
from movieplotgpt.config import read_settings
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.text.prepare import PrepareSettings, prepare
from movieplotgpt.text.token_files import PreparedCorpus


@pytest.fixture
def corpus(
    tmp_path: Path,
    plots_csv: Path,
    films_toml: Path,
    tiny_checkpoint: Callable[..., Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
) -> PreparedCorpus:
    """The films, prepared in ``data``; ``model`` claims to be trained on them."""
    monkeypatch.chdir(tmp_path)
    prepare(read_settings(PrepareSettings, films_toml), plots_csv, Path("data"))
    corpus = PreparedCorpus.load(Path("data"))
    info = {"corpus": {"hash": corpus.manifest.corpus_hash}}
    save_checkpoint(Path("model"), replace(tiny_checkpoint("char"), info=info))
    return corpus


def passage(corpus: PreparedCorpus) -> tuple[str, str]:
    part = corpus.split("train")
    return part.titles[4], corpus.tokenizer.decode(part.body(4))[20:100].strip()


def test_a_copied_passage_is_told_with_its_film(corpus: PreparedCorpus, capsys: pytest.CaptureFixture[str]) -> None:
    title, copied = passage(corpus)
    Path("plot.txt").write_text(f"Zed was here. {copied.upper()} That is all.\n", encoding="utf-8")
    assert main(["copies", "plot.txt", "--model", "model", "--data", "data"]) == 0
    out = capsys.readouterr().out
    assert f"characters of {title}:\n  {copied.upper()}\n  there: {copied}\n" in out
    assert "% of the text is in the training text, in runs of 50 characters; the longest" in out.splitlines()[0]


def test_stdin_and_json(
    corpus: PreparedCorpus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    title, copied = passage(corpus)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"Yes: {copied}".encode()), encoding="utf-8"))
    assert main(["copies", "--model", "model", "--data", "data", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    [copy] = report["copies"]
    assert (copy["title"], copy["text"].strip(), copy["source"].strip()) == (title, copied, copied)
    assert report["exact"] and report["longest"] == copy["length"]


def test_a_text_of_ones_own_is_said_to_be_one(corpus: PreparedCorpus, capsys: pytest.CaptureFixture[str]) -> None:
    Path("plot.txt").write_text("Nothing of this was ever in a film, " * 3, encoding="utf-8")
    assert main(["copies", "plot.txt", "--model", "model", "--data", "data"]) == 0
    assert capsys.readouterr().out == "no run of 50 characters is in the training text\n"


def test_generate_tells_what_it_copied(corpus: PreparedCorpus, capsys: pytest.CaptureFixture[str]) -> None:
    title, copied = passage(corpus)
    asked = ["generate", "--model", "model", "--title", "Ada", "--begin", copied, "--max-tokens", "9", "--seed", "1"]
    assert main([*asked, "--check-copies", "--data", "data"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(copied) and f"characters of {title}:" in err
    assert main([*asked, "--check-copies", "--data", "data", "--json"]) == 0
    [plot] = json.loads(capsys.readouterr().out)["plots"]
    assert plot["copies"]["copies"][0]["title"] == title


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["copies", "gone.txt", "--model", "model", "--data", "data"], "gone.txt cannot be read"),
        (
            ["copies", "films.toml", "--model", "model"],
            "no copy index of the text this model was trained on is installed",
        ),
        (["copies", "films.toml", "--model", "model", "--data", "data", "--at-least", "9"], "ask for 31 at least"),
        (["generate", "--model", "model", "--check-copies"], "no copy index of the text this model was trained on"),
        (["generate", "--model", "model", "--data", "films.toml", "--avoid-copies", "60"], "is not a prepared corpus"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_1(
    corpus: PreparedCorpus, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1
