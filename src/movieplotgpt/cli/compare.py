"""``movieplotgpt compare``: which size and which tokenizer, at an equal budget."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from movieplotgpt.cli.reading import ReadingText, TextFlags
from movieplotgpt.errors import ConfigError, TrainingError
from movieplotgpt.signals import interrupt_once


def compare(
    study: Path,
    *,
    source: Path | None = None,
    minutes: float | None = None,
    reading: ReadingText = None,
    out: Path | None = None,
    jobs: int = 1,
) -> None:
    """Train sizes x tokenizers x seeds at an equal budget, score each, and recommend one.

    Finished runs are kept: the same command continues a study that was stopped.

    Args:
        study: A TOML (the settings all share, and grids of sizes, tokenizers, seeds, other settings that vary, and flops,
            epochs or minutes), or a text or table, which is studied by three sizes with characters and with byte pairs.
        source: The corpus; it is prepared once for each tokenizer.
        minutes: For a text: how long all runs together may take, about (default: 20).
        reading: How the files are read, and which columns of a table.
        out: The study's folder (default: results/studies/ and the name of the TOML or text, where `report` finds it).
        jobs: Runs at once; the processor's threads are shared among them.
    """
    from movieplotgpt.progress_bars import stage_bars
    from movieplotgpt.study.comparing import choose_study, next_commands, write_results
    from movieplotgpt.study.results import study_markdown
    from movieplotgpt.study.running import run_study
    from movieplotgpt.training.run import run_name

    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; it has to be at least 1")
    report = partial(print, file=sys.stderr, flush=True)
    folder = out or Path("results") / "studies" / run_name(study)
    planned, text = choose_study(study, folder, source, minutes, (reading or TextFlags()).reading, report)
    with stage_bars() as progress:
        planned.prepare(text, progress)
    interrupt_once()  # the runs end as on Ctrl-C
    failed = run_study(planned, jobs=jobs, say=report)
    if len(failed) == len(planned.cells):
        raise TrainingError(failed[0])
    results = write_results(planned, report)
    print(study_markdown(results), end="", flush=True)
    longer, estimate = next_commands(planned, results)
    report(f"the best of them for longer: {longer}\nwhat to expect of that: {estimate}")
    if failed:
        raise TrainingError("; ".join([*failed, "the same command continues with what is missing"]))
