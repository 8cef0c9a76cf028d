"""What several commands are tested with."""

from __future__ import annotations

from pathlib import Path

import pytest

FILMS = """
[corpus]
kind = "table"
text = "Plot"

[format]
header = "The plot summary of the movie named '{Title}' is:"

[split]
kind = "group"
test = 0.2

[tokenizer]
kind = "byte"
"""


@pytest.fixture
def films_toml(tmp_path: Path) -> Path:
    """``films.toml``: settings for the invented films, byte by byte, a fifth of them in the test split."""
    path = tmp_path / "films.toml"
    path.write_text(FILMS, encoding="utf-8")
    return path
