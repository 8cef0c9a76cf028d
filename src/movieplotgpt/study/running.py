"""Every cell of a study trained and scored, each a process of its own; what is done stays done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from movieplotgpt.errors import TrainingError
from movieplotgpt.model.sizes import training_flops_per_token
from movieplotgpt.study.grid import Cell, Study
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.run import RunConfig, RunFolder


def run_study(study: Study, *, jobs: int = 1, say: Callable[[str], None] = print) -> None:
    """Train and score what is missing, ``jobs`` at a time; ``say`` is told of each that is done.

    A run that was cut short goes on from its last checkpoint.

    Raises:
        TrainingError: a run failed, in its own words; or another process works in the folder.
    """
    with RunFolder(study.out).taken():
        missing = [cell for cell in study.cells if not study.evaluation(cell).exists()]
        done = len(study.cells) - len(missing)
        if done:
            say(f"{done} of {len(study.cells)} runs are there already")
        with ThreadPoolExecutor(jobs) as pool:
            running = {pool.submit(_train_and_score, study, cell, jobs): cell for cell in missing}
            try:
                for ended in as_completed(running):
                    ended.result()
                    done += 1
                    say(f"{running[ended].name}: done, {done} of {len(study.cells)}")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _train_and_score(study: Study, cell: Cell, jobs: int) -> None:
    run, corpus = study.run(cell), PreparedCorpus.load(study.data(cell))
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}
    common = ["--data", str(study.data(cell))]
    if run.last.exists():
        _call(study, cell, ["train", str(study.config), *common, "--out", str(run.path), "--resume"], threads)
    else:
        _call(study, cell, ["train", str(study.config), *common, *_arguments(study, cell, corpus)], threads)
    metrics = ["likelihood", *(["memorisation"] if study.settings.memorisation else [])]
    asked = ["--split", study.settings.split, "--out", str(study.evaluation(cell)), "--metrics", *metrics]
    _call(study, cell, ["evaluate", str(run.path), *common, *asked], threads)
    shutil.rmtree(run.last, ignore_errors=True)  # the best stays; what resuming needs is three times as large


def _arguments(study: Study, cell: Cell, corpus: PreparedCorpus) -> Iterator[str]:
    config = study.run_config(cell)
    yield from study.settings.set
    yield from (f"tokenizer.{name}={value}" for name, value in cell.tokenizer_settings.items())
    yield f"training.seed={cell.seed}"
    yield from ("--size", cell.size, "--out", str(study.run(cell).path))
    if cell.budget == "flops":
        yield from ("--steps", str(steps_for(config, corpus, cell.amount)))
    else:
        yield from (f"--{cell.budget}", f"{cell.amount:g}")


def steps_for(config: RunConfig, corpus: PreparedCorpus, flops: float) -> int:
    """How many steps cost ``flops``, the head and the headers' tokens counted."""
    network = config.model.model_config_for(corpus.tokenizer.vocab_size)
    return max(1, round(flops / (training_flops_per_token(network) * config.training.tokens_per_step)))


def _call(study: Study, cell: Cell, arguments: Sequence[str], environment: dict[str, str]) -> None:
    log = study.out / "runs" / f"{cell.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    study.evaluation(cell).parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        command = [sys.executable, "-m", "movieplotgpt", *arguments]
        code = subprocess.run(command, stdout=out, stderr=out, env={**os.environ, **environment}).returncode
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise TrainingError(
            f"{cell.name} failed ({lines[-1] if lines else f'exit code {code}'}); all it said is in {log}; what was done "
            "stays, and the same command goes on with it"
        )
