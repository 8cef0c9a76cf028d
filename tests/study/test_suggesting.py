"""A bare text gets a study that fits it, and its minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from movieplotgpt.cli import main
from movieplotgpt.study import suggesting
from movieplotgpt.study.grid import Study
from movieplotgpt.study.results import load_results, tokens_in_epoch
from movieplotgpt.study.running import steps_for
from movieplotgpt.text.token_files import PreparedCorpus


@pytest.fixture
def text(tmp_path: Path, films: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "films.txt"
    path.write_text("\n\n".join(film["Plot"] for film in films), encoding="utf-8")
    return path


def test_sizes_tokenizers_and_cost_are_chosen(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggesting, "training_speed", lambda *_: 1e7)
    path, reasons = suggesting.suggest_study(text, Path("out"), 20)
    cells = Study.read(path, Path("out")).cells
    assert {cell.size for cell in cells} == {"tiny", "mini", "small"}
    assert {cell.tokenizer for cell in cells} == {"char", "bpe-512"} and len(cells) == 10
    flops = max(cell.amount for cell in cells)
    shorter = sorted((cell.size, cell.tokenizer, cell.amount / flops) for cell in cells if cell.amount < flops)
    assert shorter == [(size, "bpe-512", share) for size in ("mini", "tiny") for share in (0.25, 0.5)]
    assert flops == pytest.approx(0.55 * 20 * 60 * 1e7 / 7.5, rel=0.05)  # under two minutes: compiling does not pay
    assert f"{flops:.1e} floating-point operations each" in reasons[-1]


def test_a_short_text_is_not_read_more_than_a_few_times(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggesting, "training_speed", lambda *_: 1e12)
    path, reasons = suggesting.suggest_study(text, Path("out"), 20)
    study = Study.read(path, Path("out"))
    study.prepare(text)
    dearest = [cell for cell in study.cells if cell.size == "tiny" and cell.tokenizer == "bpe-512"]
    cell = max(dearest, key=lambda cell: cell.amount)
    config, corpus = study.run_config(cell), PreparedCorpus.load(study.data(cell))
    tokens = steps_for(config, corpus, cell.amount) * config.training.tokens_per_step
    assert 2 < tokens / tokens_in_epoch(config, corpus) < 8  # how long a token is can only be guessed before
    assert "tiny reads so short a text about 4 times at that cost" in reasons[-1]


@pytest.mark.slow
def test_a_text_is_studied_by_its_name_alone(
    text: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suggesting, "SIZES", ("tiny",))
    monkeypatch.setattr(suggesting, "SHORTER", ((("tiny",), 0.5),))
    monkeypatch.setattr(suggesting, "training_speed", lambda *_: 1e9)
    assert main(["compare", str(text), "--minutes", "1"]) == 0
    out, err = capsys.readouterr()
    assert "# films\n" in out and "- at 1.3e+10 flops take tiny with " in out and "3 of 3" in err
    assert len(load_results(Path("results/studies/films/study.json")).rows) == 3
    assert main(["report"]) == 0
    assert "## Study: films\n" in Path("results/RESULTS.md").read_text(encoding="utf-8")
    assert "At 1.3e+10 flops each" in Path("results/results.html").read_text(encoding="utf-8")
    capsys.readouterr()
    kept = Path("results/studies/films/study.toml").read_bytes()
    assert main(["compare", str(text)]) == 0
    assert "3 of 3 runs are done already" in capsys.readouterr().err
    assert main(["compare", str(text), "--minutes", "9"]) == 1
    assert "holds a study of 1 minutes, not of 9; leave --minutes 9 out" in capsys.readouterr().err
    other = Path("elsewhere") / text.name
    other.parent.mkdir()
    other.write_text(text.read_text(encoding="utf-8") + "More.", encoding="utf-8")
    assert main(["compare", str(other)]) == 1
    assert "holds the study of another text than elsewhere/films.txt" in capsys.readouterr().err
    assert Path("results/studies/films/study.toml").read_bytes() == kept


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["films.csv"], "films.csv is a table with the columns Title, Plot; name the one with the text: --text-column"),
        (["films.txt", "--source", "x.csv"], "leave --source x.csv out"),
        (["study.toml", "--minutes", "3"], "are for a text or table"),
        (["films.txt", "--jobs", "0"], "--jobs is 0"),
        (["films.txt", "--minutes", "-5"], "--minutes -5 is too short"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    text: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("films.csv").write_text("Title,Plot\nA,b c\n", encoding="utf-8")
    assert main(["compare", *arguments]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and said in err
