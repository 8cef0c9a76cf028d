"""The training loop: an iterator of events. It prints nothing; evaluation and sampling are passed in as functions."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from movieplotgpt.atomic import recover_folder, replacing_folder
from movieplotgpt.engine.model_config import parameters
from movieplotgpt.errors import TrainingError
from movieplotgpt.machine import keep_freed_memory
from movieplotgpt.model.checkpoints import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    trained_before,
    write_model_files,
)
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.hardware import choose_hardware, device_memory, device_name
from movieplotgpt.model.previous_token_head import add_previous_token_head
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.compiled_code import distrust_cache
from movieplotgpt.training.compiling import CompiledLoss, reason_of
from movieplotgpt.training.distillation import DistilledLoss, load_teachers
from movieplotgpt.training.distributed import Workers
from movieplotgpt.training.events import Evaluated, Event, Finished, Noted, Sampled, Saved, Skipped, Started, StepDone
from movieplotgpt.training.gradients import BatchGradients, Loss, parts_for
from movieplotgpt.training.minutes import Pace
from movieplotgpt.training.resuming import Progress, read_state, run_record, write_state
from movieplotgpt.training.run import RunConfig, RunFolder
from movieplotgpt.training.step_ahead import StepAhead
from movieplotgpt.training.windows import Batch, TrainingWindows

STEPS_AHEAD_OF_A_GPU = 1  # handed over while the one before is being worked on
MOST_SKIPPED = 10  # steps in a row whose loss is NaN or infinite, before a run gives up

Evaluate = Callable[[GPT], float]
Sample = Callable[[GPT], str]


def train(
    config: RunConfig,
    corpus: PreparedCorpus,
    folder: RunFolder,
    *,
    evaluate: Evaluate,
    sample: Sample | None = None,
    resume: bool = False,
    start_from: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
    workers: Workers | None = None,
) -> Iterator[Event]:
    """Train, and yield what happens. ``stop`` is called after each step; when it returns true, the run is saved and ends.

    Of several ``workers`` each goes through the same steps; only the first evaluates, samples and writes.

    Raises:
        TrainingError: the loss stays NaN or infinite, memory does not suffice, or the run to resume began on another
            corpus.
        CheckpointError: there is nothing to resume from.
        StorageError: the disk refused a checkpoint; the one before is untouched.
    """
    if resume:
        start_from = _last_checkpoint(corpus, folder)
    trainer = _Trainer(config, corpus, folder, evaluate, sample, start_from, workers or Workers())
    if resume and start_from:
        trainer.resume(start_from.info.get("training", {}))
    yield from trainer.run(stop)


@dataclass
class _Launched:
    """A step handed to the device, its loss and gradient norm still on their way back."""

    step: int
    learning_rate: float
    epoch: int
    loss_and_norm: Tensor
    arrived: torch.cuda.Event | None


@dataclass
class _Trainer:
    """One run: what the loop needs between steps."""

    config: RunConfig
    corpus: PreparedCorpus
    folder: RunFolder
    evaluate: Evaluate
    sample: Sample | None
    start_from: InitVar[Checkpoint | None]
    workers: Workers

    def __post_init__(self, start_from: Checkpoint | None) -> None:
        config, corpus, workers = self.config, self.corpus, self.workers
        self.settings = config.training
        self.hardware = choose_hardware(config.training)
        if self.hardware.device.type == "cpu":
            keep_freed_memory()
        self.model = self._model(start_from).to(self.hardware.device)
        self.before = trained_before(start_from)
        self.model.dropout, self.model.compute_dtype = config.training.dropout, self.hardware.dtype
        self.teachers = load_teachers(config.distillation, self.model, corpus.tokenizer)
        self.optimizers = config.optimizer.build(self.model)
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        context_length = self.model.config.context_length
        self.windows = TrainingWindows.of(corpus, context_length, config.windows, config.training.seed)
        self.batch_size = config.training.batch_size(context_length)
        self.tokens_per_step = self.batch_size * context_length
        if self.batch_size < workers.world_size:
            raise TrainingError(
                f"{workers.world_size} workers share a batch of {self.batch_size} windows; start fewer, or raise "
                f"training.tokens_per_step to {workers.world_size * context_length} or more"
            )
        self.batches = StepAhead(self._batch)
        self.steps_ahead = STEPS_AHEAD_OF_A_GPU if self.hardware.device.type == "cuda" else 0
        self.rows = -(-self.batch_size // workers.world_size)  # of each worker
        parts = parts_for(self.model, self.rows, device_memory(self.hardware.device), self.hardware.dtype.itemsize)
        self.gradients = BatchGradients(self.model, self.model.loss, workers, parts, self._recover)
        self.progress = Progress(
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

    def resume(self, known: dict[str, Any]) -> None:
        """Take optimizer and progress from the last checkpoint, whose weights the model has; ``known`` is its record.

        Raises:
            TrainingError: the precision would be another, and nobody asked for that.
        """
        del self.before[-1:]  # that is this run
        precision = str(self.hardware.dtype).removeprefix("torch.")
        then = known.get("precision", precision)
        if then != precision and self.settings.precision == "auto":
            raise TrainingError(
                f"the run in {self.folder.path} was trained in {then} so far, and here it would continue in {precision}; "
                f"keep it with training.precision={then}, or change it with training.precision={precision}"
            )
        device = device_name(self.hardware.device)
        self.progress = read_state(self.folder.last, self.model, self.optimizers)
        if self.settings.compile == "auto" and self.progress.compiled != self.hardware.compile:
            self.hardware = replace(self.hardware, compile=self.progress.compiled)
        self.gradients.parts = self.progress.parts
        for began, here in (
            (f"with {self.progress.threads} threads", f"with {torch.get_num_threads()} threads"),
            (f"with {self.progress.workers} workers", f"with {self.workers.world_size} workers"),
            (f"on {known.get('device', device)}", f"on {device}"),
        ):
            if began != here:
                self.notes.append(
                    f"the run began {began} and continues {here}: the weights will be as good, but not the same bits"
                )
        if then != precision:
            self.notes.append(
                f"the run began in {then} and continues in {precision}, as asked: its numbers are of both"
            )

    def run(self, stop: Callable[[], bool]) -> Iterator[Event]:
        """All steps that are left."""
        progress, began = self.progress, time.monotonic() - self.progress.seconds
        total, network, windows = progress.total_steps, self.model.config, self.windows.rows_in_epoch(0)
        yield Started(progress.step, total, parameters(network), self.tokens_per_step, windows, self.hardware)
        yield from self._news()
        if self.gradients.parts > 1:
            yield self._divided()
        self.gradients.loss = self._loss()
        if progress.step in self.pace.evaluation_steps(progress) and progress.evaluated < progress.step:
            yield from self._score(progress, began)  # the run was killed while scoring
        timed: list[float] = []
        interrupted = False
        launched: deque[_Launched] = deque()
        settled = time.monotonic()
        while not self._out_of_patience() and (progress.total_steps is None or progress.step < progress.total_steps):
            launched.append(self._launch(progress.step))
            progress.step += 1
            yield from self._news()
            if self.gradients.parts != progress.parts:
                progress.parts = self.gradients.parts
                yield self._divided()
            interrupted = self.workers.any(stop())
            look = self._looks(progress, interrupted)
            while len(launched) > (0 if look or progress.total_steps is None else self.steps_ahead):
                done, settled = self._settle(launched.popleft(), settled), time.monotonic()
                yield done
                progress.seconds = settled - began
                timed.append(done.seconds)
                if isinstance(done, Skipped) and progress.skipped_in_a_row >= MOST_SKIPPED:
                    if not self.hardware.compile:
                        yield from self._save_last()
                        raise TrainingError(self._why_given_up(done))
                    self._without_compiler(
                        f"the loss was NaN or infinite in {MOST_SKIPPED} steps in a row: continuing without compiled code, in case "
                        "the fault is the compiler's"
                    )
                    yield from self._news()
            if total := self.pace.other_total(progress, timed, look):
                if self.pace.change_total(progress, total):
                    yield Noted(f"{self.settings.minutes:g} minutes are {total:,} steps at this speed")
                look = self._looks(progress, interrupted)
            if look:
                yield from self._save_last()  # before it is scored, so that nothing can be lost
                if progress.step in self.pace.evaluation_steps(progress):
                    yield from self._score(progress, began)
                    progress.look_seconds = time.monotonic() - settled
                settled = time.monotonic()
            if interrupted:
                break
        progress.seconds = time.monotonic() - began
        reason = "interrupted" if interrupted else "no progress" if self._out_of_patience() else "complete"
        yield Finished(progress.step, reason, progress.seconds)

    def _loss(self) -> Loss:
        """The network's own, compiled where that is chosen, or the one that listens to teachers."""
        compiled = self.hardware.compile
        if self.teachers:
            return DistilledLoss(self.model, self.teachers, self.config.distillation, compiled=compiled)
        return CompiledLoss(self.model) if compiled else self.model.loss

    def _looks(self, progress: Progress, interrupted: bool) -> bool:
        """Return whether the run is saved after this step."""
        every = self.settings.checkpoint_every
        due = every is not None and progress.step % every == 0
        return interrupted or due or progress.step in self.pace.evaluation_steps(progress)

    def _score(self, progress: Progress, began: float) -> Iterator[Event]:
        """Evaluate, keep what is best, and sample."""
        yield self._evaluated()
        progress.seconds = time.monotonic() - began
        if progress.evaluations_since_best == 0 and self.workers.first:
            save_checkpoint(self.folder.best, self._checkpoint())
            yield Saved(progress.step, self.folder.best)
        yield from self._save_last()
        if self.sample and self.workers.first:
            yield Sampled(progress.step, self.sample(self.model))

    def _launch(self, step: int) -> _Launched:
        """Hand a step to the device. Where its gradient is NaN or infinite, the device leaves the weights alone."""
        self._seed(step)
        multiplier = self._set_rates(step)
        self.model.train()
        batch, epoch = self.batches(step, self._plain(step))
        if step + 1 != self.progress.total_steps:
            self.batches.start(step + 1, self._plain(step + 1))
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
        return _Launched(step, rate, epoch, loss_and_norm, arrived)

    def _settle(self, launched: _Launched, since: float) -> StepDone | Skipped:
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

    def _why_given_up(self, last: Skipped) -> str:
        return (
            f"the loss was NaN or infinite in {MOST_SKIPPED} steps in a row, the last of them step {last.step} ({last.loss}); "
            f"the weights before them are saved in {self.folder.last}: lower optimizer.learning_rate (it is "
            f"{self.config.optimizer.learning_rate:g}) and train with from_={self.folder.last}, or from the beginning"
        )

    def _recover(self, error: Exception) -> bool:
        """Return to the eager network where compiled code fails, and prepare to take the step again."""
        if not self.hardware.compile:
            return False
        distrust_cache()
        self._without_compiler(f"compiling failed, so this training runs without compiled code: {reason_of(error)}")
        self._seed(self.progress.step)
        return True

    def _without_compiler(self, why: str) -> None:
        self.hardware = replace(self.hardware, compile=False)
        self.progress.compiled, self.progress.skipped_in_a_row = False, 0
        self.gradients.loss = self._loss()
        self.notes.append(why)

    def _news(self) -> Iterator[Noted]:
        yield from map(Noted, self.notes)
        self.notes.clear()

    def _seed(self, step: int) -> None:
        """Dropout is a function of the run's seed, the step and the worker."""
        torch.manual_seed(self.settings.seed + step + 1_000_003 * self.workers.rank)

    def _divided(self) -> Noted:
        return Noted(
            f"{self.rows} windows at once do not fit into memory: each step takes them in {self.gradients.parts} parts "
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
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * multiplier
        return multiplier

    def _evaluated(self) -> Evaluated:
        began = time.monotonic()
        bits = self.workers.from_first(self.evaluate(self.model) if self.workers.first else 0.0)
        progress = self.progress
        better = progress.best_bits is None or bits < progress.best_bits
        if better:
            progress.best_bits = bits
        progress.evaluations_since_best = 0 if better else progress.evaluations_since_best + 1
        progress.curve = [*(point for point in progress.curve if point[0] < progress.step), [progress.step, bits]]
        progress.evaluated = progress.step
        return Evaluated(progress.step, bits, better, time.monotonic() - began)

    def _out_of_patience(self) -> bool:
        return self.settings.patience is not None and self.progress.evaluations_since_best >= self.settings.patience

    def _steps_asked(self) -> int | None:
        if self.settings.steps:
            return self.settings.steps
        if self.settings.epochs:
            return max(1, round(self.settings.epochs * self.windows.rows_in_epoch(0) / self.batch_size))
        if self.settings.minutes is None:
            raise TrainingError("say how long to train: minutes=30, steps=1000 or epochs=4")
        return None

    def _save_last(self) -> Iterator[Saved]:
        if self.workers.first:
            with replacing_folder(self.folder.last) as partial:
                write_model_files(partial, self._checkpoint())
                write_state(partial, self.progress, self.model, self.optimizers)
            yield Saved(self.progress.step, self.folder.last)

    def _checkpoint(self) -> Checkpoint:
        manifest = self.corpus.manifest
        info = run_record(
            self.config.model_dump(mode="json"),
            manifest,
            self.progress,
            self.tokens_per_step,
            self.before,
            device=device_name(self.hardware.device),
            precision=str(self.hardware.dtype).removeprefix("torch."),
        )
        return Checkpoint(
            self.model.config, self.corpus.tokenizer, self.corpus.format, manifest.cleaning, info, model=self.model
        )

    def _model(self, start_from: Checkpoint | None) -> GPT:
        if start_from is not None:
            return start_from.model
        model = GPT(self.config.model.model_config_for(self.corpus.tokenizer.vocab_size), seed=self.settings.seed)
        if self.settings.previous_token_head:
            add_previous_token_head(model)
        return model


def _last_checkpoint(corpus: PreparedCorpus, folder: RunFolder) -> Checkpoint:
    recover_folder(folder.last)
    checkpoint = load_checkpoint(folder.last)
    corpus_hash = corpus.manifest.corpus_hash
    if checkpoint.info.get("corpus", {}).get("hash") != corpus_hash:
        raise TrainingError(
            f"the run in {folder.path} began on another corpus than {corpus.folder} ({corpus_hash[:16]}); "
            "name the same text to resume it, or train in another folder with out=FOLDER"
        )
    return checkpoint
