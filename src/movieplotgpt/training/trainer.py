"""The training loop: an iterator of events. It prints nothing; evaluation and sampling are passed in as functions."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass

import torch

from movieplotgpt.atomic import recover_folder, replacing_folder
from movieplotgpt.engine.model_config import parameters
from movieplotgpt.engine.model_record import TrainingRecord
from movieplotgpt.errors import TrainingError
from movieplotgpt.model.checkpoints import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    trained_before,
    write_model_files,
)
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.hardware import device_name
from movieplotgpt.model.previous_token_head import add_previous_token_head
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.distributed import Workers
from movieplotgpt.training.events import Evaluated, Event, Finished, Noted, Sampled, Saved, Skipped, Started
from movieplotgpt.training.resuming import RunProgress, read_state, run_record, write_state
from movieplotgpt.training.run import RunConfig, RunFolder
from movieplotgpt.training.steps import Launched, Steps

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
        trainer.resume(start_from.record.training)
    yield from trainer.run(stop)


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
        self.settings = self.config.training
        self.before = trained_before(start_from)
        self.steps = Steps(self.config, self.corpus, self._model(start_from), self.workers)
        self.model, self.pace = self.steps.model, self.steps.pace

    @property
    def progress(self) -> RunProgress:
        """How far the run is."""
        return self.steps.progress

    def resume(self, known: TrainingRecord | None) -> None:
        """Take optimizer and progress from the last checkpoint, whose weights the model has; ``known`` is its record.

        Raises:
            TrainingError: the precision would be another, and nobody asked for that.
        """
        del self.before[-1:]  # that is this run
        hardware, notes = self.steps.hardware, self.steps.notes
        precision, device = str(hardware.dtype).removeprefix("torch."), device_name(hardware.device)
        then = known.precision if known else precision
        if then != precision and self.settings.precision == "auto":
            raise TrainingError(
                f"the run in {self.folder.path} was trained in {then} so far, and here it would continue in {precision}; "
                f"keep it with training.precision={then}, or change it with training.precision={precision}"
            )
        self.steps.resume(read_state(self.folder.last, self.model, self.steps.optimizers))
        for began, here in (
            (f"with {self.progress.threads} threads", f"with {torch.get_num_threads()} threads"),
            (f"with {self.progress.workers} workers", f"with {self.workers.world_size} workers"),
            (f"on {known.device if known else device}", f"on {device}"),
        ):
            if began != here:
                notes.append(
                    f"the run began {began} and continues {here}: the weights will be as good, but not the same bits"
                )
        if then != precision:
            notes.append(f"the run began in {then} and continues in {precision}, as asked: its numbers are of both")

    def run(self, stop: Callable[[], bool]) -> Iterator[Event]:
        """All steps that are left."""
        steps, progress = self.steps, self.progress
        began = time.monotonic() - progress.seconds
        total, network, windows = progress.total_steps, self.model.config, steps.windows.rows_in_epoch(0)
        yield Started(progress.step, total, parameters(network), steps.tokens_per_step, windows, steps.hardware)
        yield from steps.news()
        if steps.gradients.parts > 1:
            yield steps.divided()
        steps.begin()
        if progress.step in self.pace.evaluation_steps(progress) and progress.evaluated < progress.step:
            yield from self._score(progress, began)  # the run was killed while scoring
        timed: list[float] = []
        interrupted = False
        launched: deque[Launched] = deque()
        settled = time.monotonic()
        while not self._out_of_patience() and (progress.total_steps is None or progress.step < progress.total_steps):
            launched.append(steps.launch(progress.step))
            progress.step += 1
            yield from steps.news()
            if steps.gradients.parts != progress.parts:
                progress.parts = steps.gradients.parts
                yield steps.divided()
            interrupted = self.workers.any(stop())
            look = self._looks(progress, interrupted)
            while len(launched) > (0 if look or progress.total_steps is None else steps.ahead):
                done, settled = steps.settle(launched.popleft(), settled), time.monotonic()
                yield done
                progress.seconds = settled - began
                timed.append(done.seconds)
                if isinstance(done, Skipped) and progress.skipped_in_a_row >= MOST_SKIPPED:
                    if not steps.hardware.compile:
                        yield from self._save_last()
                        raise TrainingError(self._why_given_up(done))
                    steps.without_compiler(
                        f"the loss was NaN or infinite in {MOST_SKIPPED} steps in a row: continuing without compiled code, in case "
                        "the fault is the compiler's"
                    )
                    yield from steps.news()
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

    def _looks(self, progress: RunProgress, interrupted: bool) -> bool:
        """Return whether the run is saved after this step."""
        every = self.settings.checkpoint_every
        due = every is not None and progress.step % every == 0
        return interrupted or due or progress.step in self.pace.evaluation_steps(progress)

    def _score(self, progress: RunProgress, began: float) -> Iterator[Event]:
        """Evaluate, keep what is best, and sample."""
        yield self._evaluated()
        progress.seconds = time.monotonic() - began
        if progress.evaluations_since_best == 0 and self.workers.first:
            save_checkpoint(self.folder.best, self._checkpoint())
            yield Saved(progress.step, self.folder.best)
        yield from self._save_last()
        if self.sample and self.workers.first:
            yield Sampled(progress.step, self.sample(self.model))

    def _why_given_up(self, last: Skipped) -> str:
        return (
            f"the loss was NaN or infinite in {MOST_SKIPPED} steps in a row, the last of them step {last.step} ({last.loss}); "
            f"the weights before them are saved in {self.folder.last}: lower optimizer.learning_rate (it is "
            f"{self.config.optimizer.learning_rate:g}) and train with from_={self.folder.last}, or from the beginning"
        )

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

    def _save_last(self) -> Iterator[Saved]:
        if self.workers.first:
            with replacing_folder(self.folder.last) as partial:
                write_model_files(partial, self._checkpoint())
                write_state(partial, self.progress, self.model, self.steps.optimizers)
            yield Saved(self.progress.step, self.folder.last)

    def _checkpoint(self) -> Checkpoint:
        manifest = self.corpus.manifest
        info = run_record(
            self.config.model_dump(mode="json"),
            manifest,
            self.progress,
            self.steps.tokens_per_step,
            self.before,
            device=device_name(self.steps.hardware.device),
            precision=str(self.steps.hardware.dtype).removeprefix("torch."),
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
    if checkpoint.record.corpus.hash != corpus_hash:
        raise TrainingError(
            f"the run in {folder.path} began on another corpus than {corpus.folder} ({corpus_hash[:16]}); "
            "name the same text to resume it, or train in another folder with out=FOLDER"
        )
    return checkpoint
