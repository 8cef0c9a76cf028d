"""Optimizers: settings and how to build each; a choice is a union told apart by ``kind``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from movieplotgpt.config import Settings
from movieplotgpt.model.gpt import GPT


class AdamWSettings(Settings):
    """AdamW for every weight: the control for every comparison."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0, description="The highest learning rate.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the mean of gradients.")
    beta2: float = Field(0.95, ge=0, lt=1, description="Decay of the mean of squared gradients.")
    weight_decay: float = Field(0.1, ge=0, description="Weight decay of matrices; norms and embeddings have none.")

    def build(self, model: GPT) -> list[torch.optim.Optimizer]:
        """One optimizer with two groups: matrices with weight decay, the rest without."""
        matrices, rest = _divided(model)
        groups = [{"params": matrices, "weight_decay": self.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        return [_adamw(groups, self.learning_rate, (self.beta1, self.beta2))]


class MuonSettings(Settings):
    """Muon for the matrices inside the blocks, AdamW for embeddings, head and norms."""

    kind: Literal["muon"] = "muon"
    learning_rate: float = Field(0.02, gt=0, description="The highest learning rate of the matrices.")
    momentum: float = Field(0.95, ge=0, lt=1, description="Muon's momentum.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of the matrices, times their learning rate.")
    row_beta: float | None = Field(None, ge=0, lt=1, description="Decay of a second moment for each row (NorMuon).")
    adamw_learning_rate: float = Field(
        0.01, gt=0, description="The highest learning rate of embeddings, head and norms."
    )
    adamw_weight_decay: float = Field(0.0, ge=0, description="Weight decay of embeddings and head.")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the mean of gradients.")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's decay of the mean of squared gradients.")

    def build(self, model: GPT) -> list[torch.optim.Optimizer]:
        """Two optimizers, Muon first."""
        matrices, rest = _divided(model)
        muon = Muon(matrices, self.learning_rate, self.momentum, self.weight_decay, model.compute_dtype, self.row_beta)
        groups = [{"params": rest, "weight_decay": 0.0}]
        if self.adamw_weight_decay:
            embeddings = [weight for weight in rest if weight.ndim > 1]
            norms = [weight for weight in rest if weight.ndim == 1]
            groups = [
                {"params": embeddings, "weight_decay": self.adamw_weight_decay},
                {"params": norms, "weight_decay": 0.0},
            ]
        return [muon, _adamw(groups, self.adamw_learning_rate, (self.beta1, self.beta2))]


OptimizerSettings = Annotated[MuonSettings | AdamWSettings, Field(discriminator="kind")]


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest orthogonal matrix as the update.

    Matrices of one shape are orthogonalised together, in the precision the hardware multiplies fastest.
    ``torch.optim.Muon`` goes one by one and always in bfloat16, which a CPU without bfloat16 units emulates (numbers
    in results/LOG.md).

    With ``row_beta`` each row of an update is divided by the root of a running mean of its squares, the norm of the whole
    kept: rows that always move much move less.

    Source: Keller Jordan, https://kellerjordan.github.io/posts/muon/; NorMuon (arXiv 2510.05491).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype,
        row_beta: float | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype, self.row_beta = dtype, row_beta

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; where ``found_inf`` is 1, none."""
        assert closure is None
        unsound: Tensor | None = getattr(self, "found_inf", None)
        if unsound is not None and unsound.device.type == "cpu":
            if unsound:
                return
            unsound = None
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for weights in alike.values():
                self._step_alike(weights, group, unsound)

    def _step_alike(self, weights: list[Tensor], group: dict[str, Any], unsound: Tensor | None) -> None:
        """``unsound``: whether the gradients are NaN or infinite, on a GPU, where it would take time to ask."""
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["momentum"] for weight in weights]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        kept: Tensor | float = 1.0
        if unsound is not None:
            kept = 1 - unsound
            gradients = [torch.where(unsound > 0, m, g) for m, g in zip(momenta, gradients, strict=True)]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov's look ahead
        rows, columns = weights[0].shape
        steps_NRC = orthogonalize(torch.stack(updates), self.dtype).to(weights[0].dtype)
        if self.row_beta is not None:
            steps_NRC = self._row_normalized(steps_NRC, weights, kept)
        steps_NRC.mul_(-group["lr"] * max(1.0, rows / columns) ** 0.5 * kept)
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"] * kept)
        torch._foreach_add_(weights, steps_NRC.unbind())

    def _row_normalized(self, steps_NRC: Tensor, weights: list[Tensor], kept: Tensor | float) -> Tensor:
        """Divide each row by the root of the running mean of its squares; the norm of each matrix stays."""
        assert self.row_beta is not None
        for weight, squares in zip(weights, steps_NRC.square().mean(-1), strict=True):
            state = self.state[weight]
            if "row_squares" not in state:
                state["row_squares"] = squares.clone()
            state["row_squares"].lerp_(squares, (1 - self.row_beta) * kept)
        means_NR1 = torch.stack([self.state[weight]["row_squares"] for weight in weights])[..., None]
        scaled_NRC = steps_NRC / means_NR1.sqrt().clamp(min=1e-8)
        norms_N11, scaled_norms_N11 = (each.norm(dim=(-2, -1), keepdim=True) for each in (steps_NRC, scaled_NRC))
        return scaled_NRC.mul_(norms_N11 / scaled_norms_N11.clamp(min=1e-8))


def orthogonalize(matrices_NRC: Tensor, dtype: torch.dtype, iterations: int = 5) -> Tensor:
    """Bring all singular values of each of N matrices near one.

    Source: the quintic Newton-Schulz iteration of Muon, its coefficients included.
    """
    x = matrices_NRC.to(dtype)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(iterations):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, polynomial, x, beta=3.4445)
    return x.mT if tall else x


def _divided(model: GPT) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The matrices inside the blocks, and the rest."""
    matrices = [weight for _, weight in model.matrices()]
    chosen = set(map(id, matrices))
    return matrices, [weight for weight in model.parameters() if id(weight) not in chosen]


def _adamw(groups: list[dict[str, Any]], learning_rate: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=1e-10, fused=True)
