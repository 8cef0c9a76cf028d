"""``movieplotgpt compare``: which size and which tokenizer, at an equal budget."""

from __future__ import annotations

from pathlib import Path

from movieplotgpt.errors import ConfigError


def compare(study: Path, *, source: Path | None = None, out: Path | None = None, jobs: int = 1) -> None:
    """Train sizes x tokenizers x seeds at an equal budget, score each, say which to take.

    What is done stays done: the same command goes on with a study that was stopped.

    Args:
        study: A TOML: the settings all share, and grids of sizes, tokenizers, seeds and flops, epochs or minutes.
        source: The corpus; it is prepared once for each tokenizer.
        out: The study's folder (default: studies/ and the name of the TOML).
        jobs: Runs at once; the processor's threads are shared among them.
    """
    import sys

    from movieplotgpt.cli.progress import stage_bars
    from movieplotgpt.errors import MissingExtraError
    from movieplotgpt.study.figures import draw_study
    from movieplotgpt.study.grid import Study
    from movieplotgpt.study.results import read_results, study_markdown, write_study
    from movieplotgpt.study.running import run_study

    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; it has to be at least 1")
    planned = Study.read(study, out or Path("studies") / study.stem)
    with stage_bars() as progress:
        planned.prepare(source, progress)
    run_study(planned, jobs=jobs, say=lambda text: print(text, file=sys.stderr, flush=True))
    results = read_results(planned, study.stem)
    write_study(results, planned.out)
    try:
        draw_study(results, planned.out / "figures")
    except MissingExtraError as error:
        print(f"no figures: {error}", file=sys.stderr)
    print(study_markdown(results), end="")
