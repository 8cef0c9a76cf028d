"""The JSON schema of a settings file, with which editors complete and check TOML."""

from __future__ import annotations

from typing import Any

from movieplotgpt.config import Settings

EXTENDS = {
    "type": "string",
    "description": "Another settings file, by its path from this one, whose settings this one changes.",
}


def toml_schema(cls: type[Settings]) -> dict[str, Any]:
    """Return the JSON schema of a TOML file that is read as ``cls``.

    No setting is required, because a file may extend another one, and none is null, which TOML cannot express.
    """
    schema: dict[str, Any] = _for_toml(cls.model_json_schema())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"] = {"extends": EXTENDS, **schema["properties"]}
    return schema


def _for_toml(node: Any, *, names: bool = False) -> Any:
    """Rewrite a node of pydantic's schema; the keys of ``properties`` and ``$defs`` are ``names`` and stay."""
    if isinstance(node, list):
        return [_for_toml(item) for item in node]
    if not isinstance(node, dict):
        return node
    if names:
        return {key: _for_toml(value) for key, value in node.items()}
    kept: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("required", "title", "discriminator") or (key == "default" and value is None):
            continue
        if key in ("anyOf", "oneOf"):
            kept |= _choice([option for option in value if option != {"type": "null"}])
        elif key == "default":
            kept[key] = value
        else:
            kept[key] = _for_toml(value, names=key in ("properties", "$defs"))
    return kept


def _choice(options: list[Any]) -> dict[str, Any]:
    """Return what accepts any of ``options``: a section without ``kind`` may fit several kinds."""
    rewritten = [_for_toml(option) for option in options]
    return rewritten[0] if len(rewritten) == 1 else {"anyOf": rewritten}
