"""The README.md of a published model folder: what it is, what it was made from, how well it does, how to use it.

What no checkpoint can know of its text - where it comes from, its licence, its limits - is data: ``cards.toml`` beside
the weights, one table for each corpus.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from movieplotgpt.config import Settings, read_settings
from movieplotgpt.engine.model_config import parameters
from movieplotgpt.engine.model_record import ModelRecord, TrainingRecord
from movieplotgpt.errors import ConfigError
from movieplotgpt.evaluation.intervals import show_interval
from movieplotgpt.evaluation.record import Evaluation
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.report.tables import scorecard
from movieplotgpt.tables import Table
from movieplotgpt.text.formatting import one_line

SAMPLE_TOKENS = 200
_USE, _LIMITS = "## How to use it\n\n", "\n\n## Limits\n\n"


class CardSettings(Settings):
    """What the cards of ``models`` state about their text."""

    models: tuple[str, ...] = Field(min_length=1, description="The published names this card is for.")
    summary: str = Field(description="One sentence: what the model writes.")
    language: str = "en"
    licence: str = Field(description="As Hugging Face names it: cc-by-sa-4.0, other.")
    licence_name: str | None = Field(None, description="For licence 'other'.")
    data: str = Field(description="Where the text comes from, and under which licence.")
    limits: str = Field(description="What the model is not good for.")
    tags: tuple[str, ...] = ()
    example: str = Field(description="A title, or, for a text without titles, the beginning of one.")
    samples: tuple[str, ...] = Field((), description="Titles, or begins of texts, that every card shows a sample for.")


class Cards(Settings):
    """The whole of ``cards.toml``."""

    cards: dict[str, CardSettings]


def card_for(name: str, path: Path) -> CardSettings:
    """The card in ``path`` (TOML) that names the model ``name``.

    Raises:
        ConfigError: the file is missing or wrong, or no card in it names the model.
    """
    for card in read_settings(Cards, path).cards.values():
        if name in card.models:
            return card
    raise ConfigError(f"{path} has no card for {name!r}; add the name to `models` of one, or a new [cards.NAME]")


def model_card(
    name: str,
    card: CardSettings,
    checkpoint: Checkpoint,
    measured: Evaluation | None,
    *,
    samples: Mapping[str, str] | None = None,
    rounded: bool = False,
) -> str:
    """Return the card's text; ``rounded`` if the numbers are those of the weights before rounding to bfloat16.

    ``samples``: what the model writes for each of the card's titles, by title.
    """
    parts = [
        _front_matter(card),
        f"# {name}\n\n{card.summary} {_network(checkpoint)}",
        f"## Text and licence\n\n{card.data.strip()}",
        f"## Training\n\n{_training(checkpoint.record)}",
        f"## How well it does\n\n{_scorecard(measured, rounded)}",
        *([f"## What it writes\n\n{_writing(measured)}"] if measured and measured.samples else []),
        *([f"## Samples\n\n{_samples(samples)}"] if samples else []),
        f"{_USE}{_usage(name, card, checkpoint)}{_LIMITS}{card.limits.strip()}",
    ]
    return "\n\n".join(parts) + "\n"


def with_usage(text: str, name: str, card: CardSettings, checkpoint: Checkpoint) -> str:
    """The card ``text`` with its section on use as it is written today."""
    before, rest = text.split(_USE, 1)
    return before + _USE + _usage(name, card, checkpoint) + _LIMITS + rest.split(_LIMITS, 1)[1]


def _front_matter(card: CardSettings) -> str:
    """The YAML that Hugging Face reads."""
    lines = ["---", f"language: {card.language}", f"license: {card.licence}"]
    if card.licence_name:
        lines.append(f"license_name: {card.licence_name}")
    tags = ["movieplotgpt", *card.tags]
    lines += ["library_name: transformers", "pipeline_tag: text-generation", "tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join([*lines, "---"])


def _network(checkpoint: Checkpoint) -> str:
    config = checkpoint.config
    return (
        f"A transformer in the Qwen3 layout with {parameters(config) / 1e6:.1f} M parameters: {config.n_layer} layers, "
        f"{config.n_embd} wide, context {config.context_length} tokens; {checkpoint.tokenizer.kind} tokenizer of "
        f"{checkpoint.tokenizer.vocab_size:,} tokens. Trained from scratch by "
        "[MoviePlotGPT](../../README.md)."
    )


def _training(record: ModelRecord) -> str:
    corpus, training, distillation = record.corpus, record.training, record.settings.distillation
    if not corpus.hash or not training:
        return "Not recorded."
    facts = {
        "source": f"`{corpus.source}`, SHA-256 `{corpus.source_sha256}`",
        "corpus and split": f"`{corpus.hash}`, split `{corpus.split_hash}`",
        "steps": f"{training.step:,}",
        "tokens": f"{training.tokens:,}",
        "optimizer": ", ".join(f"{key} {value}" for key, value in record.settings.optimizer.items()),
        "teachers": f"{len(distillation.teachers)}, weight {distillation.weight}, temperature {distillation.temperature}"
        if distillation and distillation.teachers
        else "",
        "begun with the weights of": "; ".join(map(_said, record.trained_before)),
        "validation, bits per character": "; ".join(f"step {step:,.0f}: {bits:.3f}" for step, bits in training.curve),
        "time": f"{training.seconds / 60:.1f} minutes on {training.device}, {training.precision}, threads "
        f"{training.threads}, torch {training.torch}",
    }
    table = Table(("", ""), [fact for fact in facts.items() if fact[1]], words=("",))
    return f"{table.markdown()}\n\nAll settings are in `movieplotgpt.json`."


def _said(before: TrainingRecord) -> str:
    """Return an earlier training in a few words."""
    bits = before.validation_bits_per_character
    return (
        f"a training of {before.step:,} steps, {before.tokens:,} tokens, {before.seconds / 60:.1f} minutes on "
        f"{before.device}" + (f", validation {bits:.3f}" if bits else "")
    )


def _scorecard(measured: Evaluation | None, rounded: bool) -> str:
    if measured is None:
        return "Not measured yet."
    likelihood, lift = measured.likelihood, measured.likelihood.title_lift
    rows = [("bits per character", f"**{likelihood.bits_per_character:.3f}** ({show_interval(likelihood.interval)})")]
    rows += [(f"{score.name} on the same text", f"{score.bits_per_character:.3f}") for score in measured.compressors]
    if lift:
        interval = show_interval(lift.interval, 4)
        rows.append(("title lift, bits per character", f"{lift.bits_per_character:.4f} ({interval})"))
    if planned := likelihood.plan_lift:
        interval = show_interval(planned.interval, 4)
        rows.append(("plan lift, bits per character", f"{planned.bits_per_character:.4f} ({interval})"))
    said = (
        f"On the {likelihood.split} split ({likelihood.documents:,} documents, {likelihood.characters:,} characters; "
        f"split `{likelihood.split_hash[:16]}`); prompt form: {likelihood.prompt}. In parentheses: the 95 % interval, "
        f"{likelihood.drawn_anew} resampled."
    )
    if lift:
        said += " Title lift is what the true title saves compared with another work's title."
    if rounded:
        said += " Measured on the float32 weights, before they were rounded to bfloat16."
    return "\n\n".join([Table(("", ""), rows, said, words=("",)).markdown(), *likelihood.notes])


def _writing(measured: Evaluation) -> str:
    """Return the scorecard of samples: a column for real texts, for random ones, and for the model."""
    assert measured.samples is not None
    report = measured.samples
    under = f" under titles of the {report.split} split" if report.rows[-1].titles else ""
    said = (
        f"{report.rows[-1].texts} texts{under}, the first {report.characters_read:,} characters of each, "
        f"drawn by default settings, between real texts (A of the {report.split} split, B others) and random ones made of real ones. "
        "*Copied* is the share of characters in runs of 50 and more shared with the training text"
        + (f", the judge is {report.judge}; " if report.judge else "; ")
        + "± is how far the 95 % interval of a number goes."
    )
    return scorecard(report.rows, said).markdown()


def _samples(samples: Mapping[str, str]) -> str:
    """Quoted, so that nothing a model writes is read as Markdown of the card's own."""
    parts = [
        f"**{one_line(html.escape(begin, quote=False))}**\n\n"
        + "\n".join(f"> {line}".rstrip() for line in html.escape(text, quote=False).split("\n"))
        for begin, text in samples.items()
    ]
    return "\n\n".join(
        [f"The first draw for each (seed 1, the default sampling, {SAMPLE_TOKENS} tokens at most), unpicked.", *parts]
    )


def _usage(name: str, card: CardSettings, checkpoint: Checkpoint) -> str:
    titled = bool(checkpoint.format.header)
    prompt = checkpoint.format.header_text(card.example) if titled else card.example
    flag = "--title" if titled else "--input"
    return f"""```console
$ movieplotgpt generate --model {name} {flag} {_in_quotes(card.example)}
```

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("weights/{name}")
model = AutoModelForCausalLM.from_pretrained("weights/{name}")
prompt = {_python_string(prompt)}
inputs = tokenizer(prompt, return_tensors="pt")
ids = model.generate(**inputs)
print(tokenizer.decode(ids[0]))
```

`generate` samples as `generation_config.json` sets it. In a chat - `pipeline("text-generation", ...)`, llama.cpp - the last
message is the {"title" if titled else "beginning of the text"}."""


def _python_string(text: str) -> str:
    """A literal in the quotes that ruff would choose."""
    return repr(text) if text.count('"') > text.count("'") else json.dumps(text, ensure_ascii=False)


def _in_quotes(text: str) -> str:
    """A word of a shell's command line."""
    return '"' + re.sub(r'([\\"$`])', r"\\\1", text) + '"'
