"""Continuous batching: requests join and leave the batch between two tokens."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Sequence
from threading import Condition, Lock, Thread

from movieplotgpt.errors import QueueFullError
from movieplotgpt.generation.decoding import TextBatch
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.planning import plan_request, wants_plan
from movieplotgpt.generation.plots import Plot, PlotRequest
from movieplotgpt.generation.writing import Writing
from movieplotgpt.serving.jobs import Job, Tell, Text, TextUpdate
from movieplotgpt.serving.shares import Shares, check_room, resting, take_next
from movieplotgpt.text.formatting import PLAN

PROMPTS_BETWEEN_STEPS = 8  # at most, so that what is being written is not held up by a crowd that comes


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
        self._texts: dict[Writing, Text] = {}  # those in the batch; only the scheduler's thread iterates over them
        self._free = readings  # places
        self._shares = Shares(readings)
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
        self._check_room(client, number)
        first = (plan_request(each, self.generator.checkpoint) if wants_plan(each) else each for each in requests)
        job.add(self.generator, dict(enumerate(first)))
        with self._changed:
            self._check_room(client, number)
            self._jobs.append(job)
            self._changed.notify()
        return job

    def _check_room(self, client: str, number: int) -> None:
        with self._changed:
            if self._closing:
                raise QueueFullError("the server is shutting down")
            check_room(self._jobs, client, number, self.most_waiting, self._free)

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
        batch: TextBatch | None = None
        vocab_size = self.generator.checkpoint.tokenizer.vocab_size
        while self._wait_for_work():
            try:
                batch = batch or TextBatch(self.generator.engine(), vocab_size, self.readings)
                self._go_on(batch)
            except Exception as error:  # every waiting client gets it; the next ones are served
                logging.getLogger(__name__).exception("what was being written has failed")
                batch = None
                self._fail_all(error)

    def _go_on(self, batch: TextBatch) -> None:
        """Let texts leave and join, then take one step."""
        for text in [text for text in self._texts.values() if text.job.cancelled]:
            self._leave(batch, text)
        with self._changed:
            share = self._shares.of_client(self._texts.values(), self._jobs)
        idle, places = resting(self._texts.values(), share, self._closing)
        self._let_in(batch, share, idle, places)
        self._free = batch.free
        if batch.texts:
            with self._turn:
                rest = {text.writing for text in idle}
                unread = [self._texts[writing] for writing in batch.unread - rest]
                taken = batch.step(rest, self._shares.prompt_tokens(self._texts.values(), unread))
            self._shares.count_step()
            self.tokens += len(taken)
            for writing, piece in taken:
                self._tell(self._texts[writing], piece)
        self._free = batch.free

    def _leave(self, batch: TextBatch, text: Text) -> None:
        """Give up the place of a text, which waits for another one unless its client has left."""
        batch.leave(text.writing)
        del self._texts[text.writing]
        with self._changed:
            if not text.job.cancelled:
                text.job.waiting.appendleft(text)
                if text.job not in self._jobs:
                    self._jobs.append(text.job)

    def _wait_for_work(self) -> bool:
        """Wait for work; return False once there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_work() or (self._closing and not self._jobs and not self._texts))
            return self._has_work()

    def _has_work(self) -> bool:
        self._jobs = deque(job for job in self._jobs if job.waiting)
        jobs = {*self._jobs, *(text.job for text in self._texts.values())}
        return any(job.cancelled or not job.rests(self._closing) for job in jobs)

    def _let_in(self, batch: TextBatch, share: int, idle: list[Text], places: Counter[str]) -> None:
        """Let texts join, each client in turn; texts that rest give up their places for those of other clients."""
        coming = list[Writing]()
        while len(coming) < PROMPTS_BETWEEN_STEPS:
            free = batch.free - sum(writing.readings for writing in coming)
            held = sum(text.writing.readings for text in idle)
            with self._changed:
                text = take_next(self._jobs, share, places, free + held, self._closing)
            if text is None:
                break
            while text.writing.readings > free:
                free += idle[-1].writing.readings
                self._leave(batch, idle.pop())
            self._texts[text.writing] = text
            places[text.job.client] += text.writing.readings
            coming.append(text.writing)
        batch.join(coming)

    def _tell(self, text: Text, piece: str) -> None:
        ended, job = text.writing.finish_reason is not None, text.job
        if not text.request.of_plan:
            tokens = text.new_tokens(self.generator.checkpoint.tokenizer)
            if text.request.candidates == 1 and (piece or tokens):
                job.tell(TextUpdate(text.index, piece, tokens))
        if ended:
            text.done = True
            self._tell_end(text, job)
            del self._texts[text.writing]
            self.texts += not text.request.of_plan

    def _tell_end(self, text: Text, job: Job) -> None:
        """Report the plot once all its candidates are written, or start the text once all plans are."""
        candidates = job.candidates_of(text)
        if not all(other.done for other in candidates):
            return
        plots = [other.plot(self.generator.checkpoint.tokenizer) for other in candidates]
        best = None if text.request.of_plan else self.generator.best(job.requests[text.index], plots)
        job.texts = [other for other in job.texts if other not in candidates]
        if best is None:
            self._go_on_by_plan(job, text.index, plots)
            return
        job.ended = not job.texts
        job.tell(TextUpdate(text.index, plot=best))

    def _go_on_by_plan(self, job: Job, index: int, plans: Sequence[Plot]) -> None:
        """Let the text wait whose plans are written."""
        job.requests[index] = request = self.generator.with_plan(job.requests[index], plans)
        job.tell(TextUpdate(index, plan=request.prompt.hints.get(PLAN, "")))
        with self._changed:
            if job.cancelled:
                return
            job.add(self.generator, {index: request})
            if job not in self._jobs:
                self._jobs.appendleft(job)

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            failed = {*self._jobs, *(text.job for text in self._texts.values())}
            self._jobs.clear()
            self._texts.clear()
            self._free = self.readings
        for job in failed:
            job.ended = True
            job.tell(error)
