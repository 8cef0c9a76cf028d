"""``--hint NAME=VALUE`` and its shorthands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from movieplotgpt.errors import PromptError
from movieplotgpt.text.hints import join_hints

HintFlags: TypeAlias = Annotated[
    tuple[str, ...], Parameter(name="--hint", negative="", show_default=False, allow_leading_hyphen=True)
]


def read_hints(flags: Iterable[str], **shorthands: str | None) -> dict[str, str]:
    """Return hints by their names.

    Raises:
        PromptError: a flag is not NAME=VALUE, or two flags give one hint.
    """
    given = [(name, value) for name, value in shorthands.items() if value is not None]
    for flag in flags:
        name, equals, value = (part.strip() for part in flag.partition("="))
        if not equals or not name:
            raise PromptError(f'--hint {flag} is not NAME=VALUE; write it as in --hint "Cuisine=Thai"')
        given.append((name, value))
    return join_hints(given)
