"""What helps: one change at a time against the same control, in bits per character on the validation split.

    python benchmarks/ablations.py --data data/plots-bpe --out results/benchmarks/ablations.json

A trial is a setting of `movieplotgpt train`, or a change to the code that is made here and nowhere else. All read the
same number of tokens. Each has a process of its own with one thread, and --workers of them go on at once: speed is
not what is asked. Trials that --out holds already are not run again, so the table grows over days and machines. What
is told is the difference to the control with the same seed; what seeds alone make is the spread of the control.

From nothing, seeds differ by more than most changes do: the moment at which a model begins to copy names comes by luck.
With --start MODEL all go on from the same weights, past that moment, and a thousandth is seen.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from machine import keep, machine, settings_of
from movieplotgpt.config import read_settings
from movieplotgpt.errors import MoviePlotGPTError
from movieplotgpt.evaluation.likelihood import validation_scorer
from movieplotgpt.model.checkpoints import load_checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training import trainer
from movieplotgpt.training.events import Evaluated
from movieplotgpt.training.optimizers import MuonSettings
from movieplotgpt.training.run import RunConfig, RunFolder
from movieplotgpt.training.steps import Steps
from movieplotgpt.training.windows import NO_TARGET, Batch, TrainingWindows

Found = dict[str, float]


def drawn_outputs(steps: int, found: Found) -> None:
    """What writes into the residual stream begins as GPT-2's does, and not at zero."""
    zeroed = GPT.initialize

    def initialize(self: GPT, seed: int) -> None:
        zeroed(self, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        for name, weight in self.matrices():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                spread = 1 / math.sqrt(weight.shape[1] * 2 * self.config.n_layer)
                weight.data.copy_(torch.randn(weight.shape, generator=generator) * spread)

    GPT.initialize = initialize  # type: ignore[method-assign]


def z_loss(steps: int, found: Found) -> None:
    """Keep the logits' normaliser near one: 1e-4 times its squared logarithm. Source: PaLM (arXiv 2204.02311)."""

    def term(self: GPT, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        seen_BT = targets_BT != NO_TARGET
        normalizer_BT = self.lm_head(hidden_BTC).float().logsumexp(-1)
        penalty: Tensor = 1e-4 * (normalizer_BT.square() * seen_BT).sum() / seen_BT.sum()
        return penalty

    _add_to_loss(term)


def two_ahead(steps: int, found: Found) -> None:
    """The token after the next is a second target, weight 0.3, by a matrix of its own before the shared head.

    Source: multi-token prediction (arXiv 2404.19737), in its cheapest form.
    """
    built = MuonSettings.build
    ahead: list[Tensor] = []

    def build(self: MuonSettings, model: GPT) -> list[torch.optim.Optimizer]:
        optimizers = built(self, model)
        ahead.append(nn.Parameter(torch.eye(model.config.n_embd)))
        optimizers[1].add_param_group({"params": ahead, "weight_decay": 0.0})
        return optimizers

    def term(self: GPT, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        turned_BTC = F.rms_norm(hidden_BTC[:, :-1] @ ahead[0].to(hidden_BTC.dtype), hidden_BTC.shape[-1:])
        logits_BTV = self.lm_head(turned_BTC).float()
        return 0.3 * F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT[:, 1:].flatten(), ignore_index=NO_TARGET)

    MuonSettings.build = build  # type: ignore[method-assign]
    _add_to_loss(term)


def rising_momentum(steps: int, found: Found) -> None:
    """Muon's momentum from 0.85 to 0.95 over the first fifth."""
    rise, set_rates = steps / 5, Steps._set_rates

    def with_momentum(self: Any, step: int) -> float:
        for group in self.optimizers[0].param_groups:
            group["momentum"] = 0.85 + 0.1 * min(1.0, step / rise)
        return set_rates(self, step)

    Steps._set_rates = with_momentum  # type: ignore[method-assign]


def falling_decay(steps: int, found: Found) -> None:
    """Muon's weight decay falls with the rate."""
    set_rates = Steps._set_rates

    def with_decay(self: Any, step: int) -> float:
        multiplier = set_rates(self, step)
        for group in self.optimizers[0].param_groups:
            group["weight_decay"] = self.config.optimizer.weight_decay * multiplier
        return multiplier

    Steps._set_rates = with_decay  # type: ignore[method-assign]


def rising_context(steps: int, found: Found) -> None:
    """For the first two fifths each window is read as four."""
    until, whole = 0.4 * steps, TrainingWindows.batch

    def batch(self: TrainingWindows, step: int, batch_size: int, **options: Any) -> Batch:
        made = whole(self, step, batch_size, **options)
        if step >= until:
            return made
        quarter = made.ids_BT.shape[1] // 4
        ids_BT, targets_BT, starts_BT = (
            each.reshape(-1, quarter) for each in (made.ids_BT, made.targets_BT, made.starts_BT)
        )
        return Batch(ids_BT, targets_BT, np.maximum(starts_BT - quarter * (np.arange(len(ids_BT)) % 4)[:, None], 0))

    TrainingWindows.batch = batch  # type: ignore[method-assign]


def rising_batch(steps: int, found: Found) -> None:
    """Half the batch for the first half of the steps, of which there are a third more."""
    half, whole = steps // 2, TrainingWindows.batch

    def batch(self: TrainingWindows, step: int, batch_size: int, **options: Any) -> Batch:
        if step < half:
            return whole(self, step, batch_size // 2, **options)
        return whole(self, step - half // 2, batch_size, **options)

    TrainingWindows.batch = batch  # type: ignore[method-assign]


def same_windows(steps: int, found: Found) -> None:
    """Every epoch has the first one's windows, in its order."""
    drawn = TrainingWindows._make_rows
    TrainingWindows._make_rows = lambda self, epoch: drawn(self, 0)  # type: ignore[method-assign]


def averages(steps: int, found: Found) -> None:
    """The control, and a look: the weights' running means, and the mean over the last tenth, are scored as well."""
    launch, score = Steps.launch, trainer._Trainer._evaluated
    means: dict[str, list[Tensor]] = {}

    def with_means(self: Any, step: int) -> Any:
        launched = launch(self, step)
        with torch.no_grad():
            weights = list(self.model.parameters())
            begun = steps - step <= steps // 10
            for name, share in (
                ("running mean 0.99", max(0.01, 1 / (step + 1))),
                ("running mean 0.999", max(0.001, 1 / (step + 1))),
                ("mean over the last tenth", 1 / (step + 1 - (steps - steps // 10)) if begun else 1.0),
            ):
                kept = means.setdefault(name, [weight.clone() for weight in weights])
                torch._foreach_lerp_(kept, weights, share)
        return launched

    def scored(self: Any) -> Evaluated:
        if self.progress.step == steps:
            with torch.no_grad():
                weights = list(self.model.parameters())
                own = [weight.clone() for weight in weights]
                for name, kept in [*means.items(), ("", own)]:
                    torch._foreach_copy_(weights, kept)
                    if name:
                        found[name] = self.evaluate(self.model)
        return score(self)

    Steps.launch = with_means  # type: ignore[method-assign]
    trainer._Trainer._evaluated = scored  # type: ignore[method-assign]


@dataclass(frozen=True)
class Trial:
    """One change: settings, or a function that changes the code of its process."""

    settings: tuple[str, ...] = ()
    change: Callable[[int, Found], None] | None = None  # of the steps of the training
    steps: float = 1.0  # times those of the others


TRIALS = {
    "control": Trial(change=averages),
    "outputs drawn, not zero": Trial(change=drawn_outputs),
    "z-loss 1e-4": Trial(change=z_loss),
    "a second target: the token after the next": Trial(change=two_ahead),
    "momentum rises from 0.85": Trial(change=rising_momentum),
    "momentum 0.9": Trial(("optimizer.momentum=0.9",)),
    "weight decay 0.1": Trial(("optimizer.weight_decay=0.1",)),
    "weight decay 0.1, falling with the rate": Trial(("optimizer.weight_decay=0.1",), falling_decay),
    "context rises": Trial(change=rising_context),
    "batch rises": Trial(change=rising_batch, steps=4 / 3),
    "dropout 0.1": Trial(("training.dropout=0.1",)),
    "no window without its title": Trial(("windows.no_title=0",)),
    "all hints always": Trial(("windows.no_hints=0", "windows.keep_hint=1")),
    "head of its own": Trial(("model.tie_embeddings=false",)),
    "AdamW for all": Trial(("optimizer.kind=adamw",)),
    "a teacher: plots-bpe": Trial(('distillation.teachers=["plots-bpe"]',)),
    "the same windows each epoch": Trial(change=same_windows),
}


def run(name: str, seed: int, arguments: argparse.Namespace) -> Found:
    """The child: train and score one trial."""
    torch.set_num_threads(1)
    trial, found = TRIALS[name], Found()
    steps = round(arguments.steps * trial.steps)
    fixed = (f"training.steps={steps}", "training.minutes=none", "training.evaluations=1", f"training.seed={seed}")
    config = read_settings(RunConfig, arguments.config, (*fixed, *arguments.set, *trial.settings))
    for unneeded in ("write_model_files", "write_state", "save_checkpoint"):
        setattr(trainer, unneeded, lambda *_, **__: None)
    if trial.change:
        trial.change(steps, found)
    corpus = PreparedCorpus.load(arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        begun = load_checkpoint(arguments.start) if arguments.start else None
        run_folder, evaluate = RunFolder(Path(folder)), validation_scorer(corpus)
        events = trainer.train(config, corpus, run_folder, evaluate=evaluate, start_from=begun)
        scores = [event.bits_per_character for event in events if isinstance(event, Evaluated)]
    return {name: scores[-1], **found}


def table(trials: dict[str, dict[str, float]]) -> str:
    """Markdown: each trial's scores, and what it is better or worse than the control of the same seed."""
    control = trials.get("control", {})
    lines = ["| trial | bits per character, by seed | to the control |", "| --- | --- | ---: |"]
    for name, scores in trials.items():
        differences = [score - control[seed] for seed, score in scores.items() if seed in control]
        told = f"{mean(differences):+.4f}" if differences and name != "control" else ""
        lines.append(f"| {name} | {', '.join(f'{score:.4f}' for score in scores.values())} | {told} |")
    return "\n".join(lines)


def _add_to_loss(term: Callable[[GPT, Tensor, Tensor], Tensor]) -> None:
    plain = GPT.cross_entropy

    def cross_entropy(self: GPT, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        return plain(self, hidden_BTC, targets_BT) + term(self, hidden_BTC, targets_BT)

    GPT.cross_entropy = cross_entropy  # type: ignore[method-assign]


def main() -> None:
    """Run what is missing, keep each as it comes, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a corpus prepared with the settings of --config")
    parser.add_argument("--config", type=Path, default=Path("configs/plots-bpe.toml"))
    parser.add_argument("--steps", type=int, default=1_500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--start", help="a model that all begin with, of the size that --set names")
    parser.add_argument("--only", nargs="+", choices=TRIALS, metavar="TRIAL", help=f"of: {', '.join(TRIALS)}")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trials at once")
    parser.add_argument("--set", nargs="*", default=["model.size=small", "training.tokens_per_step=4096"])
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    asked = settings_of(arguments)
    settings = {
        **{key: asked[key] for key in ("config", "steps", "set", "start")},
        "corpus": PreparedCorpus.load(arguments.data).manifest.corpus_hash,
    }
    kept = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {"settings": settings}
    kept["settings"].setdefault("start", None)
    if kept["settings"] != settings:
        parser.error(f"{arguments.out} was made with {kept['settings']}; name another file, or take those settings")
    trials: dict[str, dict[str, float]] = kept.get("trials", {})
    os.environ["OMP_NUM_THREADS"] = "1"
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context, max_tasks_per_child=1) as pool:
        waiting = {
            pool.submit(run, name, seed, arguments): (name, seed)
            for seed in arguments.seeds
            for name in arguments.only or TRIALS
            if str(seed) not in trials.get(name, {})
        }
        for done in as_completed(waiting):
            asked_for, seed = waiting[done]
            try:
                scores = done.result()
            except MoviePlotGPTError as error:
                print(f"{asked_for}, seed {seed}: {error}", flush=True)
                continue
            for name, score in scores.items():
                trials.setdefault(name, {})[str(seed)] = score
                print(f"{name}, seed {seed}: {score:.4f}", flush=True)
            keep(arguments.out, {"settings": settings, "trials": trials})
    print(table(trials))


if __name__ == "__main__":
    main()
