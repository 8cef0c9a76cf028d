"""A text and a number of minutes become a whole run, each choice with its reason."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from movieplotgpt.config import build_settings
from movieplotgpt.errors import DataError
from movieplotgpt.model.sizes import LADDER, parameters
from movieplotgpt.text.corpora import PlainCorpus, TableCorpus
from movieplotgpt.text.prepare import prepare
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.text.tokenizers import BpeSettings, CharSettings
from movieplotgpt.training import quickstart
from movieplotgpt.training.hardware import Hardware
from movieplotgpt.training.quickstart import MEMORISED_AFTER, Suggestion, suggest
from movieplotgpt.training.run import RunConfig, TrainingSettings
from movieplotgpt.training.trainer import too_small

SLOW, USUAL, FAST = 1e8, 1e11, 1e15  # operations a second
TextOf = Callable[[int], str]


@pytest.fixture(autouse=True)
def speed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``speed(flops)``: from here on the machine is this fast, whatever it is."""

    def set_speed(flops: float) -> None:
        monkeypatch.setattr(quickstart, "matmul_flops", lambda: flops)

    set_speed(USUAL)
    return set_speed


@pytest.fixture
def plain(tmp_path: Path, text_of: TextOf) -> Callable[[int], Path]:
    """``plain(characters)``: a text file of exactly so many characters."""
    prose = text_of(20_000)

    def write(characters: int) -> Path:
        path = tmp_path / f"{characters}.txt"
        path.write_text((prose * (characters // len(prose) + 1))[: characters - 1] + ".", encoding="utf-8")
        return path

    return write


@pytest.fixture
def table(tmp_path: Path, text_of: TextOf) -> Path:
    """1.2 million characters in 120 rows."""
    path = tmp_path / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Name", "Story"])
        rows.writerows([f"Film {number}", f"{number}. {text_of(10_000)}"] for number in range(120))
    return path


def passages(suggestion: Suggestion) -> str:
    return "\n".join(suggestion.reasons)


def test_a_small_text_is_read_by_characters_and_will_be_memorised(plain: Callable[[int], Path]) -> None:
    suggestion = suggest(plain(20_000), minutes=5)
    config = suggestion.config
    assert (config.corpus, config.format.header) == (PlainCorpus(), "")
    assert config.tokenizer == CharSettings()
    assert (config.model.size, config.training.minutes) == ("tiny", 5)
    assert suggestion.reasons[0] == "20,000 characters of text: single characters"
    assert "will be memorised" in passages(suggestion)
    assert "expect verbatim passages" in passages(suggestion)
    assert f"dropout {config.training.dropout}: " in passages(suggestion)


@pytest.mark.parametrize("characters", [500, 1000, 3000, 20_000])
def test_the_suggested_context_fits_the_text(plain: Callable[[int], Path], tmp_path: Path, characters: int) -> None:
    """Several windows fill the training split, and preparing with the suggestion shows that they do."""
    config = suggest(plain(characters), minutes=1).config
    context_length = config.model.context_length
    assert context_length == 32 or 8 * context_length <= characters
    assert config.training.tokens_per_step >= context_length
    prepare(config, plain(characters), tmp_path / "data")
    assert too_small(PreparedCorpus.load(tmp_path / "data"), context_length) is None


def test_a_longer_text_never_gets_a_shorter_context(plain: Callable[[int], Path]) -> None:
    lengths = [suggest(plain(n), minutes=1).config.model.context_length for n in (300, 600, 1200, 2500, 5000, 10_000)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1] == 512


def test_a_table_gets_its_columns_a_header_and_bpe(table: Path) -> None:
    suggestion = suggest(table, minutes=5, title_column="Name", text_column="Story")
    config = suggestion.config
    assert config.corpus == TableCorpus(text="Story")
    assert config.format.header == "Name: {Name}"
    assert config.format.title_column == "Name"
    assert config.tokenizer == BpeSettings(vocab_size=1024)
    assert "BPE with 1,024 tokens" in suggestion.reasons[0]


def test_a_table_without_titles_has_no_header(table: Path) -> None:
    config = suggest(table, minutes=5, text_column="Story").config
    assert (config.corpus, config.format.header) == (TableCorpus(text="Story"), "")


@pytest.mark.parametrize(("characters", "vocab_size"), [(999_999, None), (1_000_000, 1024), (5_000_000, 2048)])
def test_more_text_more_tokens(plain: Callable[[int], Path], characters: int, vocab_size: int | None) -> None:
    tokenizer = suggest(plain(characters), minutes=5).config.tokenizer
    assert tokenizer == (BpeSettings(vocab_size=vocab_size) if vocab_size else CharSettings())


@pytest.mark.parametrize(("flops", "often"), [(SLOW, False), (FAST, True)])
def test_a_text_seen_often_gets_dropout_and_patience(
    plain: Callable[[int], Path], speed: Callable[[float], None], flops: float, often: bool
) -> None:
    speed(flops)
    suggestion = suggest(plain(20_000), minutes=5)
    training = suggestion.config.training
    assert (training.dropout > 0, training.patience is not None) == (often, often)
    assert ("memorised" in passages(suggestion), "dropout" in passages(suggestion)) == (often, often)
    assert training.patience is None or training.patience < training.evaluations  # it can run out


def test_passes_are_the_budget_over_the_text(plain: Callable[[int], Path], speed: Callable[[float], None]) -> None:
    """6 operations a parameter and token, at half the speed of a bare matrix product, on the nine tenths trained on."""
    model = suggest(plain(20_000), minutes=5).config.model.model_config_for(1024)
    one_pass = 6 * parameters(model) * 0.9 * 20_000
    for passes in (MEMORISED_AFTER - 1, MEMORISED_AFTER + 1, 50):
        speed(passes * one_pass / (0.5 * 5 * 60))
        said = passages(suggest(plain(20_000), minutes=5))
        assert f"the text is seen about {passes} times" in said
        assert (f"about {passes} passes over the text" in said) == (passes > MEMORISED_AFTER)


def test_twice_the_time_is_twice_the_speed(plain: Callable[[int], Path], speed: Callable[[float], None]) -> None:
    longer = suggest(plain(300_000), minutes=10)
    speed(2 * USUAL)
    faster = suggest(plain(300_000), minutes=5)
    assert longer.reasons == faster.reasons
    minutes = {"minutes": 0.0}
    assert longer.config.training.model_copy(update=minutes) == faster.config.training.model_copy(update=minutes)
    assert longer.config.model == faster.config.model


def test_a_larger_budget_never_suggests_a_smaller_model(
    plain: Callable[[int], Path], speed: Callable[[float], None]
) -> None:
    ladder, path = list(LADDER), plain(8_000_000)
    sizes = []
    for flops in (1e6, 1e9, 1e10, 1e11, 1e12, 1e13, 1e15):
        speed(flops)
        sizes.append(ladder.index(suggest(path, minutes=10).config.model.size))
    assert sizes == sorted(sizes)
    assert sizes[0] == 0 < sizes[-1] < len(ladder) - 1  # the text, too, sets a limit
    assert suggest(plain(20_000), minutes=10).config.model.size == "tiny"


@pytest.mark.parametrize("flops", [SLOW, USUAL, FAST])
@pytest.mark.parametrize("characters", [40, 20_000, 1_000_000])
def test_every_suggestion_is_a_valid_config(
    plain: Callable[[int], Path], speed: Callable[[float], None], characters: int, flops: float
) -> None:
    speed(flops)
    suggestion = suggest(plain(characters), minutes=0.5)
    assert isinstance(suggestion.config, RunConfig)
    assert build_settings(RunConfig, suggestion.config.model_dump(mode="json")) == suggestion.config
    assert f"size {suggestion.config.model.size}, context {suggestion.config.model.context_length} " in passages(
        suggestion
    )


def test_what_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, table: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.txt"):
        suggest(tmp_path / "absent.txt", minutes=5)
    with pytest.raises(DataError, match="Plot"):
        suggest(table, minutes=5, text_column="Plot")
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"empty\.txt"):
        suggest(tmp_path / "empty.txt", minutes=5)


def test_speed_is_measured_on_the_hardware_a_run_would_use(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrainingSettings] = []

    def choose(settings: TrainingSettings) -> Hardware:
        asked.append(settings)
        return Hardware(torch.device("cpu"), torch.float32, False, ())

    monkeypatch.undo()  # the real measurement
    monkeypatch.setattr(quickstart, "choose_hardware", choose)
    flops = quickstart.matmul_flops(0.0)
    assert asked == [TrainingSettings()]
    assert math.isfinite(flops)
    assert flops > 0
