"""Products of bytes add up exactly on every processor, by faster instructions or by slower ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
import pytest

from movieplotgpt.engine import byte_products, session
from movieplotgpt.engine.byte_products import EXACT, sums_are_exact
from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.engine.session import Engine
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint

Make: TypeAlias = Callable[..., Checkpoint]
EMULATOR = "qemu-x86_64"
PROMPT, TOKENS = [[1, 7, 260, 30, 44], [9], [80, 81, 82, 83, 84, 85, 86, 87, 88]], 6
PROGRAM = """
import json, sys
from movieplotgpt.engine.byte_products import sums_are_exact
from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.engine.session import Engine
prompts, tokens = json.loads(sys.argv[2])
engine = Engine(load_folder(sys.argv[1]), threads=1)
cache = engine.new_cache(len(prompts))
engine.read([prompt[:-1] for prompt in prompts], cache)
ids, written, sums = [prompt[-1] for prompt in prompts], [], []
for _ in range(tokens):
    logits = engine.next_logits(ids, cache)
    ids = logits.argmax(1).tolist()
    written.append(ids)
    sums.append([float(each) for each in logits.sum(1)])
print(json.dumps({"exact": sums_are_exact(), "written": written, "sums": sums}))
"""


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing is known of the processor, before or after."""
    sums_are_exact.cache_clear()
    yield
    sums_are_exact.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_it_says_what_a_product_says() -> None:
    """The same product by a session of its own; where it saturates, the setting makes it exact."""
    options = onnxruntime.SessionOptions()
    x = {"x": np.full((1, byte_products._LENGTH), 255, np.uint8)}
    exact = 255 * 127 * byte_products._LENGTH
    found = onnxruntime.InferenceSession(byte_products._graph(), options).run(None, x)[0].item()
    assert sums_are_exact() == (found == exact)
    options.add_session_config_entry(EXACT, "1")
    assert onnxruntime.InferenceSession(byte_products._graph(), options).run(None, x)[0].item() == exact


@pytest.mark.usefixtures("fresh")
def test_it_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sums_are_exact()
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    assert sums_are_exact() == before


class Options:
    """The settings of a session, as they are asked for."""

    asked: dict[str, str]

    def __init__(self) -> None:
        type(self).asked = {}

    def add_session_config_entry(self, name: str, value: str) -> None:
        self.asked[name] = value


@pytest.mark.parametrize("exact", [True, False])
def test_exact_sums_are_asked_for_where_they_are_not_given(monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    monkeypatch.setattr(session, "sums_are_exact", lambda: exact)
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: None)
    session._session(b"", 1, "int8", ["CPUExecutionProvider"])
    assert Options.asked.get(EXACT) == (None if exact else "1")


def test_the_setting_changes_no_logits(tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_checkpoint("byte")
    found = []
    for exact in (True, False):
        monkeypatch.setattr(session, "sums_are_exact", lambda exact=exact: exact)
        found.append(Engine(model).logits([*range(40)]))
    if sums_are_exact():
        assert np.array_equal(found[0], found[1])


def run(folder: Path, *before: str) -> Any:
    """What a process writes, greedily, by an emulated processor or this one."""
    command = [*before, sys.executable, "-c", PROGRAM, str(folder), json.dumps([PROMPT, TOKENS])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(EMULATOR) is None, reason=f"{EMULATOR} is not installed")
def test_a_processor_without_vnni_writes_the_same(tmp_path: Path, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("byte")
    save_checkpoint(tmp_path / "model", checkpoint)
    here, there = run(tmp_path / "model"), run(tmp_path / "model", EMULATOR, "-cpu", "Haswell")
    assert there["exact"] is False, "nothing is proved: this emulated processor adds up exactly by itself"
    assert there["written"] == here["written"] and len({*map(tuple, here["written"])}) > 1
    np.testing.assert_allclose(there["sums"], here["sums"], rtol=0, atol=0.05)
    engine = Engine(load_folder(tmp_path / "model"))
    assert engine.logits(PROMPT[0])[-1].argmax() == here["written"][0][0]
