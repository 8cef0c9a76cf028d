"""``movieplotgpt report``: RESULTS.md and figures, made of what ``evaluate`` and ``train`` have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.cli import main
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint


@pytest.fixture
def results(
    films_toml: Path,
    tmp_path: Path,
    plots_csv: Path,
    tiny_checkpoint: Callable[..., Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Path:
    """A results folder in the working folder, with the evaluation of one model; its run is beside it."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "films" / "best", tiny_checkpoint())
    lines = [{"event": "step", "step": 1, "loss": 5.5}, {"event": "evaluated", "step": 1, "bits_per_character": 2.5}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "films" / "metrics.jsonl").write_text(text, encoding="utf-8")
    assert main(["prepare", str(films_toml), "--source", str(plots_csv), "--out", "data"]) == 0
    flags = ["--documents", "4", "--metrics", "titles", "--out", "results/runs/films.json"]
    assert main(["evaluate", "films", "--data", "data", *flags]) == 0
    capsys.readouterr()
    return tmp_path / "results"


def test_report_writes_results_and_says_where(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(Path("results") / name) for name in ("RESULTS.md", "results.html")]
    assert said.err == ""
    text = (results / "RESULTS.md").read_text(encoding="utf-8")
    bits = json.loads((results / "runs" / "films.json").read_text(encoding="utf-8"))["likelihood"]["bits_per_character"]
    assert f"**{bits:.3f}**" in text and "## plots.csv: test split, 4 documents" in text
    assert main(["report", "--results", str(results)]) == 0
    assert (results / "RESULTS.md").read_text(encoding="utf-8") == text


def test_a_figure_is_drawn_and_linked(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["report", "--figure", "films=films"]) == 0
    said = capsys.readouterr().out.splitlines()
    names = (Path("figures") / "films.svg", "RESULTS.md", "results.html")
    assert said == [str(Path("results") / name) for name in names]
    assert "data:image/svg+xml;base64," in (results / "results.html").read_text(encoding="utf-8")
    figure = (results / "figures" / "films.svg").read_bytes()
    first = (results / "RESULTS.md").read_bytes()
    assert b"![films](figures/films.svg)" in first
    assert main(["report", "--figure", "films=films"]) == 0
    assert (results / "figures" / "films.svg").read_bytes() == figure
    assert main(["report"]) == 0
    assert (results / "RESULTS.md").read_bytes() == first, "a figure drawn before is shown again"


def test_several_figures_follow_one_flag(results: Path) -> None:
    pytest.importorskip("matplotlib")
    (results / "runs" / "again.json").write_bytes((results / "runs" / "films.json").read_bytes())
    assert main(["report", "--figure", "films=films", "again=films"]) == 0
    assert sorted(path.name for path in (results / "figures").iterdir()) == ["again.svg", "films.svg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--figure", "films"], "--figure 'films' is not of the form NAME=RUN, as in plots-bpe=runs/plots-bpe"),
        (["--figure", "=films"], "is not of the form NAME=RUN"),
        (["--figure", "films="], "is not of the form NAME=RUN"),
        (["--figure", "gone=films"], "there is no evaluation"),
        (["--figure", "films=data"], "data has no metrics.jsonl; name the folder of a run"),
        (
            ["--results", "data"],
            "data holds neither an evaluation nor a study; make one with `movieplotgpt evaluate MODEL --out",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_1(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["report", *arguments]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("movieplotgpt: ") and said in err
    assert not (results / "RESULTS.md").exists()


def test_a_damaged_evaluation_is_one_line_and_exit_1(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "runs" / "cut.json").write_text('{"model": "cut", "weig', encoding="utf-8")
    assert main(["report"]) == 1
    err = capsys.readouterr().err
    assert "cut.json is not an evaluation of this version" in err and err.count("\n") == 1
