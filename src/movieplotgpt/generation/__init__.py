"""From a title to a plot; each public name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from movieplotgpt.generation.generator import Plot, PlotGenerator, PlotStream
    from movieplotgpt.generation.sampling import SamplingConfig

_HOMES = {
    "Plot": "generator",
    "PlotGenerator": "generator",
    "PlotStream": "generator",
    "SamplingConfig": "sampling",
}

__all__ = ["Plot", "PlotGenerator", "PlotStream", "SamplingConfig"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
