"""Continuous batching: requests join and leave what is being written at the border of a token."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Condition, Lock, Thread
from typing import TypeAlias

from movieplotgpt.errors import QueueFullError
from movieplotgpt.generation.decoding import Batch
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.planning import plan_request, wants_plan
from movieplotgpt.generation.plots import Plot, PlotRequest, TokenProbability
from movieplotgpt.generation.writing import Writing
from movieplotgpt.serving.tokens import TokenPrompt, spelled
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.tokenizers import StreamDecoder

PROMPTS_BETWEEN_STEPS = 4  # at most, so that what is being written is not held up by a crowd that comes


@dataclass(frozen=True)
class Told:
    """What is new of the ``index``-th text of a job.

    A piece with its tokens' probabilities, the plan that was written before its first, or the whole plot at its end.
    """

    index: int
    piece: str = ""
    tokens: Sequence[TokenProbability] = ()
    plan: str = ""
    plot: Plot | None = None


Tell: TypeAlias = Callable[[Told | Exception], None]


@dataclass(eq=False)
class Job:
    """What one client asked for; ``tell`` hears of it in the scheduler's thread."""

    scheduler: Scheduler
    requests: list[PlotRequest]
    tell: Tell
    texts: list[_Text] = field(default_factory=list)
    waiting: deque[_Text] = field(default_factory=deque)
    cancelled: bool = False
    ended: bool = False

    def cancel(self) -> None:
        """Write no more of it; its places are free within a step."""
        self.scheduler.cancel(self)


@dataclass(eq=False)
class _Text:
    """One candidate of one request of a job."""

    job: Job
    index: int
    request: PlotRequest
    writing: Writing
    decoder: StreamDecoder  # of the tokens that were told
    told: int = 0  # tokens
    done: bool = False


