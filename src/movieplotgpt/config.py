"""How settings are read: TOML -> strict pydantic models <- dotted overrides.

Each part of the library keeps its settings beside its code as a subclass of ``Settings``; this file only knows how to
read them and how to say what is wrong with them.
"""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from movieplotgpt.errors import ConfigError

LONGEST_VALUE_SHOWN = 60
_ESCAPES = {r"\n": "\n", r"\r": "\r", r"\t": "\t", "\\\\": "\\"}


class Settings(BaseModel):
    """Frozen, and strict about names: a key nobody knows is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keep_the_default_kind(cls, values: Any) -> Any:
        """A section that names no kind is of its default's, so that one setting of it can be changed alone."""
        if not isinstance(values, dict):
            return values
        kinds = {name: getattr(field.default, "kind", None) for name, field in cls.model_fields.items()}
        return {
            name: {"kind": kinds[name], **value} if kinds.get(name) and isinstance(value, dict) else value
            for name, value in values.items()
        }


S = TypeVar("S", bound=Settings)
Problem: TypeAlias = Mapping[str, Any]  # an item of ValidationError.errors()
Members: TypeAlias = list[type[Settings]]  # the settings a section may be: one, or those of a union


def read_settings(cls: type[S], path: Path, overrides: Iterable[str] = ()) -> S:
    """Read ``path`` (TOML) as ``cls``, with ``section.key=value`` overrides on top.

    Raises:
        ConfigError: the file is missing or no TOML, or a key or value does not fit.
    """
    overrides = list(overrides)
    where = f"{path} with {' '.join(overrides)}" if overrides else str(path)
    return build_settings(cls, override(read_toml(path), overrides), where=where)


