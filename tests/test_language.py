"""Plain technical English: what reads like a translation stays out of code and documents."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PHRASES = {  # what not to write, and what to write
    r"\bbegin of\b": "beginning of, start of",
    r"\bbehind (the|its|either|nothing|each) \w": "after",
    r"\b(go|goes|gone|going) on (with|from|exactly|where|there|in|differently)\b": "continue, resume",
    r"(?<!there )\bis no (number|TOML|table|prepared|evaluation|study|model|folder|file|branch|token|multiple|address|byte)\b": "is not a",
    r"\b(that|which|words|texts|it) (is|are) none\b": "is not, are not",
    r"\bword for word\b(?! in|,)": "verbatim",
    r"\bwhence\b": "where ... from",
    r"\bstands? (in|at|behind|before|beside|around) (the|a|its|it|them)\b": "is in, comes before, follows",
    r"\bof (its|their) own accord\b": "by itself",
    r"\bthe loss is no\b": "the loss is NaN or infinite",
}
NO_FIRST_WORDS = {"What", "Whether", "Of", "That", "How", "Which", "Where", "Until"}  # of a function's docstring
NOT_YET: frozenset[str] = frozenset()  # files that are not rewritten yet; one that has become clean is to be taken off


def files() -> Iterator[Path]:
    """Yield code and documents; the lab log and the changelog are history."""
    for folder in ("src", "examples", "configs"):
        yield from sorted(
            path for path in (REPOSITORY / folder).rglob("*") if path.suffix in (".py", ".toml", ".js", ".html", ".css")
        )
    yield from sorted(path for path in (REPOSITORY / "docs").rglob("*.md"))
    yield from (REPOSITORY / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"))


def faults(path: Path) -> Iterator[str]:
    """Yield what reads like a translation, with its line."""
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        for phrase, better in PHRASES.items():
            if found := re.search(phrase, line):
                yield f"{number}: {found[0]!r}; write {better}"
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_property(node):
                first = (ast.get_docstring(node) or "").partition(" ")[0]
                if first in NO_FIRST_WORDS:
                    yield f"{node.lineno}: the docstring of {node.name} begins with {first}; begin with a verb: Return, Yield"


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function is read like an attribute."""
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


@pytest.mark.parametrize("path", list(files()), ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_the_language_is_plain(path: Path) -> None:
    found, name = list(faults(path)), path.relative_to(REPOSITORY).as_posix()
    if name in NOT_YET:
        assert found, f"{name} is clean: take it off the list"
    else:
        assert not found, f"{name}:\n" + "\n".join(found)


def test_faults_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text('def begin() -> None:\n    """What the begin of a plot is."""\n', encoding="utf-8")
    assert [fault.partition(":")[0] for fault in faults(path)] == ["2", "1"]


def test_the_list_names_files() -> None:
    assert all((REPOSITORY / name).exists() for name in NOT_YET)
