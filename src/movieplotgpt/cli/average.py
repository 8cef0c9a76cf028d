"""``movieplotgpt average``: several models in, their mean out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def average(
    *models: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    weights: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (),
) -> None:
    """Average the weights of models that have a common beginning; others' mean writes noise.

    Args:
        models: Two or more published names, model folders or runs: checkpoints of one run, or fine-tunings of one model.
        out: The model folder to write: a new one.
        weights: How much each model counts, in their order (1 2 1); by default all alike.
    """
    from movieplotgpt.errors import ConfigError
    from movieplotgpt.model.averaging import average_checkpoints
    from movieplotgpt.model.checkpoints import save_checkpoint

    if out.is_file() or (out.is_dir() and any(out.iterdir())):  # before anything is loaded
        raise ConfigError(f"{out} exists already; name a new folder with --out")
    save_checkpoint(out, average_checkpoints(models, weights or None))
    print(f"{out}: the mean of {len(models)} models; score it with: movieplotgpt evaluate {out} --data FOLDER")
