"""PlotGenerator: a title in, a plot out; whole, streamed, or many at once."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from movieplotgpt.engine.gpu import make_engine
from movieplotgpt.engine.model_config import Device, Precision
from movieplotgpt.engine.model_folder import TextModel, load_folder
from movieplotgpt.engine.places import DEFAULT_MODEL
from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import DataError, PromptError
from movieplotgpt.generation.candidates import best, soundness
from movieplotgpt.generation.decoding import write
from movieplotgpt.generation.guidance import bare_header
from movieplotgpt.generation.planning import best_plan, plan_request, wants_plan
from movieplotgpt.generation.plots import Plot, PlotKeywords, PlotRequest, plot_of
from movieplotgpt.generation.requests import RequestBuilder
from movieplotgpt.generation.settings import NO_PLAN
from movieplotgpt.generation.writing import Writing
from movieplotgpt.progress_bars import CountReport
from movieplotgpt.text.formatting import PLAN

if TYPE_CHECKING:
    from movieplotgpt.text.copies import CopyIndex

TEXTS_AT_ONCE = 64  # each takes a KV cache of its own: 8 MB of plots-large with a full context


class PlotGenerator:
    """Writes plots with one model.

    Every method takes a title and the same keyword arguments (``PlotKeywords``): ``hints`` such as ``{"Decade": "1970s"}`` and
    ``begin``, how the plot begins; or ``prompt``, which is the trained sentence, the beginning of a plot, or both, instead of a
    title. Sampling is set by a ``SamplingConfig`` (``sampling=``), by its fields as keywords (``temperature=0.8``), or both: keywords
    replace fields. The same seed writes the same text through every method.

    Example:
        >>> generator = PlotGenerator.load("model")
        >>> plot = generator.plot("The Last Tram", seed=1, max_tokens=50)
        >>> plot.title, plot.seed, plot.max_tokens
        ('The Last Tram', 1, 50)
        >>> [plot] == generator.plots("The Last Tram", seed=1, max_tokens=50)
        True

    Args:
        checkpoint: A model, as ``load_folder`` or ``load_checkpoint`` return it.
        data: The prepared corpus the model was trained on, to know exactly what was copied.
        precision: "int8", "float16" or "float32" (default: the fastest). In another one the same seed writes other texts.
        device: "cpu", "cuda" or "auto".
    """

    def __init__(
        self,
        checkpoint: TextModel,
        *,
        data: Path | None = None,
        precision: Precision | None = None,
        device: Device = "auto",
    ) -> None:
        self.checkpoint, self.data, self._asked = checkpoint, data, (precision, device)
        self.builder = RequestBuilder(checkpoint)
        self._engine: tuple[object, Engine] | None = None

    @cached_property
    def copies(self) -> CopyIndex:
        """The index of the text the model was trained on, for ``copies.report(plot.text)``.

        Raises:
            DataError: no index of that text is installed.
        """
        from movieplotgpt.generation.copying import copy_index  # here, since few texts are searched for copies

        return copy_index(self.checkpoint, self.data)

    @classmethod
    def load(
        cls,
        name: str | Path = DEFAULT_MODEL,
        *,
        data: Path | None = None,
        precision: Precision | None = None,
        device: Device = "auto",
    ) -> PlotGenerator:
        """Load a published NAME, a model folder or a run.

        Raises:
            CheckpointError: there is no such model, or a file of it is missing or damaged.
        """
        return cls(load_folder(name), data=data, precision=precision, device=device)

    def plot(
        self,
        title: str = "",
        **asked: Unpack[PlotKeywords],
    ) -> Plot:
        """Write one plot.

        Raises:
            PromptError: the model has no titles, or does not know a hint.
            ConfigError: an unknown sampling setting, or a value out of range.
        """
        return self.stream(title, **asked).plot

    def stream(
        self,
        title: str = "",
        **asked: Unpack[PlotKeywords],
    ) -> PlotStream:
        """Write one plot piece by piece. Errors are those of ``plot``, raised here."""
        requests = self.requests(title, **asked)
        if (n := len(requests)) > 1:
            raise PromptError(f"one plot is asked for, and n={n}; plots([title], n={n}) writes several")
        return PlotStream(self, requests[0])

    def plots(
        self,
        titles: str | Sequence[str] = "",
        *,
        progress: CountReport | None = None,
        **asked: Unpack[PlotKeywords],
    ) -> list[Plot]:
        """Write ``n`` plots for each title, all at once; the i-th is the one that ``plot`` writes with ``seed + i``.

        ``progress`` is called with the number of finished texts and the total, candidates of ``best_of`` included.

        Raises:
            PromptError: the model has no titles, or does not know a hint.
            ConfigError: an unknown sampling setting, or a value out of range.
        """
        requests = self.requests(titles, **asked)
        requests = self.planned(requests)
        candidates = self._candidates(requests, progress)
        return [self.best(request, plots) for request, plots in zip(requests, candidates, strict=True)]

    def planned(self, requests: Sequence[PlotRequest]) -> list[PlotRequest]:
        """Draft a plan for each request that wants one; return the requests with their plans."""
        asking = {
            number: plan_request(request, self.checkpoint)
            for number, request in enumerate(requests)
            if wants_plan(request)
        }
        plans = dict(zip(asking, self._candidates([*asking.values()]), strict=True))
        return [
            self.with_plan(request, plans[number]) if number in plans else request
            for number, request in enumerate(requests)
        ]

    def with_plan(self, request: PlotRequest, plans: Sequence[Plot]) -> PlotRequest:
        """Return the request for a text that follows the best of ``plans``."""
        plan, config = best_plan(plans), request.config.model_copy(update={"plan": NO_PLAN})
        prompt = self.builder.form.with_plan(request.prompt, plan) if plan else request.prompt
        return replace(request, prompt=prompt, config=config)

    def _candidates(self, requests: Sequence[PlotRequest], progress: CountReport | None = None) -> list[list[Plot]]:
        """Write all candidates of each request."""
        candidates = [candidate for request in requests for candidate in request.all_candidates()]
        writings = self.writings(candidates)
        ended = count(1)
        for number, _ in self.write(writings):
            if progress and writings[number].finish_reason:
                progress(next(ended), len(candidates))
        tokenizer = self.checkpoint.tokenizer
        plots = (plot_of(each, writing, tokenizer) for each, writing in zip(candidates, writings, strict=True))
        return [list(islice(plots, request.candidates)) for request in requests]

    def requests(self, titles: str | Sequence[str] = "", **asked: Unpack[PlotKeywords]) -> list[PlotRequest]:
        """Return a request for each plot that ``plots`` would write with these arguments; errors are the same."""
        return self.builder.build(titles, **asked)

    def best(self, request: PlotRequest, plots: Sequence[Plot]) -> Plot:
        """Return the best of a request's candidates; the first one is what it would be without others."""
        if len(plots) == 1:
            return plots[0]
        gains = [plot.title_gain or 0.0 for plot in plots]
        sound = [soundness(plot, self._invents_words(plot)) for plot in plots]
        return replace(plots[best(gains, sound)], seed=request.seed)

    def _invents_words(self, plot: Plot) -> bool:
        """Return whether a plot has words that the training text has not; False if no index of that is installed."""
        try:
            return bool(self.copies.invented(plot.text[len(plot.begun) :]))
        except DataError:
            return False

    def writing(self, request: PlotRequest) -> Writing:
        """Return the text of a request before its first token."""
        [writing] = self.writings([request])
        return writing

    def writings(self, requests: Sequence[PlotRequest]) -> list[Writing]:
        """Return the texts of requests before their first tokens; equal prompts are encoded once."""
        tokenizer = self.checkpoint.tokenizer
        encode = cache(lambda text: tokenizer.encode(text).tolist())
        return [
            Writing(
                request.prompt,
                tokenizer,
                self.checkpoint.config.context_length,
                request.config,
                seed=request.drawn_by,
                without_title=bare_header(self.checkpoint, request.of_plan) if request.compared else None,
                copies=self.copies if request.config.avoid_copies is not None else None,
                is_plan=request.of_plan,
                encode=encode,
            )
            for request in requests
        ]

    def write(self, writings: Sequence[Writing]) -> Iterator[tuple[int, str]]:
        """Write them all; yields (which of them, what was added) for each token."""
        readings = max((writing.readings for writing in writings), default=1)
        vocab_size = self.checkpoint.tokenizer.vocab_size
        return write(self.engine(), writings, vocab_size, room=TEXTS_AT_ONCE * readings)

    def engine(self) -> Engine:
        """Return the engine, made when it is first needed, and again when the weights have changed, as in training."""
        version = self.checkpoint.version()
        if self._engine is None or self._engine[0] != version:
            self._engine = version, make_engine(self.checkpoint, *self._asked)
        return self._engine[1]


