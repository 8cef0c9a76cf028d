"""What is written side by side is what each writes alone, and nobody waits for ever."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import CheckpointError, QueueFullError
from movieplotgpt.generation.decoding import TextBatch
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.plots import Plot
from movieplotgpt.generation.writing import Writing
from movieplotgpt.serving.jobs import Job, TextUpdate
from movieplotgpt.serving.scheduler import Scheduler
from movieplotgpt.serving.shares import SHARE, SHORT, TOKENS_OF_CLIENT

LONG = 400  # tokens


@pytest.fixture
def generator(generators: dict[str, PlotGenerator]) -> PlotGenerator:
    return generators["films"]


@pytest.fixture
def scheduled(generator: PlotGenerator) -> Iterator[Callable[..., Scheduler]]:
    made: list[Scheduler] = []

    def make(readings: int = 4, waiting: int = 100) -> Scheduler:
        made.append(Scheduler(generator, readings=readings, waiting=waiting))
        return made[-1]

    yield make
    for scheduler in made:
        scheduler.close()


class Client:
    """Submits, and hears."""

    def __init__(self, scheduler: Scheduler, title: str = "Ada", client: str = "", **asked: Any) -> None:
        self.scheduler = scheduler
        self.requests = scheduler.generator.requests(title, **asked)
        self.heard: queue.Queue[TextUpdate | Exception] = queue.Queue()
        self.job: Job = scheduler.submit(self.requests, self.heard.put, client=client)
        self.all: list[TextUpdate] = []

    def hear(self) -> TextUpdate:
        told = self.heard.get(timeout=60)
        if isinstance(told, Exception):
            raise told
        self.all.append(told)
        return told

    def plots(self) -> list[Plot]:
        found: dict[int, Plot] = {told.index: told.plot for told in self.all if told.plot}
        while len(found) < len(self.requests):
            told = self.hear()
            if told.plot:
                found[told.index] = told.plot
        return [found[index] for index in sorted(found)]


def test_a_crowd_writes_what_each_writes_alone(generator: PlotGenerator, scheduled: Callable[..., Scheduler]) -> None:
    scheduler = scheduled()
    asked: list[dict[str, Any]] = [
        {
            "title": title,
            "seed": seed,
            "max_tokens": 10 + 7 * seed,
            "guidance": guidance,
            "temperature": 0.7 + seed / 10,
        }
        for seed in range(4)
        for title, guidance in (("Ada", 1.0), ("Mars, Texas", 1.7), ("", None))
    ]
    found: dict[int, list[Plot]] = {}

    def ask(number: int) -> None:
        found[number] = Client(scheduler, **asked[number]).plots()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number, settings in enumerate(asked):
        assert found[number] == [generator.plot(**settings)]
    assert (scheduler.running, scheduler.waiting, scheduler.texts) == (0, 0, len(asked))


def test_several_of_one_request_and_the_best_of_several(
    generator: PlotGenerator, scheduled: Callable[..., Scheduler]
) -> None:
    asked: dict[str, Any] = {"seed": 3, "n": 3, "max_tokens": 15}
    client = Client(scheduled(), **asked)
    assert client.plots() == generator.plots("Ada", **asked)
    for index, plot in enumerate(client.plots()):
        assert "".join(told.piece for told in client.all if told.index == index) == plot.text
    best = Client(scheduled(), **asked, best_of=3)
    assert best.plots() == generator.plots("Ada", **asked, best_of=3)
    assert len(best.all) == 3, "of candidates nothing is told before the best is known"


def test_the_probabilities_of_the_pieces_are_those_of_the_plot(scheduled: Callable[..., Scheduler]) -> None:
    client = Client(scheduled(), seed=1, max_tokens=60, logprobs=2, stop=[". ", "q"])
    [plot] = client.plots()
    assert tuple(token for told in client.all for token in told.tokens) == plot.probabilities
    assert len(plot.probabilities) == plot.tokens > 5


def test_a_job_with_many_texts_holds_up_no_other(scheduled: Callable[..., Scheduler]) -> None:
    scheduler = scheduled(readings=2)
    many = Client(scheduler, n=30, seed=0, max_tokens=20)
    few = Client(scheduler, n=1, seed=0, max_tokens=20)
    few.plots()
    ended = scheduler.texts
    assert ended < 8, f"{ended} of the 31 texts had ended before the second client's one"
    assert len(many.plots()) == 30


def test_who_leaves_frees_a_place_within_a_step(
    scheduled: Callable[..., Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    step = TextBatch.step

    def counted(self: TextBatch, *how: Any) -> Any:
        steps.append(len(self.texts))
        return step(self, *how)

    monkeypatch.setattr(TextBatch, "step", counted)
    scheduler = scheduled(readings=4)
    leaving, staying = Client(scheduler, seed=0, max_tokens=LONG), Client(scheduler, seed=1, max_tokens=LONG)
    while {told.index for told in leaving.all} == set() or scheduler.running < 2:
        leaving.hear()
    before = len(steps)
    leaving.job.cancel()
    staying.plots()
    with_both = [number for number in steps[before:] if number == 2]
    assert len(with_both) <= 1
    assert (scheduler.cancelled, scheduler.running) == (1, 0)
    staying.job.cancel()  # it has ended: nobody has left
    assert scheduler.cancelled == 1


def test_who_leaves_the_queue_is_not_written(scheduled: Callable[..., Scheduler]) -> None:
    scheduler = scheduled(readings=2)
    first = Client(scheduler, seed=0, max_tokens=60)
    second = Client(scheduler, seed=1, max_tokens=60)
    second.job.cancel()
    first.plots()
    third = Client(scheduler, seed=2, max_tokens=5)
    third.plots()
    assert second.heard.empty() and scheduler.texts == 2


def test_too_many_are_refused_and_the_others_are_served(scheduled: Callable[..., Scheduler]) -> None:
    scheduler = scheduled(readings=2, waiting=3)
    first = Client(scheduler, seed=0, max_tokens=LONG)
    first.hear()
    waiting = Client(scheduler, seed=1, n=3, max_tokens=3)
    with pytest.raises(QueueFullError, match="3 texts wait already"):
        for _ in range(3):
            Client(scheduler, seed=2, n=3, max_tokens=3)
    first.job.cancel()
    assert len(waiting.plots()) == 3
    assert len(Client(scheduler, seed=2, n=3, max_tokens=3).plots()) == 3


def test_what_fails_is_told_and_the_next_is_served(
    generator: PlotGenerator, scheduled: Callable[..., Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = scheduled()

    def broken(self: TextBatch, *how: Any) -> list[Any]:
        raise CheckpointError("the weights are damaged")

    with monkeypatch.context() as patch:
        patch.setattr(TextBatch, "step", broken)
        with pytest.raises(CheckpointError, match="damaged"):
            Client(scheduler, seed=0, max_tokens=5).plots()
    assert Client(scheduler, seed=0, max_tokens=5).plots() == [generator.plot("Ada", seed=0, max_tokens=5)]


def test_what_fails_behind_a_step_is_told_as_well(
    generator: PlotGenerator, scheduled: Callable[..., Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = scheduled()

    def broken(*_: Any) -> Plot:
        raise OSError("the index is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(generator, "best", broken)
        first = Client(scheduler, seed=0, max_tokens=5)
        with pytest.raises(OSError, match="damaged"):
            first.plots()
        first.job.cancel()
    assert scheduler.cancelled == 0, "nobody has left"
    assert Client(scheduler, seed=0, max_tokens=5).plots() == [generator.plot("Ada", seed=0, max_tokens=5)]


def test_closing_finishes_what_is_here_and_takes_no_more(generator: PlotGenerator) -> None:
    scheduler = Scheduler(generator, readings=2, waiting=10)
    clients = [Client(scheduler, seed=seed, max_tokens=30) for seed in range(3)]
    scheduler.close()
    assert [client.plots() for client in clients] == [[generator.plot("Ada", seed=s, max_tokens=30)] for s in range(3)]
    with pytest.raises(QueueFullError):
        Client(scheduler, seed=0)


def test_plans_are_written_first_and_told(planned: Path) -> None:
    generator = PlotGenerator(load_folder(planned))
    scheduler = Scheduler(generator, readings=8, waiting=200)  # the sixteen plans of a text come in turns
    try:
        clients = [Client(scheduler, title, seed=3, n=2) for title in ("Red Dust 3", "Salt Works 2")]
        own = Client(scheduler, "Red Dust 3", seed=3, plan="names: Clara; words: window")
        for client, title in zip(clients, ("Red Dust 3", "Salt Works 2"), strict=True):
            plots = client.plots()
            assert plots == [generator.plot(title, seed=seed) for seed in (3, 4)]
            for index, plot in enumerate(plots):
                told = [told for told in client.all if told.index == index]
                assert told[0] == TextUpdate(index, plan=plot.plan)
                assert "".join(each.piece for each in told) == plot.text
        assert own.plots()[0].plan == "names: Clara; words: window"
        assert not any(told.plan for told in own.all), "a client knows the plan it gave"
        assert scheduler.texts == 5, "plans are no texts"
    finally:
        scheduler.close()


def test_a_job_that_is_cancelled_while_its_plans_are_written_leaves(planned: Path) -> None:
    scheduler = Scheduler(PlotGenerator(load_folder(planned)), readings=4, waiting=200)
    try:
        gone, other = Client(scheduler, "Red Dust 3", seed=3), Client(scheduler, "Salt Works 2", seed=3)
        gone.job.cancel()
        assert other.plots()[0].text
        assert scheduler.running == scheduler.waiting == 0
    finally:
        scheduler.close()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No step is made until this is set."""
    go, step = threading.Event(), TextBatch.step

    def waiting(self: TextBatch, resting: Collection[Writing], prompt_tokens: float) -> Any:
        assert go.wait(60)
        return step(self, resting, prompt_tokens)

    monkeypatch.setattr(TextBatch, "step", waiting)
    yield go
    go.set()


