"""``movieplotgpt plan``: what a training would take and bring, before it is started."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from movieplotgpt.cli.reading import ReadingText, TextFlags
from movieplotgpt.engine.waiting import choose_waiting
from movieplotgpt.model.sizes import Size

if TYPE_CHECKING:
    from movieplotgpt.study.planning import Plan


def plan(
    config: Path,
    *overrides: str,
    source: Path | None = None,
    data: Path | None = None,
    size: Size | None = None,
    minutes: float | None = None,
    reading: ReadingText = None,
    study: Path | None = None,
    json: bool = False,
) -> None:
    """Take a few steps of a training to estimate its time, its memory and, from a study, its bits per character.

    Args:
        config: A TOML file, or a text or table, as for `train`.
        overrides: Settings to change, as section.key=value.
        source: The corpus; it is prepared into the run's folder first if that was not done already.
        data: The folder that `prepare` made of the text; with a TOML it takes the place of --source.
        size: tiny, mini, small, base, medium or large, or auto.
        minutes: How long the training would be.
        reading: How the files are read, and which columns of a table.
        study: A study.json that `compare` made of the same text, with the same settings, to estimate the result.
        json: Print the plan as JSON.
    """
    choose_waiting()  # before anything below imports torch
    from rich.console import Console

    from movieplotgpt.recipe.settings import choose_settings, is_settings_file, prepare_once, refuse_contradictions
    from movieplotgpt.study.planning import make_plan
    from movieplotgpt.study.results import load_results
    from movieplotgpt.text.token_files import PreparedCorpus
    from movieplotgpt.training.run import run_name
    from movieplotgpt.training.sizing import settle_by_timing

    files, console = (reading or TextFlags()).reading, Console(stderr=True)
    report = partial(console.print, markup=False, highlight=False)
    refuse_contradictions(config, source, data, files)
    overrides += (f"training.minutes={minutes}",) if minutes is not None else ()
    overrides += (f"model.size={size}",) if size else ()
    settings = choose_settings(config, overrides, {"minutes": minutes}, files, report)
    text = source if is_settings_file(config) else config
    found = load_results(study) if study else None
    own = Path("runs") / run_name(config) / "data"
    corpus = PreparedCorpus.load(prepare_once(settings, text, data, own, report, progress=True))
    settings, reasons = settle_by_timing(settings, corpus)
    for reason in (*reasons, "taking five steps"):
        report(reason)
    made = make_plan(settings, corpus, found)
    if json:
        print(made.model_dump_json(indent=2))
    else:
        _show(made, study)


def _show(plan: Plan, study: Path | None) -> None:
    rows = {
        "size": f"{plan.size}, {plan.parameters / 1e6:.1f} M parameters",
        "on": f"{plan.device}, {plan.precision}",
        "memory": f"{plan.memory / 2**30:.1f} GiB" if plan.memory else "not known here",
        "speed": f"{plan.tokens_per_second:,.0f} tokens/s, {plan.step:.2f} s a step of {plan.tokens_per_step:,} tokens",
        "an epoch": f"{plan.epoch_minutes:.1f} minutes",
        "in all": f"{plan.minutes:.1f} minutes: {plan.steps:,} steps, {plan.epochs:.2f} epochs",
        "expected": f"{plan.bits_per_character:.2f} bits per character, as {study} has it, whose runs foretell one another "
        f"to {plan.off_by:.3f}"
        if plan.bits_per_character is not None
        else f"not known: {plan.unknown}",
    }
    for name, value in rows.items():
        print(f"{name:<10}{value}")
    for warning in plan.warnings:
        print(f"warning: {warning}")
