"""``size = "auto"``: from the speed of a few training steps to the size, batch and regularisation of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from movieplotgpt.engine.model_config import matrix_parameters, parameters
from movieplotgpt.machine import keep_freed_memory
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.hardware import choose_hardware
from movieplotgpt.model.sizes import LADDER, SizeName, SizeSettings, training_flops_per_token
from movieplotgpt.text.pieces import overlap_for
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.run import RunConfig, TrainingSettings

TOKENS_PER_PARAMETER = 10.5  # seen in training, per weight of the matrices: nanochat's scaling runs
SEEN_OFTEN = 4  # epochs from which repeats count for less, and regularisation pays (arXiv 2305.16264)
MEMORISED_AFTER = 12  # epochs after which a small text is known by heart rather than learnt from
STEPS_WANTED = 1000  # fewer, larger steps learn less from the same tokens (results/LOG.md)
LARGEST_STEP, LARGEST_STEP_OF_A_GPU = 8192, 65_536  # tokens; a GPU needs many at once to be busy
COMPILING_PAYS_FROM = 3  # minutes: compiling for the first time takes up to one of them
COMPILED = 1.6  # how much faster a compiled step is than the timed ones (0.30 -> 0.55 TFLOP/s on two cores)
DIMENSIONS = ("n_layer", "n_embd", "n_head", "n_kv_head", "head_dim", "n_ff")  # set by hand, or by --from
TIMED_SIZE: SizeName = "small"
TIMED_TOKENS = 2048
TIMED_STEPS = 5  # of which one or two may be slow because of other processes


def training_speed(settings: TrainingSettings, context_length: int, size: SizeName | None = None) -> float:
    """Floating-point operations a second in training: the median of five steps after one to warm up, so that two slow ones do not count.

    In the precision and on the device of the run, not compiled; of a small model where no ``size`` is said.
    """
    hardware = choose_hardware(settings)
    if hardware.device.type == "cpu":
        keep_freed_memory()
    config = SizeSettings(size=size or TIMED_SIZE, context_length=context_length).model_config_for(4096)
    model = GPT(config).to(hardware.device)
    model.compute_dtype = hardware.dtype
    ids_BT = torch.zeros(
        max(1, TIMED_TOKENS // context_length), context_length, dtype=torch.long, device=hardware.device
    )
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        loss = model.loss(ids_BT, ids_BT)
        loss.backward()
        sum(float(weight.grad.sum()) for weight in model.parameters() if weight.grad is not None)  # waits for a GPU
        model.zero_grad()
        seconds.append(time.perf_counter() - began)
    return training_flops_per_token(config) * ids_BT.numel() / median(seconds[1:])


def settle_by_timing(
    config: RunConfig, corpus: PreparedCorpus, together: Callable[[float], float] = float
) -> tuple[RunConfig, tuple[str, ...]]:
    """``settle`` by timed steps; a smaller network than the timed one does less in a second, and is timed itself.

    A size that is set stays as it is. ``together``: what all workers do in a second, from what this one does.
    """
    if config.model.size != "auto":
        return config, ()
    sizes = list(LADDER)
    settled, reasons = settle(config, corpus, together(training_speed(config.training, config.model.context_length)))
    if settled.model.size in sizes[: sizes.index(TIMED_SIZE)]:
        speed = training_speed(config.training, config.model.context_length, settled.model.size)
        settled, reasons = settle(config, corpus, together(speed))
    return settled, reasons


def settle(config: RunConfig, corpus: PreparedCorpus, flops: float) -> tuple[RunConfig, tuple[str, ...]]:
    """Choose what a ``config`` of size "auto" leaves to us, and say why; whatever it sets itself stays.

    ``flops``: operations a second, as ``training_speed`` measures them.
    """
    chosen: dict[str, Any] = {}
    minutes = config.training.minutes
    if minutes is not None and minutes < COMPILING_PAYS_FROM:
        chosen["compile"] = "off"
    hardware = choose_hardware(config.training)
    if hardware.compile and "compile" not in chosen:
        flops *= COMPILED
    counts, vocab_size = corpus.manifest.splits["train"], corpus.tokenizer.vocab_size
    text_tokens = counts.body_tokens + counts.header_tokens
    epoch = about_an_epoch(text_tokens, counts.documents, config.model.context_length)
    size = _size(config, vocab_size, text_tokens, epoch, flops)
    model = config.model.model_copy(update={"size": size})
    tokens = _tokens(config, model, vocab_size, epoch, flops)
    epochs = tokens / epoch
    if config.training.steps is None:  # steps of another batch would be another number of tokens
        chosen["tokens_per_step"] = _tokens_per_step(tokens, model.context_length, hardware.device.type)
    if epochs > SEEN_OFTEN:
        chosen |= {"dropout": 0.2, "patience": 3, "evaluations": 10}
    chosen = {name: value for name, value in chosen.items() if name not in config.training.model_fields_set}
    training = config.training.model_copy(update=chosen)
    settled = config.model_copy(update={"model": model, "training": training})
    return settled, _reasons(settled, vocab_size, tokens, epochs, flops)


def about_an_epoch(text_tokens: float, documents: int, context_length: int) -> float:
    """Tokens that are read to read a text once, about: the windows of documents that do not fit one overlap."""
    if text_tokens <= documents * context_length:
        return text_tokens
    return text_tokens * context_length / (context_length - overlap_for(context_length))


def _size(config: RunConfig, vocab_size: int, text_tokens: int, epoch: float, flops: float) -> SizeName:
    """The size that comes nearest to the right number of tokens per weight, among those the text can feed."""
    models = {size: config.model.model_copy(update={"size": size}) for size in LADDER}
    networks = {size: model.model_config_for(vocab_size) for size, model in models.items()}

    def off(size: SizeName) -> float:
        per_weight = _tokens(config, models[size], vocab_size, epoch, flops) / matrix_parameters(networks[size])
        return max(per_weight / TOKENS_PER_PARAMETER, TOKENS_PER_PARAMETER / per_weight)

    fed = [size for size, network in networks.items() if parameters(network) <= 4 * text_tokens]
    return min(fed or [next(iter(LADDER))], key=off)


def _tokens(config: RunConfig, model: SizeSettings, vocab_size: int, epoch: float, flops: float) -> float:
    """Return how many tokens the run trains on."""
    training = config.training
    if training.epochs is not None:
        return training.epochs * epoch
    if training.steps is not None:
        return float(training.steps * training.tokens_per_step)
    seconds = 60 * (training.minutes or 0)
    return max(1.0, seconds * flops / training_flops_per_token(model.model_config_for(vocab_size)))


def _tokens_per_step(tokens: float, context_length: int, device: str) -> int:
    """A power of two that leaves enough steps, within what is known to train well."""
    least, most = max(2048, context_length), LARGEST_STEP_OF_A_GPU if device == "cuda" else LARGEST_STEP
    return int(max(least, min(most, 2 ** (int(tokens / STEPS_WANTED).bit_length() - 1))))


def _reasons(config: RunConfig, vocab_size: int, tokens: float, epochs: float, flops: float) -> tuple[str, ...]:
    model, training = config.model, config.training
    given = any(getattr(model, name) is not None for name in DIMENSIONS)
    network = "the network given" if given else f"size {model.size}"
    reasons = [
        f"{TIMED_STEPS} timed steps promise {flops / 1e12:.2g} TFLOP/s: {network} "
        f"({parameters(model.model_config_for(vocab_size)) / 1e6:.1f} M parameters) sees about {tokens / 1e6:,.1f} M "
        f"tokens, {epochs:,.1f} times the text, {training.tokens_per_step:,} a step"
    ]
    if epochs > MEMORISED_AFTER:
        reasons.append(
            f"about {epochs:,.0f} passes over the text fit the budget: a text this small will be memorised after about "
            f"{MEMORISED_AFTER}, so expect verbatim passages; training stops when unseen text gets no better"
        )
    if training.dropout:
        reasons.append(f"dropout {training.dropout:g}: the text is seen about {epochs:,.0f} times")
    return tuple(reasons)
