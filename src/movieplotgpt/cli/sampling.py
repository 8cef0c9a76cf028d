"""A flag for each setting of the sampler, so that a new one needs no line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, make_dataclass
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic.fields import FieldInfo

from movieplotgpt.config import build_settings, typed_text
from movieplotgpt.generation.settings import SamplingConfig

MORE = {  # added to a flag's help
    "stop": r"\n is a line break. May be given several times.",
    "banned": r"\n is a line break. May be given several times.",
}
FIRST = Group("Sampling", sort_key=1)
MORE_RULES = Group("More sampling rules", sort_key=2)
SHOWN_FIRST = ("temperature", "min_p", "seed", "n", "max_tokens", "plan")
COMPARED = ("stop", "banned")  # with the text, line breaks and all


def _type_of(annotation: Any) -> Any:
    """A setting's type without its bounds, which are the settings' own to check."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    if get_origin(annotation) is tuple:
        return tuple[str, ...]
    return kinds[0] if kinds else annotation


def _flag(name: str, setting: FieldInfo) -> tuple[str, Any, Any]:
    kind, default = _type_of(setting.annotation), setting.get_default()
    told = " ".join(part for part in (setting.description, MORE.get(name)) if part)
    told += f" [default: {default}]" if default not in (None, ()) else ""
    names = ["--n", "-n"] if name == "n" else None
    several = get_origin(kind) is tuple
    negative = f"--no-{name.replace('_', '-')}" if kind is bool else ""
    parameter = Parameter(
        name=names,
        negative=negative,
        help=told,
        show_default=False,
        allow_leading_hyphen=several,
        group=FIRST if name in SHOWN_FIRST else MORE_RULES,
    )
    return name, Annotated[kind if several else kind | None, parameter], field(default=() if several else None)


def _ordered() -> list[str]:
    """Return the names of the settings, those shown first before the others."""
    return [*SHOWN_FIRST, *(name for name in SamplingConfig.model_fields if name not in SHOWN_FIRST)]


if TYPE_CHECKING:
    SamplingFlags: TypeAlias = Any
else:
    SamplingFlags = make_dataclass(
        "SamplingFlags",
        [_flag(name, SamplingConfig.model_fields[name]) for name in _ordered() if name != "logit_bias"],
    )
    SamplingFlags.__module__ = __name__  # of a class of the module types, where it would stand, cyclopts asks nothing


def given(flags: SamplingFlags | None) -> dict[str, Any]:
    """The settings that were given as flags; escapes in COMPARED are read as ``typed_text`` reads them."""
    values = {each.name: getattr(flags, each.name) for each in fields(flags)} if flags is not None else {}
    values |= {name: tuple(map(typed_text, values.get(name) or ())) for name in COMPARED}
    return {name: value for name, value in values.items() if value not in (None, ())}


def sampling_from(values: Mapping[str, Any]) -> SamplingConfig:
    """The settings, checked.

    Raises:
        ConfigError: a value is out of its range.
    """
    return build_settings(SamplingConfig, dict(values), where="sampling")
