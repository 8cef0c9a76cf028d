"""More than one worker, as ``torchrun`` starts them: the one file that calls torch.distributed.

Every worker holds the whole model and takes its rows of each batch; gradients are added up before the step, so that all
make the same step. The first worker alone evaluates, writes and speaks; what it decides the others are told. Gradients
travel from where they are (a GPU's by NCCL), everything else by gloo, so that asking a question waits for no GPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from movieplotgpt.errors import TrainingError


class Workers:
    """This process among the others; alone, every question is answered without asking anyone."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size

    @property
    def first(self) -> bool:
        """Whether this is the worker that evaluates, writes and speaks."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Add each value up over the workers."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total)
        added: list[float] = total.tolist()
        return added

    def any(self, value: bool) -> bool:
        """Return whether it is true for one of the workers."""
        return self.sum(value)[0] > 0

    def sum_gradients(self, weights: Iterable[Tensor], loss: Tensor) -> Tensor:
        """Add the gradients of ``weights`` up over the workers, and the losses, which are returned: in one message."""
        if self.world_size == 1:
            return loss
        tensors = [weight.grad for weight in weights if weight.grad is not None]
        tensors.append(loss)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, added in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(added.view_as(tensor))
        return loss

    def meet(self) -> None:
        """Wait until all have come here."""
        self.sum(0.0)

    def from_first(self, value: float) -> float:
        """The first worker's value."""
        return value if self.world_size == 1 else self.sum(value if self.first else 0.0)[0]

    def leave(self, code: int) -> int:
        """Return ``code`` where this worker is alone; of several, end the process with it once all have come here.

        Without the interpreter's own way out: on it, threads of PyTorch's process group now and then abort.
        """
        if self.world_size > 1:
            self.meet()  # who leaves early breaks the connections of the others
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first worker through its block, then the others: they find on disk what it made."""
        if not self.first:
            self.meet()
        yield
        if self.first:
            self.meet()


@contextmanager
def join_workers() -> Iterator[Workers]:
    """Meet the other workers ``torchrun`` started, and take leave of them at the end.

    Raises:
        TrainingError: the environment names workers that cannot be met.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Workers()
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    except (ValueError, RuntimeError) as error:
        raise TrainingError(
            f"WORLD_SIZE is {world_size}, but the other workers cannot be met ({error}); start them with "
            "`torchrun --nproc-per-node N -m movieplotgpt train ...`, or unset WORLD_SIZE"
        ) from None
    try:
        yield Workers(distributed.get_rank(), world_size)
    finally:
        distributed.destroy_process_group()
