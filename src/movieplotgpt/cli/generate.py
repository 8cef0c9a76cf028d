"""``movieplotgpt generate``: a title in, a plot on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from movieplotgpt.atomic import check_place, write_text
from movieplotgpt.cli.copies import say
from movieplotgpt.cli.hints import HintFlags, read_hints
from movieplotgpt.cli.sampling import SamplingFlags, given, sampling_from
from movieplotgpt.cli.surprise import show_surprise
from movieplotgpt.cli.texts import read_text
from movieplotgpt.engine.model_config import Device, Precision
from movieplotgpt.engine.places import DEFAULT_MODEL
from movieplotgpt.errors import PromptError, StorageError
from movieplotgpt.generation.settings import Length, with_length
from movieplotgpt.progress_bars import progress_bar

if TYPE_CHECKING:
    from movieplotgpt.generation.generator import PlotGenerator
    from movieplotgpt.generation.plots import Plot
    from movieplotgpt.generation.settings import SamplingConfig

CHANGES_SHOWN = 8
TEXT = Parameter(allow_leading_hyphen=True)  # "-30-" is a film, "-" is stdin


def generate(
    *,
    title: Annotated[str | None, TEXT] = None,
    input_: Annotated[str | None, Parameter(name="--input"), TEXT] = None,
    input_file: Annotated[str | None, TEXT] = None,
    model: str = DEFAULT_MODEL,
    length: Length | None = None,
    hint: HintFlags = (),
    begin: Annotated[str | None, TEXT] = None,
    sampling: Annotated[SamplingFlags | None, Parameter(name="*")] = None,
    data: Path | None = None,
    check_copies: bool = False,
    show_probs: bool = False,
    device: Device = "auto",
    precision: Precision | None = None,
    stream: Annotated[bool | None, Parameter(negative="--no-stream")] = None,
    json: bool = False,
    out: Path | None = None,
    decade: str | None = None,
    origin: str | None = None,
    genre: str | None = None,
) -> None:
    """Write a plot for a title, or continue a text.

    Args:
        title: The title to write a text for; without title and input the model chooses its own.
        input_: A free prompt: the sentence with the title, the beginning of a plot, or both. The beginning is
            printed before the text that the model adds.
        input_file: A file that holds the prompt; - reads it from stdin.
        model: A published name, a model folder or a run.
        sampling: How the next token is chosen, and when the text ends.
        begin: How the text under this title begins.
        length: About how long: short 400 characters, medium 1,000, long 2,000; it ends with a sentence.
        data: The prepared corpus the model was trained on, to find copies exactly and show both passages.
        check_copies: List the passages that the text shares with the training text, and the works they are from.
        show_probs: Colour each token by its surprise, in a terminal: the redder, the less likely it was.
        device: cpu, or cuda for an NVIDIA GPU (needs onnxruntime-gpu); auto uses the GPU if there is one.
        precision: By default int8 on the processor and float16 on a GPU; float32 takes twice as long. With another precision
            the same seed writes another text.
        stream: Print while writing (default: if stdout is a terminal).
        json: Print JSON: plots, seeds, why each ended, what was changed in the prompt.
        out: Write to this file instead of stdout.
        hint: NAME=VALUE: something the model was trained to take into account, such as Decade=1970s. May be given several
            times. `movieplotgpt info` lists the hints of a model, with usual values.
        decade: The hint Decade, such as 1970s.
        origin: The hint Origin, such as American.
        genre: The hint Genre, such as "crime, drama".
    """
    prompt = _prompt(title, input_, input_file)
    if show_probs and (json or out):
        raise PromptError("--show-probs colours a terminal; for a file take --json --logprobs 5 --out FILE")
    if out:
        check_place(out)
    settings = with_length(given(sampling), length)
    if show_probs:
        settings.setdefault("logprobs", 0)
    hints = read_hints(hint, Decade=decade, Origin=origin, Genre=genre)
    from movieplotgpt.generation.generator import PlotGenerator
    from movieplotgpt.generation.sampling import fresh_seed

    config = sampling_from({"seed": fresh_seed(), **settings})
    generator = PlotGenerator.load(model, data=data, precision=precision, device=device)
    request: dict[str, Any] = {
        "prompt": prompt,
        "begin": begin or "",
        "hints": hints,
        "sampling": config,
    }
    if check_copies:
        _ = generator.copies  # a missing index is reported before anything is written
    streaming = sys.stdout.isatty() if stream is None else stream
    if streaming and not (json or out or show_probs):
        plots = list(_streamed(generator, title or "", config, request))
    else:
        with progress_bar("writing") as progress:
            plots = generator.plots(title or "", **request, progress=progress)
        _say_changes(plots[0].changes)
        if not json:
            for plot in plots:
                _say_plan(plot.plan)
        if show_probs and not json:
            show_surprise(plots)
        else:
            _deliver(_as_json(plots, generator, check_copies) if json else "\n\n".join(map(str, plots)), out)
    _say_cuts(plots, literal=config.max_tokens is not None)
    if check_copies and not json:
        for plot in plots:
            say(generator.copies.report(plot.text))


def _prompt(title: str | None, text: str | None, file: str | None) -> str | None:
    """The free prompt, if there is one."""
    if sum(given is not None for given in (title, text, file)) > 1:
        raise PromptError("--title, --input and --input-file exclude each other; give one of them")
    return text if file is None else read_text(file)


def _streamed(generator: PlotGenerator, title: str, config: SamplingConfig, request: dict[str, Any]) -> Iterator[Plot]:
    """Print one plot after the other while it is written."""
    for i in range(config.n):
        stream = generator.stream(title, **request, seed=(config.seed or 0) + i, n=1)
        if i == 0:
            _say_changes(stream.changes)
        else:
            print()
        _say_plan(stream.plan)
        for piece in stream:
            print(piece, end="", flush=True)
        print(flush=True)
        yield stream.plot


def _as_json(plots: list[Plot], generator: PlotGenerator, check_copies: bool) -> str:
    from dataclasses import asdict
    from json import dumps

    told = [asdict(plot) for plot in plots]
    if check_copies:
        for each, plot in zip(told, plots, strict=True):
            each["copies"] = asdict(generator.copies.report(plot.text))
    return dumps(
        {"model": str(generator.checkpoint.folder), "plots": told}, indent=2, ensure_ascii=False, allow_nan=False
    )


def _deliver(text: str, out: Path | None) -> None:
    if out is None:
        print(text, flush=True)
        return
    try:
        write_text(out, text + "\n")
    except StorageError:
        print(text, flush=True)  # what was written is not lost with its place
        raise


def _say_changes(changes: tuple[str, ...]) -> None:
    if changes:
        more = f" and {len(changes) - CHANGES_SHOWN:,} more" if len(changes) > CHANGES_SHOWN else ""
        print(f"prompt changed: {', '.join(changes[:CHANGES_SHOWN])}{more}", file=sys.stderr, flush=True)


def _say_plan(plan: str) -> None:
    if plan:
        print(f"plan: {plan}", file=sys.stderr, flush=True)


def _say_cuts(plots: list[Plot], *, literal: bool) -> None:
    cut = [plot for plot in plots if plot.finish_reason == "length"]
    if cut:
        which = "the plot was" if len(plots) == 1 else f"{len(cut)} of {len(plots)} plots were"
        where = "" if literal else "after a sentence "
        print(
            f"{which} cut {where}at the limit of {cut[0].max_tokens:,} tokens; --max-tokens gives more", file=sys.stderr
        )
    for plot in plots:
        if plot.unmet:
            which = "the plot" if len(plots) == 1 else f"the plot of seed {plot.seed}"
            more = "; --max-tokens gives it more time" if plot.tokens == plot.max_tokens else ""
            print(f"{which} {' and '.join(plot.unmet)}{more}", file=sys.stderr)
