"""``movieplotgpt write``: every line typed has its answer, and nothing that was written is lost."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from movieplotgpt.cli import main
from movieplotgpt.cli.write import Session
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.guidance import USUAL
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint

Make = Callable[..., Checkpoint]
Talk = Callable[..., str]


@pytest.fixture
def generator(tmp_path: Path, tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> PlotGenerator:
    """The model in ``model``, which talks here."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "model", tiny_checkpoint(context_length=128))
    return PlotGenerator.load("model")


@pytest.fixture
def talk(generator: PlotGenerator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Talk:
    """``talk("Mars", "/again")``: all that is printed while these lines are typed, and then the end of input."""

    def lines(typed: tuple[str, ...]) -> Callable[[str], str]:
        left: Iterator[str] = iter(typed)

        def read(prompt: str) -> str:
            try:
                return next(left)
            except StopIteration:
                raise EOFError from None

        return read

    def talk(*typed: str, flags: tuple[str, ...] = ("--max-tokens", "20")) -> str:
        monkeypatch.setattr("builtins.input", lines(typed))
        assert main(["write", "model", *flags]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return talk


def test_a_title_brings_a_plot_and_again_another(talk: Talk, generator: PlotGenerator) -> None:
    out = talk("Mars, Texas", "/again", flags=("--max-tokens", "20", "--seed", "4"))
    plot = generator.plot("Mars, Texas", seed=4, max_tokens=20)
    assert f"{plot.text}\n(20 tokens, seed 4; ended by length)" in out
    assert out.count("ended by length") == 2 and out.count(plot.text) == 1


def test_it_goes_on_behind_a_sentence(talk: Talk, generator: PlotGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = "Ada sells a map. Bruno is lost."
    monkeypatch.setattr(PlotGenerator, "stream", _beginning_with(PlotGenerator.stream, begun))
    out = talk("Mars", "/from", "/from 1", "/from 9")
    assert "  1  Ada sells a map.\n  2  Bruno is lost." in out
    assert "there is no sentence 9" in out
    assert out.count("Ada sells a map.") == 3 and out.count("Bruno is lost.") == 2


def _beginning_with(stream: Callable[..., object], begun: str) -> Callable[..., object]:
    """The first plot begins with these sentences; those that go on begin as they are asked to."""
    return lambda self, *args, begin="", **kwargs: stream(self, *args, begin=begin or begun, **kwargs)


def test_settings_are_shown_changed_and_turned_off(talk: Talk, generator: PlotGenerator) -> None:
    out = talk(
        "/set",
        "/set temperature 0.3",
        "/set stop x",
        "/set stop",
        "/set min-p off",
        "/set",
        "/set temprature 1",
        "/set top_k 0",
    )
    first, second = out.split("  temperature ")[1], out.split("  temperature ")[2]
    assert first.split()[0] == "1.0" and second.split()[0] == "0.3"
    assert "min_p                off" in second and "stop                 off" in second
    assert (
        "max_tokens           20" in first and "dry_allowed_length   5" in first and "guidance             off" in first
    )
    assert "did you mean temperature?" in out and "top_k: input should be greater than or equal to 1" in out


def test_a_seed_is_that_of_the_next_plot(talk: Talk, generator: PlotGenerator) -> None:
    out = talk("/set seed 5", "Mars", "/again", "/set n 3", "/from \u00b2")
    assert out.count("seed 5;") == 1 and generator.plot("Mars", seed=5, max_tokens=20).text in out
    assert "one plot is written at a time" in out and "nothing" not in out and "there is no sentence \u00b2" in out


def test_a_model_without_titles_goes_on_with_what_is_typed(talk: Talk, tmp_path: Path, tiny_checkpoint: Make) -> None:
    save_checkpoint(tmp_path / "model", tiny_checkpoint(header="", context_length=128))
    assert "\nMichael: Hello" in "\n" + talk("Michael: Hello").split("Ctrl-D\n\n")[1]


def test_what_is_kept_is_appended(talk: Talk, tmp_path: Path) -> None:
    out = talk("/keep", "Mars", "/keep", "/again", "/keep", "", "/keep other.md", "/keep no/where.md")
    kept = (tmp_path / "plots.md").read_text(encoding="utf-8")
    assert kept.count("## Mars\n\n") == 2
    assert (tmp_path / "other.md").read_text(encoding="utf-8").startswith("## Untitled\n\n")
    assert "nothing is written yet; type a title" in out and "no/where.md cannot be written" in out


def test_what_is_wrong_is_said_and_the_talk_goes_on(talk: Talk) -> None:
    out = talk("/again", "/dance", "/copies", "Mars", "/copies", "/help", "/quit", "not read")
    assert "nothing is written yet" in out and "there is no /dance; /help lists what there is" in out
    assert "no copy index of the text this model was trained on is installed" in out
    assert out.count("Type a title") == 2 and "not read" not in out


def _in_a_terminal(heeded: signal.Signals, *flags: str) -> tuple[int, subprocess.Popen[bytes]]:
    """A conversation in a terminal, and our end of it; a signal that is ignored in the background or under nohup is heeded."""
    ours, theirs = pytest.importorskip("pty").openpty()
    command = [sys.executable, "-m", "movieplotgpt", "write", "model", "--history", "lines", *flags]
    heed = partial(signal.signal, heeded, signal.SIG_DFL)
    child = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=heed
    )
    os.close(theirs)
    return ours, child


@pytest.mark.slow
def test_ctrl_c_and_history_in_a_terminal(generator: PlotGenerator, tmp_path: Path) -> None:
    endless = ("--max-tokens", "100000", "--min-tokens", "100000")  # it does not end before it is stopped
    ours, child = _in_a_terminal(signal.SIGINT, *endless)
    try:
        _read_until(ours, rb"> \Z")
        os.write(ours, b"Mars, Texas\n")
        _read_until(ours, rb"Mars, Texas\s+\S")  # the echo, and the begin of the plot
        child.send_signal(signal.SIGINT)
        _read_until(ours, rb"\(stopped\)\s+> \Z")
        os.write(ours, b"/quit\n")
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.wait()
    assert (tmp_path / "lines").read_text(encoding="utf-8").splitlines()[-2:] == ["Mars, Texas", "/quit"]


@pytest.mark.slow
def test_without_a_home_folder_no_line_is_kept(generator: PlotGenerator, tmp_path: Path) -> None:
    """As for a user of a container who is in no list of users."""
    code = """if True:
        import pwd, sys
        from movieplotgpt.cli import main
        def unknown(*_): raise KeyError("getpwuid(): uid not found")
        pwd.getpwuid = unknown
        sys.stdin.isatty = lambda: True
        sys.exit(main(["write", "model", "--max-tokens", "3"]))"""
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_STATE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code], input="Mars\n/quit\n", env=kept, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "") and "(3 tokens, " in done.stdout


