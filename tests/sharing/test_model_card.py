"""The card says what is known and nothing else, Hugging Face reads its top, and its code runs."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from movieplotgpt.config import read_settings
from movieplotgpt.errors import ConfigError
from movieplotgpt.evaluation.compressors import CompressorScore
from movieplotgpt.evaluation.likelihood import LikelihoodReport
from movieplotgpt.evaluation.record import Evaluation
from movieplotgpt.evaluation.samples import SampleReport, SampleScores
from movieplotgpt.evaluation.titles import TitleLift
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.sharing.model_card import Cards, CardSettings, card_for, model_card

Make = Callable[..., Checkpoint]
TITLES = [
    "The Hollow Piano",
    "The Lighthouse Keeper's Daughter",
    'She Said "Stop", He Said "Go", They Said "Wait"',
    "Amélie 🎬 東京",
    "$HOME, `ls` and C:\\new",
    "A Title Too Long for the Line It Would Stand in Otherwise",
]
TRAINING = {
    "step": 1200,
    "tokens": 9_830_400,
    "seconds": 2700.0,
    "device": "cpu",
    "precision": "float32",
    "threads": 2,
    "torch": "2.13.0",
}
INFO = {
    "corpus": {"source": "films.csv", "source_sha256": "a" * 64, "hash": "c" * 64, "split_hash": "5" * 64},
    "training": TRAINING,
    "settings": {"optimizer": {"kind": "muon", "learning_rate": 0.02}},
}


def card(**changes: Any) -> CardSettings:
    values = {
        "models": ("films",),
        "summary": "Writes an invented film.",
        "licence": "cc-by-sa-4.0",
        "data": "\nTrained on 60 invented films.\n",
        "limits": "\nIt has learned nothing.\n",
        "example": "The Hollow Piano",
    }
    return CardSettings.model_validate({**values, **changes})


def measured(lift: bool = True, compressors: bool = True, notes: tuple[str, ...] = ()) -> Evaluation:
    """What a card reads of an evaluation."""
    saved: dict[str, Any] = {"bits_per_character": 0.0123, "interval": (0.0111, 0.0135)}
    scored: dict[str, Any] = {
        "bits_per_character": 1.3014,
        "interval": (1.2914, 1.3124),
        "split": "test",
        "prompt": "plain",
        "documents": 1_090,
        "characters": 2_000_000,
        "split_hash": "5" * 64,
        "title_lift": TitleLift.model_construct(**saved) if lift else None,
        "notes": notes,
    }
    price: dict[str, Any] = {"name": "xz", "bits_per_character": 2.125}
    both: dict[str, Any] = {
        "likelihood": LikelihoodReport.model_construct(**scored),
        "compressors": (CompressorScore.model_construct(**price),) if compressors else (),
    }
    return Evaluation.model_construct(**both)


def block(text: str, language: str) -> str:
    """The one block of code in ``language``."""
    [code] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return code


def front_matter(text: str) -> dict[str, Any]:
    """The lines between the dashes, read by the few rules they need: ``key: value`` and lists of ``- item``."""
    opening, lines, _ = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    assert opening == ""
    values: dict[str, Any] = {}
    key = ""
    for line in lines.strip().split("\n"):
        if line.startswith("- "):
            values[key].append(line[2:])
            continue
        key, colon, value = line.partition(":")
        assert colon and re.fullmatch("[a-z_]+", key) and key not in values, line
        assert re.fullmatch(r"| [A-Za-z0-9][\w.-]*", value), f"{line!r} would need quotes in YAML"
        values[key] = value[1:] if value else []
    return values


def test_the_card_tells_how_the_score_fell(tiny_checkpoint: Make) -> None:
    info = {**INFO, "training": {**TRAINING, "curve": [[600, 1.51], [1200, 1.3014]]}}
    text = model_card("films", card(), replace(tiny_checkpoint(), info=info), None)
    assert "| validation, bits per character | step 600: 1.510; step 1,200: 1.301 |" in text


def test_samples_cannot_be_taken_for_the_card_s_own_words(tiny_checkpoint: Make) -> None:
    text = model_card("films", card(), tiny_checkpoint(), None, samples={"A\n## Title": "One.\n\n## Licence <b>\nTwo."})
    assert "**A ## Title**\n\n> One.\n>\n> ## Licence &lt;b&gt;\n> Two.\n" in text
    assert "## Samples" not in model_card("films", card(), tiny_checkpoint(), None)


@pytest.mark.parametrize("licence_name", [None, "none-stated"])
def test_hugging_face_reads_the_front_matter(tiny_checkpoint: Make, licence_name: str | None) -> None:
    made = card(licence="other", licence_name=licence_name, tags=("movie-plots", "invented"), language="de")
    text = model_card("films", made, tiny_checkpoint(), None)
    expected = {
        "language": "de",
        "license": "other",
        **({"license_name": licence_name} if licence_name else {}),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["movieplotgpt", "movie-plots", "invented"],
    }
    assert front_matter(text) == expected
    with contextlib.suppress(ImportError):  # a guest of transformers: the oracle where it is there
        import yaml  # type: ignore[import-untyped, unused-ignore]

        assert yaml.safe_load(text.split("---\n")[1]) == expected


def test_what_the_toml_says_of_the_text_is_on_the_card(tiny_checkpoint: Make) -> None:
    text = model_card("films", card(), tiny_checkpoint(), None)
    assert "# films\n\nWrites an invented film. A transformer in the Qwen3 layout with 0.0 M parameters" in text
    assert "2 layers, 32 wide, context 64 tokens; bpe tokenizer of 400 tokens" in text
    assert "## Text and licence\n\nTrained on 60 invented films.\n\n## Training" in text
    assert text.endswith("## Limits\n\nIt has learned nothing.\n")


def test_how_it_was_trained_is_on_the_card(tiny_checkpoint: Make) -> None:
    text = model_card("films", card(), replace(tiny_checkpoint(), info=INFO), None)
    for row in (
        f"| source | `films.csv`, SHA-256 `{'a' * 64}` |",
        f"| corpus and split | `{'c' * 64}`, split `{'5' * 64}` |",
        "| steps | 1,200 |",
        "| tokens | 9,830,400 |",
        "| optimizer | kind muon, learning_rate 0.02 |",
        "| time | 45.0 minutes on cpu, float32, threads 2, torch 2.13.0 |",
    ):
        assert row in text.splitlines()
    without = model_card("films", card(), replace(tiny_checkpoint(), info={**INFO, "settings": {}}), None)
    assert "| steps |" in without and "| optimizer |" not in without


def test_teachers_and_what_came_before_are_on_the_card(tiny_checkpoint: Make) -> None:
    settings = {"distillation": {"teachers": ["runs/large"], "weight": 0.5, "temperature": 1.0}}
    before = [
        {
            "step": 1000,
            "tokens": 65_536_000,
            "seconds": 162,
            "device": "GPU 1",
            "precision": "bfloat16",
            "threads": 1,
            "validation_bits_per_character": 1.125,
        },
        {
            "step": 10,
            "tokens": 640,
            "seconds": 6,
            "device": "cpu",
            "precision": "float32",
            "threads": 2,
            "validation_bits_per_character": None,
        },
    ]
    info = {**INFO, "settings": settings, "trained_before": before}
    text = model_card("films", card(), replace(tiny_checkpoint(), info=info), None)
    assert "| teachers | 1, weight 0.5, temperature 1.0 |" in text
    assert (
        "| begun with the weights of | a training of 1,000 steps, 65,536,000 tokens, 2.7 minutes on GPU 1, validation "
        "1.125; a training of 10 steps, 640 tokens, 0.1 minutes on cpu |"
    ) in text


@pytest.mark.parametrize("info", [{}, {"corpus": INFO["corpus"]}, {"training": TRAINING}])
def test_a_training_that_is_not_recorded_is_not_invented(tiny_checkpoint: Make, info: dict[str, Any]) -> None:
    text = model_card("films", card(), replace(tiny_checkpoint(), info=info), None)
    assert "## Training\n\nNot recorded.\n\n" in text


def test_the_numbers_name_split_prompt_and_interval(tiny_checkpoint: Make) -> None:
    text = model_card("films", card(), tiny_checkpoint(), measured(notes=("it may have seen this",)))
    scorecard = text.split("## How well it does")[1].split("## ")[0]
    assert "| bits per character | **1.301** (1.291 to 1.312) |" in scorecard
    assert "| xz on the same text | 2.125 |" in scorecard
    assert "| title lift, bits per character | 0.0123 (0.0111 to 0.0135) |" in scorecard
    assert "On the test split (1,090 documents, 2,000,000 characters; split `5555555555555555`)" in scorecard
    assert "prompt form: plain" in scorecard and scorecard.rstrip().endswith("it may have seen this")
    assert "rounded" not in scorecard and "Not measured" not in scorecard
    rounded = model_card("films", card(), tiny_checkpoint(), measured(), rounded=True)
    assert "before they were rounded to bfloat16" in rounded


def test_what_it_writes_stands_between_real_and_random_texts(tiny_checkpoint: Make) -> None:
    blank: dict[str, Any] = dict.fromkeys(SampleScores.model_fields.keys() - {"name", "texts", "copied", "intervals"})
    rows = [
        SampleScores.model_construct(name=name, texts=300, copied=copied, **blank)
        for name, copied in (("real A", 0.0002), ("trigrams", 0.2666), ("films", 0.0101))
    ]
    told: dict[str, Any] = {"rows": tuple(rows), "characters_read": 1_000, "judge": "critic"}
    report = SampleReport.model_construct(**told)
    text = model_card("films", card(), tiny_checkpoint(), measured().model_copy(update={"samples": report}))
    writing = text.split("## What it writes\n\n")[1].split("\n## ")[0]
    assert writing.startswith("300 texts, the first 1,000 characters of each")  # of a model without titles
    assert (
        "| | real A | trigrams | films |\n| --- | ---: | ---: | ---: |\n| copied | 0.02 % | 26.66 % | 1.01 % |"
        in writing
    )
    assert "the judge is critic; ± is how far" in writing and "invented" not in writing  # what was not asked has no row
    assert "## What it writes" not in model_card("films", card(), tiny_checkpoint(), measured())


def test_what_was_not_measured_is_not_on_the_card(tiny_checkpoint: Make) -> None:
    text = model_card("films", card(), tiny_checkpoint(), measured(lift=False, compressors=False))
    assert "| title lift" not in text and "xz" not in text
    assert "## How well it does\n\nNot measured yet.\n" in model_card("films", card(), tiny_checkpoint(), None)


def typed(line: str) -> list[str]:
    """The arguments that a shell hands on."""
    script = "movieplotgpt() { for each; do printf '%s\\n' \"$each\"; done; }; " + line.removeprefix("$ ")
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    return done.stdout.decode().splitlines()


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
@pytest.mark.parametrize("example", TITLES)
@pytest.mark.parametrize("header", ["The plot summary of the movie named '{Title}' is:", ""])
def test_the_examples_ask_for_what_the_card_names(tiny_checkpoint: Make, header: str, example: str) -> None:
    checkpoint = tiny_checkpoint(header=header)
    text = model_card("films", card(example=example), checkpoint, None)
    command = ["generate", "--model", "films", "--title" if header else "--input", example]
    assert typed(block(text, "console")) == command
    [prompt] = [
        node.value
        for node in ast.walk(ast.parse(block(text, "python")))
        if isinstance(node, ast.Assign) and ast.unparse(node).startswith("prompt = ")
    ]
    assert ast.literal_eval(prompt) == (f"The plot summary of the movie named '{example}' is:\n" if header else example)


@pytest.mark.parametrize("header", ["The plot summary of the movie named '{Title}' is:", ""])
def test_ruff_finds_nothing_to_format_in_a_card(
    tiny_checkpoint: Make, repository: Path, tmp_path: Path, header: str
) -> None:
    checkpoint = tiny_checkpoint(header=header)
    for number, example in enumerate(TITLES):
        path = tmp_path / str(number) / "README.md"
        path.parent.mkdir()
        path.write_text(model_card("films", card(example=example), checkpoint, None), encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "format", "--check", "--no-cache"]
    command += ["--config", str(repository / "pyproject.toml"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(TITLES)} files already formatted" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bpe", "char"])
@pytest.mark.parametrize("header", ["The plot summary of the movie named '{Title}' is:", ""])
def test_the_code_on_a_card_runs(
    tiny_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, header: str
) -> None:
    pytest.importorskip("transformers")
    checkpoint = tiny_checkpoint(kind, header=header, context_length=512)
    save_checkpoint(tmp_path / "weights" / "films", checkpoint)
    monkeypatch.chdir(tmp_path)
    code = block(model_card("films", card(example="Ada's mirror"), checkpoint, None), "python")
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})  # noqa: S102 - our own code, which is the subject
    opening = header.replace("{Title}", "Ada's mirror") + "\n" if header else "Ada's mirror"
    assert printed.getvalue().startswith(f"END_OF_PLOT{opening}")
    assert len(printed.getvalue()) > len(opening) + 20


TOML = """
[cards.one]
models = ["a", "b"]
summary = "One."
licence = "mit"
data = "Data."
limits = "Limits."
example = "E"

