"""A study for a bare text: which sizes and tokenizers fit it, and what each run may cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from movieplotgpt import atomic
from movieplotgpt.config import build_settings, read_toml
from movieplotgpt.errors import ConfigError
from movieplotgpt.model.hardware import choose_hardware
from movieplotgpt.model.sizes import SizeName, SizeSettings, training_flops_per_token
from movieplotgpt.study.grid import StudySettings
from movieplotgpt.text.sources import source_sha256
from movieplotgpt.training.quickstart import suggest
from movieplotgpt.training.sizing import COMPILED, COMPILING_PAYS_FROM, SEEN_OFTEN, about_an_epoch, training_speed

STUDY, CONFIG = "study.toml", "config.toml"
SIZES: tuple[SizeName, ...] = ("tiny", "mini", "small")
TOKENS_PER_STEP = 2048  # a small text has few tokens for its many steps
SHORTER = ((("tiny", "mini"), 0.5), (("tiny", "mini"), 0.25))  # of the cost, with byte pairs, to fit a law
PER_TOKEN = 2.8  # characters of the whole text to a token that is trained on, about, with a thousand byte pairs
_SHARE = 0.55  # of the minutes that is spent in steps: the rest starts processes, compiles, evaluates


def suggest_study(
    text: Path,
    out: Path,
    minutes: float,
    *,
    title_column: str | None = None,
    text_column: str | None = None,
    overrides: Iterable[str] = (),
) -> tuple[Path, tuple[str, ...]]:
    """Write a study of ``text``, and the settings its runs share, into ``out``; returns its TOML, and what was chosen.

    Three sizes with characters and with byte pairs, at the same cost each, and the smaller ones for less, so that a law can
    be fitted; in about so many minutes together, or fewer where the smallest would read the text more than a few times:
    beyond that the laws of fresh text do not hold.

    Raises:
        ConfigError: the minutes are not above 0.
        DataError: the text cannot be read.
        StorageError: the disk refuses.
    """
    if minutes <= 0:
        raise ConfigError(f"minutes={minutes:g} is too short; it has to be above 0")
    suggestion = suggest(text, minutes=minutes, title_column=title_column, text_column=text_column, overrides=overrides)
    values = suggestion.config.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    tokenizer, context_length = values.pop("tokenizer"), values["model"]["context_length"]
    values["model"] = {"context_length": context_length}
    vocab_size = tokenizer.get("vocab_size", 512)
    pairs = f"bpe-{vocab_size}"
    smallest = SizeSettings(size=SIZES[0], context_length=context_length).model_config_for(vocab_size)
    epoch = about_an_epoch(suggestion.characters / PER_TOKEN, suggestion.documents, context_length)
    enough = SEEN_OFTEN * epoch * training_flops_per_token(smallest)  # operations, about
    speed = training_speed(suggestion.config.training, context_length)
    seconds = 60 * _SHARE * minutes / (2 * len(SIZES) + sum(len(sizes) * share for sizes, share in SHORTER))
    compiled = min(seconds, enough / speed) >= 60 * COMPILING_PAYS_FROM
    compiled = compiled and choose_hardware(suggestion.config.training).compile
    wanted = seconds * speed * (COMPILED if compiled else 1)
    flops = float(f"{min(wanted, enough):.1e}")
    values["training"] = {
        "tokens_per_step": TOKENS_PER_STEP,
        "evaluations": 5,
        **({} if compiled else {"compile": "off"}),
    }
    atomic.write_text(out / CONFIG, "".join(f"{line}\n" for line in _toml(values)))
    known = [f"config = {json.dumps(CONFIG)}", f"text = {json.dumps(source_sha256(text))}", f"minutes = {minutes!r}"]
    grids: list[dict[str, Any]] = [{"sizes": list(SIZES), "tokenizers": ["char", pairs], "flops": [flops]}]
    grids += [{"sizes": sizes, "tokenizers": [pairs], "flops": [share * flops]} for sizes, share in SHORTER]
    study = [*known, *(line for grid in grids for line in ("", "[[grid]]", *_toml(grid)))]
    atomic.write_text(out / STUDY, "\n".join(study) + "\n")
    reason = f"sizes {', '.join(SIZES)} with char and {pairs}, {flops:.1e} floating-point operations each, and "
    reason += f"{pairs} for half and a quarter of that"
    short = f"not more, as minutes would allow: {SIZES[0]} reads so short a text about {SEEN_OFTEN} times at that cost"
    return out / STUDY, (*suggestion.reasons, reason, *([short] if enough < wanted else []))


def refuse_other(text: Path, out: Path, minutes: float | None) -> None:
    """A study that goes on is of the same text, and of the same minutes where these are said.

    Raises:
        ConfigError: it is not.
        DataError: the text cannot be read.
    """
    known = build_settings(StudySettings, read_toml(out / STUDY), where=str(out / STUDY))
    if known.text not in (None, source_sha256(text)):
        raise ConfigError(f"{out} holds the study of another text than {text}; name another folder with out=FOLDER")
    if None not in (minutes, known.minutes) and minutes != known.minutes:
        raise ConfigError(
            f"{out} holds a study of {known.minutes:g} minutes, not of {minutes:g}; leave minutes={minutes:g} out to continue it, or "
            f"name another folder with out=FOLDER"
        )


def _toml(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys, which need no tables; JSON's plain values are TOML's."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _toml(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key} = {json.dumps(value, ensure_ascii=False)}"
