"""How threads wait is decided before PyTorch is imported, and the environment has the last word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from movieplotgpt.engine import waiting
from movieplotgpt.engine.waiting import SPINS, choose_waiting

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
SOURCE = Path(__file__).resolve().parents[2] / "src"
linux = pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@linux
def test_threads_sleep_after_a_short_time() -> None:
    choose_waiting()
    assert os.environ["GOMP_SPINCOUNT"] == str(SPINS)


@linux
@pytest.mark.parametrize("name", NAMES[:2])
def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "ACTIVE")
    choose_waiting()
    assert [os.environ.get(each) for each in NAMES[:2]] == ["ACTIVE" if each == name else None for each in NAMES[:2]]


@linux
@pytest.mark.parametrize(("allowed", "quota", "number"), [(8, 8, None), (8, 2, "2")])
def test_a_limit_of_a_container_is_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, allowed: int, quota: int, number: str | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(allowed))
    monkeypatch.setattr(waiting, "thread_count", lambda: quota)
    choose_waiting()
    assert os.environ.get("OMP_NUM_THREADS") == number


def test_elsewhere_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    choose_waiting()
    assert not any(name in os.environ for name in NAMES)


@linux
@pytest.mark.parametrize("command", ["train", "plan", "evaluate"])
def test_commands_decide_before_torch_is_imported(tmp_path: Path, command: str) -> None:
    """PyTorch reads the environment when it is imported, and never again."""
    module = "evaluation.measuring" if command == "evaluate" else f"cli.{command}"
    code = f"""if True:
        import sys
        import movieplotgpt.{module} as module
        known = module.choose_waiting
        def noted():
            print("torch" in sys.modules)
            known()
        module.choose_waiting = noted
        from movieplotgpt.cli import main
        main(sys.argv[1:])"""
    arguments = {"evaluate": ["gone", "--data", "gone"]}.get(command, ["gone.txt"])
    done = subprocess.run(
        [sys.executable, "-c", code, command, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        check=False,
    )
    assert done.stdout == "False\n", done.stderr