[cards.two]
models = ["c"]
summary = "Two."
licence = "mit"
data = "Data."
limits = "Limits."
example = "E"
"""


def test_a_card_is_found_by_the_name_of_its_model(tmp_path: Path) -> None:
    path = tmp_path / "cards.toml"
    path.write_text(TOML, encoding="utf-8")
    assert [card_for(name, path).summary for name in "abc"] == ["One.", "One.", "Two."]
    with pytest.raises(
        ConfigError, match=r"cards\.toml has no card for 'd'; add the name to `models` of one, or a new"
    ):
        card_for("d", path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('summary = "Two."\n', "", "summary"),
        ('summary = "Two."', 'sumary = "Two."', "did you mean"),
        ('models = ["c"]', "models = []", "models"),
        ("[cards.two]", "[cards.two", r"cards\.toml"),
    ],
)
def test_a_wrong_card_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "cards.toml"
    assert old in TOML
    path.write_text(TOML.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        card_for("c", path)


def test_the_cards_of_this_repository_can_be_read(repository: Path) -> None:
    path = repository / "weights" / "cards.toml"
    names = [name for one in read_settings(Cards, path).cards.values() for name in one.models]
    assert len(names) == len(set(names)) > 0
    assert all(card_for(name, path).licence for name in names)


def test_title_lift_is_explained_only_where_there_are_titles(tiny_checkpoint: Make) -> None:
    for lift in (True, False):
        text = model_card("films", card(), tiny_checkpoint(), measured(lift=lift))
        assert ("Title lift is what" in text) is lift and "the 95 % interval, documents resampled." in text
