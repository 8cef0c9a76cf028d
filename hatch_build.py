"""What a wheel carries beside the code: the manifest of the published models, and some of them.

An editable install, as `make` makes one, reads the checkout's own `weights/` and gets no copy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CarriedWeights(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the models that pyproject.toml names into ``movieplotgpt/weights``, each file that the manifest lists."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them to a wheel that is to be installed."""
        if version != "standard":
            return
        weights = Path(self.root) / "weights"
        models = json.loads((weights / "manifest.json").read_text(encoding="utf-8"))["models"]
        files = [f"{name}/{file}" for name in self.config["models"] for file in models[name]["files"]]
        for file in ("manifest.json", *files):
            build_data["force_include"][str(weights / file)] = f"movieplotgpt/weights/{file}"
