"""ARCHITECTURE.md is true, imports go in one direction, and only the command line talks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ("prepare", "corpus", "train", "generate", "evaluate", "info", "doctor")
SLOW_TO_IMPORT = ("torch", "polars", "numpy", "tokenizers", "safetensors", "transformers", "matplotlib", "anyascii")


@pytest.fixture
def package(repository: Path) -> Path:
    return repository / "src" / "movieplotgpt"


def layout(text: str) -> list[str]:
    """The paths of the tree drawn in ARCHITECTURE.md, relative to the repository."""
    block = text.split("## Layout")[1].split("```")[1]
    folders: list[tuple[int, str]] = []  # (indentation, path)
    paths = []
    for line in block.splitlines()[1:]:
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        folders = [(depth, folder) for depth, folder in folders if depth < indent]
        inside = folders[-1][1] if folders else ""
        paths += [inside + name for name in line.strip().split("  ")[0].split(", ")]
        if paths[-1].endswith("/"):
            folders.append((indent, paths[-1]))
    return paths


def modules(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if path.name != "__init__.py")


def test_every_path_of_the_drawn_tree_exists(repository: Path) -> None:
    paths = layout((repository / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert len(paths) > 30, "the layout was not understood"
    assert [path for path in paths if not (repository / path).exists()] == []
    assert [path for path in paths if path.endswith("/") != (repository / path).is_dir()] == []


def test_every_module_is_in_the_drawn_tree(repository: Path, package: Path) -> None:
    paths = layout((repository / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    drawn = {path for path in paths if path.endswith(".py")}
    commands = set((package / "cli").iterdir())  # a file has its command's name: the folder says it all
    assert {path.relative_to(repository).as_posix() for path in set(modules(package)) - commands} - drawn == set()


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_file_a_paper_names_exists(repository: Path, package: Path, name: str) -> None:
    text = (repository / name).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]+(?:\.(?:py|md|toml|txt)|/))`", text))
    assert named
    assert {path for path in named if not ((repository / path).exists() or (package / path).exists())} == set()


def test_the_architecture_is_short(repository: Path) -> None:
    assert len((repository / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < 150


def test_no_module_is_long_or_named_after_nothing(package: Path) -> None:
    for path in modules(package):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 420, f"{path} is two files"
        assert path.stem not in {"util", "utils", "common", "helper", "helpers", "base", "misc", "manager", "handler"}


def test_imports_go_in_one_direction(repository: Path) -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_below_the_command_line_prints(package: Path) -> None:
    talking = []
    for path in modules(package):
        if path.relative_to(package).parts[0] == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input"):
                talking.append(f"{path}:{node.lineno}")
    assert talking == []


def test_help_lists_the_commands_and_imports_nothing_slow(repository: Path) -> None:
    program = (
        "import atexit, runpy, sys\n"
        "sys.argv = ['movieplotgpt', '--help']\n"
        f"sys.path.insert(0, {str(repository / 'src')!r})\n"
        f"slow = set({SLOW_TO_IMPORT!r})\n"
        "atexit.register(lambda: print('imported:', *sorted(slow & set(sys.modules)), file=sys.stderr))\n"
        "runpy.run_module('movieplotgpt', run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].split() == ["imported:"]
    assert [command for command in COMMANDS if not re.search(rf"\b{command}\b", done.stdout)] == []
