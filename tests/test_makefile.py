"""``make plot`` hands on a title as it was typed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

ECHO = '#!/bin/sh\nfor argument; do printf "%s\\n" "$argument"; done\n'


def make(repository: Path, environment: Path, *arguments: str) -> list[str]:
    """Run make with a ``movieplotgpt`` that only says its arguments, in an environment that counts as installed."""
    command = environment / "bin" / "movieplotgpt"
    command.parent.mkdir(parents=True)
    command.write_text(ECHO, encoding="utf-8")
    command.chmod(0o755)
    for stamp in (".runtime", ".train"):  # make looks for them, in this order
        (environment / stamp).touch()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    clean = {name: value for name, value in clean.items() if name not in ("TITLE", "SOURCE", "ARGS", "CONFIG")}
    done = subprocess.run(
        ["make", "-s", f"VENV={environment}", *arguments],
        cwd=repository,
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "title",
    [
        "The Lighthouse Keeper's Daughter",
        'She Said "Stop"',
        "$5 a Day, $(shell echo gone), ${HOME} and `ls`",
        "Who's # 1? \\ *; rm & | < > ! %",
        "--help",
        "Amélie 🎬",
        "",
    ],
)
def test_a_title_arrives_as_typed(repository: Path, tmp_path: Path, title: str) -> None:
    assert make(repository, tmp_path / "v", "plot", f"TITLE={title}") == ["generate", f"--title={title}"]


def test_train_names_the_source_only_when_there_is_one(repository: Path, tmp_path: Path) -> None:
    assert make(repository, tmp_path / "a", "train") == ["train", "configs/plots-bpe.toml"]
    with_source = make(repository, tmp_path / "b", "train", "SOURCE=my plots.csv", "ARGS=--steps 3")
    assert with_source == ["train", "configs/plots-bpe.toml", "--source", "my plots.csv", "--steps", "3"]
