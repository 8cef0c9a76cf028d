"""A study's figures: loss against compute, against parameters, and tokenizer against tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, TypeVar

from movieplotgpt.study.results import StudyResults, StudyRow, show_budget
from movieplotgpt.training.monitors import drawing

COMPUTE, PARAMETERS, TOKENIZERS = "loss-against-compute", "bits-against-parameters", "tokenizers"
MEMORISATION = "memorisation"
K = TypeVar("K", str, float)
_SAME = 1.03  # runs of one cost differ by less: steps are whole


def drawn(results: StudyResults) -> list[str]:
    """The names of a study's figures."""
    asked = any(row.read_bits is not None for row in results.rows)
    return [COMPUTE, PARAMETERS, TOKENIZERS, *([MEMORISATION] if asked else [])]


def draw_study(results: StudyResults, folder: Path) -> list[Path]:
    """Draw a study's figures as SVG and PNG into ``folder`` (extra ``plots``).

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    drawings: dict[str, Callable[[Any, StudyResults], None]] = {
        COMPUTE: _compute,
        PARAMETERS: _parameters,
        TOKENIZERS: _tokenizers,
        MEMORISATION: _memorisation,
    }
    paths = []
    for name in drawn(results):
        own = [folder / f"{name}.{suffix}" for suffix in ("svg", "png")]
        with drawing(*own, size=(8, 4.5)) as axes:
            axes.set_ylabel("bits per character")
            drawings[name](axes, results)
            axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
        paths += own
    return paths


def _compute(axes: Any, results: StudyResults) -> None:
    """Every run's curve on the validation split, and the best of all at each cost: colours tell tokenizers, marks sizes."""
    colours = {name: f"C{i}" for i, name in enumerate(_tokenizer_names(results))}
    marks = dict(zip(dict.fromkeys(row.size for row in results.rows), "os^Dv*", strict=False))
    for row in results.rows:
        drawn_as = {"color": colours[row.variant], "marker": marks[row.size]}
        axes.plot(*zip(*row.curve, strict=True), linewidth=1, alpha=0.6, markersize=4, **drawn_as)
    for name, colour in colours.items():
        axes.plot([], [], color=colour, label=name)
    for name, mark in marks.items():
        axes.plot([], [], "k", marker=mark, linestyle="none", label=name)
    points = sorted(point for row in results.rows for point in row.curve)
    frontier = [(flops, bits) for flops, bits in points if bits <= min(y for x, y in points if x <= _SAME * flops)]
    axes.plot(*zip(*frontier, strict=True), "k--", linewidth=1.5, label="best of all")
    axes.set(xscale="log", xlabel="floating-point operations in training")


def _parameters(axes: Any, results: StudyResults) -> None:
    """A line for each tokenizer and budget; seeds are points."""
    for label, rows in _grouped(results.rows, lambda row: f"{row.variant}, {show_budget(row)}").items():
        means = _means(rows, lambda row: row.parameters)
        (line,) = axes.plot(*zip(*means, strict=True), "-", label=label)
        axes.plot(
            [row.parameters for row in rows], [row.bits_per_character for row in rows], "o", color=line.get_color()
        )
    axes.set(xscale="log", xlabel="parameters")


def _tokenizers(axes: Any, results: StudyResults) -> None:
    """A line over the tokenizers for each size and budget that has more than one."""
    names = _tokenizer_names(results)
    groups = _grouped(results.rows, lambda row: f"{row.size}, {show_budget(row)}")
    several = {label: rows for label, rows in groups.items() if len({row.variant for row in rows}) > 1}
    for label, rows in (several or groups).items():
        axes.plot(*zip(*_means(rows, lambda row: names.index(row.variant)), strict=True), "o-", label=label)
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel="tokenizer")


def _memorisation(axes: Any, results: StudyResults) -> None:
    """Bits per character on text that was read and on text that was not, over the epochs, for each size."""
    asked = [row for row in results.rows if row.read_bits is not None]
    for label, rows in _grouped(asked, lambda row: f"{row.size}, {row.variant}").items():
        ordered = sorted(rows, key=lambda row: row.epochs)
        epochs = [row.epochs for row in ordered]
        (line,) = axes.plot(epochs, [row.bits_per_character for row in ordered], "o-", label=f"{label}, not read")
        axes.plot(epochs, [row.read_bits for row in ordered], "o--", color=line.get_color(), label=f"{label}, read")
    axes.set(xscale="log", xlabel="epochs")


def _tokenizer_names(results: StudyResults) -> list[str]:
    """Characters and bytes first, then byte pairs by their number."""
    rows = sorted(results.rows, key=lambda row: (int(row.tokenizer.partition("-")[2] or 0), row.variant))
    return list(dict.fromkeys(row.variant for row in rows))


def _means(rows: Sequence[StudyRow], place: Callable[[StudyRow], float]) -> list[tuple[float, float]]:
    return [(x, mean(row.bits_per_character for row in same)) for x, same in sorted(_grouped(rows, place).items())]


def _grouped(rows: Iterable[StudyRow], key: Callable[[StudyRow], K]) -> dict[K, list[StudyRow]]:
    groups: dict[K, list[StudyRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
