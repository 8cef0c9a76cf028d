"""A plan reckons with the steps it took, and says what a study of the same text expects."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from movieplotgpt.config import read_settings
from movieplotgpt.errors import ConfigError, TrainingError
from movieplotgpt.study.planning import make_plan
from movieplotgpt.study.results import Law, StudyResults, tokens_in_epoch
from movieplotgpt.study.scaling import TextLaw
from movieplotgpt.text.prepare import prepare
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.run import RunConfig

FAST = ("training.tokens_per_step=256", "model.context_length=64", "model.size=tiny", "training.compile=off")


@pytest.fixture
def corpus(films_toml: Path, plots_csv: Path, tmp_path: Path) -> PreparedCorpus:
    prepare(read_settings(RunConfig, films_toml), plots_csv, tmp_path / "data")
    return PreparedCorpus.load(tmp_path / "data")


def planned(films_toml: Path, *overrides: str) -> RunConfig:
    return read_settings(RunConfig, films_toml, (*FAST, *overrides))


def test_a_plan_reckons_with_its_steps(films_toml: Path, corpus: PreparedCorpus) -> None:
    plan = make_plan(planned(films_toml, "training.epochs=3", "training.evaluations=2"), corpus)
    epoch = tokens_in_epoch(planned(films_toml), corpus)
    counts = corpus.manifest.splits["train"]
    assert epoch > counts.header_tokens + counts.body_tokens + counts.documents  # windows repeat headers
    assert plan.tokens_per_step == 256 and plan.steps == round(3 * epoch / 256)
    assert plan.epochs == pytest.approx(3, rel=0.02)
    assert plan.tokens_per_second == pytest.approx(256 / plan.step)
    assert plan.epoch_minutes == pytest.approx(epoch / 256 * plan.step / 60)
    seconds = plan.first_step + plan.step * (plan.steps - 1) + 2 * plan.evaluation
    assert plan.minutes == pytest.approx(seconds / 60) and plan.evaluation > 0
    assert plan.parameters * 16 < plan.memory < 2**33  # weights, gradients, moments; and all of Python
    assert (plan.bits_per_character, plan.off_by, plan.warnings) == (None, None, ())
    fixed = make_plan(planned(films_toml, "training.steps=7"), corpus)
    assert fixed.steps == 7


def test_a_text_that_will_be_memorised_is_said(films_toml: Path, corpus: PreparedCorpus) -> None:
    plan = make_plan(planned(films_toml, "training.epochs=40"), corpus)
    (warning,) = plan.warnings
    kilobytes = corpus.manifest.splits["train"].characters / 1e3
    assert f"your {kilobytes:.0f} kB are read 40 times" in warning and "memorised after about 12 epochs" in warning


def test_a_study_says_what_to_expect(films_toml: Path, corpus: PreparedCorpus) -> None:
    text = TextLaw(floor=0.8, interval=(0.7, 0.9), a=45, alpha=0.3, b=900, beta=0.4, largest_error=0.01, points=9)
    study = StudyResults(
        name="films",
        source="plots.csv",
        corpus_hash=corpus.manifest.corpus_hash,
        split_hash="s",
        split="test",
        settings={},
        machine="cpu",
        rows=(),
        laws=(Law(tokenizer="byte", sizes={}, text=text),),
    )
    plan = make_plan(planned(films_toml, "training.epochs=2"), corpus, study)
    characters = plan.epochs * corpus.manifest.splits["train"].characters
    assert plan.bits_per_character == pytest.approx(text.bits(plan.parameters, characters)) and plan.off_by == 0.01
    other = study.model_copy(update={"laws": (Law(tokenizer="char", sizes={}, text=text),)})
    assert make_plan(planned(films_toml, "training.epochs=2"), corpus, other).bits_per_character is None
    elsewhere = study.model_copy(update={"corpus_hash": "of another text"})
    assert make_plan(planned(films_toml, "training.epochs=2"), corpus, elsewhere).bits_per_character is None


def test_what_cannot_be_trained_cannot_be_planned(films_toml: Path, corpus: PreparedCorpus) -> None:
    missing = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(TrainingError, match=f"device {missing} is not available"):
        make_plan(planned(films_toml, f"training.device={missing}", "training.steps=5"), corpus)
    with pytest.raises(ConfigError, match="say how long"):
        make_plan(planned(films_toml), corpus)
