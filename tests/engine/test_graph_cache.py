"""A graph is built once, and none that is damaged, cut short or of other programs is ever run."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import onnxruntime
import pytest

from movieplotgpt import atomic
from movieplotgpt.engine import graph_cache
from movieplotgpt.engine.graph_cache import DAYS, MOST, cached_graph
from movieplotgpt.errors import CheckpointError, StorageError

GRAPH = b"a graph " * 1000


class Builder:
    """Builds a graph and counts how often."""

    def __init__(self, graph: bytes = GRAPH, *, seconds: float = 0) -> None:
        self.graph, self.seconds, self.built = graph, seconds, 0

    def __call__(self) -> bytes:
        self.built += 1
        time.sleep(self.seconds)
        return self.graph


def content(found: Path | bytes) -> bytes:
    return found if isinstance(found, bytes) else found.read_bytes()


def test_a_graph_is_built_once(graphs: Path) -> None:
    build = Builder()
    first, second = cached_graph(("model", 1), build), cached_graph(("model", 1), build)
    assert first == second == next(graphs.glob("*.onnx")) and content(first) == GRAPH
    assert build.built == 1


def test_another_identity_is_another_graph() -> None:
    build = Builder()
    assert len({cached_graph(("model", number), build) for number in range(3)}) == build.built == 3


def test_another_release_is_another_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder()
    before = cached_graph(("model",), build)
    monkeypatch.setattr(onnxruntime, "__version__", "99.0")
    assert cached_graph(("model",), build) != before and build.built == 2


def test_another_source_is_another_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder()
    before = cached_graph(("model",), build)
    monkeypatch.setattr(graph_cache, "_SOURCES", graph_cache._SOURCES[:-1])
    assert cached_graph(("model",), build) != before and build.built == 2


def flip(data: bytes) -> bytes:
    return data[:500] + bytes([data[500] ^ 1]) + data[501:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[:-1],
    "empty": lambda data: b"",
    "a flipped bit": flip,
    "longer": lambda data: data + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_built_again(graphs: Path, damage: Callable[[bytes], bytes]) -> None:
    build = Builder()
    path = cached_graph(("model",), build)
    assert isinstance(path, Path)
    path.write_bytes(damage(GRAPH))
    assert content(cached_graph(("model",), build)) == GRAPH and build.built == 2
    assert [each.read_bytes() for each in graphs.glob("*.onnx")] == [GRAPH]


def test_a_file_with_a_made_up_name_is_not_trusted(graphs: Path) -> None:
    build = Builder()
    path = cached_graph(("model",), build)
    assert isinstance(path, Path)
    key = path.stem.partition("-")[0]
    path.rename(path.with_name(f"{key}-{'0' * 24}.onnx"))
    assert content(cached_graph(("model",), build)) == GRAPH and build.built == 2


def refuse(error: Exception) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


@pytest.mark.parametrize("error", [StorageError("no space left on the disk"), OSError(errno.EROFS, "read-only")])
def test_a_disk_that_refuses_costs_no_second_build(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(atomic, "write_bytes", refuse(error))
    build = Builder()
    assert cached_graph(("model",), build) == GRAPH
    assert build.built == 1


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no permission"), NotImplementedError("no locks here")])
def test_without_locks_it_works_from_memory(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(filelock.FileLock, "acquire", refuse(error))
    assert cached_graph(("model",), Builder()) == GRAPH


def test_a_file_in_place_of_the_folder_works_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cached_graph(("model",), Builder()) == GRAPH


def test_no_home_folder_works_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", refuse(RuntimeError("no home")))
    assert cached_graph(("model",), Builder()) == GRAPH


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_nobody_may_write_to_works_from_memory(graphs: Path) -> None:
    graphs.mkdir(parents=True)
    graphs.chmod(0o500)
    assert cached_graph(("model",), Builder()) == GRAPH


def test_what_is_wrong_with_a_model_is_said() -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        cached_graph(("model",), refuse(CheckpointError("the weights are damaged")))


def test_who_comes_meanwhile_waits_for_the_same_graph() -> None:
    build, found = Builder(seconds=0.3), list[Path | bytes]()
    others = [threading.Thread(target=lambda: found.append(cached_graph(("model",), build))) for _ in range(4)]
    for each in others:
        each.start()
    for each in others:
        each.join()
    assert build.built == 1
    assert len(found) == 4 and len({*found}) == 1 and content(found[0]) == GRAPH


def kept(graphs: Path) -> set[bytes]:
    return {path.read_bytes() for path in graphs.glob("*.onnx")}


def make(number: int, age: float) -> Path:
    """A graph of ``number`` that was used ``age`` days ago."""
    path = cached_graph(("model", number), lambda: b"%d" % number)
    assert isinstance(path, Path)
    then = time.time() - age * 86_400
    os.utime(path, (then, then))
    return path


def test_the_least_used_graphs_are_removed(graphs: Path) -> None:
    for number in range(MOST):
        make(number, age=(MOST - number) / 100)
    make(0, age=0)  # used again
    make(MOST, age=0)
    assert kept(graphs) == {b"%d" % number for number in range(MOST + 1)} - {b"1"}
    make(MOST + 1, age=0)
    assert len(kept(graphs)) == MOST and b"2" not in kept(graphs)


def test_graphs_nobody_used_for_long_are_removed(graphs: Path) -> None:
    make(0, age=DAYS + 1)
    make(1, age=DAYS - 1)
    make(2, age=0)
    assert kept(graphs) == {b"1", b"2"}
    assert len([*graphs.glob("*.lock")]) <= 2


def test_a_graph_that_is_used_is_not_old(graphs: Path) -> None:
    make(0, age=DAYS - 1)
    cached_graph(("model", 0), Builder())
    make(1, age=0)
    found = {path.read_bytes(): time.time() - path.stat().st_mtime for path in graphs.glob("*.onnx")}
    assert found[b"0"] < 86_400
