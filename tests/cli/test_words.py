"""Errors of the library name arguments of Python; the command line names its flags."""

from __future__ import annotations

import pytest

from movieplotgpt.cli.words import in_flags


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("name it with out=FOLDER, or", "name it with --out FOLDER, or"),
        ("continue it with resume=True; or train", "continue it with --resume; or train"),
        ("minutes=1.5 and steps=2 exclude", "--minutes 1.5 and --steps 2 exclude"),
        ("(training with from_=runs/a does)", "(training with --from runs/a does)"),
        (": text_column='My Plot' (and", ": --text-column 'My Plot' (and"),
        (': text_column="It\'s" (', ": --text-column 'It'\"'\"'s' ("),
        (": text_column='Plot' (", ": --text-column Plot ("),
        ("no_header=True and the number", "--no-header and the number"),
        ("/srv/data=3/films.csv is gone", "/srv/data=3/films.csv is gone"),
        ("leave training.minutes=3 or xsize=4 out", "leave training.minutes=3 or xsize=4 out"),
    ],
)
def test_arguments_become_flags(message: str, said: str) -> None:
    assert in_flags(message) == said
