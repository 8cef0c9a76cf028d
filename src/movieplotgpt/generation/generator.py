"""PlotGenerator: a title in, a plot out; whole, streamed, or many at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from movieplotgpt.config import build_settings
from movieplotgpt.engine.gpu import make_engine
from movieplotgpt.engine.model_config import Device, Precision
from movieplotgpt.engine.model_folder import TextModel, load_folder
from movieplotgpt.engine.places import DEFAULT_MODEL
from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import DataError, PromptError
from movieplotgpt.generation.decoding import write
from movieplotgpt.generation.guidance import USUAL, bare_header, best, knows_no_title
from movieplotgpt.generation.names import self_meetings
from movieplotgpt.generation.planning import best_plan, plan_request, wants_plan
from movieplotgpt.generation.plots import Plot, PlotKeywords, PlotRequest, TokenProbability
from movieplotgpt.generation.prompts import Prompt, PromptForm, once
from movieplotgpt.generation.sampling import Chosen, fresh_seed
from movieplotgpt.generation.settings import AUTO, NO_PLAN, SamplingConfig
from movieplotgpt.generation.writing import Writing
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.sentences import repeated_share
from movieplotgpt.text.stream_decoder import StreamDecoder

if TYPE_CHECKING:
    from movieplotgpt.text.copies import CopyIndex

Progress: TypeAlias = Callable[[int, int], None]  # (done, total)
LOOPING = 0.01  # share of five words in a row that a sound plot has twice at most: real ones have 0.0005
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
        self.form = PromptForm(checkpoint)
        self.usual: Mapping[str, Any] = {  # the defaults of this model
            "guidance": USUAL if knows_no_title(checkpoint) else 1.0,
            "end_bias": float(checkpoint.info.get("end_bias", 0.0)),
            "distinct_names": bool(checkpoint.format.header),
            "plan": AUTO if checkpoint.format.has_plan else NO_PLAN,
            "cast": True,
        }
        own = checkpoint.info.get("settings", {}).get("sampling", {})
        given = {name: own[name] for name in self.usual if own.get(name) is not None}
        build_settings(SamplingConfig, given, where="sampling")  # of a stranger's model they may be anything
        self.usual = {**self.usual, **given}
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
        progress: Progress | None = None,
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
        prompt = self.form.with_plan(request.prompt, plan) if plan else request.prompt
        return replace(request, prompt=prompt, config=config)

    def _candidates(self, requests: Sequence[PlotRequest], progress: Progress | None = None) -> list[list[Plot]]:
        """Write all candidates of each request."""
        candidates = [candidate for request in requests for candidate in request.all_candidates()]
        writings = self.writings(candidates)
        ended = count(1)
        for number, _ in self.write(writings):
            if progress and writings[number].finish_reason:
                progress(next(ended), len(candidates))
        plots = map(self.plot_of, candidates, writings)
        return [list(islice(plots, request.candidates)) for request in requests]

    def requests(
        self,
        titles: str | Sequence[str] = "",
        **asked: Unpack[PlotKeywords],
    ) -> list[PlotRequest]:
        """Return a request for each plot that ``plots`` would write with these arguments; errors are the same."""
        prompt, begin = asked.pop("prompt", None), asked.pop("begin", "")
        hints, sampling = asked.pop("hints", None), asked.pop("sampling", None)
        config, changes = self._settled(sampling, asked)
        seed = fresh_seed() if config.seed is None else config.seed
        prompts = [
            self._prompt(title, prompt, begin, hints) for title in ([titles] if isinstance(titles, str) else titles)
        ]
        if config.plan not in (AUTO, NO_PLAN, None):
            prompts = [self.form.with_plan(each, config.plan) for each in prompts]
        prompts = [replace(each, changes=once((*each.changes, *changes))) for each in prompts]
        if not self.checkpoint.format.header and ((config.guidance or 1) > 1 or (config.best_of or 1) > 1):
            raise PromptError(
                "guidance and best-of compare with no title, and this model was trained on text without titles; leave them out"
            )
        each = (prompt for prompt in prompts for _ in range(config.n))
        requests = [PlotRequest(prompt, config, seed + i) for i, prompt in enumerate(each)]
        for request in requests[:: config.n]:
            if request.compared:
                bare_header(self.checkpoint)  # a missing one is reported before anything is written
        return requests

    def settled(
        self, sampling: SamplingConfig | None = None, settings: Mapping[str, Any] | None = None
    ) -> SamplingConfig:
        """Return the complete config of a request with these settings: defaults filled in.

        Raises:
            ConfigError: an unknown sampling setting, or a value out of range.
            PromptError: the model cannot spell what must be mentioned.
        """
        return self._settled(sampling, settings or {})[0]

    def _settled(
        self, sampling: SamplingConfig | None, settings: Mapping[str, Any]
    ) -> tuple[SamplingConfig, tuple[str, ...]]:
        given = sampling.model_dump() if sampling else {}
        asked = build_settings(SamplingConfig, {**given, **settings}, where="sampling")
        config, changes = self.form.folded_wishes(asked)
        config = config.model_copy(
            update={name: value for name, value in self.usual.items() if getattr(config, name) is None}
        )
        if config.plan == AUTO:
            config = config.model_copy(update={"plan": self.usual["plan"]})
        return config, changes

    def best(self, request: PlotRequest, plots: Sequence[Plot]) -> Plot:
        """Return the best of a request's candidates; the first one is what it would be without others."""
        if len(plots) == 1:
            return plots[0]
        gains = [plot.title_gain or 0.0 for plot in plots]
        return replace(plots[best(gains, [self._soundness(plot) for plot in plots])], seed=request.seed)

    def _soundness(self, plot: Plot) -> int:
        """Return 0 for a plot without an end, 1 for one with a loop, an invented word or a name that meets itself, else 2."""
        written = plot.text[len(plot.begun) :]
        try:
            faulty = bool(self.copies.invented(written))
        except DataError:  # no index of the training text is installed
            faulty = False
        faulty = faulty or self_meetings(written) > 0 or (repeated_share(written) or 0) > LOOPING
        return 0 if plot.finish_reason != "stop" else 1 if faulty else 2

    def _prompt(self, title: str, prompt: str | None, begin: str, hints: Mapping[str, str] | None) -> Prompt:
        if prompt is None:
            return self.form.from_title(title, hints, begin)
        if beside := [name for name, given in (("title", title), ("hints", hints), ("begin", begin)) if given]:
            raise PromptError(
                f"a free prompt is whole, and {' and '.join(beside)} cannot be added; leave one of them out"
            )
        return self.form.from_text(prompt)

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

    def plot_of(
        self, request: PlotRequest, writing: Writing, probabilities: Sequence[TokenProbability] | None = None
    ) -> Plot:
        """Return the plot of a finished text; ``probabilities`` are those of its tokens, if known."""
        assert writing.finish_reason is not None, "the text is still being written"
        prompt = request.prompt
        return Plot(
            title=prompt.title,
            prompt=prompt.header + prompt.begun,
            text=prompt.begun + writing.told,
            finish_reason=writing.finish_reason,
            seed=request.seed,
            tokens=writing.tokens,
            max_tokens=writing.max_tokens,
            hints=prompt.hints,
            changes=prompt.changes,
            begun=prompt.begun,
            unmet=writing.unmet,
            title_gain=writing.title_gain,
            probabilities=tuple(self._kept(request, writing) if probabilities is None else probabilities),
        )

    def _kept(self, request: PlotRequest, writing: Writing) -> Sequence[TokenProbability]:
        return () if request.config.logprobs is None else self.probabilities(writing.chosen)

    def probabilities(
        self, chosen: Sequence[Chosen], decoder: StreamDecoder | None = None
    ) -> tuple[TokenProbability, ...]:
        """Each token with the characters it completes: of one in several tokens the last one has it.

        ``decoder`` has decoded the tokens before.
        """
        tokenizer = self.checkpoint.tokenizer
        decoder = decoder or tokenizer.decoder()
        made = []
        for each in chosen:
            assert each.logprob is not None, "log-probabilities were not kept"
            others = tuple((tokenizer.decode([id_]), logprob) for id_, logprob in each.others)
            made.append(TokenProbability(decoder.push(each.id), each.logprob, others))
        return tuple(made)


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
        plots = map(self._generator.plot_of, self._request.all_candidates(), self._writings)
        return self._generator.best(self._request, list(plots))

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
