"""The public names of the package."""

from __future__ import annotations

import pytest

import movieplotgpt


@pytest.mark.parametrize("name", movieplotgpt.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(movieplotgpt, name) is not None
    assert name in dir(movieplotgpt)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Plotgenerator'"):
        _ = movieplotgpt.Plotgenerator
