"""``movieplotgpt schema``: the JSON schema of a settings file."""

from __future__ import annotations

import json


def schema(*, study: bool = False) -> None:
    """Print the JSON schema of a settings file, for editors that complete and check TOML.

    Args:
        study: Of a study, which `compare` reads, instead of a training.
    """
    from movieplotgpt.schema import toml_schema

    if study:
        from movieplotgpt.study.grid import StudySettings

        print(json.dumps(toml_schema(StudySettings), indent=2))
    else:
        from movieplotgpt.training.run import RunConfig

        print(json.dumps(toml_schema(RunConfig), indent=2))
