"""Continuous batching: requests join and leave the batch between two tokens."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
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
from movieplotgpt.text.stream_decoder import StreamDecoder

PROMPTS_BETWEEN_STEPS = 8  # at most, so that what is being written is not held up by a crowd that comes
TOKENS_BETWEEN_STEPS = 512  # of prompts, likewise
TOKENS_OF_CLIENT = 8  # of its prompts, while another client is there: they take about as long as a step,
EVERY = 4  # and are read in every fourth
SHORT, GREETED = 64, 32  # tokens of a prompt that is read at once, of each client in so many steps
MOST_GREETED = 10_000  # clients
FEW = 16  # a client with a 16th of the texts that may wait finds room while others fill the queue
SHARE = 6  # times as many texts as another client may be in a step


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
    """The texts that ``client`` asked for; ``tell`` is called in the scheduler's thread.

    While ``paused``, none of it is written. Without ``keep`` the probabilities of tokens are dropped once they are sent.
    """

    scheduler: Scheduler
    requests: list[PlotRequest]
    tell: Tell
    client: str = ""
    keep: bool = True
    paused: bool = False
    texts: list[_Text] = field(default_factory=list)
    waiting: deque[_Text] = field(default_factory=deque)
    cancelled: bool = False
    ended: bool = False

    def cancel(self) -> None:
        """Stop writing it; its places are free within a step."""
        self.scheduler.cancel(self)

    def pause(self) -> None:
        """Stop writing it until ``resume``."""
        self.paused = True

    def resume(self) -> None:
        """Continue to write it."""
        self.scheduler.resume(self)


@dataclass(eq=False)
class _Text:
    """One candidate of one request of a job."""

    job: Job
    index: int
    request: PlotRequest
    writing: Writing
    decoder: StreamDecoder  # of the tokens that were sent
    told: int = 0  # tokens
    reported: list[TokenProbability] = field(default_factory=list)  # those that the plot will have
    done: bool = False


class Scheduler:
    """Writes many jobs side by side, in a thread of its own.

    ``readings`` is how many are in the cache at once, of which a guided text takes two; ``waiting`` how many texts may
    wait for a place. Each job in turn gets the next place that is free, so that one with many texts holds up no other. While
    several clients are there, each has a share of a step at most: it takes the longer, the more texts are in it.
    ``turn`` is held during a step: models that share a processor take steps in turn.
    """

    def __init__(self, generator: PlotGenerator, *, readings: int, waiting: int, turn: Lock | None = None) -> None:
        assert readings >= 2, "a guided text takes two places"
        self.generator, self.readings, self.most_waiting = generator, readings, waiting
        self._turn, self._changed = turn or Lock(), Condition()
        self._jobs: deque[Job] = deque()  # those with texts that wait
        self._texts: dict[Writing, _Text] = {}  # those in the batch; only the scheduler's thread iterates over them
        self._free = readings  # places
        self._step, self._greeted = 0, dict[str, int]()  # when a short prompt of each client was last read at once
        self._closing = False
        self.texts = self.tokens = self.cancelled = 0  # since the start
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

    def submit(self, requests: Sequence[PlotRequest], tell: Tell, *, client: str = "", keep: bool = True) -> Job:
        """Write these texts; ``tell`` is called with every piece, every finished plot, or the error that ended the job.

        Prompts are encoded here, in the thread of the caller.

        Raises:
            QueueFullError: too many texts wait.
            DataError: copies are to be avoided and no index of the training text is installed.
        """
        job = Job(self, [*requests], tell, client, keep)
        number = sum(request.candidates for request in requests)
        with self._changed:
            self._check_room(client, number)
        first = (plan_request(each, self.generator.checkpoint) if wants_plan(each) else each for each in requests)
        self._add(job, dict(enumerate(first)))
        with self._changed:
            self._check_room(client, number)
            self._jobs.append(job)
            self._changed.notify()
        return job

    def _check_room(self, client: str, number: int) -> None:
        """Check that so many texts may wait: for clients with few of them there is room beyond the limit."""
        ahead = sum(len(job.waiting) for job in self._jobs)
        own = sum(len(job.waiting) for job in self._jobs if job.client == client)
        if self._closing:
            raise QueueFullError("the server is shutting down")
        room = self.most_waiting if own + number <= self.most_waiting // FEW else 0
        if ahead + number > self.most_waiting + self._free + room:
            raise QueueFullError(f"{ahead} texts wait already, and at most {self.most_waiting} may; try again later")

    def _add(self, job: Job, requests: Mapping[int, PlotRequest]) -> None:
        """Let all candidates of requests wait."""
        tokenizer = self.generator.checkpoint.tokenizer
        candidates = [(index, each) for index, request in requests.items() for each in request.all_candidates()]
        writings = self.generator.writings([candidate for _, candidate in candidates])
        for (index, candidate), writing in zip(candidates, writings, strict=True):
            if isinstance(candidate.prompt, TokenPrompt):
                writing.body = [*candidate.prompt.begun_ids]
            text = _Text(job, index, candidate, writing, tokenizer.decoder())
            job.texts.append(text)
            job.waiting.append(text)

    def cancel(self, job: Job) -> None:
        """Implement ``job.cancel()``."""
        with self._changed:
            if job.cancelled or job.ended:
                return
            job.cancelled = True
            self.cancelled += 1
            job.waiting.clear()
            self._changed.notify()

    def resume(self, job: Job) -> None:
        """Implement ``job.resume()``."""
        with self._changed:
            job.paused = False
            self._changed.notify()

    def close(self) -> None:
        """Accept no more jobs, finish the present ones, and return."""
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
            except Exception as error:  # every waiting client gets it; the next ones are served
                logging.getLogger(__name__).exception("what was being written has failed")
                batch = None
                self._fail_all(error)

    def _go_on(self, batch: Batch) -> None:
        """Let texts leave and join, then take one step."""
        for text in [text for text in self._texts.values() if text.job.cancelled]:
            self._leave(batch, text)
        with self._changed:
            share = self._share()
        resting, places = self._resting(share)
        self._let_in(batch, share, resting, places)
        self._free = batch.free
        if batch.texts:
            with self._turn:
                rest = {text.writing for text in resting}
                taken = batch.step(rest, self._prompt_tokens(batch.unread - rest))
            self._step += 1
            if len(self._greeted) > MOST_GREETED:
                self._greeted.clear()
            self.tokens += len(taken)
            for writing, piece in taken:
                self._tell(self._texts[writing], piece)
        self._free = batch.free

    def _leave(self, batch: Batch, text: _Text) -> None:
        """Give up the place of a text, which waits for another one unless its client has left."""
        batch.leave(text.writing)
        del self._texts[text.writing]
        with self._changed:
            if not text.job.cancelled:
                text.job.waiting.appendleft(text)
                if text.job not in self._jobs:
                    self._jobs.append(text.job)

    def _is_paused(self, job: Job) -> bool:
        return job.paused and not self._closing

    def _share(self) -> int:
        """Return how many readings of a client are in a step: all of them if it is alone."""
        texts = Counter(text.job.client for text in self._texts.values())
        for job in self._jobs:
            texts[job.client] += len(job.waiting)
        fewest = min((number for number in texts.values() if number), default=1)
        return self.readings if len(texts) < 2 else max(2, min(self.readings, 2 * SHARE * fewest) // len(texts))

    def _prompt_tokens(self, unread: Collection[Writing]) -> int:
        """Return how many tokens of prompts are read before the next step: a few of each client, if there are several."""
        if len({text.job.client for text in self._texts.values()}) < 2:
            return TOKENS_BETWEEN_STEPS
        coming = [self._texts[writing] for writing in unread]
        tokens = 0 if self._step % EVERY else TOKENS_OF_CLIENT * len({text.job.client for text in coming})
        for text in coming:
            client = text.job.client
            if not text.writing.tokens and self._step - self._greeted.get(client, -GREETED) >= GREETED:
                self._greeted[client] = self._step
                tokens += min(SHORT, text.writing.prompt_tokens)
        return min(TOKENS_BETWEEN_STEPS, tokens)

    def _resting(self, share: int) -> tuple[list[_Text], Counter[str]]:
        """Return the texts that keep their places without being written, and the readings of each client's others."""
        resting, places = list[_Text](), Counter[str]()
        for text in self._texts.values():
            client, readings = text.job.client, text.writing.readings
            if self._is_paused(text.job) or places[client] + readings > share:
                resting.append(text)
            else:
                places[client] += readings
        return resting, places

    def _wait_for_work(self) -> bool:
        """Wait for work; return False once there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_work() or (self._closing and not self._jobs and not self._texts))
            return self._has_work()

    def _has_work(self) -> bool:
        self._jobs = deque(job for job in self._jobs if job.waiting)
        jobs = {*self._jobs, *(text.job for text in self._texts.values())}
        return any(job.cancelled or not self._is_paused(job) for job in jobs)

    def _let_in(self, batch: Batch, share: int, resting: list[_Text], places: Counter[str]) -> None:
        """Let texts join, each client in turn; texts that rest give up their places for those of other clients."""
        coming = list[Writing]()
        while len(coming) < PROMPTS_BETWEEN_STEPS:
            free = batch.free - sum(writing.readings for writing in coming)
            held = sum(text.writing.readings for text in resting)
            with self._changed:
                text = self._next(share, places, free + held)
            if text is None:
                break
            while text.writing.readings > free:
                free += resting[-1].writing.readings
                self._leave(batch, resting.pop())
            self._texts[text.writing] = text
            places[text.job.client] += text.writing.readings
            coming.append(text.writing)
        batch.join(coming)

    def _next(self, share: int, places: Mapping[str, int], free: int) -> _Text | None:
        """Take the next text that waits: one of the client with the fewest places, whose jobs take turns."""
        ready = []
        for number, job in enumerate(self._jobs):
            if job.waiting and not self._is_paused(job):
                needed = job.waiting[0].writing.readings
                if needed <= free and places[job.client] + needed <= share:
                    ready.append((places[job.client], number))
        if not ready:
            return None
        _, number = min(ready)
        job = self._jobs[number]
        del self._jobs[number]
        self._jobs.append(job)
        return job.waiting.popleft()

    def _tell(self, text: _Text, piece: str) -> None:
        ended, job = text.writing.finish_reason is not None, text.job
        if not text.request.of_plan:
            tokens = self._new_tokens(text)
            if text.request.candidates == 1 and (piece or tokens):
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
            self._forget(job, candidates)
            self._go_on_by_plan(job, text.index, plots)
            return
        best = self.generator.best(job.requests[text.index], plots)
        self._forget(job, candidates)
        job.ended = not job.texts
        job.tell(Told(text.index, plot=best))

    def _forget(self, job: Job, texts: Collection[_Text]) -> None:
        """Drop ``texts``."""
        job.texts = [text for text in job.texts if text not in texts]

    def _plot(self, text: _Text) -> Plot:
        return self.generator.plot_of(text.request, text.writing, text.reported)

    def _go_on_by_plan(self, job: Job, index: int, plans: Sequence[Plot]) -> None:
        """Let the text wait whose plans are written."""
        job.requests[index] = request = self.generator.with_plan(job.requests[index], plans)
        job.tell(Told(index, plan=request.prompt.hints.get(PLAN, "")))
        with self._changed:
            if job.cancelled:
                return
            self._add(job, {index: request})
            if job not in self._jobs:
                self._jobs.appendleft(job)

    def _new_tokens(self, text: _Text) -> Sequence[TokenProbability]:
        if text.request.config.logprobs is None:
            return ()
        before, text.told = text.told, text.writing.certain_tokens
        chosen = text.writing.chosen[before : text.told]
        tokens = spelled(
            self.generator.checkpoint.tokenizer, self.generator.probabilities(chosen, text.decoder), chosen
        )
        text.writing.chosen[before : text.told] = [replace(each, others=()) for each in chosen]
        if text.job.keep or text.request.candidates > 1:
            text.reported += tokens
        return tokens

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            failed = {*self._jobs, *(text.job for text in self._texts.values())}
            self._jobs.clear()
            self._texts.clear()
            self._free = self.readings
        for job in failed:
            job.ended = True
            job.tell(error)
