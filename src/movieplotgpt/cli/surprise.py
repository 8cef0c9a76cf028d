"""Plots in the terminal, each token in a colour by how unlikely it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from movieplotgpt.generation.plots import Plot

COLOURS = (  # up to so many bits of surprise
    (1.0, "default"),
    (3.0, "green"),
    (6.0, "yellow"),
    (9.0, "dark_orange"),
    (math.inf, "red"),
)


def show_surprise(plots: Sequence[Plot]) -> None:
    """Print the plots on stdout, and below them what the colours mean; plain where stdout is no terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as captured:
        for i, plot in enumerate(plots):
            shown = Text(plot.begun)
            left = len(plot.text) - len(plot.begun)  # text after a stop string is not shown
            for token in plot.probabilities:
                shown.append(token.text[:left], style=colour(token.logprob))
                left = max(0, left - len(token.text))
            console.print(shown, end="\n\n" if i + 1 < len(plots) else "\n")
    print(captured.get(), end="", flush=True)  # rich would end the process where the reader has gone
    legend = Text("surprise in bits: ", style="dim")
    lower = 0.0
    for upper, name in COLOURS:
        legend.append(f"{lower:g} to {upper:g}  " if math.isfinite(upper) else f"above {lower:g}", style=name)
        lower = upper
    Console(stderr=True, highlight=False).print(legend)


def colour(logprob: float) -> str:
    """The colour of a token with this log-probability (nats)."""
    bits = -logprob / math.log(2)
    return next(name for upper, name in COLOURS if bits <= upper)