def _read_until(terminal: int, pattern: bytes) -> None:
    seen, deadline = b"", time.monotonic() + 120
    while not re.search(pattern, seen):
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{pattern!r} did not come; the last was {seen[-500:]!r}"
        seen += os.read(terminal, 65_536)


def test_settings_are_set_as_they_are_said(talk: Talk, tmp_path: Path, tiny_checkpoint: Make) -> None:
    save_checkpoint(tmp_path / "model", tiny_checkpoint(context_length=128))
    asked = ("/set length short", "/set must_mention 1984", '/set stop ["a", "b"]', "/set top-p 0.9")
    out = talk(*asked, "/set", "/set top_p", "/set length", "/set temperature", "/set")
    _, first, second = out.split("  temperature ")
    for line in (
        "target_characters    400",
        "must_mention         1984",
        "stop                 a, b",
        "top_p                0.9",
    ):
        assert f"  {line}\n" in first
    assert "  target_characters    off\n" in second and "  top_p                off\n" in second
    assert "temperature is 1.0\n" in out


def test_hints_are_given_and_taken_back(
    talk: Talk, tmp_path: Path, tiny_checkpoint: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tiny_checkpoint(hints=("Main Ingredient", "Temperature", "Plan"), context_length=256)
    values = {"corpus": {"hint_values": {"Temperature": ["cold", "hot"]}}}
    save_checkpoint(tmp_path / "model", replace(checkpoint, info=values))
    lines = (
        "/hint temperature=cold",
        "/set temperature 0.7",
        "/hint Main Ingredient =",
        "/hint Diet=vegan",
        "/set main x",
    )
    out = talk(*lines, flags=("--hint", "Main Ingredient=egg"))
    first, second = out.split("  Main Ingredient      ")[1:]
    assert first.startswith("egg\n  Temperature          cold (such as cold, hot)\n")
    assert second.startswith("none\n  Temperature          cold")
    assert "temperature is 0.7\n" in first and "Plan" not in first + second.replace("/plan", "")
    assert "this model knows no hint 'Diet'; it knows Main Ingredient, Temperature" in out
    assert main(["write", "model", "--hint", "Diet=vegan"]) == 1
    assert "this model knows no hint 'Diet'" in capsys.readouterr().err


def test_a_hint_that_is_set_like_a_setting_is_told_its_command(
    talk: Talk, tmp_path: Path, tiny_checkpoint: Make
) -> None:
    save_checkpoint(tmp_path / "model", tiny_checkpoint(hints=("Decade",), context_length=128))
    assert "decade is a hint; write /hint decade=1950s\n" in talk("/set decade 1950s")
    save_checkpoint(tmp_path / "model", tiny_checkpoint(context_length=128))
    assert "this model was trained without hints\n" in talk("/hint")


def test_a_typed_line_break_can_be_set(talk: Talk) -> None:
    assert "stop is a\nb\n" in talk(r"/set stop a\nb")


def test_guidance_is_shown_as_it_will_be(talk: Talk, tmp_path: Path, tiny_checkpoint: Make) -> None:
    checkpoint = replace(tiny_checkpoint(context_length=128), info={"settings": {"windows": {"no_title": 0.1}}})
    save_checkpoint(tmp_path / "model", checkpoint)
    out = talk("/set", "/set guidance off", "/set guidance", "/set guidance 2")
    assert f"  guidance             {USUAL}\n" in out
    assert f"guidance is off\nguidance is {USUAL}\nguidance is 2.0\n" in out


def test_what_nobody_saw_does_not_replace_the_plot(
    talk: Talk, generator: PlotGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> Iterator[object]:
        raise KeyboardInterrupt

    def stop(writing: str) -> bool:
        if writing == "/quiet":
            monkeypatch.setattr(PlotGenerator, "write", stopped)
        return writing == "/quiet"

    answer = Session.answer
    monkeypatch.setattr(Session, "answer", lambda self, line: stop(line) or answer(self, line))
    out = talk("Mars", "/quiet", "Venus", "/keep")
    assert "(stopped)" in out and "kept in plots.md" in out
    assert Path("plots.md").read_text(encoding="utf-8").startswith("## Mars\n")


@pytest.mark.slow
def test_a_line_outlives_the_terminal(generator: PlotGenerator, tmp_path: Path) -> None:
    ours, child = _in_a_terminal(signal.SIGHUP, "--max-tokens", "3")
    try:
        _read_until(ours, rb"> \Z")
        os.write(ours, b"Mars, Texas\n")
        _read_until(ours, rb"seed \d+[^>]*> \Z")
    finally:
        child.send_signal(signal.SIGHUP)
        child.wait(30)
        os.close(ours)
    assert "Mars, Texas" in (tmp_path / "lines").read_text(encoding="utf-8")


@pytest.fixture
def planning(generator: PlotGenerator, tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model in ``model`` is one with plans, and finds the same for every title."""
    save_checkpoint(Path("model"), tiny_checkpoint(context_length=256, hints=("Plan",)))
    monkeypatch.setattr("movieplotgpt.generation.generator.best_plan", lambda plans: "names: Ada; words: sea")


def test_a_plan_is_shown_and_changed(talk: Talk, planning: None) -> None:
    def text(plan: str) -> str:
        return PlotGenerator.load("model").plot("Mars", plan=plan, seed=3, max_tokens=20).text

    out = talk(
        "Mars", "/plan", "/set seed 3", "/plan Bert, storm", "/plan", flags=("--max-tokens", "20", "--seed", "3")
    )
    assert f"(names: Ada; words: sea)\n{text('names: Ada; words: sea')}\n" in out
    assert "\nnames: Ada; words: sea\n" in out
    assert f"(names: Bert; words: storm)\n{text('names: Bert; words: storm')}\n" in out
    assert "\nnames: Bert; words: storm\n" in out


def test_what_goes_on_from_a_sentence_keeps_its_plan(talk: Talk, planning: None) -> None:
    out = talk("Mars", "/from 0", "/set plan none", "Mars", "/plan")
    assert out.count("(names: Ada; words: sea)\n") == 2
    assert "plan is off" in out
    assert "written without a plan" in out
