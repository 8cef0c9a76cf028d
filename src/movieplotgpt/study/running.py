"""Every cell of a study trained and scored, each a process of its own; what is done stays done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from threading import Lock

from movieplotgpt.atomic import recover_folder
from movieplotgpt.errors import TrainingError
from movieplotgpt.model.sizes import training_flops_per_token
from movieplotgpt.study.grid import Cell, Study, exact
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.resuming import FOLDER as STATE_FOLDER
from movieplotgpt.training.run import RunConfig, RunFolder


def run_study(study: Study, *, jobs: int = 1, say: Callable[[str], None] = print) -> list[str]:
    """Train and score what is missing, ``jobs`` at a time; ``say`` is told of each that is done.

    A run that was cut short goes on from its last checkpoint; of a run that fails what it said is returned, and the others
    go on. What ends this ends the runs as well: a training saves itself first.

    Raises:
        TrainingError: another process works in the folder.
    """
    failed: list[str] = []
    commands = _Commands()
    with RunFolder(study.out).taken():
        missing = [cell for cell in study.cells if not study.evaluation(cell).exists()]
        done = len(study.cells) - len(missing)
        if done:
            say(f"{done} of {len(study.cells)} runs are there already")
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
    common = ["--data", str(study.data(cell))]
    recover_folder(run.last)
    if (run.last / STATE_FOLDER).exists():
        call(["train", str(study.config), *common, "--out", str(run.path), "--resume"])
    elif not run.last.exists():
        call(["train", str(study.config), *common, *_arguments(study, cell, corpus)])
    study.evaluation(cell).parent.mkdir(parents=True, exist_ok=True)
    metrics = ["likelihood", *(["memorisation"] if study.settings.memorisation else [])]
    asked = ["--split", study.settings.split, "--out", str(study.evaluation(cell)), "--metrics", *metrics]
    call(["evaluate", str(run.last), *common, *asked])  # the last: the best of a long run may be of its middle
    for unneeded in (run.best, run.last / STATE_FOLDER):
        shutil.rmtree(unneeded, ignore_errors=True)


def settings_arguments(study: Study, cell: Cell) -> list[str]:
    """What `train` and `plan` are told, after the config, for the cell's network and settings."""
    tokenizer = (f"tokenizer.{name}={value}" for name, value in cell.tokenizer_settings.items())
    return [*study.settings.set, *tokenizer, *cell.changes, "--size", cell.size]


def _arguments(study: Study, cell: Cell, corpus: PreparedCorpus) -> Iterator[str]:
    yield f"training.seed={cell.seed}"
    yield from settings_arguments(study, cell)
    yield from ("--out", str(study.run(cell).path))
    if cell.budget == "flops":
        yield from ("--steps", str(steps_for(study.run_config(cell), corpus, cell.amount)))
    else:
        yield from (f"--{cell.budget}", exact(cell.amount))


def steps_for(config: RunConfig, corpus: PreparedCorpus, flops: float) -> int:
    """How many steps cost ``flops``, the head and the headers' tokens counted."""
    network = config.model.model_config_for(corpus.tokenizer.vocab_size)
    rows = config.training.batch_size(network.context_length)
    return max(1, round(flops / (training_flops_per_token(network) * rows * network.context_length)))


class _Commands:
    """Commands of ours in processes of their own, from several threads; none outlives `end`."""

    def __init__(self) -> None:
        self._lock, self._ended = Lock(), False
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, log: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run one to its end; what it prints goes to ``log``.

        Raises:
            TrainingError: it failed, or was ended.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "movieplotgpt", *arguments]  # -P: no module of the working folder is run
        environment = {**os.environ, "PYTHONSAFEPATH": "1", **environment}  # by what these start, neither
        with log.open("ab") as out:
            with self._lock:
                if self._ended:
                    raise TrainingError("the study was ended; the same command goes on with it")
                process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
                self._running.add(process)
            code = process.wait()
            self._running.discard(process)
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            why = f"ended by signal {-code}, for want of memory perhaps" if code < 0 or not lines else lines[-1]
            raise TrainingError(f"{why}; all it said is in {log}")

    def end(self) -> None:
        """Ask what runs to end, and start no more."""
        with self._lock:
            self._ended = True
            for process in self._running.copy():
                process.terminate()
