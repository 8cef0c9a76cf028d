"""``movieplotgpt weights``: the published models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

app = App(name="weights", help="Publish models, list them, check every file.")


@app.command
def publish(run: str, name: str, *, evaluation: Path | None = None, weights: Path | None = None) -> None:
    """Write a run's best checkpoint into the weights folder, in bfloat16 and with its model card.

    Example: movieplotgpt weights publish runs/plots-bpe plots-bpe; then `movieplotgpt evaluate plots-bpe --out FILE`,
    and once more, of the published folder, with --evaluation FILE: the numbers are then of the rounded weights.

    Args:
        run: A run, a model folder or a published name.
        name: The name it is published under; cards.toml in the weights folder has to name it.
        evaluation: What `movieplotgpt evaluate ... --out` wrote of these weights.
        weights: Another weights folder.
    """
    from movieplotgpt.model.checkpoints import weights_folder
    from movieplotgpt.sharing import publishing

    folder = weights or weights_folder()
    entry = publishing.publish(run, name, folder, evaluation=evaluation)
    print(f"{folder / name}: {entry.parameters / 1e6:.1f} M parameters, {entry.size / 1e6:.1f} MB")


@app.command
def index(data: Path, name: str, *, weights: Path | None = None) -> None:
    """Publish the index by which copies from a training text are found; it holds no passage of it.

    Args:
        data: The prepared corpus.
        name: The name of the text, as in plots; models find its index by themselves.
        weights: Another weights folder.
    """
    from movieplotgpt.model.checkpoints import weights_folder
    from movieplotgpt.sharing import publishing

    entry = publishing.publish_copies(data, name, weights or weights_folder())
    print(f"the index of {entry.works:,} works: {entry.size / 1e6:.1f} MB")


@app.command
def verify(*, weights: Path | None = None) -> None:
    """Compare every published file with the manifest.

    Args:
        weights: Another weights folder.
    """
    from movieplotgpt.model.checkpoints import weights_folder
    from movieplotgpt.sharing import publishing

    names = publishing.verify(weights or weights_folder())
    print(f"all files of {len(names)} models are as published: {', '.join(names) or 'none'}")


@app.command(name="list")
def show(*, weights: Path | None = None, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """List the published models.

    Args:
        weights: Another weights folder.
        json: Print the manifest.
    """
    from movieplotgpt.model.checkpoints import weights_folder
    from movieplotgpt.sharing import publishing

    manifest = publishing.read_manifest(weights or weights_folder())
    if json:
        print(manifest.model_dump_json(indent=2))
        return
    for name, entry in manifest.models.items():
        bits = f"{entry.bits_per_character:.3f} bits per character" if entry.bits_per_character else "not measured"
        print(f"{name:<14} {entry.parameters / 1e6:6.1f} M  {entry.size / 1e6:6.1f} MB  {bits:<26} {entry.summary}")
