"""``movieplotgpt generate``: a title in, a plot on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from movieplotgpt.errors import PromptError

if TYPE_CHECKING:
    from movieplotgpt.generation.generator import Plot, PlotGenerator

CHANGES_SHOWN = 8
TEXT = Parameter(allow_leading_hyphen=True)  # "-30-" is a film, "-" is stdin


def generate(
    *,
    title: Annotated[str | None, TEXT] = None,
    input_: Annotated[str | None, Parameter(name="--input"), TEXT] = None,
    input_file: Annotated[str | None, TEXT] = None,
    model: str = "plots-bpe",
    n: Annotated[int, Parameter(name=["--n", "-n"])] = 1,
    max_tokens: int | None = None,
    temperature: float = 0.9,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = 0.05,
    seed: int | None = None,
    stop: Annotated[tuple[str, ...], Parameter(negative=""), TEXT] = (),
    stream: bool | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    out: Path | None = None,
    decade: str | None = None,
    origin: str | None = None,
    genre: str | None = None,
) -> None:
    """Write a plot for a title, or go on with a text.

    Args:
        title: The movie's title; without title and input the model writes a plot of its own choosing.
        input_: A free prompt: the sentence with the title, the begin of a plot, or both. What the prompt began of the plot
            is printed in front of what the model adds, so that the plot is whole.
        input_file: A file that holds the prompt; - reads it from stdin.
        model: A published name, a model folder or a run.
        n: How many plots; the i-th is the one that the seed plus i writes alone.
        max_tokens: Tokens at most; by default about 2,000 characters.
        temperature: Below 1 bolder, above 1 wilder; 0 always takes the likeliest token.
        top_k: Draw from the k likeliest tokens.
        top_p: Draw from the fewest tokens whose probabilities together reach this.
        min_p: Draw from the tokens at least this many times as likely as the likeliest; 0 for all.
        seed: The same seed writes the same text; by default a fresh one each time.
        stop: End before this text; may be given several times.
        stream: Print while writing; by default where stdout is a terminal.
        json: Print JSON: plots, seeds, why each ended, what was changed in the prompt.
        out: Write to this file instead of stdout.
        decade: A hint such as 1970s, for a model that knows decades.
        origin: A hint such as American, for a model that knows origins.
        genre: A hint such as "crime, drama", for a model that knows genres.
    """
    prompt = _prompt(title, input_, input_file)
    hints = {"Decade": decade, "Origin": origin, "Genre": genre}
    request: dict[str, Any] = {
        "prompt": prompt,
        "hints": {name: value for name, value in hints.items() if value is not None},
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "stop": stop,
    }
    from movieplotgpt.generation.generator import PlotGenerator
    from movieplotgpt.generation.sampling import fresh_seed

    generator = PlotGenerator.load(model)
    seed = fresh_seed() if seed is None else seed
    streaming = sys.stdout.isatty() if stream is None else stream
    if streaming and n >= 1 and not (json or out):  # a wrong n is for plots() to say
        plots = list(_streamed(generator, title or "", n, seed, request))
    else:
        plots = generator.plots(title or "", n=n, seed=seed, **request)
        _say_changes(plots[0].changes)
        _deliver(_as_json(plots, generator) if json else "\n\n".join(map(str, plots)), out)
    _say_cuts(plots)


def _prompt(title: str | None, text: str | None, file: str | None) -> str | None:
    """The free prompt, if there is one."""
    if sum(given is not None for given in (title, text, file)) > 1:
        raise PromptError("--title, --input and --input-file exclude each other; give one of them")
    if file is None:
        return text
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise PromptError(
            f"the prompt {file} cannot be read: {error.strerror}; name a text file, or - for stdin"
        ) from None
    except UnicodeDecodeError as error:
        raise PromptError(f"the prompt {file} is not UTF-8 text (byte {error.start:,}); save it as UTF-8") from None


def _streamed(generator: PlotGenerator, title: str, n: int, seed: int, request: dict[str, Any]) -> Iterator[Plot]:
    """Print one plot after the other while it is written."""
    for i in range(n):
        stream = generator.stream(title, seed=seed + i, **request)
        if i == 0:
            _say_changes(stream.changes)
        else:
            print()
        for piece in stream:
            print(piece, end="", flush=True)
        print(flush=True)
        yield stream.plot


def _as_json(plots: list[Plot], generator: PlotGenerator) -> str:
    from dataclasses import asdict
    from json import dumps

    folder = generator.checkpoint.folder
    return dumps({"model": str(folder), "plots": [asdict(plot) for plot in plots]}, indent=2, ensure_ascii=False)


def _deliver(text: str, out: Path | None) -> None:
    if out is None:
        print(text, flush=True)
        return
    from movieplotgpt.atomic import write_text

    write_text(out, text + "\n")


def _say_changes(changes: tuple[str, ...]) -> None:
    if changes:
        more = f" and {len(changes) - CHANGES_SHOWN:,} more" if len(changes) > CHANGES_SHOWN else ""
        print(f"prompt changed: {', '.join(changes[:CHANGES_SHOWN])}{more}", file=sys.stderr, flush=True)


def _say_cuts(plots: list[Plot]) -> None:
    cut = [plot for plot in plots if plot.finish_reason == "length"]
    if cut:
        which = "the plot was" if len(plots) == 1 else f"{len(cut)} of {len(plots)} plots were"
        print(f"{which} cut at the limit of {cut[0].max_tokens:,} tokens; --max-tokens gives more", file=sys.stderr)
