"""Adapt what common clients send to the strict models of ``requests.py``.

Clients write "off" as 0, -1, an empty text or null, and send fields of other servers. Here "off" becomes an absent field, unknown
fields are dropped, and limits are clamped; whatever is dropped or changed is reported to the client.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from movieplotgpt.serving.requests import MOST_TOKENS, Message, PlotsRequest, StreamOptions, TextPart

OFF = {  # field: at this value or below it, the setting is off
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"), -1),
    **dict.fromkeys(("min_tokens", "target_characters", "top_k", "top_p", "typical_p", "repetition_penalty"), 0),
    **dict.fromkeys(("no_repeat_ngram", "dry_multiplier", "dry_allowed_length", "avoid_copies", "best_of"), 0),
}
NOTHING: Mapping[str, tuple[Any, ...]] = {  # field: values that ask for nothing
    **dict.fromkeys(("model", "suffix"), ("",)),
    **dict.fromkeys(("tools", "functions"), ([],)),
    **dict.fromkeys(("tool_choice", "function_call"), ("none", "auto")),
    "response_format": ({"type": "text"}, {}),
    "modalities": (["text"], []),
}
MOST = dict.fromkeys(("max_tokens", "max_completion_tokens", "min_tokens"), MOST_TOKENS)
NESTED: Mapping[str, type[BaseModel]] = {"messages": Message, "content": TextPart, "stream_options": StreamOptions}
SEEDS = 1 << 63  # a negative seed other than -1 is taken modulo this
REPORTED = ("X-Ignored-Fields", "X-Changed-Fields")  # response headers
MOST_REPORTED, LONGEST_REPORTED = 20, 60  # names in a header, characters of each


@dataclass(frozen=True)
class Adapted:
    """A body for a strict model, and what was done to it: names of ignored fields, and changes such as ``top_k=off``."""

    body: Any
    ignored: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def headers(self) -> dict[str, str]:
        """Return the response headers that report it."""
        named = zip(REPORTED, (self.ignored, self.changed), strict=True)
        return {name: ", ".join(map(_header_safe, texts[:MOST_REPORTED])) for name, texts in named if texts}


def adapt(body: Any, model: type[BaseModel]) -> Adapted:
    """Return ``body``, parsed JSON, as ``model`` accepts it; what is wrong in any other way stays as it is.

    Unknown fields of ``/v1/plots`` stay too: no other server has this route, so they are typing errors.
    """
    if not isinstance(body, dict):
        return Adapted(body)
    ignored: dict[str, None] = {}
    values = _known(body, None if model is PlotsRequest else model, "", ignored)
    changed = []
    if values.get("tool_choice") == "none" and values.pop("tools", None):
        ignored["tools"] = None
    for name in [name for name, value in values.items() if name in NOTHING and value in NOTHING[name]]:
        del values[name]
    if values.get("logprobs") is False:
        del values["logprobs"]
    for name in values.keys() & OFF.keys():
        if _is_number(values[name]) and values[name] <= OFF[name]:
            del values[name]
            changed.append(f"{name}=off")
    for name in values.keys() & MOST.keys():
        if _is_number(values[name]) and values[name] > MOST[name]:
            values[name] = MOST[name]
            changed.append(f"{name}={MOST[name]}")
    if "stop" in values:
        values["stop"] = _texts(values["stop"])
    if _is_number(seed := values.get("seed", 0)) and -math.inf < seed < 0:
        del values["seed"]
        if seed != -1:
            values["seed"] = int(seed) % SEEDS
        changed.append(f"seed={values.get('seed', 'off')}")
    return Adapted(values, tuple(ignored), tuple(sorted(changed)))


def _known(
    values: dict[str, Any], model: type[BaseModel] | None, where: str, ignored: dict[str, None]
) -> dict[str, Any]:
    """Return ``values`` without nulls and without fields that ``model`` lacks, whose paths are added to ``ignored``."""
    kept = {}
    for name, value in values.items():
        if value is None:
            continue
        if model and name not in model.model_fields:
            ignored[where + name] = None
            continue
        inner = NESTED.get(name)
        if isinstance(value, dict):
            value = _known(value, inner, f"{where}{name}.", ignored)
        elif inner and isinstance(value, list):
            each = (part for part in value if part is not None and not _is_refusal(part))
            value = [
                _known(part, inner, f"{where}{name}.", ignored) if isinstance(part, dict) else part for part in each
            ]
        kept[name] = value
    return kept


def _is_refusal(part: Any) -> bool:
    """Return whether it is the part of an assistant's message that explains why there is no text."""
    return isinstance(part, dict) and part.get("type") == "refusal"


def _texts(stop: Any) -> Any:
    """Return stop strings without empty ones."""
    if isinstance(stop, list):
        return [text for text in stop if text is not None and text != ""]
    return [] if stop == "" else stop


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _header_safe(text: str) -> str:
    """Return ``text`` in the characters that a header may hold, shortened: field names are the client's."""
    return quote(text[:LONGEST_REPORTED], safe=" =.[]", errors="replace")
