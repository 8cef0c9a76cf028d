"""``movieplotgpt write``: a conversation with the model, title by title, in a plain terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from movieplotgpt.cli.copies import told
from movieplotgpt.cli.generate import say_compiling
from movieplotgpt.cli.sampling import SamplingFlags, given, sampling_from
from movieplotgpt.config import override
from movieplotgpt.errors import ConfigError, MoviePlotGPTError

if TYPE_CHECKING:
    from movieplotgpt.generation.generator import PlotGenerator
    from movieplotgpt.generation.plots import Plot
    from movieplotgpt.generation.settings import SamplingConfig

HELP = """Type a title, and a plot appears (or the begin of a text, where a model knows no titles); Ctrl-C stops it. An
empty line lets the model choose. Then:

  /again                 the same title once more, by other draws
  /from N                go on another way behind sentence N; /from alone numbers the sentences
  /set NAME VALUE        change a setting, as in /set temperature 0.7; /set NAME turns it off; /set shows all
  /keep [FILE]           append the plot to a file (plots.md)
  /copies                what of it stands in the training text
  /help  /quit           or Ctrl-D"""


OFF: tuple[Any, ...] = (None, (), {})
OFF_IN: dict[str, Any] = {"stop": (), "banned": (), "must_mention": ()}  # where it is not None


def write(
    model: str = "plots-bpe",
    *,
    sampling: Annotated[SamplingFlags | None, Parameter(name="*", group="Sampling")] = None,
    data: Path | None = None,
    fast: Annotated[bool, Parameter(negative="")] = False,
    history: Path | None = None,
) -> None:
    """Write with the model: a title in, a plot streams, then again, from a sentence, with another setting, keep.

    Args:
        model: A published name, a model folder or a run.
        sampling: How the next token is chosen, and when the text ends.
        data: The prepared corpus the model was trained on: what was copied is then known exactly.
        fast: Write about three times as fast on a CPU, by int8 products: compiled once for a model's shape (about a minute)
            and kept. The same seed then writes another text.
        history: Where the lines you typed are kept for the next time (default: your state folder).
    """
    from movieplotgpt.generation.generator import PlotGenerator

    config = sampling_from(given(sampling))
    session = Session(PlotGenerator.load(model, data=data, fast=fast), config)
    say_compiling(session.generator)
    _remember_lines(history or _history_file())
    print(f"{model} is ready. {HELP}\n", flush=True)
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:  # a line that is given up
            print()
            continue
        except UnicodeDecodeError:
            print("what comes in is not UTF-8 text", file=sys.stderr)
            return
        if not session.answer(line):
            return


class Session:
    """What was written last, and what may be done with it."""

    def __init__(self, generator: PlotGenerator, config: SamplingConfig) -> None:
        self.generator, self.config = generator, config
        self.title, self.begin = "", ""
        self.plot: Plot | None = None
        self._seed = config.seed
        self._commands: dict[str, Callable[[str], None]] = {
            "again": self._again,
            "from": self._from,
            "set": self._set,
            "keep": self._keep,
            "copies": self._copies,
            "help": lambda _: print(HELP),
        }

    def answer(self, line: str) -> bool:
        """Do what a line asks for; whether the conversation goes on. What is wrong is said, and nothing is lost."""
        word, _, rest = line.strip().partition(" ")
        if word in ("/quit", "/exit", "/q"):
            return False
        try:
            if not word.startswith("/"):
                titled = bool(self.generator.checkpoint.format.header)
                self.title, self.begin = (line.strip(), "") if titled else ("", line.strip())
                self._write()
            elif command := self._commands.get(word[1:]):
                command(rest.strip())
            else:
                print(f"there is no {word}; /help lists what there is")
        except MoviePlotGPTError as error:
            print(error)
        return True

    def _write(self) -> None:
        from movieplotgpt.generation.sampling import fresh_seed

        seed = fresh_seed() if self._seed is None else self._seed
        self._seed = None  # one asked for is that of the first plot
        stream = self.generator.stream(self.title, begin=self.begin, sampling=self.config, seed=seed, n=1)
        if stream.changes:
            print(f"(prompt changed: {', '.join(stream.changes)})")
        try:
            for piece in stream:
                print(piece, end="", flush=True)
            print(f"\n({stream.plot.tokens} tokens, seed {seed}; ended by {stream.plot.finish_reason})", flush=True)
        except KeyboardInterrupt:
            stream.stop()
            print("\n(stopped)", flush=True)
        self.plot = stream.plot

    def _last(self) -> Plot:
        if self.plot is None:
            raise ConfigError("nothing is written yet; type a title")
        return self.plot

    def _again(self, _: str) -> None:
        self._last()
        self._write()

    def _from(self, asked: str) -> None:
        from movieplotgpt.text.sentences import sentence_ends

        text = self._last().text
        ends = sentence_ends(text)
        if not asked:
            for i, (start, stop) in enumerate(zip([0, *ends], ends, strict=False), start=1):
                print(f"{i:>3}  {text[start:stop].strip()}")
        elif asked.isdecimal() and int(asked) <= len(ends):
            self.begin = text[: [0, *ends][int(asked)]]
            self._write()
        else:
            print(f"there is no sentence {asked}; the plot has {len(ends)}, and /from 0 begins anew")

    def _set(self, asked: str) -> None:
        name, _, value = asked.partition(" ")
        name = name.strip("-").replace("-", "_")
        settings: dict[str, Any] = self.config.model_dump()
        if not name:
            for key, current in settings.items():
                if key not in ("seed", "n"):
                    print(f"  {key:<20} {'off' if current in OFF else current}")
            return
        if name == "n":
            raise ConfigError("one plot is written at a time; /again writes another")
        changed = {name: OFF_IN.get(name)} if not value else override({}, [f"{name}={value}"])
        self.config = sampling_from({**settings, **changed})
        if name == "seed":
            self._seed = self.config.seed
        print(f"{name} is {value or 'off'}")

    def _keep(self, asked: str) -> None:
        plot = self._last()
        path = Path(asked or "plots.md")
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"## {plot.title or 'Untitled'}\n\n{plot.text.strip()}\n\n")
        except OSError as error:
            print(f"{path} cannot be written ({error.strerror}); /keep FILE names another")
        else:
            print(f"kept in {path}")

    def _copies(self, _: str) -> None:
        print("\n".join(told(self.generator.copies.report(self._last().text))))


def _history_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "movieplotgpt" / "history"


def _remember_lines(path: Path) -> None:
    """Let the arrow keys bring back what was typed, also the last time; where there is no readline, not."""
    if not sys.stdin.isatty():
        return
    try:
        import atexit
        import readline
    except ImportError:  # Windows
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        readline.read_history_file(path)
    except OSError:  # a home that cannot be written: lines are not kept
        return
    readline.set_history_length(1_000)
    atexit.register(readline.write_history_file, path)
