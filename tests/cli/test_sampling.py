"""Each setting of the sampler is a flag, and those that are on or off have a negative."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from cyclopts import App, Parameter

from movieplotgpt.cli.sampling import SamplingFlags, given


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {}),
        (["--no-distinct-names"], {"distinct_names": False}),
        (["--distinct-names"], {"distinct_names": True}),
        (["--top-k", "5", "--stop", "-"], {"top_k": 5, "stop": ("-",)}),
        (["--stop", r"\n", "--stop", r"\n\n-\t"], {"stop": ("\n", "\n\n-\t")}),
        (["--banned", r"C:\\new", "--must-mention", r"\n"], {"banned": (r"C:\new",), "must_mention": (r"\n",)}),
    ],
)
def test_flags_become_settings(flags: list[str], expected: dict[str, Any]) -> None:
    app = App()

    @app.default
    def command(*, sampling: Annotated[SamplingFlags | None, Parameter(name="*")] = None) -> dict[str, Any]:
        return given(sampling)

    assert app(flags, result_action="return_value") == expected
