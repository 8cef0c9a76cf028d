"""The networks and optimizers of the benchmarks: ours, and those it is measured against.

A contender is made in a process of its own and runs one training step at a time (``step``): forward, backward, clipping,
optimizer; nobody waits for a GPU in it. The original's network is written from its description; nanoGPT's is imported
from a clone.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLIP = 1.0


@dataclass(frozen=True)
class Shape:
    """What is trained: a network's dimensions and a batch."""

    n_layer: int
    n_embd: int
    n_head: int  # of the peers
    context_length: int
    batch_size: int
    our_heads: int  # of 128 each, as wide together as the embedding
    our_ff: int
    vocab_size: int = 65

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.batch_size * self.context_length


SHAPES = {
    "tiny": Shape(2, 64, 2, 32, 4, our_heads=1, our_ff=128),
    "10M": Shape(6, 384, 6, 256, 64, our_heads=3, our_ff=1024),
    "original": Shape(8, 512, 8, 256, 128, our_heads=4, our_ff=1408),
    "original-cpu": Shape(4, 128, 4, 64, 12, our_heads=1, our_ff=384),
    "91M": Shape(12, 768, 12, 1024, 64, our_heads=6, our_ff=2048, vocab_size=8192),
}


@dataclass
class Contender:
    """A model, its optimizers and the function of a loss."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    loss: Callable[[Tensor, Tensor], Tensor]
    precision: str
    around: Callable[[], AbstractContextManager[Any]] = nullcontext

    def step(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """One training step; the loss in nats per token, which may be on its way yet."""
        with self.around():
            loss = self.loss(ids_BT, targets_BT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    @property
    def parameters(self) -> int:
        """All weights, tied ones once."""
        return sum(weight.numel() for weight in self.model.parameters())


def flops_per_token(shape: Shape, parameters: int) -> int:
    """Six per weight, and attention over half the square: as nanoGPT and PaLM count, the same for everybody."""
    return 6 * (parameters + shape.n_layer * shape.n_embd * shape.context_length)


def ours(shape: Shape, nanogpt: Path | None, device: str) -> Contender:
    """This project's, as ``movieplotgpt train`` runs it."""
    from movieplotgpt.engine.model_config import ModelConfig
    from movieplotgpt.machine import keep_freed_memory
    from movieplotgpt.model.gpt import GPT
    from movieplotgpt.model.hardware import choose_hardware
    from movieplotgpt.training.compiling import CompiledLoss
    from movieplotgpt.training.optimizers import MuonSettings
    from movieplotgpt.training.run import TrainingSettings

    hardware = choose_hardware(TrainingSettings.model_validate({"device": device}))
    if device == "cpu":
        keep_freed_memory()
    config = ModelConfig(
        vocab_size=-(-shape.vocab_size // 64) * 64,
        context_length=shape.context_length,
        n_layer=shape.n_layer,
        n_embd=shape.n_embd,
        n_head=shape.our_heads,
        n_kv_head=shape.our_heads,
        head_dim=shape.n_embd // shape.our_heads,
        n_ff=shape.our_ff,
    )
    model = GPT(config)
    model.initialize(0)
    model.to(device).train()
    model.compute_dtype = hardware.dtype
    loss = CompiledLoss(model) if hardware.compile else model.loss
    return Contender(model, MuonSettings().build(model), loss, str(hardware.dtype).removeprefix("torch."))


class Head(nn.Module):
    """One head of attention with projections of its own, as the tutorial builds it."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        size = shape.n_embd // shape.n_head
        self.query, self.key, self.value = (nn.Linear(shape.n_embd, size, bias=False) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("seen", torch.ones(shape.context_length, shape.context_length).tril().bool())

    def forward(self, x_BTC: Tensor) -> Tensor:
        time = x_BTC.shape[1]
        scores = self.query(x_BTC) @ self.key(x_BTC).mT / math.sqrt(x_BTC.shape[-1])
        weights = scores.masked_fill(~self.seen[:time, :time], -math.inf).softmax(-1)  # type: ignore[index]
        gathered: Tensor = self.dropout(weights) @ self.value(x_BTC)
        return gathered


class OriginalBlock(nn.Module):
    """Heads side by side, then a ReLU layer four times as wide."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        width = shape.n_embd
        self.heads = nn.ModuleList(Head(shape, dropout) for _ in range(shape.n_head))
        self.join = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.widen = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        normed = self.norm1(x_BTC)
        x_BTC = x_BTC + self.join(torch.cat([head(normed) for head in self.heads], dim=-1))
        widened: Tensor = self.widen(self.norm2(x_BTC))
        return x_BTC + widened


class OriginalNetwork(nn.Module):
    """The network of the original project: learned positions, LayerNorm, ReLU, dropout, a head of its own."""

    def __init__(self, shape: Shape, dropout: float = 0.2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.positions = nn.Embedding(shape.context_length, shape.n_embd)
        self.blocks = nn.Sequential(*(OriginalBlock(shape, dropout) for _ in range(shape.n_layer)))
        self.norm = nn.LayerNorm(shape.n_embd)
        self.head = nn.Linear(shape.n_embd, shape.vocab_size)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTC = self.tokens(ids_BT) + self.positions(torch.arange(ids_BT.shape[1], device=ids_BT.device))
        logits: Tensor = self.head(self.norm(self.blocks(x_BTC)))
        return logits

    def loss(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return F.cross_entropy(self(ids_BT).flatten(0, 1), targets_BT.flatten())


def original(shape: Shape, nanogpt: Path | None, device: str) -> Contender:
    """The original's network and its AdamW at 3e-4, in float32, not compiled."""
    torch.manual_seed(0)
    model = OriginalNetwork(shape).to(device)
    return Contender(model, [torch.optim.AdamW(model.parameters(), lr=3e-4)], model.loss, "float32")


def nanogpt(shape: Shape, clone: Path | None, device: str, *, patched: bool = False) -> Contender:
    """NanoGPT as it ships: on a GPU bfloat16 and compiled, on a CPU float32, eager, dropout 0.2.

    ``patched``: on a CPU as on a GPU, in bfloat16 where ours is.
    """
    from movieplotgpt.model.hardware import choose_hardware
    from movieplotgpt.training.run import TrainingSettings

    assert clone is not None
    patched = patched or device == "cuda"
    specification = importlib.util.spec_from_file_location("nanogpt_model", clone / "model.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    config = module.GPTConfig(
        block_size=shape.context_length,
        vocab_size=shape.vocab_size,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_embd=shape.n_embd,
        dropout=0.0 if patched else 0.2,
        bias=False,
    )
    torch.manual_seed(0)
    model = module.GPT(config).to(device)
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), device)
    called = torch.compile(model) if patched else model
    half = patched and choose_hardware(TrainingSettings.model_validate({"device": device})).dtype == torch.bfloat16
    around = (lambda: torch.autocast(device, torch.bfloat16)) if half else nullcontext
    precision = "bfloat16" if half else "float32"
    return Contender(model, [optimizer], lambda ids, targets: called(ids, targets)[1], precision, around)


def nanogpt_patched(shape: Shape, clone: Path | None, device: str) -> Contender:
    """NanoGPT at its best on a CPU."""
    return nanogpt(shape, clone, device, patched=True)


def transformers(shape: Shape, device: str, name: str, bfloat16: bool) -> Contender:
    """A class of transformers in a plain loop with AdamW."""
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    model: Any
    if name == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=shape.vocab_size,
                n_positions=shape.context_length,
                n_embd=shape.n_embd,
                n_layer=shape.n_layer,
                n_head=shape.n_head,
            )
        )
    else:
        model = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=shape.vocab_size,
                hidden_size=shape.n_embd,
                intermediate_size=shape.our_ff,
                num_hidden_layers=shape.n_layer,
                num_attention_heads=shape.our_heads,
                num_key_value_heads=shape.our_heads,
                head_dim=shape.n_embd // shape.our_heads,
                max_position_embeddings=shape.context_length,
                tie_word_embeddings=True,
            )
        )
    model.to(device).train()

    def loss(ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        logits: Tensor = model(input_ids=ids_BT, use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets_BT.flatten())

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    around = (lambda: torch.autocast(device, torch.bfloat16)) if bfloat16 else nullcontext
    return Contender(model, [optimizer], loss, "bfloat16" if bfloat16 else "float32", around)


def litgpt(shape: Shape, clone: Path | None, device: str) -> Contender:
    """Litgpt's GPT with a plain loop, where it is installed."""
    from litgpt import GPT, Config  # type: ignore[import-not-found]

    torch.manual_seed(0)
    config = Config(
        block_size=shape.context_length,
        vocab_size=shape.vocab_size,
        padded_vocab_size=shape.vocab_size,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_embd=shape.n_embd,
    )
    model = GPT(config).to(device)

    def loss(ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return F.cross_entropy(model(ids_BT).float().flatten(0, 1), targets_BT.flatten())

    around = lambda: torch.autocast(device, torch.bfloat16)  # noqa: E731
    return Contender(model, [torch.optim.AdamW(model.parameters(), lr=1e-3)], loss, "bfloat16", around)


CONTENDERS: dict[str, Callable[[Shape, Path | None, str], Contender]] = {
    "ours": ours,
    "original": original,
    "nanogpt": nanogpt,
    "nanogpt-patched": nanogpt_patched,
    "gpt2": lambda shape, _, device: transformers(shape, device, "gpt2", False),
    "gpt2-bfloat16": lambda shape, _, device: transformers(shape, device, "gpt2", True),
    "qwen3-bfloat16": lambda shape, _, device: transformers(shape, device, "qwen3", True),
    "litgpt": litgpt,
}


def missing(name: str, clone: Path | None) -> str | None:
    """Why a contender cannot take part, or None."""
    if name.startswith("nanogpt") and clone is None:
        return "no clone of nanoGPT was named (--nanogpt PATH)"
    package = {"gpt2": "transformers", "gpt2-bfloat16": "transformers", "qwen3-bfloat16": "transformers"}.get(
        name, name
    )
    if package in ("transformers", "litgpt") and importlib.util.find_spec(package) is None:
        return f"{package} is not installed"
    return None
