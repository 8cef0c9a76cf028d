"""A model's name points to one folder, or the message says which names there are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.engine.places import (
    DOWNLOADED_FOLDER,
    WEIGHTS_FOLDER,
    cache_folder,
    downloaded_folder,
    resolve,
    weights_folder,
)
from movieplotgpt.errors import CheckpointError


@pytest.fixture
def published(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two published models, which the environment names."""
    weights = tmp_path / "published"
    for name in ("plots-bpe", "office-char"):
        shutil.copytree(folder, weights / name)
    (weights / "no-model").mkdir()
    monkeypatch.setenv(WEIGHTS_FOLDER, str(weights))
    return weights


def test_a_published_name_points_to_its_folder(published: Path) -> None:
    assert resolve("plots-bpe") == published / "plots-bpe"
    assert load_folder("office-char").folder == published / "office-char"


def test_a_path_goes_before_a_published_name(
    published: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "here" / "plots-bpe")
    monkeypatch.chdir(tmp_path / "here")
    assert resolve("plots-bpe") == Path("plots-bpe")
    assert resolve(folder) == folder


def test_a_run_means_its_best_checkpoint_or_else_its_last(tmp_path: Path, folder: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder, run / "last")
    assert resolve(run) == run / "last"
    (run / "best").mkdir()  # nothing in it yet
    assert resolve(run) == run / "last"
    shutil.copytree(folder, run / "best", dirs_exist_ok=True)
    assert resolve(run) == run / "best"
    assert resolve(run / "last") == run / "last"


def test_a_name_nobody_knows_lists_those_there_are(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve("plots-bqe")
    assert str(caught.value) == (
        "there is no model 'plots-bqe'; published models here: office-char, plots-bpe, or give a folder"
    )
    monkeypatch.setenv(WEIGHTS_FOLDER, str(published / "no-model"))
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
    monkeypatch.delenv(WEIGHTS_FOLDER, raising=False)
    assert weights_folder() == repository / "weights"


@pytest.mark.parametrize("name", ["plots-bpe", "hf:ada/films"])
def test_a_downloaded_name_points_to_its_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(WEIGHTS_FOLDER, str(tmp_path / "nothing"))
    monkeypatch.setenv(DOWNLOADED_FOLDER, str(tmp_path / "downloaded"))
    place = tmp_path / "downloaded" / name.replace("hf:", "hf/")
    shutil.copytree(folder, place)
    assert resolve(name) == place
    with pytest.raises(
        CheckpointError, match=r"^hf:ada/other is not here yet; fetch it once: movieplotgpt weights down"
    ):
        resolve("hf:ada/other")


def test_a_published_name_goes_before_a_downloaded_one(
    published: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DOWNLOADED_FOLDER, str(tmp_path / "downloaded"))
    shutil.copytree(folder, tmp_path / "downloaded" / "plots-bpe")
    assert resolve("plots-bpe") == published / "plots-bpe"


def test_a_model_of_the_manifest_is_to_be_fetched(published: Path) -> None:
    (published / "manifest.json").write_text('{"models": {"plots-large": {}}}', encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r"^plots-large is not here yet; fetch it once: movieplotgpt weights downl"
    ):
        resolve("plots-large")


@pytest.mark.parametrize("manifest", ["", "[]", '{"models": 3}', "{}", "[" * 100_000])
def test_a_damaged_manifest_is_passed_over(published: Path, manifest: str) -> None:
    (published / "manifest.json").write_text(manifest, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"^there is no model 'plots-large'; published models here: office-char"):
        resolve("plots-large")


def test_the_cache_is_where_the_system_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DOWNLOADED_FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("graphs") == tmp_path / "xdg" / "movieplotgpt" / "graphs"
    assert downloaded_folder() == tmp_path / "xdg" / "movieplotgpt" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("graphs") == tmp_path / ".cache" / "movieplotgpt" / "graphs"


def test_no_home_folder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(OSError, match="no home folder is known; name a folder in XDG_CACHE_HOME"):
        cache_folder("graphs")
