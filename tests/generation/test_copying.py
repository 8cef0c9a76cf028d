"""A model that has learnt its text by heart is caught, and goes another way when it is asked to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from movieplotgpt.generation.generator import PlotGenerator

pytestmark = pytest.mark.slow


def test_an_overfitted_model_copies_and_is_kept_from_it(overfitted: tuple[Path, Path]) -> None:
    model, data = overfitted
    generator = PlotGenerator.load(model, data=data)
    corpus = generator.copies.corpus
    assert corpus is not None
    titles = corpus.split("train").titles[:12]
    free = [generator.copies.report(plot.text) for plot in generator.plots(titles, seed=1, max_tokens=200)]
    assert np.mean([report.share for report in free]) > 0.5
    named = [report.copies[0].title == title for report, title in zip(free, titles, strict=True) if report.copies]
    assert np.mean(named) > 0.8, "the film is the one whose title was asked for"
    kept = generator.plots(titles, seed=1, max_tokens=200, avoid_copies=60)
    reports = [generator.copies.report(plot.text) for plot in kept]
    assert max(report.longest for report in reports) < 60
    assert np.mean([report.share for report in reports]) < 0.5 * np.mean([report.share for report in free])
    assert np.mean([plot.tokens for plot in kept]) > 20, "it goes on and does not just stop"
    shown = "".join(generator.stream(titles[0], seed=1, max_tokens=200, avoid_copies=60))
    assert shown == kept[0].text


def test_the_published_index_alone_keeps_it_from_copying_as_well(overfitted: tuple[Path, Path]) -> None:
    model, data = overfitted
    exact = PlotGenerator.load(model, data=data)
    blind = PlotGenerator.load(model)
    blind.__dict__["copies"] = type(exact.copies).load(data / "copies.npz")
    corpus = exact.copies.corpus
    assert corpus is not None
    plots = blind.plots(corpus.split("train").titles[:6], seed=1, max_tokens=200, avoid_copies=60)
    assert max(exact.copies.report(plot.text).longest for plot in plots) < 60
