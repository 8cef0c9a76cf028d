"""``movieplotgpt corpus``: fetch the public texts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts import App

app = App(name="corpus", help="Fetch the public texts the published models were trained on.")


@app.command
def download(
    name: Literal["movie-plots", "office"],
    *,
    out: Path = Path("data"),
    url: str | None = None,
) -> None:
    """Download a public corpus; an interrupted download continues where it stopped.

    Args:
        name: movie-plots (34,886 Wikipedia plots, 81 MB) or office (the lines of The Office, 5 MB).
        out: The folder to put the file in.
        url: Another address of the same file: a mirror.
    """
    from movieplotgpt.progress_bars import progress_bar
    from movieplotgpt.text.public_corpora import download_corpus

    with progress_bar(name) as show:
        path = download_corpus(name, out, url=url, progress=lambda done, total: show(done, total or 0))
    print(path)
