"""The gradients of one batch: in as many parts as memory asks for, added up over the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from movieplotgpt.errors import TrainingError
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.sizes import training_bytes
from movieplotgpt.training.distributed import Workers
from movieplotgpt.training.windows import NO_TARGET, Batch, Ids

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of ids, targets and starts, (B, T)
SHARE_OF_MEMORY = 0.8  # what a step may take of the machine's


class BatchGradients:
    """Leaves in the model the gradients of the mean loss over all targets of a batch, however it was divided.

    ``parts``: how many parts a batch is taken in, one after the other, gradients added up. It doubles when memory does
    not suffice. ``recover`` is called with any other error of the loss; when it returns True it has replaced ``loss``, and the
    batch is taken again.
    """

    def __init__(
        self,
        model: GPT,
        loss: Loss,
        workers: Workers,
        parts: int = 1,
        recover: Callable[[Exception], bool] = lambda error: False,
    ) -> None:
        self.model, self.loss, self.workers, self.parts, self.recover = model, loss, workers, parts, recover

    def __call__(self, batch: Batch) -> Tensor:
        """Return the mean loss in nats per target, over all workers, on the model's device: nobody waits for it here.

        ``batch``: the rows of this worker.

        Raises:
            TrainingError: a single window does not fit into memory.
        """
        device = next(self.model.parameters()).device
        inputs = [on_device(ids, device) for ids in (batch.ids_BT, batch.targets_BT, batch.starts_BT)]
        counts_B = (batch.targets_BT != NO_TARGET).sum(1)
        total = int(self.workers.sum(int(counts_B.sum()))[0])
        while True:
            nats = torch.zeros((), device=device)
            try:
                self._add_up(inputs, counts_B, total, nats)
                full = False
            except Exception as error:
                full = out_of_memory(error)
                if not full:
                    if not self.recover(error):
                        raise
                    self.model.zero_grad(set_to_none=True)
                    continue
            if not self.workers.any(full):
                break
            self.model.zero_grad(set_to_none=True)
            self._halve(len(counts_B))
        return self.workers.sum_gradients(self.model.parameters(), nats)

    def _add_up(self, inputs: Sequence[Tensor], counts_B: Ids, total: int, nats: Tensor) -> None:
        """Add up gradients, and the loss in ``nats``, part by part; each counts by its share of all targets."""
        size = -(-len(counts_B) // self.parts)
        for start in range(0, len(counts_B), size):
            share = int(counts_B[start : start + size].sum()) / total
            if share:
                ids_BT, targets_BT, starts_BT = (part[start : start + size] for part in inputs)
                loss = self.loss(ids_BT, targets_BT, starts_BT) * share
                loss.backward()
                nats += loss.detach()

    def _halve(self, rows: int) -> None:
        if self.parts >= rows:
            raise TrainingError(
                f"one window of {self.model.config.context_length} tokens does not fit into memory; choose a smaller "
                "model.size or model.context_length"
            )
        self.parts *= 2


def on_device(ids: Ids, device: torch.device) -> Tensor:
    """``ids`` where the model is; on their way to a GPU nobody waits for them."""
    tensor = torch.from_numpy(ids)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def parts_for(model: GPT, rows: int, memory: int, bytes_per_value: int) -> int:
    """In how many parts to take ``rows`` windows where ``memory`` bytes are there (0: not known)."""
    parts = 1
    while memory and parts < rows:
        tokens = -(-rows // parts) * model.config.context_length
        needed = training_bytes(model.config, tokens_per_step=tokens, bytes_per_value=bytes_per_value)
        if needed <= SHARE_OF_MEMORY * memory:
            break
        parts *= 2
    return parts


def out_of_memory(error: Exception) -> bool:
    """Return whether PyTorch found no memory: a GPU's error has a type, a CPU's only its words."""
    return isinstance(error, RuntimeError) and (
        isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
    )
