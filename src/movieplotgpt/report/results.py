"""RESULTS.md and the page, made of the files that ``evaluate`` and ``compare`` have kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from movieplotgpt import atomic
from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.record import Evaluation, read_evaluation
from movieplotgpt.report.page import StudyPart, page_html, read_figures
from movieplotgpt.report.tables import Section, sections
from movieplotgpt.study.results import RESULTS as STUDY
from movieplotgpt.study.results import advice, circumstances, laws, load_results, tables
from movieplotgpt.training.monitors import draw_loss
from movieplotgpt.training.run import RunFolder

RUNS, FIGURES, STUDIES, RESULTS, PAGE = "runs", "figures", "studies", "RESULTS.md", "results.html"

_INTRODUCTION = """# Results

Made by `movieplotgpt report` from the files in `runs/`, each of which `movieplotgpt evaluate ... --out` has written.

**Bits per character**: the nats of body and end token, given the header (not scored), over ln 2 and the Unicode code
points of the cleaned body. Long texts are scored in the windows of training: the header again, an overlap that is read
and not counted, then new tokens. Intervals are 95 %, works drawn anew (documents in older evaluations). **Title lift**:
the bits per character that the true title saves against the title of another work. The compressors read the whole training
text first, then the same bodies, each with a one-byte end mark.

**Splits**: every table names its split. Studies choose by the validation split, and settings of the sampler are compared
under validation titles. The sampler's present defaults, and the studies below that name the test split, are older and chose
by the test split: on text that no choice was made by, their numbers may be slightly worse.
"""


def write_results(results: Path) -> list[Path]:
    """Write RESULTS.md and results.html of ``runs/``, ``studies/`` and ``figures/`` in the folder ``results``.

    Raises:
        DataError: there is no evaluation, or one is damaged.
        StorageError: the disk refuses.
    """
    evaluations = [read_evaluation(path) for path in sorted((results / RUNS).glob("*.json"))]
    studies = [
        StudyPart(load_results(path), read_figures(path.parent / FIGURES))
        for path in sorted((results / STUDIES).glob(f"*/{STUDY}"))
    ]
    if not (evaluations or studies):
        raise DataError(
            f"{results} holds neither an evaluation nor a study; make one with `movieplotgpt evaluate MODEL --out "
            f"{results / RUNS / 'MODEL.json'}` or `movieplotgpt compare`"
        )
    figures = read_figures(results / FIGURES)
    text = results_markdown(evaluations, [figure.name for figure in figures], studies)
    atomic.write_text(results / RESULTS, text)
    atomic.write_text(results / PAGE, page_html(evaluations, figures, studies))
    return [results / RESULTS, results / PAGE]


def write_figure(results: Path, name: str, run: Path) -> Path:
    """Draw the loss of a run as the figure of the evaluation ``name`` (extra ``plots``).

    Raises:
        DataError: there is no such evaluation, or the run has no metrics.
        MissingExtraError: matplotlib is not installed.
    """
    measured = read_evaluation(results / RUNS / f"{name}.json").likelihood
    folder = RunFolder(run)
    if not folder.metrics.is_file():
        raise DataError(f"{run} has no {folder.metrics.name}; name the folder of a run")
    drawn = draw_loss(folder, measured.tokens / measured.characters)
    figure = results / FIGURES / f"{name}.svg"
    atomic.write_bytes(figure, drawn.read_bytes())
    return figure


def results_markdown(
    evaluations: Sequence[Evaluation], figures: Sequence[str] = (), studies: Sequence[StudyPart] = ()
) -> str:
    """RESULTS.md: a section for each text that was scored, best model first; then the studies, and the figures."""
    parts = [_INTRODUCTION, *map(_section_markdown, sections(evaluations)), *map(_study_markdown, studies)]
    if figures:
        parts.append("## Training\n\n" + "\n\n".join(f"![{name}]({FIGURES}/{name}.svg)" for name in figures) + "\n")
    return "\n".join(parts)


def _section_markdown(section: Section) -> str:
    tables = [f"{table.markdown()}\n" for table in section.tables]
    facts = [f"- {fact}" for fact in section.facts]
    return "\n".join([f"## {section.heading}", "", section.prompt, "", *tables, *facts]) + "\n"


def _study_markdown(study: StudyPart) -> str:
    name = study.results.name
    figures = [f"![{figure.name}]({STUDIES}/{name}/{FIGURES}/{figure.name}.svg)" for figure in study.figures]
    sentences = [f"- {sentence}" for sentence in (*advice(study.results), *laws(study.results))]
    shown = [f"{table.markdown()}\n" for table in tables(study.results)]
    settings = f"Settings, curves and all: [{STUDIES}/{name}]({STUDIES}/{name}/{STUDY})."
    told = f"{circumstances(study.results)}. {settings}"
    return "\n".join([f"## Study: {name}", "", told, "", *sentences, "", *shown, *figures]) + "\n"