class PlotStream(Iterator[str]):
    """Iterates over the pieces of a plot as they become certain: never half a character or the start of a stop string."""

    def __init__(self, generator: PlotGenerator, request: PlotRequest) -> None:
        self._generator, self._request = generator, request
        self._writings = self._made()
        self._pieces = self._run()

    def __next__(self) -> str:
        return next(self._pieces)

    @property
    def plan(self) -> str:
        """The plan that the text follows, or an empty string; if the model is to draft one, it does so now."""
        self._find_plan()
        return self._request.prompt.hints.get(PLAN, "")

    @property
    def changes(self) -> tuple[str, ...]:
        """What was changed in the prompt."""
        return self._request.prompt.changes

    def stop(self) -> None:
        """Write no more; ``plot`` is then what was shown."""
        self._find_plan()
        self._pieces.close()
        for writing in self._writings:
            writing.finish_reason = writing.finish_reason or "stopped"

    @property
    def plot(self) -> Plot:
        """The whole plot; reads the stream to its end."""
        for _ in self:
            pass
        return self._chosen()

    def _chosen(self) -> Plot:
        tokenizer, candidates = self._generator.checkpoint.tokenizer, self._request.all_candidates()
        plots = [plot_of(each, writing, tokenizer) for each, writing in zip(candidates, self._writings, strict=True)]
        return self._generator.best(self._request, plots)

    def _made(self) -> list[Writing]:
        return self._generator.writings(self._request.all_candidates())

    def _find_plan(self) -> None:
        if wants_plan(self._request):
            [self._request] = self._generator.planned([self._request])
            self._writings = self._made()

    def _run(self) -> Generator[str]:
        self._find_plan()
        if self._request.candidates > 1:  # which is the best is known when all are written
            for _ in self._generator.write(self._writings):
                pass
            yield self._chosen().text
            return
        if self._request.prompt.begun:
            yield self._request.prompt.begun
        yield from (piece for _, piece in self._generator.write(self._writings) if piece)
