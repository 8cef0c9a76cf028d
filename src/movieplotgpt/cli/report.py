"""``movieplotgpt report``: RESULTS.md and a page, made of the evaluations and studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(
    *,
    results: Path = Path("results"),
    figure: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
) -> None:
    """Write RESULTS.md and results.html of the evaluations in results/runs and the studies in results/studies.

    Args:
        results: The folder that holds runs/ and studies/, and gets RESULTS.md, results.html and figures/.
        figure: NAME=RUN: also draw the loss of the folder RUN as the figure of NAME.
    """
    from movieplotgpt.errors import ConfigError
    from movieplotgpt.report.results import write_figure, write_results

    for pair in figure:
        name, equals, run = pair.partition("=")
        if not (name and equals and run):
            raise ConfigError(f"--figure {pair!r} is not of the form NAME=RUN, as in plots-bpe=runs/plots-bpe")
        print(write_figure(results, name, Path(run)))
    for path in write_results(results):
        print(path)
