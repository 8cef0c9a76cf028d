"""Compare sizes and tokenizers: from what a person asks for to a study, and from its runs to what is written of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from movieplotgpt.errors import ConfigError, MissingExtraError
from movieplotgpt.recipe.reading import Reading
from movieplotgpt.study.figures import draw_study
from movieplotgpt.study.grid import Study
from movieplotgpt.study.results import RESULTS, StudyResults, read_results, write_study
from movieplotgpt.study.running import changes_of
from movieplotgpt.study.suggesting import STUDY, refuse_other, suggest_study

MINUTES = 20.0  # of all runs together, where nothing else is asked for


def choose_study(
    config: Path,
    out: Path,
    source: Path | None,
    minutes: float | None,
    reading: Reading,
    report: Callable[[str], object],
) -> tuple[Study, Path | None]:
    """Return the study of a TOML, or the one suggested for a text, and the text.

    A suggested study is written into ``out`` once, so that the same command continues it; ``report`` gets the reasons.

    Raises:
        ConfigError: arguments that contradict each other, or the study in ``out`` is of another text.
        DataError: the text cannot be read.
    """
    if config.suffix == ".toml":
        if minutes is not None or reading != Reading():
            raise ConfigError(
                f"minutes, the columns and how files are read are for a text or table; {config} sets them itself"
            )
        return Study.read(config, out), source
    if source:
        raise ConfigError(f"{config} is the text to study; leave source={source} out, or name a TOML before it")
    path = out / STUDY
    if path.exists():
        refuse_other(config, out, minutes)
    else:
        path, reasons = suggest_study(
            config,
            out,
            MINUTES if minutes is None else minutes,
            title_column=reading.title_column,
            text_column=reading.text_column,
            overrides=reading.overrides,
        )
        for reason in reasons:
            report(reason)
    return Study.read(path, out), config


def write_results(study: Study, report: Callable[[str], object]) -> StudyResults:
    """Write the tables and figures of a study whose runs are done, and return its results."""
    results = read_results(study, study.out.name)
    write_study(results, study.out)
    try:
        draw_study(results, study.out / "figures")
    except MissingExtraError as error:
        report(f"no figures: {error}")
    return results


def next_commands(study: Study, results: StudyResults) -> tuple[str, str]:
    """Return the commands that train the best network of a study for longer, and that estimate the result beforehand."""
    row = min(results.rows, key=lambda row: row.bits_per_character)
    same = (row.size, row.tokenizer, row.changes)
    best = next(cell for cell in study.cells if (cell.size, cell.tokenizer, cell.changes) == same)
    settings = [*changes_of(study, best), "--size", best.size]
    known = shlex.join([str(study.config), "--data", str(study.data(best)), *settings, "--minutes", "30"])
    return (
        f"movieplotgpt train {known}",
        f"movieplotgpt plan {known} --study {shlex.quote(str(study.out / RESULTS))}",
    )
