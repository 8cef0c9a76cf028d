"""The shortest way: a text and a number of minutes -> a whole RunConfig, every choice with its reason."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from movieplotgpt.config import build_settings
from movieplotgpt.model.sizes import LADDER, SizeName, SizeSettings, parameters
from movieplotgpt.text.corpora import CorpusSettings, PlainCorpus, TableCorpus, read_documents
from movieplotgpt.text.formatting import DocumentFormat
from movieplotgpt.training.hardware import choose_hardware
from movieplotgpt.training.run import RunConfig, TrainingSettings

MEMORISED_AFTER = 12  # epochs after which a small text is known by heart rather than learnt from
COMPILING_PAYS_FROM = 3  # minutes: compiling takes up to one of them
TOKENS_PER_PARAMETER = 10.5  # compute-optimal ratio of nanochat's scaling runs, embeddings left out


@dataclass(frozen=True)
class Suggestion:
    """Settings for a text on this machine, and one sentence for each choice."""

    config: RunConfig
    reasons: tuple[str, ...]


def suggest(
    source: Path, *, minutes: float, title_column: str | None = None, text_column: str | None = None
) -> Suggestion:
    """Pick tokenizer, size, batch and schedule for ``source``.

    Raises:
        DataError: the text cannot be read.
    """
    layout = DocumentFormat(header=f"{title_column}: {{{title_column}}}" if title_column else "")
    corpus: CorpusSettings = TableCorpus(text=text_column) if text_column else PlainCorpus()
    documents = read_documents(corpus, layout, source).documents
    characters = sum(len(document.body) for document in documents)
    tokenizer, per_token = _tokenizer(characters)
    flops = matmul_flops() * 0.5 * minutes * 60
    tokens = max(1.0, 0.9 * characters / per_token)
    size = _size(flops, tokens)
    context_length = _context_length(tokens, characters / len(documents) / per_token)
    epochs = _epochs(size, context_length, flops, tokens)
    dropout = 0.2 if epochs > 4 else 0.0
    values: dict[str, Any] = {
        "corpus": corpus.model_dump(),
        "format": layout.model_dump(),
        "tokenizer": tokenizer,
        "model": {"size": size, "context_length": context_length},
        "training": {
            "minutes": minutes,
            "tokens_per_step": int(min(8192, max(4 * context_length, 2 ** int(tokens / 16).bit_length()))),
            "dropout": dropout,
            "patience": 3 if epochs > 4 else None,
            "evaluations": 10,
            "compile": "auto" if minutes >= COMPILING_PAYS_FROM else "off",
        },
    }
    return Suggestion(
        build_settings(RunConfig, values), _reasons(characters, tokenizer, size, context_length, epochs, dropout)
    )


def matmul_flops(seconds: float = 0.3) -> float:
    """Operations per second of a small model's matrix product, on the device and in the precision a run would use."""
    hardware = choose_hardware(TrainingSettings())
    left, right = (
        torch.randn(shape, device=hardware.device, dtype=hardware.dtype) for shape in ((2048, 384), (384, 1024))
    )
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds or done < 3:
        (left @ right).sum().item()
        done += 1
    return 2.0 * done * 2048 * 384 * 1024 / (time.perf_counter() - began)


def _tokenizer(characters: int) -> tuple[dict[str, Any], float]:
    """Settings, and about how many characters one token holds (English prose)."""
    for least, vocab_size, per_token in ((30_000_000, 4096, 3.5), (5_000_000, 2048, 3.0), (1_000_000, 1024, 2.6)):
        if characters >= least:
            return {"kind": "bpe", "vocab_size": vocab_size}, per_token
    return {"kind": "char"}, 1.0


def _size(flops: float, tokens: float) -> SizeName:
    """The largest size that the budget can train well and the text can feed."""
    fitting: SizeName = "tiny"
    for size in LADDER:
        n = parameters(SizeSettings(size=size).model_config_for(1024))
        enough_compute = 6 * n * n * TOKENS_PER_PARAMETER <= flops
        if enough_compute and n <= 4 * tokens:
            fitting = size
    return fitting


def _context_length(tokens: float, per_document: float) -> int:
    wanted = 512 if per_document > 200 else 256
    while wanted > 32 and tokens < 8 * wanted:
        wanted //= 2
    return wanted


def _epochs(size: SizeName, context_length: int, flops: float, tokens: float) -> float:
    n = parameters(SizeSettings(size=size, context_length=context_length).model_config_for(1024))
    return flops / (6 * n * tokens)


def _reasons(
    characters: int, tokenizer: dict[str, Any], size: str, context_length: int, epochs: float, dropout: float
) -> tuple[str, ...]:
    pieces = f"BPE with {tokenizer['vocab_size']:,} tokens" if tokenizer["kind"] == "bpe" else "single characters"
    reasons = [
        f"{characters:,} characters of text: {pieces}",
        f"size {size}, context {context_length} tokens: what this text and this budget can train",
    ]
    if epochs > MEMORISED_AFTER:
        reasons.append(
            f"about {epochs:,.0f} passes over the text fit the budget: a text this small will be memorised after about "
            f"{MEMORISED_AFTER}, so expect verbatim passages; training stops when unseen text gets no better"
        )
    if dropout:
        reasons.append(f"dropout {dropout}: the text is seen about {epochs:,.0f} times")
    return tuple(reasons)
