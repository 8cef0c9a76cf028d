"""What is kept of work that was done: frozen models, each of which can be one JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from movieplotgpt import atomic
from movieplotgpt.errors import DataError, MoviePlotGPTError


class Record(BaseModel):
    """Frozen; what another version has put into its file besides is passed over, unless the class forbids it."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def load(cls, path: Path, *, missing: str, damaged: str, error: type[MoviePlotGPTError] = DataError) -> Self:
        """Read what ``write`` wrote; an ``error`` says ``missing`` or ``damaged`` where that is not possible."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError:
            raise error(missing) from None
        except ValueError:
            raise error(damaged) from None

    def write(self, path: Path, *, indent: int = 2) -> None:
        """Write as JSON, whole or not at all.

        Raises:
            StorageError: the disk refuses.
        """
        atomic.write_text(path, self.model_dump_json(indent=indent) + "\n")
