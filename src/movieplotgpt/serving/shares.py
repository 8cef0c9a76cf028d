"""Who is in a step: while several clients are there, each has a share of it, and their jobs take turns."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping

from movieplotgpt.errors import QueueFullError
from movieplotgpt.serving.jobs import Job, Text

TOKENS_BETWEEN_STEPS = 512  # of prompts at most, so that what is being written is not held up by a crowd that comes
TOKENS_OF_CLIENT = 8  # of its prompts, while another client is there: they take about as long as a step,
EVERY = 4  # and are read in every fourth
SHORT, GREETED = 64, 32  # tokens of a prompt that is read at once, of each client in so many steps
MOST_GREETED = 10_000  # clients
FEW = 16  # a client with a 16th of the texts that may wait finds room while others fill the queue
SHARE = 6  # times as many texts as another client may be in a step


class Shares:
    """Divide the steps among clients; ``readings`` is how many are in the cache at once."""

    def __init__(self, readings: int) -> None:
        self._readings = readings
        self._step, self._greeted = 0, dict[str, int]()  # when a short prompt of each client was last read at once

    def count_step(self) -> None:
        """Note that a step was taken."""
        self._step += 1
        if len(self._greeted) > MOST_GREETED:
            self._greeted.clear()

    def of_client(self, texts: Iterable[Text], jobs: Iterable[Job]) -> int:
        """Return how many readings of a client are in a step: all of them if it is alone."""
        count = Counter(text.job.client for text in texts)
        for job in jobs:
            count[job.client] += len(job.waiting)
        fewest = min((number for number in count.values() if number), default=1)
        return self._readings if len(count) < 2 else max(2, min(self._readings, 2 * SHARE * fewest) // len(count))

    def prompt_tokens(self, texts: Collection[Text], unread: Collection[Text]) -> int:
        """Return how many tokens of ``unread`` prompts are read before the next step: a few of each client, if there are several."""
        if len({text.job.client for text in texts}) < 2:
            return TOKENS_BETWEEN_STEPS
        tokens = 0 if self._step % EVERY else TOKENS_OF_CLIENT * len({text.job.client for text in unread})
        for text in unread:
            client = text.job.client
            if not text.writing.tokens and self._step - self._greeted.get(client, -GREETED) >= GREETED:
                self._greeted[client] = self._step
                tokens += min(SHORT, text.writing.prompt_tokens)
        return min(TOKENS_BETWEEN_STEPS, tokens)


def resting(texts: Iterable[Text], share: int, closing: bool) -> tuple[list[Text], Counter[str]]:
    """Return the texts that keep their places without being written, and the readings of each client's others.

    Args:
        texts: Those in the batch.
        share: How many readings of a client are in a step.
        closing: Whether the server ends, so that paused jobs are written as well.
    """
    idle, places = list[Text](), Counter[str]()
    for text in texts:
        client, readings = text.job.client, text.writing.readings
        if text.job.rests(closing) or places[client] + readings > share:
            idle.append(text)
        else:
            places[client] += readings
    return idle, places


def take_next(jobs: deque[Job], share: int, places: Mapping[str, int], free: int, closing: bool) -> Text | None:
    """Take the next text that waits: one of the client with the fewest ``places``, whose jobs take turns.

    Args:
        jobs: Those with texts that wait; the job whose text is taken moves to the end.
        share: How many readings of a client are in a step.
        places: The readings of each client in the step.
        free: Places that are free or can be made so.
        closing: As above.
    """
    ready = []
    for number, job in enumerate(jobs):
        if job.waiting and not job.rests(closing):
            needed = job.waiting[0].writing.readings
            if needed <= free and places[job.client] + needed <= share:
                ready.append((places[job.client], number))
    if not ready:
        return None
    _, number = min(ready)
    job = jobs[number]
    del jobs[number]
    jobs.append(job)
    return job.waiting.popleft()


def check_room(jobs: Iterable[Job], client: str, number: int, most: int, free: int) -> None:
    """Check that ``number`` more texts may wait: for clients with few of them there is room beyond the limit.

    Args:
        jobs: Those with texts that wait.
        client: Whose texts come.
        number: Of the texts that come.
        most: How many may wait.
        free: Places that are free.

    Raises:
        QueueFullError: they may not.
    """
    waiting = Counter[str]()
    for job in jobs:
        waiting[job.client] += len(job.waiting)
    room = most if waiting[client] + number <= most // FEW else 0
    if (ahead := waiting.total()) + number > most + free + room:
        raise QueueFullError(f"{ahead} texts wait already, and at most {most} may; try again later")