class Scheduler:
    """Writes many jobs side by side, in a thread of its own.

    ``readings`` is how many are in the cache at once, of which a guided text takes two; ``waiting`` how many texts may
    wait for a place. Each job in turn gets the next place that is free, so that one with many texts holds up no other.
    ``turn`` is held during a step: models that share a processor take steps in turn.
    """

    def __init__(self, generator: PlotGenerator, *, readings: int, waiting: int, turn: Lock | None = None) -> None:
        assert readings >= 2, "a guided text takes two places"
        self.generator, self.readings, self.most_waiting = generator, readings, waiting
        self._turn, self._changed = turn or Lock(), Condition()
        self._jobs: deque[Job] = deque()  # those with texts that wait
        self._texts: dict[Writing, _Text] = {}  # those in the batch
        self._closing = False
        self.texts = self.tokens = self.cancelled = 0  # since the begin
        self._thread = Thread(target=self._run, name=f"scheduler of {generator.checkpoint.folder}", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Texts that are being written."""
        return len(self._texts)

    @property
    def waiting(self) -> int:
        """Texts that wait for a place."""
        with self._changed:
            return sum(len(job.waiting) for job in self._jobs)

    def submit(self, requests: Sequence[PlotRequest], tell: Tell) -> Job:
        """Write these; ``tell`` hears every piece, and every plot when it is whole, or the error that ended the job.

        Raises:
            QueueFullError: too many texts wait.
            DataError: copies are to be avoided and no index of the training text is here.
        """
        job = Job(self, [*requests], tell)
        with self._changed:
            ahead = sum(len(other.waiting) for other in self._jobs)
            free = max(0, self.readings - sum(writing.readings for writing in self._texts))
            if self._closing:
                raise QueueFullError("the server is being ended, and takes no more")
            if ahead + sum(request.candidates for request in requests) > self.most_waiting + free:
                raise QueueFullError(
                    f"{ahead} texts wait already, and at most {self.most_waiting} may; try again in a while"
                )
        for index, request in enumerate(requests):
            self._add(job, index, plan_request(request, self.generator.checkpoint) if wants_plan(request) else request)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        return job

    def _add(self, job: Job, index: int, request: PlotRequest) -> None:
        """Let all candidates of a request wait."""
        tokenizer = self.generator.checkpoint.tokenizer
        for candidate in request.all_candidates():
            writing = self.generator.writing(candidate)
            if isinstance(candidate.prompt, TokenPrompt):
                writing.body = [*candidate.prompt.begun_ids]
            text = _Text(job, index, candidate, writing, tokenizer.decoder())
            job.texts.append(text)
            job.waiting.append(text)

    def cancel(self, job: Job) -> None:
        """As ``job.cancel()``."""
        with self._changed:
            if job.cancelled or job.ended:
                return
            job.cancelled = True
            self.cancelled += 1
            job.waiting.clear()
            self._changed.notify()

    def close(self) -> None:
        """Take no more jobs, finish those that are here, and return."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        batch: Batch | None = None
        vocab_size = self.generator.checkpoint.tokenizer.vocab_size
        while self._wait_for_work():
            try:
                batch = batch or Batch(self.generator.engine(), vocab_size, self.readings)
                self._go_on(batch)
            except Exception as error:  # of the model, or ours: who waits is told, and who comes next is served
                logging.getLogger(__name__).exception("what was being written has failed")
                batch = None
                self._fail_all(error)

    def _go_on(self, batch: Batch) -> None:
        """One step, with those who leave and those who come before it."""
        for text in [text for text in self._texts.values() if text.job.cancelled]:
            batch.leave(text.writing)
            del self._texts[text.writing]
        self._let_in(batch)
        if batch.texts:
            with self._turn:
                taken = batch.step()
            self.tokens += len(taken)
            for writing, piece in taken:
                self._tell(self._texts[writing], piece)

    def _wait_for_work(self) -> bool:
        """Until there is some; False where none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._texts or self._closing)
            return bool(self._jobs or self._texts)

    def _let_in(self, batch: Batch) -> None:
        coming, free = list[Writing](), batch.free
        with self._changed:
            while len(coming) < PROMPTS_BETWEEN_STEPS:
                while self._jobs and not self._jobs[0].waiting:
                    self._jobs.popleft()
                if not self._jobs or (free := free - self._jobs[0].waiting[0].writing.readings) < 0:
                    break
                text = self._jobs[0].waiting.popleft()
                self._texts[text.writing] = text
                self._jobs.rotate(-1)
                coming.append(text.writing)
        with self._turn:
            batch.join(coming)

    def _tell(self, text: _Text, piece: str) -> None:
        ended, job = text.writing.finish_reason is not None, text.job
        if text.request.candidates == 1 and not text.request.of_plan:
            tokens = self._new_tokens(text)
            if piece or tokens:
                job.tell(Told(text.index, piece, tokens))
        if ended:
            text.done = True
            self._tell_end(text, job)
            del self._texts[text.writing]
            self.texts += not text.request.of_plan

    def _tell_end(self, text: _Text, job: Job) -> None:
        """Report the plot once all its candidates are written, or start the text once all plans are."""
        candidates = [
            other for other in job.texts if (other.index, other.request.of_plan) == (text.index, text.request.of_plan)
        ]
        if not all(other.done for other in candidates):
            return
        plots = [self._plot(other) for other in candidates]
        if text.request.of_plan:
            self._go_on_by_plan(job, text.index, plots)
            return
        best = self.generator.best(job.requests[text.index], plots)
        job.ended = all(other.done for other in job.texts)
        job.tell(Told(text.index, plot=best))

    def _plot(self, text: _Text) -> Plot:
        plot = self.generator.plot_of(text.request, text.writing)
        if not plot.probabilities:
            return plot
        tokens = spelled(self.generator.checkpoint.tokenizer, plot.probabilities, text.writing.chosen)
        return replace(plot, probabilities=tokens)

    def _go_on_by_plan(self, job: Job, index: int, plans: Sequence[Plot]) -> None:
        """Let the text wait whose plans are written."""
        job.requests[index] = request = self.generator.with_plan(job.requests[index], plans)
        job.tell(Told(index, plan=request.prompt.hints.get(PLAN, "")))
        with self._changed:
            if job.cancelled:
                return
            self._add(job, index, request)
            if job not in self._jobs:
                self._jobs.appendleft(job)

    def _new_tokens(self, text: _Text) -> Sequence[TokenProbability]:
        if text.request.config.logprobs is None:
            return ()
        before, text.told = text.told, text.writing.certain_tokens
        chosen = text.writing.chosen[before : text.told]
        return spelled(self.generator.checkpoint.tokenizer, self.generator.probabilities(chosen, text.decoder), chosen)

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            failed = {*self._jobs, *(text.job for text in self._texts.values())}
            self._jobs.clear()
            self._texts.clear()
        for job in failed:
            job.ended = True
            job.tell(error)
