"""A plan reckons with the steps it took, and says what a study of the same text expects."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from movieplotgpt.config import read_settings
from movieplotgpt.errors import ConfigError, TrainingError
from movieplotgpt.study import planning
from movieplotgpt.study.planning import make_plan
from movieplotgpt.study.results import Law, StudyResults, StudyRow, tokens_in_epoch
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


def a_study(corpus: PreparedCorpus, settings: RunConfig, parameters: int, characters: float) -> StudyResults:
    run = {"size": "tiny", "tokenizer": "byte", "budget": "epochs", "amount": 2, "seed": 1, "tokens": 9, "epochs": 2}
    run |= {"flops": 1, "minutes": 1, "bits_per_character": 3, "interval": None, "curve": ()}
    text = TextLaw(
        floor=0.8,
        interval=(0.7, 0.9),
        a=45,
        alpha=0.3,
        b=900,
        beta=0.4,
        largest_error=0.005,
        foretold_error=0.01,
        points=9,
    )
    return StudyResults(
        name="films",
        source="plots.csv",
        corpus_hash=corpus.manifest.corpus_hash,
        split_hash="s",
        split="test",
        settings={},
        machine="cpu",
        rows=(StudyRow.model_validate({**run, "parameters": parameters, "characters": characters}),),
        laws=(Law(tokenizer="byte", settings=settings.learning, sizes={}, text=text),),
    )


def test_a_study_says_what_to_expect(films_toml: Path, corpus: PreparedCorpus) -> None:
    characters = corpus.manifest.splits["train"].characters
    alone = make_plan(planned(films_toml, "training.epochs=2"), corpus)
    assert alone.bits_per_character is None and "makes a study of a text" in (alone.unknown or "")
    same = planned(films_toml, "training.epochs=1", "model.size=base", "training.seed=5", "training.evaluations=7")
    study = a_study(corpus, same, alone.parameters, 2.0 * characters)
    plan = make_plan(planned(films_toml, "training.epochs=2"), corpus, study)
    law = study.laws[0].text
    assert law and plan.bits_per_character == pytest.approx(law.bits(plan.parameters, plan.epochs * characters))
    assert (plan.off_by, plan.unknown) == (0.01, None)


def test_a_study_does_not_speak_of_what_is_far_from_it(films_toml: Path, corpus: PreparedCorpus) -> None:
    characters, settings = corpus.manifest.splits["train"].characters, planned(films_toml)
    study = a_study(corpus, settings, 1_000_000, 1.0 * characters)

    def unknown(study: StudyResults, n_parameters: int, epochs: float) -> str:
        found = planning._law_for(settings, corpus, n_parameters, epochs, study)
        return found if isinstance(found, str) else ""

    assert unknown(study, 2_000_000, 2.0) == ""
    assert "have 1.0 to 1.0 M parameters, and this network 2.1 M" in unknown(study, 2_100_000, 1.0)
    assert "and this network 0.4 M" in unknown(study, 400_000, 1.0)
    assert "M characters, and this training reads" in unknown(study, 1_000_000, 2.1)
    assert "M characters, and this training reads" in unknown(study, 1_000_000, 0.4)
    often = a_study(corpus, settings, 1_000_000, 8.0 * characters)
    assert "read the text up to 8.0 times, and this training 4.1 times" in unknown(often, 1_000_000, 4.1)
    other = study.model_copy(update={"laws": ()})
    assert "has no law for byte (it tried byte)" in unknown(other, 1_000_000, 1.0)
    elsewhere = study.model_copy(update={"corpus_hash": "of another text"})
    assert "is a study of another text, plots.csv" in unknown(elsewhere, 1_000_000, 1.0)


def test_a_study_speaks_only_of_trainings_with_its_settings(films_toml: Path, corpus: PreparedCorpus) -> None:
    characters = corpus.manifest.splits["train"].characters
    study = a_study(corpus, planned(films_toml, "optimizer.learning_rate=0.01"), 1_000_000, 1.0 * characters)

    def told(study: StudyResults, *overrides: str) -> TextLaw | str:
        return planning._law_for(planned(films_toml, *overrides), corpus, 1_000_000, 1.0, study)

    (slow,) = study.laws
    assert told(study, "optimizer.learning_rate=0.01") == slow.text
    here = told(study, "optimizer.learning_rate=0.01", "training.dropout=0.2", "training.gradient_clip=none")
    expected = "training.dropout was 0, here it is 0.2, training.gradient_clip was 1, here it is not set"
    assert here == f"the runs of films were trained otherwise: {expected}"
    other = told(study, "optimizer.kind=adamw")
    assert isinstance(other, str) and "optimizer.kind was muon, here it is adamw" in other
    assert "optimizer.momentum was 0.95, here it is not set" in other
    better = slow.text.model_copy(update={"floor": 0.7})
    changed = Law(tokenizer="byte, fast", settings=planned(films_toml).learning, sizes={}, text=better)
    rows = (*study.rows, study.rows[0].model_copy(update={"changes": ("fast",)}))
    both = study.model_copy(update={"laws": (slow, changed), "rows": rows})
    assert told(both) == better and told(both, "optimizer.learning_rate=0.01") == slow.text


def test_what_cannot_be_trained_cannot_be_planned(films_toml: Path, corpus: PreparedCorpus) -> None:
    missing = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(TrainingError, match=f"device {missing} is not available"):
        make_plan(planned(films_toml, f"training.device={missing}", "training.steps=5"), corpus)
    with pytest.raises(ConfigError, match="say how long"):
        make_plan(planned(films_toml), corpus)
