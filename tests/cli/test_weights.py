"""``movieplotgpt weights``: publish, list and verify in words a person and a script can read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.cli import main
from movieplotgpt.engine.places import DOWNLOADED_FOLDER, WEIGHTS_FOLDER
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint

CARDS = """
[cards.films]
models = ["films", "more-films"]
summary = "Writes an invented film."
licence = "mit"
data = "Invented."
limits = "It has learned nothing."
example = "The Hollow Piano"
"""


@pytest.fixture
def weights(tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder, known by the variable, with a card and nothing published; a run lies beside it."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "cards.toml").write_text(CARDS, encoding="utf-8")
    save_checkpoint(tmp_path / "run" / "best", tiny_checkpoint())
    monkeypatch.setenv(WEIGHTS_FOLDER, str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_publish_says_where_and_how_large(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "publish", "run", "films"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{weights / 'films'}: 0.0 M parameters, 0.1 MB\n"
    assert said.err == ""
    assert load_checkpoint("films").folder == weights / "films"


def test_another_weights_folder_is_named_by_a_flag(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "cards.toml").write_text(CARDS, encoding="utf-8")
    assert main(["weights", "publish", "run", "films", "--weights", str(other)]) == 0
    assert (other / "films" / "config.json").is_file() and not (weights / "films").exists()
    capsys.readouterr()
    assert main(["weights", "verify", "--weights", str(other)]) == main(["weights", "verify"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "all files of 1 models are as published: films",
        "all files of 0 models are as published: none",
    ]
    assert main(["weights", "list", "--weights", str(other)]) == 0
    assert capsys.readouterr().out.startswith("films ")


def test_list_has_a_line_for_each_model(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    assert capsys.readouterr().out == ""
    main(["weights", "publish", "run", "more-films"])
    main(["weights", "publish", "run", "films"])
    capsys.readouterr()
    assert main(["weights", "list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    facts = "0.0 M 0.1 MB not measured Writes an invented film.".split()
    assert lines == [["films", *facts], ["more-films", *facts]]


def test_list_says_what_is_not_here_and_how_to_get_it(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["weights", "publish", "run", "films"])
    (weights / "films").rename(tmp_path / "films")
    capsys.readouterr()
    assert main(["weights", "list"]) == 0
    said = "Writes an invented film. (not here: movieplotgpt weights download films)\n"
    assert capsys.readouterr().out.endswith(said)
    monkeypatch.setenv(DOWNLOADED_FOLDER, str(tmp_path))
    assert main(["weights", "list"]) == 0
    assert capsys.readouterr().out.endswith("Writes an invented film.\n")


def test_list_as_json_is_the_manifest(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["weights", "publish", "run", "films"])
    capsys.readouterr()
    assert main(["weights", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((weights / "manifest.json").read_text(encoding="utf-8"))


def test_verify_fails_on_one_changed_byte(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["weights", "publish", "run", "films"])
    assert main(["weights", "verify"]) == 0
    capsys.readouterr()
    card = weights / "films" / "README.md"
    card.write_bytes(card.read_bytes()[:-1] + b" ")
    assert main(["weights", "verify"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"movieplotgpt: {weights} does not fit its manifest.json: films/README.md differs; get or publish it again\n"
    )


def test_the_numbers_of_published_weights_get_onto_their_card(
    films_toml: Path, weights: Path, tmp_path: Path, plots_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", str(films_toml), "--source", str(plots_csv), "--out", "data"]) == 0
    main(["weights", "publish", "run", "films"])
    first = (weights / "films" / "model.safetensors").read_bytes()
    flags = ["--documents", "2", "--metrics", "likelihood"]
    assert main(["evaluate", "films", "--data", "data", "--out", "films.json", *flags]) == 0
    assert main(["weights", "publish", "films", "films", "--evaluation", "films.json"]) == 0
    assert main(["weights", "verify"]) == 0
    capsys.readouterr()
    bits = json.loads((tmp_path / "films.json").read_text(encoding="utf-8"))["likelihood"]["bits_per_character"]
    assert main(["weights", "list"]) == 0
    assert f"{bits:.3f} bits per character" in capsys.readouterr().out
    assert f"**{bits:.3f}**" in (weights / "films" / "README.md").read_text(encoding="utf-8")
    assert (weights / "films" / "model.safetensors").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["publish", "nowhere", "films"], "there is no model 'nowhere'"),
        (["publish", "run", "poems"], "has no card for 'poems'"),
        (["publish", "run", "No Name"], "'No Name' cannot name a model"),
        (["publish", "run", "films", "--evaluation", "none.json"], "there is no evaluation none.json"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_1(
    weights: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["weights", *arguments]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("movieplotgpt: ") and said in err
    assert [path.name for path in weights.iterdir()] == ["cards.toml"]
