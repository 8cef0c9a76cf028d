"""A session has the threads that the system leaves to the process, and at least one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import pytest

from movieplotgpt.engine import threads
from movieplotgpt.engine.threads import VARIABLE, thread_count

Group: TypeAlias = Callable[..., Path]


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Group:
    """``group(files, own="0::/")``: the root of the cgroups of a process in ``own``, on a machine with 8 processors."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    root, read = tmp_path / "cgroup", threads._read

    def make(files: Mapping[str, str] = MappingProxyType({}), own: str = "0::/\n") -> Path:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(threads, "_read", lambda path: own if path == Path("/proc/self/cgroup") else read(path))
        return root

    return make


def test_the_variable_goes_before_all(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    root = group({"cpu.max": "100000 100000\n"})
    for named, count in {"3": 3, " 5 ": 5, "4,2": 4, "16": 16}.items():
        monkeypatch.setenv(VARIABLE, named)
        assert thread_count(root) == count


@pytest.mark.parametrize("named", ["", "0", "-2", "many", "1.5", ","])
def test_a_variable_that_says_nothing_is_passed_over(group: Group, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv(VARIABLE, named)
    assert thread_count(group({"cpu.max": "300000 100000\n"})) == 3


def test_affinity_is_the_most_there_is(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    assert thread_count(group()) == 8
    assert thread_count(group({"cpu.max": "6400000 100000\n"})) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert thread_count(group()) == 1


def test_where_there_is_no_affinity_the_processors_count(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    root = group()
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert thread_count(root) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert thread_count(root) == 1


@pytest.mark.parametrize(
    ("quota", "count"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("50000 10000", 5)],
)
def test_a_quota_is_rounded_up(group: Group, quota: str, count: int) -> None:
    assert thread_count(group({"cpu.max": f"{quota}\n"})) == count


@pytest.mark.parametrize(("inner", "middle", "outer"), [(2, 4, 6), (6, 2, 4), (4, 6, 2), (2, None, 4), (None, None, 2)])
def test_the_tightest_quota_above_a_process_counts(
    group: Group, inner: int | None, middle: int | None, outer: int | None
) -> None:
    quotas = {"pods/one/cpu.max": inner, "pods/cpu.max": middle, "cpu.max": outer}
    files = {name: f"{count}00000 100000\n" if count else "max 100000\n" for name, count in quotas.items()}
    assert thread_count(group(files, "0::/pods/one\n")) == 2


def test_a_group_that_is_not_mounted_here_is_passed_over(group: Group) -> None:
    assert thread_count(group({"cpu.max": "200000 100000\n"}, "0::/docker/abc\n")) == 2
    assert thread_count(group({}, "0::/../../other\n")) == 2


@pytest.mark.parametrize("own", ["5:cpu,cpuacct:/\n1:name=systemd:/\n", "5:cpu,cpuacct:/\n0::/\n", ""])
def test_quotas_of_version_1_count(group: Group, own: str) -> None:
    files = {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert thread_count(group(files, own)) == 3
    assert thread_count(group({**files, "cpu/cpu.cfs_quota_us": "-1\n"}, own)) == 8


@pytest.mark.parametrize(
    "garbage", ["", "\n", "max", "x y", "1 2 3", "100000 0", "-100000 100000", "0 100000", "0.5 1", "é", "\x00"]
)
def test_garbage_leaves_at_least_one(group: Group, garbage: str) -> None:
    assert 1 <= thread_count(group({"cpu.max": garbage})) <= 8
    files = {"cpu/cpu.cfs_quota_us": garbage, "cpu/cpu.cfs_period_us": garbage}
    assert 1 <= thread_count(group(files, "")) <= 8
    assert 1 <= thread_count(group({}, garbage)) <= 8


def test_this_process_has_at_least_one() -> None:
    assert thread_count() >= 1
