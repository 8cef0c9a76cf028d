"""The documentation is what the code is: its reference pages are fresh, its examples run, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from movieplotgpt.cli import COMMANDS

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "docs" / "how-it-works").glob("*.md"))
PLACES = re.compile(r"https://github\.com/movieplotgpt/movieplotgpt/(?:blob|tree)/main/([^)#\s]+)")


def examples(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_reference_pages_are_fresh() -> None:
    build = [sys.executable, "docs/reference/build.py", "--check"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_links_into_the_repository(path: Path) -> None:
    named = PLACES.findall(path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_lesson_is_in_the_navigation_and_has_an_example() -> None:
    navigation = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    assert [path.name for path in LESSONS if f"how-it-works/{path.name}" not in navigation] == []
    assert {path.stem for path in LESSONS if not examples(path)} == {"index", "measuring"}


def test_manual_page_names_every_command(tmp_path: Path) -> None:
    target = tmp_path / "man" / "movieplotgpt.1"
    build = [sys.executable, "docs/reference/build.py", "--man", str(target)]
    assert subprocess.run(build, cwd=ROOT, capture_output=True, text=True).returncode == 0
    page = target.read_text(encoding="utf-8")
    assert page.count(".SH") > 5
    assert [name for name in COMMANDS if f".SH {name}" not in page and f".SS {name}" not in page] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in LESSONS if examples(path)], ids=lambda path: path.stem)
def test_lesson_runs(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for code in examples(path):
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() or "print" not in code


@pytest.mark.slow
def test_site_builds_without_a_broken_link() -> None:
    pytest.importorskip("zensical")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (ROOT / "build" / "site" / "how-it-works" / "index.html").is_file()
