"""``movieplotgpt generate``: the plot on stdout, the rest on stderr, and the same text from every door."""

from __future__ import annotations

import errno
import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from movieplotgpt.cli import main
from movieplotgpt.engine.model_config import Precision
from movieplotgpt.engine.places import DEFAULT_MODEL, WEIGHTS_FOLDER
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint

PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
Run = Callable[..., tuple[int, str, str]]
SENTENCE = "The plot summary of the movie named 'Mars, Texas' is:"
CUT = "the plot was cut at the limit of {} tokens; --max-tokens gives more\n"


@pytest.fixture
def model(tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch) -> str:
    """A small model in the working folder."""
    save_checkpoint(tmp_path / "model", tiny_checkpoint(context_length=256))
    monkeypatch.chdir(tmp_path)
    return "model"


@pytest.fixture
def generator(model: str) -> PlotGenerator:
    return PlotGenerator.load(model)


@pytest.fixture
def run(model: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(...)``: the exit code, stdout and stderr of ``generate``, with the small model where none is named."""

    def call(*arguments: str) -> tuple[int, str, str]:
        named = () if "--model" in arguments else ("--model", model)
        code = main(["generate", *arguments, *named])
        return code, *capsys.readouterr()

    return call


def type_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_stdout_holds_the_plot_and_nothing_else(run: Run, generator: PlotGenerator) -> None:
    text = generator.plot("Mars, Texas", seed=3, max_tokens=40).text
    stop = text[10]
    ended = generator.plot("Mars, Texas", seed=3, max_tokens=40, stop=stop)
    assert (ended.finish_reason, ended.changes) == ("stop", ())
    arguments = ["--title", "Mars, Texas", "--seed", "3", "--max-tokens", "40", "--stop", stop]
    assert run(*arguments) == run(*arguments, "--stream") == (0, ended.text + "\n", "")


@pytest.mark.parametrize("door", ["--no-stream", "--stream", "--json", "--out=plot.txt"])
def test_a_cut_plot_and_a_changed_prompt_are_said_on_stderr(run: Run, generator: PlotGenerator, door: str) -> None:
    plot = generator.plot("Amélie", seed=3, max_tokens=7)
    assert plot.finish_reason == "length"
    code, out, err = run("--title", "Amélie", "--seed", "3", "--max-tokens", "7", door)
    assert code == 0
    assert err == "prompt changed: é→e\n" + CUT.format(7)
    assert door in ("--json", "--out=plot.txt") or out == plot.text + "\n"


def test_how_many_of_several_were_cut_is_said(run: Run, generator: PlotGenerator) -> None:
    stop = generator.plot("Ada", seed=1, max_tokens=9).text[4:6]
    plots = generator.plots("Ada", n=6, seed=0, max_tokens=9, stop=stop)
    cut = sum(plot.finish_reason == "length" for plot in plots)
    assert 0 < cut < 6, "nothing would be tested"
    for door in ("--stream", "--no-stream"):
        err = run("--title", "Ada", "-n", "6", "--seed", "0", "--max-tokens", "9", "--stop", stop, door)[2]
        assert err == f"{cut} of 6 plots were cut at the limit of 9 tokens; --max-tokens gives more\n"


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_the_same_seed_gives_the_same_text_from_every_door(
    run: Run, tiny_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    save_checkpoint(Path("other"), tiny_checkpoint(kind, fold=False, context_length=192))
    text = PlotGenerator.load("other").plot("Mars, Texas", seed=5, max_tokens=60).text
    Path("prompt.txt").write_text(SENTENCE + "\n", encoding="utf-8")
    fixed = ("--model", "other", "--seed", "5", "--max-tokens", "60")
    for door in (["--title", "Mars, Texas"], ["--input", SENTENCE], ["--input-file", "prompt.txt"]):
        for stream in ("--stream", "--no-stream"):
            assert run(*door, stream, *fixed)[:2] == (0, text + "\n")
    type_in(monkeypatch, SENTENCE.encode())
    assert run("--input-file", "-", *fixed)[:2] == (0, text + "\n")
    assert json.loads(run("--title", "Mars, Texas", "--json", *fixed)[1])["plots"][0]["text"] == text
    assert run("--title", "Mars, Texas", "--out", "plot.txt", *fixed)[:2] == (0, "")
    assert Path("plot.txt").read_bytes() == (text + "\n").encode()


def test_a_terminal_sees_the_plot_grow_and_a_file_gets_it_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = ("--title", "Ada", "--seed", "0", "--max-tokens", "20")
    out = run(*fixed)[1]
    wholes: list[int] = []
    plots = PlotGenerator.plots

    def noting(*arguments: Any, **options: Any) -> Any:
        wholes.append(1)
        return plots(*arguments, **options)

    monkeypatch.setattr(PlotGenerator, "plots", noting)
    for terminal, flag, expected in [
        (True, [], 0),
        (False, [], 1),
        (True, ["--no-stream"], 1),
        (False, ["--stream"], 0),
    ]:
        wholes.clear()
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        assert run(*fixed, *flag)[1] == out
        assert len(wholes) == expected


def test_several_plots_have_a_blank_line_between_them(run: Run, generator: PlotGenerator) -> None:
    alone = [generator.plot("Ada", seed=4 + i, max_tokens=12).text for i in range(3)]
    for door in ("--stream", "--no-stream"):
        assert run("--title", "Ada", "-n", "3", "--seed", "4", "--max-tokens", "12", door)[1] == (
            "\n\n".join(alone) + "\n"
        )


def test_json_tells_all_of_each_plot(run: Run, generator: PlotGenerator) -> None:
    plots = generator.plots("Amélie", n=2, seed=7, max_tokens=6)
    for stream in ("--stream", "--no-stream"):
        out = run("--title", "Amélie", "-n", "2", "--seed", "7", "--max-tokens", "6", "--json", stream)[1]
        told = json.loads(out)
        assert told["model"] == "model"
        assert told["plots"] == json.loads(json.dumps([asdict(plot) for plot in plots]))
    assert [plot["seed"] for plot in told["plots"]] == [7, 8]
    assert told["plots"][0]["changes"] == ["é→e"]


def test_json_into_a_file_is_the_json_on_stdout(run: Run) -> None:
    fixed = ("--title", "Ada", "--seed", "7", "--max-tokens", "6", "--json")
    out = run(*fixed)[1]
    assert run(*fixed, "--out", "new/folder/plot.json")[1] == ""
    assert Path("new/folder/plot.json").read_text(encoding="utf-8") == out


def test_without_a_seed_each_call_draws_its_own_and_json_tells_it(run: Run) -> None:
    told = [json.loads(run("--max-tokens", "9", "--json")[1])["plots"][0] for _ in range(2)]
    assert told[0]["seed"] != told[1]["seed"]
    assert run("--max-tokens", "9", "--seed", str(told[0]["seed"]))[1] == told[0]["text"] + "\n"


def test_without_title_and_input_the_model_chooses(run: Run, generator: PlotGenerator) -> None:
    expected = generator.plot("", seed=2, max_tokens=9).text + "\n"
    assert run("--seed", "2", "--max-tokens", "9")[1] == run("--title=", "--seed", "2", "--max-tokens", "9")[1]
    assert run("--seed", "2", "--max-tokens", "9")[1] == expected


@pytest.mark.parametrize("ending", ["", " ", "\n", "\r\n", "\\n", "  \n "])
def test_all_spellings_of_the_sentence_become_the_trained_form(run: Run, generator: PlotGenerator, ending: str) -> None:
    plot = generator.plot("Mars, Texas", seed=1, max_tokens=15)
    out = run("--input", SENTENCE + ending, "--seed", "1", "--max-tokens", "15", "--json")[1]
    assert json.loads(out)["plots"] == json.loads(json.dumps([asdict(plot)]))


def test_what_the_prompt_began_stands_in_front(run: Run, generator: PlotGenerator) -> None:
    begun = "A baker hides"
    text = generator.plot(prompt=f"{SENTENCE}\n{begun}", seed=1, max_tokens=9).text
    assert text.startswith(begun)
    for door in ("--stream", "--no-stream"):
        assert run("--input", f"{SENTENCE}\n{begun}", "--seed", "1", "--max-tokens", "9", door)[1] == text + "\n"


@pytest.mark.parametrize(
    "data", [SENTENCE.encode(), f"{SENTENCE}\r\n".encode(), f"\ufeff{SENTENCE}\n".encode(), f"{SENTENCE} \n".encode()]
)
def test_a_prompt_file_may_have_been_saved_by_any_editor(
    run: Run, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    fixed = ("--seed", "1", "--max-tokens", "9")
    expected = run("--title", "Mars, Texas", *fixed)
    Path("prompt.txt").write_bytes(data)
    assert run("--input-file", "prompt.txt", *fixed) == expected
    type_in(monkeypatch, data)
    assert run("--input-file", "-", *fixed) == expected


def test_a_typed_line_break_stops_as_a_real_one_does(
    run: Run, model: str, tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    save_checkpoint(Path(model), tiny_checkpoint("byte", context_length=256, header=""))
    [seed] = [
        seed
        for seed in range(40)
        if "\n" in PlotGenerator.load(model).plot(seed=seed, max_tokens=60, begin="A").text[1:]
    ][:1]
    asked = ["--input", "A", "--max-tokens", "60", "--seed", str(seed)]
    stopped = run(*asked, "--stop", r"\n")
    assert stopped == run(*asked, "--stop", "\n") != run(*asked)


def test_stop_may_be_given_several_times(run: Run, generator: PlotGenerator) -> None:
    text = generator.plot("Ada", seed=1, max_tokens=60).text
    first, second = text[20], text[12]
    stopped = generator.plot("Ada", seed=1, max_tokens=60, stop=[first, second]).text
    assert len(stopped) <= 12 and first not in stopped and second not in stopped
    for door in ("--stream", "--no-stream"):
        arguments = ["--title", "Ada", "--seed", "1", "--max-tokens", "60", "--stop", first, "--stop", second, door]
        assert run(*arguments)[1] == stopped + "\n"


def test_a_text_may_begin_with_a_hyphen(run: Run, generator: PlotGenerator) -> None:
    fixed = ("--seed", "1", "--max-tokens", "9")
    assert run("--title", "-30-", *fixed)[1] == generator.plot("-30-", seed=1, max_tokens=9).text + "\n"
    assert run("--input", "- Hello", *fixed)[1].startswith("- Hello")
    assert run("--title", "Ada", "--stop", "-", *fixed)[0] == 0


def test_sampling_flags_reach_the_sampler(run: Run, generator: PlotGenerator) -> None:
    flags: dict[str, Any] = {"temperature": 1.4, "top_k": 40, "top_p": 0.9, "min_p": 0.01}
    given = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    texts = [run("--title", "Ada", "--seed", "1", "--max-tokens", "30")[1]]
    for i in range(0, len(given), 2):
        name, value = list(flags.items())[i // 2]
        one = run("--title", "Ada", "--seed", "1", "--max-tokens", "30", *given[i : i + 2])[1]
        assert one == generator.plot("Ada", seed=1, max_tokens=30, **{name: value}).text + "\n"
        texts.append(one)
    assert len(set(texts)) > 2, "the flags change nothing"
    greedy = run("--title", "Ada", "--max-tokens", "30", "--temperature", "0")[1]
    assert greedy == run("--title", "Ada", "--max-tokens", "30", "--top-k", "1")[1]


def test_rules_that_know_the_text_reach_the_sampler(run: Run, generator: PlotGenerator) -> None:
    flags: dict[str, Any] = {
        "repetition_penalty": 1.5, "frequency_penalty": 1.5, "presence_penalty": 1.5, "no_repeat_ngram": 1,
        "dry_multiplier": 3.0, "dry_allowed_length": 1, "typical_p": 0.3, "min_tokens": 25, "target_characters": 20,
    }  # fmt: skip
    silent = {"min_tokens", "target_characters", "dry_multiplier", "dry_allowed_length"}  # nothing repeats in so little
    fixed = ["--title", "Ada", "--seed", "1", "--max-tokens", "30"]
    for name, value in flags.items():
        text = run(*fixed, f"--{name.replace('_', '-')}", str(value))[1]
        assert text == generator.plot("Ada", seed=1, max_tokens=30, **{name: value}).text + "\n"
        assert text != run(*fixed)[1] or name in silent, name


def test_how_a_plot_begins_its_length_and_its_cast(run: Run, generator: PlotGenerator) -> None:
    fixed = ["--title", "Ada", "--seed", "1", "--max-tokens", "30"]
    begun = run(*fixed, "--begin", "A retired thief ")[1]
    sentence = generator.builder.form.format.sentence("Ada")
    assert begun == run("--input", f"{sentence}A retired thief ", *fixed[2:])[1]
    assert begun.startswith("A retired thief")
    short = generator.plot("Ada", seed=1, max_tokens=30, target_characters=400).text + "\n"
    assert run(*fixed, "--length", "short")[1] == short
    assert run(*fixed, "--no-cast")[1] == generator.plot("Ada", seed=1, max_tokens=30, banned="(").text + "\n"


def test_surprise_is_shown_in_colours(run: Run, generator: PlotGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = ["--title", "Ada", "--seed", "1", "--max-tokens", "30", "--begin", "A"]
    stop = generator.plot("Ada", begin="A", seed=1, max_tokens=30).text[9:12]
    assert run(*fixed, "--show-probs", "--stop", stop)[1] == run(*fixed, "--stop", stop)[1]
    code, _, err = run(*fixed, "--show-probs", "--out", "x.txt")
    assert code == 1 and "--show-probs colours a terminal" in err and not Path("x.txt").exists()
    plain, told = run(*fixed, "--show-probs")[1:]
    # what a terminal would obey is not shown in colours, and tabs as blanks
    whole = re.sub("[\a\b\v\f\r]", "", run(*fixed)[1]).expandtabs(8)
    assert plain == whole and told.startswith("surprise in bits: 0 to 1  1 to 3  3 to 6")
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = run(*fixed, "--show-probs")[1]
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_json_tells_each_tokens_probability(run: Run, generator: PlotGenerator) -> None:
    fixed = ["--title", "Ada", "--seed", "1", "--max-tokens", "8"]
    [plot] = json.loads(run(*fixed, "--json", "--logprobs", "2")[1])["plots"]
    assert len(plot["probabilities"]) == 8 and all(len(token["others"]) == 2 for token in plot["probabilities"])
    assert all(token["logprob"] <= 0 for token in plot["probabilities"])
    assert json.loads(run(*fixed, "--json")[1])["plots"][0]["probabilities"] == []


def test_a_model_that_knows_hints_takes_them(run: Run, tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    save_checkpoint(Path("hinted"), tiny_checkpoint(hints=("Decade", "Origin", "Genre"), context_length=128))
    hints = {"Decade": "1970s", "Origin": "Bollywood", "Genre": "crime, drama"}
    plot = PlotGenerator.load("hinted").plot("Mars, Texas", hints=hints, seed=1, max_tokens=9)
    fixed = ["--model", "hinted", "--title", "Mars, Texas", "--seed", "1", "--max-tokens", "9"]
    flags = ["--genre", "crime, drama", "--decade", "1970s", "--origin", "Bollywood"]
    [told] = json.loads(run(*fixed, *flags, "--json")[1])["plots"]
    lines = ["Decade: 1970s", "Origin: Bollywood", "Genre: crime, drama", SENTENCE]
    assert told["prompt"] == "".join(line + "\n" for line in lines)
    assert told["hints"] == hints
    assert run(*fixed, *flags, "--stream")[1] == run(*fixed, *flags)[1] == plot.text + "\n"
    [one] = json.loads(run(*fixed, "--origin", "Bollywood", "--json")[1])["plots"]
    assert one["prompt"] == f"Origin: Bollywood\n{SENTENCE}\n"
    by_name = ["--hint", "genre = crime, drama", "--hint", "Decade=1970s", "--origin", "Bollywood"]
    assert run(*fixed, *by_name)[1] == plot.text + "\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--hint", "Thai"], "--hint Thai is not NAME=VALUE; write it as in --hint"),
        (["--hint", "=Thai"], "--hint =Thai is not NAME=VALUE"),
        (["--hint", "Cuisine=Thai"], "this model knows no hint 'Cuisine'; it knows Decade"),
        (["--hint", "Decade=1950s", "--decade", "1970s"], "the hint Decade is given twice"),
        (["--hint", "Decade=1950s", "--hint", "decade=1970s"], "the hint decade is given twice"),
    ],
)
def test_a_hint_that_cannot_be_read_is_refused(
    run: Run, tiny_checkpoint: Callable[..., Checkpoint], flags: list[str], said: str
) -> None:
    save_checkpoint(Path("some"), tiny_checkpoint(hints=("Decade",), context_length=128))
    code, out, err = run("--title", "Ada", "--model", "some", *flags)
    assert (code, out) == (1, "") and said in err


@pytest.mark.parametrize("door", ["--stream", "--no-stream"])
def test_a_model_that_does_not_know_a_hint_says_so(
    run: Run, tiny_checkpoint: Callable[..., Checkpoint], door: str
) -> None:
    save_checkpoint(Path("some"), tiny_checkpoint(hints=("Decade",), context_length=128))
    for flag, value, name in (("--decade", "1970s", "Decade"), ("--origin", "X", "Origin"), ("--genre", "x", "Genre")):
        sentence = f"movieplotgpt: this model was trained without hints, so it has no {name!r}; leave it out\n"
        assert run("--title", "Ada", flag, value, door) == (1, "", sentence)
    sentence = "movieplotgpt: this model knows no hint 'Genre'; it knows Decade\n"
    assert run("--title", "Ada", "--genre", "drama", "--model", "some", door) == (1, "", sentence)


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("", ""),
        ("Plain", ""),
        ("😀", "prompt changed: 😀→:grinning:"),
        ("漢字", "prompt changed: 漢→Han, 字→Zi"),
        ("“Stop” – now…", 'prompt changed: “→", ”→", –→-, …→...'),
        ("\ud800", "prompt changed: \\ud800→\ufffd, \ufffd→?"),
        ("x" * 10_000, "prompt changed: title shortened from 10,000 to "),
        ("END_OF_PLOT", "prompt changed: END_OF_PLOT left out"),
        ("àáâãäåèéêëìíîï", "prompt changed: à→a, á→a, â→a, ã→a, ä→a, å→a, è→e, é→e and 6 more"),
        ("two\nlines\tand \x00", ""),
        ("' is: ' is:", ""),
        ("--help", ""),
        ("[red]{x}%s\\n", ""),
    ],
    ids=lambda text: ascii(text[:12]),
)
@pytest.mark.parametrize("door", ["--stream", "--no-stream"])
def test_no_title_fails_and_what_was_changed_is_said(run: Run, title: str, said: str, door: str) -> None:
    code, out, err = run(f"--title={title}", "--seed", "1", "--max-tokens", "4", door)
    assert code == 0 and out.endswith("\n")
    changes = "".join(line for line in err.splitlines() if line.startswith("prompt changed"))
    assert changes.startswith(said) and bool(changes) == bool(said)


@pytest.mark.parametrize("title", ["😀 漢字 é", "\u2028\x85\x1c", "x" * 10_000, "漢" * 10_000, "\udcff"])
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_unseen_characters_do_not_fail(
    run: Run, tiny_checkpoint: Callable[..., Checkpoint], kind: str, title: str
) -> None:
    save_checkpoint(Path("other"), tiny_checkpoint(kind, fold=False, context_length=192))
    for flag in ("--title", "--input"):
        code, out, _ = run(flag, title, "--model", "other", "--seed", "1", "--max-tokens", "3")
        assert code == 0 and out


def test_a_text_without_titles_is_gone_on_with(run: Run, tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    save_checkpoint(Path("untitled"), tiny_checkpoint(header=""))
    fixed = ("--model", "untitled", "--seed", "1", "--max-tokens", "5")
    assert run("--title", "Ada", *fixed) == (
        1,
        "",
        "movieplotgpt: this model was trained on text without titles; give it the beginning of a text instead\n",
    )
    assert run(*fixed)[0] == 0
    assert run("--input", "Ada finds", *fixed)[1].startswith("Ada finds")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--title", "a", "--input", "b"], "--title, --input and --input-file exclude each other; give one of them"),
        (["--input", "a", "--input-file", "b"], "exclude each other"),
        (["--input", "a", "--decade", "1970s"], "a free prompt is whole, and hints cannot be added"),
        (["--input-file", "gone.txt"], "the prompt gone.txt cannot be read: No such file or directory; name a text"),
        (["--input-file", "."], "the prompt . cannot be read: Is a directory"),
        (["--input-file", "latin.txt"], "the prompt latin.txt is not UTF-8 text (byte 3); save it as UTF-8"),
        (["--model", "nowhere"], "there is no model 'nowhere'; "),
        (["--model", "empty"], "empty is not a checkpoint: it has no config.json"),
        (["--temperature", "-1"], "setting temperature: input should be greater than or equal to 0, not -1.0"),
        (["--temperature", "nan"], "setting temperature: input should be a finite number, not nan"),
        (["--top-k", "0"], "setting top_k: input should be greater than or equal to 1, not 0"),
        (["--top-p", "1.5"], "setting top_p: input should be less than or equal to 1, not 1.5"),
        (["--min-p", "2"], "setting min_p: input should be less than or equal to 1, not 2.0"),
        (["--seed", "-1"], "setting seed: input should be greater than or equal to 0, not -1"),
        (["--max-tokens", "0"], "setting max_tokens: input should be greater than or equal to 1, not 0"),
        (["-n", "0"], "setting n: input should be greater than or equal to 1, not 0"),
        (["-n", "-2"], "setting n: input should be greater than or equal to 1, not -2"),
        (["--stop", ""], "setting stop.0: string should have at least 1 character, not ''"),
    ],
)
@pytest.mark.parametrize("door", ["--stream", "--no-stream"])
def test_what_is_wrong_is_one_line_and_exit_1(run: Run, arguments: list[str], said: str, door: str) -> None:
    Path("latin.txt").write_bytes(b"caf\xe9")
    Path("empty").mkdir()
    code, out, err = run(*arguments, door)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("movieplotgpt: ") and said in err


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "movieplotgpt.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_a_missing_or_damaged_file_of_the_model_is_named(run: Run, name: str, damage: str) -> None:
    shutil.copytree("model", "broken")
    path = Path("broken") / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40] if damage == "cut" else b"<html>Sign in</html>\n")
    code, out, err = run("--title", "Ada", "--model", "broken")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("movieplotgpt: ") and name in err


def test_a_full_disk_leaves_the_old_file_and_the_plot_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("plot.txt").write_text("the old one\n", encoding="utf-8")
    before = sorted(Path().iterdir())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("movieplotgpt.atomic.os.fsync", full)
    fixed = ("--title", "Ada", "--seed", "1", "--max-tokens", "3")
    code, out, err = run(*fixed, "--out", "plot.txt")
    sentence = "movieplotgpt: no space left on the disk for plot.txt; free some and run the command again\n"
    assert (code, out, err) == (1, run(*fixed)[1], sentence)
    assert Path("plot.txt").read_text(encoding="utf-8") == "the old one\n"
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("out", ["folder", "file/below"])
def test_a_place_that_cannot_be_written_is_said(run: Run, out: str) -> None:
    Path("folder").mkdir()
    Path("file").touch()
    code, printed, err = run("--title", "Ada", "--seed", "1", "--max-tokens", "3", "--out", out)
    assert (code, printed, err.count("\n")) == (1, "", 1)
    assert err.startswith(
        f"movieplotgpt: cannot write {out}: " if out != "folder" else "movieplotgpt: folder is a folder"
    )


def test_the_model_may_be_a_run_or_a_published_name(
    run: Run, tiny_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    fixed = ("--title", "Ada", "--seed", "1", "--max-tokens", "9")
    expected = run(*fixed)
    shutil.copytree("model", "runs/mine/best")
    save_checkpoint(Path("runs/mine/last"), tiny_checkpoint(seed=1))
    assert run(*fixed, "--model", "runs/mine") == run(*fixed, "--model", "runs/mine/best") == expected
    assert run(*fixed, "--model", "runs/mine/last")[1] != expected[1]
    shutil.copytree("model", f"shelf/{DEFAULT_MODEL}")
    monkeypatch.setenv(WEIGHTS_FOLDER, "shelf")
    assert run(*fixed, "--model", DEFAULT_MODEL) == expected
    assert main(["generate", *fixed]) == 0  # the default
    assert capsys.readouterr().out == expected[1]


def test_a_gpu_that_is_not_there_is_said(run: Run) -> None:
    asked = ("--title", "Mars, Texas", "--seed", "3", "--max-tokens", "20")
    assert run(*asked, "--device", "auto") == run(*asked, "--device", "cpu") == run(*asked)
    code, out, err = run(*asked, "--device", "cuda")
    assert (code, out) == (1, "") and err.startswith(
        "movieplotgpt: device cuda needs onnxruntime-gpu, which is not installed"
    )


def test_precision_is_that_of_the_generator(run: Run, model: str) -> None:
    asked = ("--title", "Mars, Texas", "--seed", "4", "--max-tokens", "60", "--min-tokens", "60")
    exact, usual = (PlotGenerator.load(model, precision=each) for each in PRECISIONS)
    plot = exact.plot("Mars, Texas", seed=4, max_tokens=60, min_tokens=60)
    for door in ("--stream", "--no-stream"):
        assert run(*asked, door, "--precision", "float32") == (0, plot.text + "\n", CUT.format(60))
    default = run(*asked)
    assert run(*asked, "--precision", "int8") == default
    assert default[1] == usual.plot("Mars, Texas", seed=4, max_tokens=60, min_tokens=60).text + "\n" != plot.text + "\n"
