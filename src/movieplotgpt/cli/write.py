"""``movieplotgpt write``: a conversation with the model, title by title, in a plain terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from movieplotgpt.cli.copies import told
from movieplotgpt.cli.hints import HintFlags, read_hints
from movieplotgpt.cli.sampling import COMPARED, SamplingFlags, given, sampling_from
from movieplotgpt.config import override, typed_text
from movieplotgpt.engine.model_config import Device, Precision
from movieplotgpt.engine.places import DEFAULT_MODEL, state_folder
from movieplotgpt.errors import ConfigError, MoviePlotGPTError
from movieplotgpt.generation.settings import LENGTHS, NO_PLAN, SamplingConfig

if TYPE_CHECKING:
    from movieplotgpt.generation.generator import PlotGenerator
    from movieplotgpt.generation.plots import Plot

HELP = """Type a title, and a plot appears (or type the beginning of a text, where a model knows no titles); Ctrl-C stops it. An
empty line lets the model choose. Then:

  /again                 the same title once more, by other draws
  /from N                continue differently after sentence N; /from alone numbers the sentences
  /set NAME VALUE        change a setting, as in /set temperature 0.7 or /set length short; /set NAME off; /set NAME restores
                         the default; /set shows all
  /hint NAME=VALUE       give a hint that the model knows, as in /hint Decade=1950s; /hint NAME= takes it back; /hint shows all
  /plan [PLAN]           show the plan of the last plot, or write the title again by yours: names: Ann; words: sea
  /keep [FILE]           append the plot to a file (plots.md)
  /copies                list the passages that the plot shares with the training text
  /help  /quit           or Ctrl-D"""


OFF: dict[str, Any] = {"stop": (), "banned": (), "must_mention": (), "guidance": 1.0, "plan": NO_PLAN}  # not None
TEXTS = ("stop", "banned", "must_mention", "plan")
HIDDEN = ("seed", "n", "logit_bias", "logprobs")


def write(
    model: str = DEFAULT_MODEL,
    *,
    sampling: Annotated[SamplingFlags | None, Parameter(name="*")] = None,
    data: Path | None = None,
    device: Device = "auto",
    precision: Precision | None = None,
    history: Path | None = None,
    hint: HintFlags = (),
) -> None:
    """Write in a conversation: type a title, read the plot, then ask for another, or continue from any of its sentences.

    Args:
        model: A published name, a model folder or a run.
        sampling: How the next token is chosen, and when the text ends.
        data: The prepared corpus the model was trained on, to find copies exactly.
        device: cpu, or cuda for an NVIDIA GPU (needs onnxruntime-gpu); auto uses the GPU if there is one.
        precision: By default int8 on the processor and float16 on a GPU; float32 takes twice as long. With another precision
            the same seed writes another text.
        history: The file that keeps the lines you typed (default: in your state folder).
        hint: NAME=VALUE: something the model was trained to take into account, such as Decade=1970s, until /hint changes it.
    """
    from movieplotgpt.generation.generator import PlotGenerator

    config = sampling_from(given(sampling))
    generator = PlotGenerator.load(model, data=data, precision=precision, device=device)
    session = Session(generator, config, read_hints(hint))
    remember = _remembered_lines(history)
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
        remember()
        if not session.answer(line):
            return


class Session:
    """What was written last, and what may be done with it."""

    def __init__(self, generator: PlotGenerator, config: SamplingConfig, hints: Mapping[str, str] = {}) -> None:
        self.generator, self.config = generator, config
        self.title, self.begin = "", ""
        self.plan: str | None = None  # that the next text follows
        generator.requests("", hints=hints)  # a hint that the model does not know is refused here
        self.hints = dict(hints)
        self.plot: Plot | None = None
        self._seed = config.seed
        self._commands: dict[str, Callable[[str], None]] = {
            "again": self._again,
            "from": self._from,
            "set": self._set,
            "hint": self._hint,
            "plan": self._replan,
            "keep": self._keep,
            "copies": self._copies,
            "help": lambda _: print(HELP),
        }

    def answer(self, line: str) -> bool:
        """Do what a line asks for; return whether the conversation continues. Errors are printed, and nothing is lost."""
        word, _, rest = line.strip().partition(" ")
        if word in ("/quit", "/exit", "/q"):
            return False
        try:
            if not word.startswith("/"):
                titled = bool(self.generator.checkpoint.format.header)
                self.title, self.begin = (line.strip(), "") if titled else ("", line.strip())
                self.plan = None
                self._write()
            elif command := self._commands.get(word[1:]):
                command(rest.strip())
            else:
                print(f"there is no {word}; /help lists what there is")
        except MoviePlotGPTError as error:
            print(error)
        except KeyboardInterrupt:
            print("\n(stopped)", flush=True)
        return True

    def _write(self) -> None:
        from movieplotgpt.generation.sampling import fresh_seed

        seed = fresh_seed() if self._seed is None else self._seed
        self._seed = None  # one asked for is that of the first plot
        asked: dict[str, Any] = {"begin": self.begin, "hints": self.hints, "sampling": self.config}
        if self.plan is not None:
            asked["plan"] = self.plan
        stream = self.generator.stream(self.title, **asked, seed=seed, n=1)
        if stream.changes:
            print(f"(prompt changed: {', '.join(stream.changes)})")
        shown = False
        try:
            if stream.plan:
                print(f"({stream.plan})", flush=True)
            for piece in stream:
                print(piece, end="", flush=True)
                shown = True
            print(f"\n({stream.plot.tokens} tokens, seed {seed}; ended by {stream.plot.finish_reason})", flush=True)
        except KeyboardInterrupt:
            if not shown:  # the previous plot is kept
                raise
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
            self.begin, self.plan = text[: [0, *ends][int(asked)]], self._last().plan or None
            self._write()
        else:
            print(f"there is no sentence {asked}; the plot has {len(ends)}, and /from 0 starts over")

    def _replan(self, asked: str) -> None:
        plan = self._last().plan
        if asked:
            self.plan, self.begin = asked, ""
            self._write()
        else:
            print(plan or "the last plot was written without a plan")

    def _set(self, asked: str) -> None:
        name, _, value = asked.partition(" ")
        name, value = name.strip("-").replace("-", "_").casefold(), value.strip()
        if not name:
            for key in SamplingConfig.model_fields:
                if key not in HIDDEN:
                    print(f"  {key:<20} {self._shown(key)}")
            return
        if name == "length":
            name = "target_characters"
            value = next((str(size) for word, size in LENGTHS.items() if word == value), value)
        if name == "n":
            raise ConfigError("one plot is written at a time; /again writes another")
        if name not in SamplingConfig.model_fields and any(name == hint.casefold() for hint in self._known_hints()):
            raise ConfigError(f"{name} is a hint; write /hint {name}={value}")
        if not value and name in SamplingConfig.model_fields:
            self._change({name: SamplingConfig.model_fields[name].get_default()})
        elif value == "off":
            self._change({name: OFF.get(name)})
        elif name in TEXTS and value[0] not in "[\"'":
            self._change({name: typed_text(value) if name in COMPARED else value})
        else:
            self._change(override({}, [f"{name}={value}"]))
        if name == "seed":
            self._seed = self.config.seed
        print(f"{name} is {self._shown(name)}")

    def _known_hints(self) -> dict[str, tuple[str, ...]]:
        from movieplotgpt.generation.prompts import usual_hints

        return usual_hints(self.generator.checkpoint)

    def _hint(self, asked: str) -> None:
        if asked:
            ((name, value),) = read_hints([asked]).items()
            others = {known: kept for known, kept in self.hints.items() if known.casefold() != name.casefold()}
            self.generator.requests("", hints={name: value})  # as above
            self.hints = {**others, name: value} if value else others
        known = self._known_hints()
        given = {name.casefold(): value for name, value in self.hints.items()}
        for name, usual in known.items():
            such = f" (such as {', '.join(usual)})" if usual else ""
            print(f"  {name:<20} {given.get(name.casefold(), 'none')}{such}")
        if not known:
            print("this model was trained without hints")

    def _change(self, settings: Mapping[str, Any]) -> None:
        self.config = sampling_from({**self.config.model_dump(), **settings})

    def _shown(self, name: str) -> str:
        """A setting in words, as the next plot will be written by it."""
        from movieplotgpt.generation.writing import FREE_REPETITIONS, MAX_TOKENS

        kind = self.generator.checkpoint.tokenizer.kind
        usual: dict[str, Any] = {"max_tokens": MAX_TOKENS[kind], "dry_allowed_length": FREE_REPETITIONS[kind]}
        settled = self.generator.builder.settled(self.config).model_dump()
        value = settled.get(name)
        if value is None:
            value = usual.get(name)
        return "off" if value == OFF.get(name) else ", ".join(value) if isinstance(value, tuple) else str(value)

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


def _remembered_lines(path: Path | None) -> Callable[[], None]:
    """Let the arrow keys bring back earlier lines, also those of the last session; the function returned keeps the newest line.

    Without a terminal or readline, or where the user has no home folder that can be written, no line is kept. ``path`` is by
    default ``history`` in the user's state folder.
    """
    try:
        import readline

        if not sys.stdin.isatty():
            return lambda: None
        lines = path or state_folder() / "history"
        lines.parent.mkdir(parents=True, exist_ok=True)
        lines.touch()
        readline.read_history_file(lines)
        readline.set_history_length(1_000)
        readline.write_history_file(lines)  # the oldest lines leave
    except (ImportError, OSError):
        return lambda: None
    known = readline.get_current_history_length()

    def remember() -> None:
        nonlocal known
        new, known = readline.get_current_history_length() - known, readline.get_current_history_length()
        if new > 0:
            with suppress(OSError):
                readline.append_history_file(new, lines)

    return remember
