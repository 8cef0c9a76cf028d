"""The mean of several models' weights: one model, no larger and no slower than each of them.

It needs models whose weights lie close together, such as checkpoints of one run or fine-tunings of one model. The mean
of networks that began from different random weights is noise.

Source: Izmailov et al. 2018 (arXiv 1803.05407) for one run; Wortsman et al. 2022 (arXiv 2203.05482) for fine-tunings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint
from movieplotgpt.model.gpt import GPT

SHARED = ("corpus", "settings")  # facts that are the average's own where all models have the same


def average_checkpoints(
    checkpoints: Sequence[Checkpoint | str | Path], weights: Sequence[float] | None = None
) -> Checkpoint:
    """Return the mean of ``checkpoints``, each weighted by its share in ``weights`` (default: all alike).

    Names and paths are loaded in their turn, so that beside the sum (float64) one model at a time lies in memory. The
    weights of the mean are float32, and ``info["average"]`` names what it is the mean of.

    Raises:
        ConfigError: there are fewer than two models, or not one weight for each, or no positive sum of weights.
        CheckpointError: a model cannot be loaded, or is of another network, tokenizer or format than the first.
    """
    weights = [1.0] * len(checkpoints) if weights is None else weights
    total = _total(weights, len(checkpoints))
    average: Checkpoint | None = None
    names: list[str] = []
    infos: list[dict[str, Any]] = []
    for source, weight in zip(checkpoints, weights, strict=True):
        member = source if isinstance(source, Checkpoint) else load_checkpoint(source)
        names.append(str((member.folder or "a model") if isinstance(source, Checkpoint) else source))
        infos.append(member.info)
        average = average or _zero_like(member)
        _refuse_unlike(average, names[0], member, names[-1])
        _add(average.model, member.model, weight / total)
        del member  # before the next one is loaded
    assert average is not None
    average.model.float()
    average.info.update(_facts(names, weights, infos))
    return average


def _total(weights: Sequence[float], models: int) -> float:
    if models < 2:
        raise ConfigError(f"an average needs two models or more, not {models}; name them one after the other")
    if len(weights) != models:
        raise ConfigError(
            f"{models} models need {models} weights, not {len(weights)}; give one for each, in their order"
        )
    total = sum(weights)
    if not 0 < total < math.inf:
        shown = ", ".join(f"{weight:g}" for weight in weights)
        raise ConfigError(f"the weights {shown} sum to {total:g}; their sum has to be a positive number")
    return total


def _zero_like(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint of the same form without facts, all its weights zero, in float64 and on the CPU."""
    model = GPT(checkpoint.config).eval().double()
    for weight in model.parameters():
        weight.data.zero_()
    return replace(checkpoint, model=model, info={}, folder=None)


@torch.no_grad()
def _add(total: GPT, model: GPT, share: float) -> None:
    """Add ``share`` of the weights; a tied head is one parameter with the embedding and is added once."""
    for weight, value in zip(total.parameters(), model.parameters(), strict=True):
        weight.add_(value.to(weight), alpha=share)


def _facts(names: list[str], weights: Sequence[float], infos: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of the average; how long its models were trained is left to theirs."""
    members: list[dict[str, Any]] = []
    for name, weight, info in zip(names, weights, infos, strict=True):
        training = info.get("training", {})
        kept = {key: training[key] for key in ("step", "validation_bits_per_character") if key in training}
        members.append({"name": name, "weight": weight, **kept})
    first, *others = infos
    shared = {key: first[key] for key in SHARED if key in first and all(i.get(key) == first[key] for i in others)}
    return {**shared, "average": members}


def _refuse_unlike(ours: Checkpoint, our_name: str, theirs: Checkpoint, their_name: str) -> None:
    """Name both models and the first thing in which they differ."""
    for (what, here), (_, there) in zip(_form(ours), _form(theirs), strict=True):
        if here != there:
            raise CheckpointError(
                f"{our_name} and {their_name} cannot be averaged: {what} is {here!r} in the first and {there!r} in the "
                "second; give models of the same dimensions, tokenizer and format"
            )


def _form(checkpoint: Checkpoint) -> Iterator[tuple[str, object]]:
    """Return everything that models have to share, by name."""
    tokenizer = checkpoint.tokenizer
    merges = json.loads(tokenizer.to_json())["model"]["merges"]
    yield "tokenizer.kind", tokenizer.kind
    yield "tokenizer.vocab_size", tokenizer.vocab_size
    yield from ((f"model.{name}", value) for name, value in checkpoint.config)
    yield from ((f"token {token_id}", tokenizer.token_bytes(token_id)) for token_id in range(tokenizer.vocab_size))
    yield "the number of merges", len(merges)
    yield from ((f"merge {rank}", pair) for rank, pair in enumerate(merges))
    yield from ((f"format.{name}", value) for name, value in checkpoint.format)
    yield from ((f"cleaning.{name}", value) for name, value in checkpoint.cleaning)