PLAIN: dict[str, Any] = {"guidance": 1, "max_tokens": 3}  # a text that takes one place


def running(scheduler: Scheduler, texts: int) -> None:
    """Wait until so many texts have their places."""
    while scheduler.running < texts:
        time.sleep(0.001)


def test_what_fails_is_told_to_those_who_wait_as_well(
    scheduled: Callable[..., Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler, all_here = scheduled(readings=2), threading.Event()

    def broken(self: TextBatch, resting: Collection[Writing], prompt_tokens: float) -> list[Any]:
        assert all_here.wait(60)
        raise CheckpointError("the weights are damaged")

    with monkeypatch.context() as patch:
        patch.setattr(TextBatch, "step", broken)
        clients = [Client(scheduler, seed=seed, n=2, max_tokens=5) for seed in range(3)]
        all_here.set()
        for client in clients:
            with pytest.raises(CheckpointError, match="damaged"):
                client.hear()
    assert (scheduler.running, scheduler.waiting) == (0, 0)
    assert len(Client(scheduler, seed=0, n=2, max_tokens=5).plots()) == 2
    assert all(client.heard.empty() and client.job.ended for client in clients)


def test_as_many_may_come_as_find_a_place_or_may_wait(
    scheduled: Callable[..., Scheduler], held: threading.Event
) -> None:
    scheduler = scheduled(readings=3, waiting=2)
    guided = Client(scheduler, guidance=1.7, max_tokens=3)  # takes two places of the three
    running(scheduler, 1)
    with pytest.raises(QueueFullError, match="0 texts wait already, and at most 2 may"):
        Client(scheduler, n=4, **PLAIN)
    plain = Client(scheduler, n=3, **PLAIN)
    with pytest.raises(QueueFullError, match="3 texts wait already"):
        Client(scheduler, **PLAIN)
    held.set()
    assert len(guided.plots()) == 1 and len(plain.plots()) == 3


def test_a_cancelled_job_gives_back_its_place_in_the_queue(
    scheduled: Callable[..., Scheduler], held: threading.Event
) -> None:
    scheduler = scheduled(readings=2, waiting=2)
    first = Client(scheduler, n=2, **PLAIN)
    running(scheduler, 2)
    leaving = Client(scheduler, n=2, **PLAIN)
    with pytest.raises(QueueFullError, match="2 texts wait already"):
        Client(scheduler, **PLAIN)
    leaving.job.cancel()
    assert scheduler.waiting == 0
    staying = Client(scheduler, n=2, **PLAIN)
    held.set()
    assert len(first.plots()) == len(staying.plots()) == 2
    assert leaving.heard.empty() and (scheduler.texts, scheduler.cancelled) == (4, 1)


def test_every_candidate_of_the_best_of_several_waits_for_a_place(
    scheduled: Callable[..., Scheduler], held: threading.Event
) -> None:
    scheduler = scheduled(readings=2, waiting=3)
    with pytest.raises(QueueFullError):
        Client(scheduler, n=2, best_of=3, **PLAIN)
    client = Client(scheduler, best_of=5, **PLAIN)
    with pytest.raises(QueueFullError):
        Client(scheduler, **PLAIN)
    held.set()
    assert len(client.plots()) == 1 and scheduler.texts == 5


def test_a_client_with_many_texts_has_a_share_of_each_step(
    scheduled: Callable[..., Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone it has all places; beside a client with one text six of them, and that one is let in at once."""
    scheduler = scheduled(readings=16)
    steps: list[Counter[str]] = []
    step = TextBatch.step

    def counted(self: TextBatch, resting: Collection[Writing], prompt_tokens: float) -> Any:
        written = [text for text in self.texts if text not in resting]
        steps.append(Counter(scheduler._texts[text].job.client for text in written))
        return step(self, resting, prompt_tokens)

    monkeypatch.setattr(TextBatch, "step", counted)
    heavy = Client(scheduler, n=30, seed=0, max_tokens=60, guidance=1.0, client="heavy")
    while not steps or steps[-1]["heavy"] < 16:
        heavy.hear()
    alone = len(steps)
    light = Client(scheduler, seed=1, max_tokens=20, guidance=1.0, client="light")
    light.plots()
    beside = [found for found in steps[alone:] if found["light"]]
    assert max(found["heavy"] for found in beside) == SHARE and len(beside) <= 24
    monkeypatch.undo()
    assert heavy.plots() == scheduler.generator.plots("Ada", n=30, seed=0, max_tokens=60, guidance=1.0)


def test_a_long_prompt_holds_up_no_other_client(
    scheduled: Callable[..., Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, together = list[int](), list[bool]()
    scheduler = scheduled(readings=16)
    step, reading = TextBatch.step, Engine.read

    def counted(self: TextBatch, resting: Collection[Writing], prompt_tokens: float) -> Any:
        together.append(len({text.job.client for text in scheduler._texts.values()}) > 1)
        read.append(0)
        return step(self, resting, prompt_tokens)

    def read_some(self: Engine, texts: Sequence[Sequence[int]], *where: Any) -> None:
        read[-1] += sum(map(len, {tuple(text) for text in texts}))
        reading(self, texts, *where)

    monkeypatch.setattr(TextBatch, "step", counted)
    monkeypatch.setattr(Engine, "read", read_some)
    with scheduler._turn:  # no step is taken before both are here
        heavy = Client(scheduler, begin="storm " * 500, n=30, seed=0, max_tokens=1, guidance=1.0, client="heavy")
        light = Client(scheduler, seed=1, max_tokens=15, guidance=1.0, client="light")
    light.plots()
    heavy.plots()
    beside = [tokens for tokens, both in zip(read, together, strict=True) if both]
    assert 0 < max(beside) <= 2 * (TOKENS_OF_CLIENT + SHORT)
    assert sorted(beside)[-4] <= 2 * TOKENS_OF_CLIENT, "of each client a short prompt, or as much of a long one, once"


def test_many_clients_share_the_places(scheduled: Callable[..., Scheduler]) -> None:
    """Six clients take more places than there are; none waits until another one has ended."""
    scheduler = scheduled(readings=6)
    clients = [
        Client(scheduler, n=6, seed=number, max_tokens=LONG, guidance=1.0, client=str(number)) for number in range(3)
    ]
    for client in clients:
        client.hear()
    assert scheduler.texts == 0, "a text has ended: nothing is tested"
    for client in clients:
        client.job.cancel()


def test_a_paused_job_is_not_written(generator: PlotGenerator, scheduled: Callable[..., Scheduler]) -> None:
    scheduler = scheduled()
    paused = Client(scheduler, seed=0, max_tokens=60)
    paused.hear()
    paused.job.pause()
    Client(scheduler, seed=1, max_tokens=5).plots()
    heard = paused.heard.qsize()
    Client(scheduler, seed=2, max_tokens=20).plots()
    assert paused.heard.qsize() <= heard and scheduler.running == 1
    paused.job.resume()
    assert paused.plots() == [generator.plot("Ada", seed=0, max_tokens=60)]


def test_a_paused_job_gives_its_places_to_others(generator: PlotGenerator, scheduled: Callable[..., Scheduler]) -> None:
    scheduler = scheduled(readings=2)
    paused = Client(scheduler, seed=0, max_tokens=60)
    paused.hear()
    paused.job.pause()
    assert Client(scheduler, seed=1, max_tokens=9).plots() == [generator.plot("Ada", seed=1, max_tokens=9)]
    paused.job.resume()
    assert paused.plots() == [generator.plot("Ada", seed=0, max_tokens=60)]


def test_jobs_come_while_others_leave(scheduled: Callable[..., Scheduler]) -> None:
    """What the threads of clients read is not changed under their hands."""
    scheduler, interval = scheduled(readings=8, waiting=10_000), sys.getswitchinterval()
    failed: list[Exception] = []

    def ask(seed: int) -> None:
        try:
            for number in range(40):
                client = Client(scheduler, seed=seed + number, max_tokens=2, guidance=1.0)
                if number % 3:
                    client.plots()
                else:
                    client.job.cancel()
        except Exception as error:
            failed.append(error)

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask, args=(1_000 * number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failed


def test_a_client_that_fills_the_queue_shuts_no_other_out(scheduled: Callable[..., Scheduler]) -> None:
    scheduler = scheduled(readings=2, waiting=32)
    many = Client(scheduler, n=32, seed=0, max_tokens=LONG, client="many")
    many.hear()
    with pytest.raises(QueueFullError):
        Client(scheduler, n=3, seed=1, max_tokens=3, client="many")
    few = [Client(scheduler, n=2, seed=2, max_tokens=3, client=str(number)) for number in range(16)]
    with pytest.raises(QueueFullError):
        for number in range(16, 32):
            few.append(Client(scheduler, n=2, seed=2, max_tokens=3, client=str(number)))
    many.job.cancel()
    assert all(len(client.plots()) == 2 for client in few)


def test_a_text_that_gave_up_its_place_returns_beside_other_clients(
    generator: PlotGenerator, scheduled: Callable[..., Scheduler]
) -> None:
    scheduler = scheduled(readings=2)
    paused = Client(scheduler, seed=0, max_tokens=60, guidance=1.0, client="paused")
    paused.hear()
    paused.job.pause()
    other = Client(scheduler, n=2, seed=1, max_tokens=40, guidance=1.0, client="other")
    while not any(told.plot for told in other.all):
        other.hear()
    late = Client(scheduler, n=2, seed=3, max_tokens=LONG, guidance=1.0, client="late")
    paused.job.resume()
    assert paused.plots() == [generator.plot("Ada", seed=0, max_tokens=60, guidance=1.0)]
    assert not any(told.plot for told in late.all) and late.heard.qsize(), "it was written beside another client's"
    late.job.cancel()
