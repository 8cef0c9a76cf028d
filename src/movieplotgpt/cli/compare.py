"""``movieplotgpt compare``: which size and which tokenizer, at an equal budget."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from movieplotgpt.cli.reading import ReadingText, TextFlags
from movieplotgpt.errors import ConfigError, MissingExtraError, TrainingError
from movieplotgpt.recipe.reading import Reading
from movieplotgpt.signals import interrupt_once

if TYPE_CHECKING:
    from movieplotgpt.study.grid import Study
    from movieplotgpt.study.results import StudyResults


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
    from movieplotgpt.study.figures import draw_study
    from movieplotgpt.study.grid import Study
    from movieplotgpt.study.results import read_results, study_markdown, write_study
    from movieplotgpt.study.running import run_study
    from movieplotgpt.training.run import run_name

    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; it has to be at least 1")
    out = out or Path("results") / "studies" / run_name(study)
    files = (reading or TextFlags()).reading
    if study.suffix == ".toml":
        if minutes is not None or files != Reading():
            raise ConfigError(
                f"--minutes, the columns and how files are read are for a text or table; {study} sets them itself"
            )
    else:
        if source:
            raise ConfigError(f"{study} is the text to study; leave --source out, or name a TOML before it")
        source = study
        study = _suggested(study, out, minutes, files)
    planned = Study.read(study, out)
    with stage_bars() as progress:
        planned.prepare(source, progress)
    interrupt_once()  # the runs end as on Ctrl-C
    failed = run_study(planned, jobs=jobs, say=lambda text: print(text, file=sys.stderr, flush=True))
    if len(failed) == len(planned.cells):
        raise TrainingError(failed[0])
    results = read_results(planned, planned.out.name)
    write_study(results, planned.out)
    try:
        draw_study(results, planned.out / "figures")
    except MissingExtraError as error:
        print(f"no figures: {error}", file=sys.stderr)
    print(study_markdown(results), end="", flush=True)
    print(_go_on(planned, results), file=sys.stderr)
    if failed:
        raise TrainingError("; ".join([*failed, "the same command continues with what is missing"]))


def _go_on(study: Study, results: StudyResults) -> str:
    """Return the commands that train the best network of a study for longer, and that estimate the result beforehand."""
    from movieplotgpt.study.results import RESULTS
    from movieplotgpt.study.running import changes_of

    row = min(results.rows, key=lambda row: row.bits_per_character)
    same = (row.size, row.tokenizer, row.changes)
    best = next(cell for cell in study.cells if (cell.size, cell.tokenizer, cell.changes) == same)
    settings = [*changes_of(study, best), "--size", best.size]
    known = [str(study.config), "--data", str(study.data(best)), *settings, "--minutes", "30"]
    return (
        f"the best of them for longer: movieplotgpt train {shlex.join(known)}\n"
        f"what to expect of that: movieplotgpt plan {shlex.join(known)} --study {shlex.quote(str(study.out / RESULTS))}"
    )


def _suggested(text: Path, out: Path, minutes: float | None, reading: Reading) -> Path:
    """Return the study of a text. It is written once, so that the same command continues it."""
    from movieplotgpt.study.suggesting import STUDY, refuse_other, suggest_study

    if (out / STUDY).exists():
        refuse_other(text, out, minutes)
        return out / STUDY
    path, reasons = suggest_study(
        text,
        out,
        20 if minutes is None else minutes,
        title_column=reading.title_column,
        text_column=reading.text_column,
        overrides=reading.overrides,
    )
    print(*reasons, sep="\n", file=sys.stderr)
    return path
