"""What README and docs tell a reader to type is accepted, and where they point there is something."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import movieplotgpt
from movieplotgpt.cli import app
from movieplotgpt.config import read_settings
from movieplotgpt.training.run import RunConfig

ROOT = Path(__file__).parent.parent
GENERATED = {ROOT / "docs" / "reference" / name for name in ("command-line.md", "settings.md")}  # see test_docs.py
GUIDES = [ROOT / "README.md", *sorted({*(ROOT / "docs").rglob("*.md")} - GENERATED)]
PAPERS = sorted({*ROOT.glob("*.md"), *GUIDES, *(ROOT / "results").glob("*.md"), *(ROOT / "weights").glob("**/*.md")})
SHELLS = ("console", "sh", "bash", "shell")


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, *languages: str) -> list[str]:
    """The fenced blocks of code in one of ``languages``."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", text_of(path), re.DOTALL | re.MULTILINE)
    return [code for language, code in found if language in languages]


def prose(path: Path) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(path), flags=re.DOTALL | re.MULTILINE)


def typed_lines(path: Path) -> Iterator[str]:
    """What is typed: the lines behind ``$`` of a console, every line of a script."""
    for block in blocks(path, *SHELLS):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        yield from prompted or (line for line in lines if line.strip())


def commands(line: str) -> Iterator[list[str]]:
    """The commands of a line, divided at ``&&``, ``|``, ``;`` and ``>``; comments left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    for token in lexer:
        if set(token) <= set("();<>|&"):
            yield command
            command = []
        else:
            command.append(token)
    yield command


def programs(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command typed as (program, arguments), its folder and assignments in front left out."""
    for line in typed_lines(path):
        for command in commands(line):
            while command and re.match(r"\w+=", command[0]):
                command = command[1:]
            if command:
                yield Path(command[0]).name, command[1:]


def ours(path: Path) -> Iterator[list[str]]:
    """The arguments of every call of our command, by whichever door."""
    for program, arguments in programs(path):
        if program == "movieplotgpt":
            yield arguments
        elif re.fullmatch(r"python3?(\.\d+)?", program) and arguments[:2] == ["-m", "movieplotgpt"]:
            yield arguments[2:]
        elif re.fullmatch(r"python3?(\.\d+)?", program) and arguments[:1] == ["generate.py"]:
            yield ["generate", *arguments[1:]]


COMMANDS = [(shown(path), arguments) for path in GUIDES for arguments in ours(path)]
CODE = [(shown(path), code) for path in PAPERS for code in blocks(path, "python")]
TOMLS = [(shown(path), code) for path in PAPERS for code in blocks(path, "toml")]
LINKS = sorted({(shown(path), link) for path in PAPERS for link in re.findall(r"\]\(([^)\s]+)\)", prose(path))})
LOCAL_LINKS = [(path, link) for path, link in LINKS if not re.match(r"[a-z]+:", link)]
INLINE = sorted({(shown(path), code) for path in PAPERS for code in re.findall(r"`([^`\n]+)`", prose(path))})


def test_the_guides_were_understood() -> None:
    assert {arguments[0] for _, arguments in COMMANDS} >= {"generate", "train", "prepare", "evaluate", "corpus"}
    assert len(COMMANDS) > 10 and len(CODE) > 2 and TOMLS and len(LOCAL_LINKS) > 3
    assert any(program == "make" for program, _ in programs(ROOT / "README.md"))
    assert list(commands('a "b c" x=1 && d -e | f > g # h')) == [["a", "b c", "x=1"], ["d", "-e"], ["f"], ["g"]]


@pytest.mark.parametrize(("path", "arguments"), COMMANDS)
def test_every_command_is_accepted(path: str, arguments: list[str]) -> None:
    app.parse_args(arguments, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(
    "arguments", [["generate", "--titel", "x"], ["trian", "a.txt"], ["train"], ["train", "a", "-x"]]
)
def test_a_wrong_command_would_be_found(arguments: list[str]) -> None:
    with pytest.raises(Exception, match=r"Unknown|requires"):
        app.parse_args(arguments, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(("path", "arguments"), COMMANDS)
def test_every_config_and_model_a_command_names_is_there(path: str, arguments: list[str]) -> None:
    published = json.loads(text_of(ROOT / "weights" / "manifest.json"))["models"]
    configs = [word for word in arguments if word.startswith("configs/")]
    models = [after for flag, after in pairwise(arguments) if flag in ("--model", "--from")]
    assert [config for config in configs if not (ROOT / config).is_file()] == []
    assert [model for model in models if "/" not in model and model not in published] == []


@pytest.mark.parametrize(("path", "code"), CODE)
def test_python_parses_and_imports_what_there_is(path: str, code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "movieplotgpt":
            assert [alias.name for alias in node.names if not hasattr(movieplotgpt, alias.name)] == []


@pytest.mark.parametrize(("path", "code"), TOMLS)
def test_a_toml_describes_a_run(path: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(code, encoding="utf-8")
    read_settings(RunConfig, tmp_path / "run.toml")


@pytest.mark.parametrize(("path", "link"), LOCAL_LINKS)
def test_every_link_points_to_a_file(path: str, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = (ROOT / path).parent / name if name else ROOT / path
    assert target.exists(), f"{path} points to {link}"
    if anchor:
        headings = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_make_target_there_is_talk_of_exists() -> None:
    makefile = set(re.findall(r"^([a-z][a-z-]*):", text_of(ROOT / "Makefile"), re.MULTILINE))
    calls = [(shown(path), arguments) for path in PAPERS for program, arguments in programs(path) if program == "make"]
    calls += [(path, code.split()[1:]) for path, code in INLINE if re.match(r"make\b", code)]
    named = {(path, word) for path, words in calls for word in words if re.fullmatch("[a-z][a-z-]*", word)}
    assert {"plot", "test", "check"} <= {word for _, word in named}
    assert {(path, word) for path, word in named if word not in makefile} == set()


def test_every_requirements_file_named_is_there() -> None:
    for path in PAPERS:
        for program, arguments in programs(path):
            if program == "pip" and "-r" in arguments:
                assert (ROOT / arguments[arguments.index("-r") + 1]).is_file()


@pytest.mark.parametrize("path", GUIDES, ids=shown)
def test_every_path_in_the_text_exists(path: Path) -> None:
    folders = ("src/", "configs/", "docs/", "weights/", "results/", "tests/", "outputs/")
    named = [code for where, code in INLINE if where == shown(path) and code.startswith(folders)]
    named = [code for code in named if re.fullmatch(r"[\w./-]+", code)]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_override_in_the_text_is_a_setting() -> None:
    guides = set(map(shown, GUIDES))
    words = [word for path, code in INLINE if path in guides for word in code.split()]
    overrides = [word for word in words if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+=[\w.]+", word)]
    assert overrides
    for override in overrides:
        read_settings(RunConfig, ROOT / "configs" / "plots-bpe.toml", [override])
