"""``movieplotgpt weights``: the published models."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from movieplotgpt.engine.places import downloaded_folder, resolve, weights_folder
from movieplotgpt.errors import ConfigError

app = App(name="weights", help="Fetch published models, list them, check every file; publish your own.")


@app.command
def download(source: str, *, revision: str | None = None, to: Path | None = None) -> None:
    """Download a model once, to use it without a network. An interrupted download continues where it stopped.

    Example: movieplotgpt weights download plots-large; then `movieplotgpt generate --model plots-large`.

    Args:
        source: A published name, hf:owner/repo, or the https address of a folder with a manifest (and #NAME).
        revision: Of hf:owner/repo: a branch, tag or commit.
        to: The folder to put the model's folder into (default: the user's cache).
    """
    from movieplotgpt.progress_bars import progress_bar
    from movieplotgpt.sharing.downloading import download

    with progress_bar(source.rpartition("/")[2]) as show:
        model = download(source, revision=revision, to=to, progress=show)
    print(f"{model.folder}: {model.size / 1e6:.1f} MB, every file checked; use it as --model {model.name}")


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
    from movieplotgpt.sharing import publishing

    folder = weights or weights_folder()
    entry = publishing.publish(run, name, folder, evaluation=evaluation)
    print(f"{folder / name}: {entry.parameters / 1e6:.1f} M parameters, {entry.size / 1e6:.1f} MB")


@app.command
def refresh(*names: str, weights: Path | None = None, data: Path | None = None) -> None:
    """Write the JSON files and the usage of published models as this version does; their weights stay as they are.

    Args:
        names: The published models (default: all of them).
        weights: Another weights folder.
        data: The prepared corpus the models were trained on, to record the usual values of their hints.
    """
    from movieplotgpt.sharing import publishing
    from movieplotgpt.sharing.published import read_manifest

    folder = weights or weights_folder()
    for name in names or read_manifest(folder).models:
        entry = publishing.refresh(name, folder, data)
        print(f"{folder / name}: {len(entry.files)} files, {entry.size / 1e6:.1f} MB")


@app.command
def upload(model: str, repository: str, *, private: bool = False) -> None:
    """Put a published model on the Hugging Face hub: its weights, tokenizer and card (log in with `hf auth login` first).

    Example: movieplotgpt weights upload plots-bpe hf:you/plots-bpe

    Args:
        model: A published name or a folder that `weights publish` made.
        repository: hf:owner/repo; it is created if it does not exist.
        private: Nobody else may see a repository that is made.
    """
    from movieplotgpt.sharing.downloading import hub_repository
    from movieplotgpt.sharing.hub import upload_folder

    if (name := hub_repository(repository)) is None:
        raise ConfigError(f"{repository} names no repository; write hf:owner/repo")
    print(upload_folder(resolve(model), name, private=private))


@app.command
def index(data: Path, name: str, *, weights: Path | None = None) -> None:
    """Publish the index by which copies from a training text are found; it holds no passage of it.

    Args:
        data: The prepared corpus.
        name: The name of the text, as in plots; models find its index by themselves.
        weights: Another weights folder.
    """
    from movieplotgpt.sharing import publishing

    entry = publishing.publish_copies(data, name, weights or weights_folder())
    print(f"the index of {entry.works:,} works: {entry.size / 1e6:.1f} MB")


@app.command
def verify(*, weights: Path | None = None) -> None:
    """Compare every file of the published models that are here with the manifest.

    Args:
        weights: Another weights folder.
    """
    from movieplotgpt.sharing import published

    names = published.verify(weights or weights_folder())
    print(f"all files of {len(names)} models are as published: {', '.join(names) or 'none'}")


@app.command(name="list")
def show(*, weights: Path | None = None, json: bool = False) -> None:
    """List the published models.

    Args:
        weights: Another weights folder.
        json: Print the manifest.
    """
    from movieplotgpt.sharing import published

    manifest = published.read_manifest(weights or weights_folder())
    if json:
        print(manifest.model_dump_json(indent=2))
        return
    shelves = (weights or weights_folder(), downloaded_folder())
    for name, entry in manifest.models.items():
        bits = f"{entry.bits_per_character:.3f} bits per character" if entry.bits_per_character else "not measured"
        here = any((shelf / name / "config.json").is_file() for shelf in shelves)
        summary = entry.summary if here else f"{entry.summary} (not here: movieplotgpt weights download {name})"
        print(f"{name:<14} {entry.parameters / 1e6:6.1f} M  {entry.size / 1e6:6.1f} MB  {bits:<26} {summary}")
