"""The steps of a training: batch, loss, gradients, optimizers. On a GPU one is handed over while the one before is computed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from movieplotgpt.errors import TrainingError
from movieplotgpt.machine import keep_freed_memory
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.hardware import choose_hardware, device_memory
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.compiled_code import distrust_cache
from movieplotgpt.training.compiling import CompiledLoss, reason_of
from movieplotgpt.training.distillation import DistilledLoss, load_teachers
from movieplotgpt.training.distributed import Workers
from movieplotgpt.training.events import Noted, Skipped, StepDone
from movieplotgpt.training.gradients import BatchGradients, Loss, parts_for
from movieplotgpt.training.minutes import Pace
from movieplotgpt.training.resuming import RunProgress
from movieplotgpt.training.run import RunConfig
from movieplotgpt.training.step_ahead import StepAhead
from movieplotgpt.training.windows import Batch, TrainingWindows

STEPS_AHEAD_OF_A_GPU = 1  # handed over while the one before is being worked on


@dataclass
class Launched:
    """A step handed to the device, its loss and gradient norm still on their way back."""

    step: int
    learning_rate: float
    epoch: int
    loss_and_norm: Tensor
    arrived: torch.cuda.Event | None


class Steps:
    """Take the steps of a run.

    Attributes:
        model: The network, on its device.
        hardware: Device, precision, and whether compiled code is used, which may end with a fault.
        optimizers: What changes the weights.
        progress: How far the run is; ``launch`` and ``settle`` read it and count skipped steps, the loop counts the others.
        pace: The plan: length, evaluations, learning rate.
        gradients: The gradients of a batch; ``gradients.parts`` grows where memory does not suffice.
        ahead: How many steps may be launched and not yet settled.
        notes: What is to be reported.
    """

    def __init__(self, config: RunConfig, corpus: PreparedCorpus, model: GPT, workers: Workers) -> None:
        self.config, self.settings, self.workers = config, config.training, workers
        self.hardware = choose_hardware(config.training)
        if self.hardware.device.type == "cpu":
            keep_freed_memory()
        self.model = model.to(self.hardware.device)
        self.model.dropout, self.model.compute_dtype = config.training.dropout, self.hardware.dtype
        self._teachers = load_teachers(config.distillation, self.model, corpus.tokenizer)
        self.optimizers = config.optimizer.build(self.model)
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        context_length = self.model.config.context_length
        self.windows = TrainingWindows.of(corpus, context_length, config.windows, config.training.seed)
        self.batch_size = config.training.batch_size(context_length)
        self.tokens_per_step = self.batch_size * context_length
        if self.batch_size < workers.world_size:
            raise TrainingError(
                f"{workers.world_size} workers share a batch of {self.batch_size} windows; start fewer, or raise "
                f"training.tokens_per_step to {workers.world_size * context_length} or more"
            )
        self._batches = StepAhead(self._batch)
        self.ahead = STEPS_AHEAD_OF_A_GPU if self.hardware.device.type == "cuda" else 0
        self._rows = -(-self.batch_size // workers.world_size)  # of each worker
        parts = parts_for(self.model, self._rows, device_memory(self.hardware.device), self.hardware.dtype.itemsize)
        self.gradients = BatchGradients(self.model, self.model.loss, workers, parts, self._recover)
        self.progress = RunProgress(
            total_steps=self._steps_asked(),
            compiled=self.hardware.compile,
            threads=torch.get_num_threads(),
            workers=workers.world_size,
            parts=parts,
        )
        self.notes: list[str] = []
        validation = corpus.manifest.splits["validation"]
        self.pace = Pace(
            config, workers, (validation.body_tokens + validation.header_tokens) * 1.3 / self.tokens_per_step / 3
        )

    def begin(self) -> None:
        """Compile the loss where that is chosen."""
        self.gradients.loss = self._loss()

    def resume(self, progress: RunProgress) -> None:
        """Continue from ``progress``, compiled or not as the run was before, unless that is asked for."""
        self.progress, self.gradients.parts = progress, progress.parts
        if self.settings.compile == "auto" and progress.compiled != self.hardware.compile:
            self.hardware = replace(self.hardware, compile=progress.compiled)

    def _loss(self) -> Loss:
        """The network's own, compiled where that is chosen, or the one that listens to teachers."""
        compiled = self.hardware.compile
        if self._teachers:
            return DistilledLoss(self.model, self._teachers, self.config.distillation, compiled=compiled)
        return CompiledLoss(self.model) if compiled else self.model.loss

    def launch(self, step: int) -> Launched:
        """Hand a step to the device. Where its gradient is NaN or infinite, the device leaves the weights alone."""
        self._seed(step)
        multiplier = self._set_rates(step)
        self.model.train()
        batch, epoch = self._batches(step, self._plain(step))
        if step + 1 != self.progress.total_steps:
            self._batches.start(step + 1, self._plain(step + 1))
        loss = self.gradients(batch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip or math.inf)
        unsound = (~torch.isfinite(loss + norm)).float()
        for optimizer in self.optimizers:
            optimizer.found_inf = unsound  # type: ignore[attr-defined]  # PyTorch's name for it, and Muon's
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        loss_and_norm, arrived = torch.stack((loss, norm)).to("cpu", non_blocking=True), None
        if loss.device.type == "cuda":
            arrived = torch.cuda.Event()
            arrived.record()
        rate = multiplier * self.config.optimizer.learning_rate
        return Launched(step, rate, epoch, loss_and_norm, arrived)

    def settle(self, launched: Launched, since: float) -> StepDone | Skipped:
        """Return the event of a finished step; its time counts from ``since``, when the step before ended."""
        if launched.arrived is not None:
            launched.arrived.synchronize()
        loss, norm = launched.loss_and_norm.tolist()
        seconds = time.monotonic() - since
        if not math.isfinite(loss + norm):
            self.progress.skipped += 1
            self.progress.skipped_in_a_row += 1
            return Skipped(launched.step, loss, self.progress.skipped, seconds)
        self.progress.skipped_in_a_row = 0
        total, rate = self.progress.total_steps, launched.learning_rate
        return StepDone(launched.step, total, loss, rate, norm, self.tokens_per_step, seconds, launched.epoch)

    def _recover(self, error: Exception) -> bool:
        """Return to the eager network where compiled code fails, and prepare to take the step again."""
        if not self.hardware.compile:
            return False
        distrust_cache()
        self.without_compiler(f"compiling failed, so this training runs without compiled code: {reason_of(error)}")
        self._seed(self.progress.step)
        return True

    def without_compiler(self, why: str) -> None:
        """Continue with the eager network; ``why`` is reported."""
        self.hardware = replace(self.hardware, compile=False)
        self.progress.compiled, self.progress.skipped_in_a_row = False, 0
        self.gradients.loss = self._loss()
        self.notes.append(why)

    def news(self) -> Iterator[Noted]:
        """Yield what was noted since the last call."""
        yield from map(Noted, self.notes)
        self.notes.clear()

    def _seed(self, step: int) -> None:
        """Dropout is a function of the run's seed, the step and the worker."""
        torch.manual_seed(self.settings.seed + step + 1_000_003 * self.workers.rank)

    def divided(self) -> Noted:
        """Return the note that a batch is taken in parts."""
        return Noted(
            f"{self._rows} windows at once do not fit into memory: each step takes them in {self.gradients.parts} parts "
            "and adds their gradients up"
        )

    def _plain(self, step: int) -> bool:
        total = self.progress.total_steps
        return total is not None and step >= total * (1 - self.settings.plain_tail)

    def _batch(self, step: int, plain: bool) -> tuple[Batch, int]:
        """This worker's rows of a step, and the epoch that the first is of."""
        batch = self.windows.batch(
            step, self.batch_size, plain=plain, rank=self.workers.rank, world_size=self.workers.world_size
        )
        return batch, self.windows.epoch_of(step * self.batch_size)[0]

    def _set_rates(self, step: int) -> float:
        multiplier = self.pace.multiplier(self.progress, step)
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * multiplier
        return multiplier

    def _steps_asked(self) -> int | None:
        if self.settings.steps:
            return self.settings.steps
        if self.settings.epochs:
            return max(1, round(self.settings.epochs * self.windows.rows_in_epoch(0) / self.batch_size))
        if self.settings.minutes is None:
            raise TrainingError("say how long to train: minutes=30, steps=1000 or epochs=4")
        return None
