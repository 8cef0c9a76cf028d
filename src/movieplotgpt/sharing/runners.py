"""Run an exported model with this library or another program: token ids in, the likeliest ones out.

Other programs run in a process of their own: llama.cpp and torch in one process slow each other down, and any of them may be
missing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movieplotgpt.engine.model_config import LARGEST_GRAPH, graph_bytes
from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.checkpoints import load_checkpoint

PROGRAMS = Path(__file__).with_name("programs")
_PATIENCE = 600  # seconds


@dataclass(frozen=True)
class Written:
    """What a program made of a prompt: its likeliest tokens, without the end marker, and whether that ended them."""

    tokens: list[int]
    ended: bool
    ids: list[list[int]]  # of the texts it was given besides


@dataclass(frozen=True)
class Runner:
    """A program that runs a model: a file of ``programs``; ``package`` has to be installed for it."""

    name: str
    package: str
    program: Path

    @property
    def installed(self) -> bool:
        """Whether this environment has it."""
        return importlib.util.find_spec(self.package) is not None

    def write(
        self, path: Path, prompt: Sequence[int], tokens: int, *, end_id: int = 0, texts: Sequence[str] = ()
    ) -> Written:
        """The likeliest token ``tokens`` times over, or up to the end marker; and the ids of ``texts``.

        Raises:
            CheckpointError: it cannot run the model, or does not come to an end.
        """
        asked = {"path": str(path.resolve()), "prompt": [*prompt], "tokens": tokens, "texts": [*texts]}
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(self.program)],  # -P: no module of the working folder is run
                env={**os.environ, "PYTHONSAFEPATH": "1"},  # by what it starts, neither
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=_PATIENCE,
                check=True,
            )
            answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            raise CheckpointError(
                f"{self.name} has not written {tokens} tokens from {path} in {_PATIENCE} s; try another type of weights"
            ) from None
        except (subprocess.CalledProcessError, ValueError, IndexError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines() or ["no message"]
            raise CheckpointError(
                f"{self.name} cannot run {path} ({said[-1].strip()}); try another version of {self.package}"
            ) from None
        written = [token for token in answer["written"] if token != end_id]
        return Written(written, answer["ended"], answer["ids"])


class _Own(Runner):
    """This library, in this process."""

    def write(
        self, path: Path, prompt: Sequence[int], tokens: int, *, end_id: int = 0, texts: Sequence[str] = ()
    ) -> Written:
        model, written = load_checkpoint(path), list[int]()
        engine = Engine(model, precision="float32" if graph_bytes(model.config, "float32") <= LARGEST_GRAPH else "int8")
        while len(written) < tokens and end_id not in written:
            written.append(int(engine.logits([*prompt, *written])[-1].argmax()))
        ids = [model.tokenizer.encode(text).tolist() for text in texts]
        return Written([token for token in written if token != end_id], end_id in written, ids)


LLAMA_CPP = Runner("llama.cpp", "xllamacpp", PROGRAMS / "llama_cpp.py")
ONNX_RUNTIME = Runner("ONNX Runtime", "onnxruntime", PROGRAMS / "onnx_runtime.py")
TRANSFORMERS = Runner("transformers", "transformers", PROGRAMS / "hf_transformers.py")
OWN = _Own("movieplotgpt", "movieplotgpt", Path())
