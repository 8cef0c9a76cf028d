"""``movieplotgpt import``: a Qwen3 that transformers saved in, a checkpoint of ours out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def import_model(
    source: str,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    header: str | None = None,
    end: str | None = None,
    context_length: int | None = None,
    revision: str | None = None,
) -> None:
    """Make a checkpoint of a Qwen3 that others trained or saved, weight for weight; fine-tune it with train --from.

    Args:
        source: A model folder that transformers has written, or hf:owner/repo, which is fetched once.
        out: The model folder to write: a new one.
        header: The sentence before a text, with {Title} where its title goes (default: what the folder keeps of a model
            that movieplotgpt wrote; otherwise texts have no titles).
        end: The special token between texts (default: that of movieplotgpt's tokenizers, <|endoftext|>, or what ends a
            sequence).
        context_length: How many tokens it reads at once (default: 1,024, or what the model can).
        revision: Of hf:owner/repo: a branch, tag or commit.
    """
    from movieplotgpt.engine.model_config import parameters
    from movieplotgpt.engine.places import HUB
    from movieplotgpt.errors import ConfigError
    from movieplotgpt.model.checkpoints import save_checkpoint
    from movieplotgpt.model.sizes import training_bytes
    from movieplotgpt.progress_bars import progress_bar
    from movieplotgpt.sharing.downloading import download_original
    from movieplotgpt.sharing.importing import import_model

    if out.is_file() or (out.is_dir() and any(out.iterdir())):  # before anything is fetched
        raise ConfigError(f"{out} exists already; name a new folder with --out")
    if source.startswith(HUB):
        with progress_bar(source.rpartition("/")[2]) as show:
            folder = download_original(source, revision=revision, progress=show)
    elif revision:
        raise ConfigError(f"--revision {revision} is for {HUB}owner/repo; leave it out for {source}")
    else:
        folder = Path(source)
    checkpoint, dtype = import_model(folder, header=header, end=end, context_length=context_length, origin=source)
    save_checkpoint(out, checkpoint, dtype=dtype)
    config = checkpoint.config
    memory = training_bytes(config, tokens_per_step=config.context_length) / 1e9
    print(
        f"{out}: {parameters(config) / 1e6:.1f} M parameters, {config.context_length:,} tokens at once; fine-tuning takes "
        f"about {memory:.1f} GB: movieplotgpt train TEXT --from {out}"
    )
