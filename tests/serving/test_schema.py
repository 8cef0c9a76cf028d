"""The OpenAPI document is kept: schemathesis sends what it allows and what it forbids."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from movieplotgpt.generation.writing import Writing

CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "429"]  # what a model does not know, the document does not say: a hint, an id
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "404", "405", "413"]  # a body may be too long as well
[[operations]]
include-method = "POST"
checks.negative_data_rejection.enabled = false  # bodies are read leniently: more is accepted than the document has
"""


@pytest.mark.slow
def test_the_document_is_kept(serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = Writing.__init__

    def short(self: Writing, *arguments: Any, **settings: Any) -> None:
        begun(self, *arguments, **settings)
        self.max_tokens = min(self.max_tokens, 3)

    monkeypatch.setattr(Writing, "__init__", short)
    (tmp_path / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    address = serve(api_key="secret")
    command = [str(Path(sys.executable).with_name("st")), "run", f"{address}/openapi.json"]
    how = ["--header", "Authorization: Bearer secret", "--max-examples", "20", "--seed", "1", "--request-timeout", "60"]
    done = subprocess.run([*command, *how, "--no-color"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[:6000]
    assert "Selected: 11/11" in done.stdout and "Tested: 11" in done.stdout