def read_toml(path: Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The tables of a TOML file; ``extending`` are the files that extend it.

    A file that says ``extends = "other.toml"`` has the other's settings but for those it sets itself.

    Raises:
        ConfigError: the file, or one it extends, is missing, not readable, no TOML, or extends itself.
    """
    values = _read_alone(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends names one settings file, as text, not {base!r}")
    extending = (*extending, path.resolve())
    other = path.parent / base
    if other.resolve() in extending:
        raise ConfigError(f"{path} extends {base}, which extends it in turn; take one of the two lines out")
    return _merge(read_toml(other, extending), values)


def _read_alone(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        neighbours = [other.name for other in path.parent.glob("*.toml")]
        close = difflib.get_close_matches(path.name, neighbours, n=1)
        hint = f"; did you mean {path.with_name(close[0])}?" if close else ""
        raise ConfigError(f"there is no settings file {path}{hint}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; name the TOML file in it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; a settings file is TOML in UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply") from None
    except ValueError as error:  # also for a number of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _merge(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """``values`` laid over ``base``, section by section; a section of another kind takes the other's place whole."""
    merged = base | values
    for key, value in values.items():
        below = base.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and value.get("kind") in (None, below.get("kind")):
            merged[key] = _merge(below, value)
    return merged


def build_settings(cls: type[S], values: dict[str, Any], *, where: str = "the settings") -> S:
    """Validate ``values`` as ``cls``; the first thing wrong becomes one sentence.

    Raises:
        ConfigError: names the key, the value and, for a misspelt key, the right one.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(cls, error)}") from None


def override(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of ``values`` with each ``section.key=value`` applied, those of a ``kind`` first.

    A value is read as TOML where it is TOML (``3``, ``1e-3``, ``true``, ``[1, 2]``), else as ``typed_text``; ``none`` turns
    a setting off. A new ``kind`` starts its section anew: the other kind's settings do not fit it.

    Raises:
        ConfigError: an override is not of the form ``section.key=value``.
    """
    result = copy.deepcopy(values)
    for text in sorted(overrides, key=lambda text: not text.partition("=")[0].strip().endswith(".kind")):
        path, equals, value = text.partition("=")
        *sections, key = path.strip().split(".")
        if not equals or not all([*sections, key]):
            raise ConfigError(f"{text!r} is not an override; write section.key=value")
        table = result
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise ConfigError(f"cannot set {path.strip()}: {section} is a value, not a section")
        parsed = _parse(value.strip())
        if key == "kind" and table.get("kind") != parsed:
            table.clear()
        table[key] = parsed
    return result


def _parse(value: str) -> Any:
    if value == "none":
        return None
    try:
        return tomllib.loads(f"x = {value}")["x"]
    except (ValueError, RecursionError):
        return typed_text(value)


def typed_text(text: str) -> str:
    r"""Read ``\n``, ``\r``, ``\t`` and ``\\`` in what was typed in a shell as the characters that they are in TOML and Python."""
    return re.sub(r"\\[nrt\\]", lambda found: _ESCAPES[found[0]], text)


def _explain(cls: type[Settings], error: ValidationError) -> str:
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    keys, members = _locate(cls, first["loc"])
    path = ".".join(keys)
    match first["type"]:
        case "extra_forbidden":
            return f"unknown setting {path}{_did_you_mean(cls, keys, members)}"
        case "missing":
            return f"setting {path} is missing"
        case "union_tag_invalid" | "union_tag_not_found":
            return _explain_kind(first, path, members)
        case "model_type" | "model_attributes_type":
            return f"{path} is a section, with settings of its own{_not(first)}"
    same_place = [p for p in problems if _locate(cls, p["loc"])[0] == keys]  # the members of a union of plain values
    reasons = ", or ".join(dict.fromkeys(_reason(p) for p in same_place))
    return f"setting {path}: {reasons}{_not(first)}" if path else reasons


def _explain_kind(problem: Problem, path: str, members: Members) -> str:
    kinds = [_kind(member) for member in members]
    listed = ", ".join(kinds)
    if problem["type"] == "union_tag_not_found":
        return f"setting {path}.kind is missing; it is one of {listed}"
    tag = str(problem["ctx"]["tag"])
    close = difflib.get_close_matches(tag, kinds, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"setting {path}.kind: it is one of {listed}, not {tag!r}{hint}"


def _reason(problem: Problem) -> str:
    message: str = problem["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _not(problem: Problem) -> str:
    value = problem["input"]
    if isinstance(value, dict | Settings):
        return ""
    shown = "none" if value is None else repr(value)
    return f", not {shown if len(shown) <= LONGEST_VALUE_SHOWN else shown[:LONGEST_VALUE_SHOWN] + '...'}"


def _locate(cls: type[Settings], loc: tuple[int | str, ...]) -> tuple[list[str], Members]:
    """The keys a person wrote, and the settings that stand there (or around, for a value).

    A ``loc`` of pydantic also names the member of a union it had tried: the kind of a section, the type of a value.
    """
    keys: list[str] = []
    members: Members = [cls]
    label_follows = False
    for part in loc:
        if label_follows:
            label_follows = False
            members = [m for m in members if _kind(m) == part] or members
            continue
        keys.append(str(part))
        annotations = [m.model_fields[part].annotation for m in members if part in m.model_fields]
        inner = [found for annotation in annotations for found in _settings_in(annotation)]
        members = inner or members
        in_collection = not annotations and len(members) > 1  # part is a place in a list or a key of a table
        label_follows = in_collection or any(_is_union(annotation) for annotation in annotations)
    return keys, members


def _did_you_mean(cls: type[Settings], keys: list[str], members: Members) -> str:
    *section, wrong = keys
    names = sorted({name for member in members for name in member.model_fields})
    elsewhere = [path for path in _all_paths(cls) - {".".join(keys)} if path.rpartition(".")[2] == wrong]
    close = difflib.get_close_matches(wrong, names, n=1)
    if len(elsewhere) == 1:
        return f"; did you mean {elsewhere[0]}?"
    if close:
        return f"; did you mean {'.'.join([*section, close[0]])}?"
    return f"; {'.'.join(section) or 'the settings'} has {', '.join(names)}"


def _all_paths(cls: type[Settings]) -> set[str]:
    """Return the path of each setting that has one: those inside lists and tables of sections have none."""
    paths = set()
    for name, field in cls.model_fields.items():
        paths.add(name)
        if get_origin(field.annotation) in (None, Union, UnionType):
            paths |= {f"{name}.{path}" for inner in _settings_in(field.annotation) for path in _all_paths(inner)}
    return paths


def _kind(cls: type[Settings]) -> str:
    return str(cls.model_fields["kind"].default) if "kind" in cls.model_fields else ""


def _is_union(annotation: Any) -> bool:
    members = [argument for argument in get_args(annotation) if argument is not type(None)]
    return get_origin(annotation) in (Union, UnionType) and len(members) > 1


def _settings_in(annotation: Any) -> Members:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _settings_in(argument)]
