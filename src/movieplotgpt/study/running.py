"""Train and score every cell of a study, each in a process of its own; finished cells are kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from movieplotgpt.atomic import recover_folder
from movieplotgpt.errors import TrainingError
from movieplotgpt.model.sizes import training_flops_per_token
from movieplotgpt.recipe.process import command
from movieplotgpt.study.grid import Cell, Study, exact
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.resuming import FOLDER as STATE_FOLDER
from movieplotgpt.training.run import RunConfig, RunFolder


def run_study(study: Study, *, jobs: int = 1, say: Callable[[str], None] = print) -> list[str]:
    """Train and score what is missing, ``jobs`` at a time; ``say`` is called for each that is done.

    A run that was cut short continues from its last checkpoint. The error of a run that fails is returned, and the others
    continue. An interruption ends the runs as well: a training saves itself first.

    Raises:
        TrainingError: another process works in the folder.
    """
    failed: list[str] = []
    commands = _Commands()
    with RunFolder(study.out).taken():
        missing = [cell for cell in study.cells if not study.evaluation(cell).exists()]
        done = len(study.cells) - len(missing)
        if done:
            say(f"{done} of {len(study.cells)} runs are done already")
        with ThreadPoolExecutor(jobs) as pool:
            running = {pool.submit(_train_and_score, study, cell, jobs, commands): cell for cell in missing}
            try:
                for ended in as_completed(running):
                    name = running[ended].name
                    try:
                        ended.result()
                    except TrainingError as error:
                        failed.append(f"{name} failed: {error}")
                        continue
                    done += 1
                    say(f"{name}: done, {done} of {len(study.cells)}")
            except BaseException:
                commands.end()
                pool.shutdown(cancel_futures=True)
                raise
    return failed


def _train_and_score(study: Study, cell: Cell, jobs: int, commands: _Commands) -> None:
    run, corpus = study.run(cell), PreparedCorpus.load(study.data(cell))
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}
    call = partial(commands.run, study.out / "runs" / f"{study.key(cell)}.log", environment=threads)
    training = {"config": study.config, "data": study.data(cell), "out": run.path}
    recover_folder(run.last)
    if (run.last / STATE_FOLDER).exists():
        call(command("train", {**training, "resume": True}))
    elif not run.last.exists():
        call(command("train", {**training, **_arguments(study, cell, corpus)}))
    study.evaluation(cell).parent.mkdir(parents=True, exist_ok=True)
    scoring = {
        "model": run.last,  # the best of a long run may be of its middle
        "data": study.data(cell),
        "split": study.settings.split,
        "metrics": ["likelihood", *(["memorisation"] if study.settings.memorisation else [])],
        "out": study.evaluation(cell),
    }
    call(command("evaluate", scoring))
    for unneeded in (run.best, run.last / STATE_FOLDER):
        shutil.rmtree(unneeded, ignore_errors=True)


def changes_of(study: Study, cell: Cell) -> list[str]:
    """Return what the cell changes in the study's settings, as ``section.key=value``; its size is not among it."""
    tokenizer = (f"tokenizer.{name}={value}" for name, value in cell.tokenizer_settings.items())
    return [*study.settings.set, *tokenizer, *cell.changes]


def _arguments(study: Study, cell: Cell, corpus: PreparedCorpus) -> dict[str, Any]:
    """Return the arguments of ``train`` for the cell's network, settings and budget."""
    changes = [f"training.seed={cell.seed}", *changes_of(study, cell)]
    if cell.budget == "flops":
        length: dict[str, Any] = {"steps": steps_for(study.run_config(cell), corpus, cell.amount)}
    else:
        length = {cell.budget: json.loads(exact(cell.amount))}
    return {"size": cell.size, "settings": changes, **length}


def steps_for(config: RunConfig, corpus: PreparedCorpus, flops: float) -> int:
    """Return how many steps cost ``flops``, the head and the headers' tokens counted."""
    network = config.model.model_config_for(corpus.tokenizer.vocab_size)
    rows = config.training.batch_size(network.context_length)
    return max(1, round(flops / (training_flops_per_token(network) * rows * network.context_length)))


class _Commands:
    """Runs commands in processes of their own, from several threads; none outlives ``end``."""

    def __init__(self) -> None:
        self._lock, self._ended = Lock(), False
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, log: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run one to its end; its output goes to ``log``.

        Raises:
            TrainingError: it failed, or was ended.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONSAFEPATH": "1", **environment}  # for the processes that these start
        with log.open("ab") as out:
            with self._lock:
                if self._ended:
                    raise TrainingError("the study was ended; the same command continues it")
                process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
                self._running.add(process)
            code = process.wait()
            self._running.discard(process)
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            why = f"ended by signal {-code}, perhaps for lack of memory" if code < 0 or not lines else lines[-1]
            raise TrainingError(f"{why}; its output is in {log}")

    def end(self) -> None:
        """Ask what runs to end, and start no more."""
        with self._lock:
            self._ended = True
            for process in self._running.copy():
                process.terminate()
