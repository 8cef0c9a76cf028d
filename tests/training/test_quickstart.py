"""A text and a number of minutes become a whole run, each choice with its reason."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from movieplotgpt.cli.words import in_flags
from movieplotgpt.config import build_settings
from movieplotgpt.errors import ConfigError, DataError
from movieplotgpt.text.corpora import PlainCorpus, TableCorpus
from movieplotgpt.text.prepare import prepare
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.text.tokenizer import BpeSettings, CharSettings
from movieplotgpt.training.quickstart import suggest
from movieplotgpt.training.run import RunConfig
from movieplotgpt.training.windows import too_small

TextOf = Callable[[int], str]


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


def test_a_small_text_is_read_by_characters(plain: Callable[[int], Path]) -> None:
    suggestion = suggest(plain(20_000), minutes=5)
    config = suggestion.config
    assert (config.corpus, config.format.header) == (PlainCorpus(), "")
    assert config.tokenizer == CharSettings()
    assert (config.model.size, config.training.minutes) == ("auto", 5)
    assert suggestion.reasons == ("20,000 characters of text: single characters, read 512 at once",)


@pytest.mark.parametrize("characters", [500, 1000, 3000, 20_000])
def test_the_suggested_context_fits_the_text(plain: Callable[[int], Path], tmp_path: Path, characters: int) -> None:
    """Several windows fill the training split, and preparing with the suggestion shows that they do."""
    config = suggest(plain(characters), minutes=1).config
    context_length = config.model.context_length
    assert context_length == 32 or 8 * context_length <= characters
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


@pytest.mark.parametrize("characters", [40, 20_000, 1_000_000])
def test_every_suggestion_is_a_valid_config(plain: Callable[[int], Path], characters: int) -> None:
    suggestion = suggest(plain(characters), minutes=0.5)
    assert build_settings(RunConfig, suggestion.config.model_dump(mode="json")) == suggestion.config


def test_what_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, table: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.txt"):
        suggest(tmp_path / "absent.txt", minutes=5)
    with pytest.raises(DataError, match="Plot"):
        suggest(table, minutes=5, text_column="Plot")
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"empty\.txt"):
        suggest(tmp_path / "empty.txt", minutes=5)


@pytest.mark.parametrize(
    ("rows", "characters", "planned", "said"),
    [
        (2_000, 2_600, True, "plans: half of the texts have 2,"),
        (20_000, 260, False, "no plans: half of the texts are shorter"),
        (120, 10_000, False, "no plans: a model needs 5,000,000 characters"),
    ],
)
def test_plans_are_for_much_text_in_long_documents(
    tmp_path: Path, text_of: TextOf, rows: int, characters: int, planned: bool, said: str
) -> None:
    path, text = tmp_path / "table.csv", text_of(characters)
    path.write_text("Name,Story\n" + "\n".join(f'Film {i},"{i} {text}"' for i in range(rows)), encoding="utf-8")
    suggestion = suggest(path, minutes=5, title_column="Name", text_column="Story")
    assert suggestion.config.format.has_plan == planned
    assert suggestion.reasons[-1].startswith(said)
    assert not suggest(path, minutes=5, text_column="Story").config.format.has_plan


def test_texts_divided_as_other_programs_do_are_documents(tmp_path: Path, text_of: TextOf) -> None:
    path = tmp_path / "stories.txt"
    path.write_text("<|endoftext|>\n".join(f"{number} {text_of(500)}" for number in range(20)), encoding="utf-8")
    suggestion = suggest(path, minutes=5)
    assert suggestion.documents == 20
    assert suggestion.config.corpus == PlainCorpus(separator="<|endoftext|>")
    assert suggestion.reasons[0] == "documents are divided at <|endoftext|>"
    assert suggest(path, minutes=5, overrides=['corpus.separator="\\n"']).config.corpus == PlainCorpus(separator="\n")


@pytest.mark.parametrize("name", ["Plot", " Plot ", "Plot {US}", 'It\'s a "plot"', "Plot\n(English)"])
def test_the_column_that_an_error_proposes_can_be_used(tmp_path: Path, text_of: TextOf, name: str) -> None:
    path = tmp_path / "films.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["Title", name], *([f"Film {number}", text_of(900)] for number in range(20))])
    with pytest.raises(ConfigError, match=r"films.csv is a table with the columns Title, ") as error:
        suggest(path, minutes=5)
    flag, proposed = shlex.split(in_flags(str(error.value)).partition("the text: ")[2].partition(" (and")[0])
    assert flag == "--text-column" and f"text_column={proposed!r} (and" in str(error.value)
    for title in ("Title", proposed):
        suggestion = suggest(path, minutes=5, text_column=proposed, title_column=title)
        assert suggestion.documents == 20
        prepare(suggestion.config, path, tmp_path / title.replace("/", ""))


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_a_table_is_never_learnt_as_plain_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"films{suffix}"
    frame = pl.DataFrame({"Title": ["a"], "Plot": ["text of some length"]})
    writers: dict[str, Callable[[Path], Any]] = {
        ".json": frame.write_json,
        ".jsonl": frame.write_ndjson,
        ".csv": frame.write_csv,
    }
    writers.get(suffix, frame.write_parquet)(path)
    with pytest.raises(
        ConfigError, match=r"is a table with the columns Title, Plot; name the one with the text: text_column='Plot'"
    ):
        suggest(path, minutes=5)
