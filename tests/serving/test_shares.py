"""Who is in a step, by numbers alone: jobs of texts that nobody writes."""

from __future__ import annotations

from collections import Counter, deque
from types import SimpleNamespace
from typing import Any

import pytest

from movieplotgpt.errors import QueueFullError
from movieplotgpt.serving.jobs import Job
from movieplotgpt.serving.shares import (
    FEW,
    GREETED,
    SHARE,
    SHORT,
    TOKENS_BETWEEN_STEPS,
    TOKENS_OF_CLIENT,
    Shares,
    check_room,
    resting,
    take_next,
)


def job(client: str, waiting: int = 0, *, readings: int = 2, paused: bool = False) -> Job:
    """A job whose texts have short prompts and no tokens yet."""
    made: Any = Job(None, [], lambda update: None, client, paused=paused)  # type: ignore[arg-type]
    for _ in range(waiting):
        made.waiting.append(text(made, readings=readings))
    return made


def text(of: Job, *, readings: int = 2, prompt_tokens: int = 10, tokens: int = 0) -> Any:
    return SimpleNamespace(
        job=of, writing=SimpleNamespace(readings=readings, prompt_tokens=prompt_tokens, tokens=tokens)
    )


def test_a_client_alone_has_all_places_and_several_have_shares() -> None:
    shares, ann, bob = Shares(64), job("ann"), job("bob", 1)
    many = [text(ann) for _ in range(30)]
    assert shares.of_client(many, []) == 64
    assert shares.of_client(many, [bob]) == 2 * SHARE // 2
    assert shares.of_client([*many, *(text(bob) for _ in range(9))], [bob]) == 64 // 2
    assert shares.of_client([], [job("ann"), job("bob")]) == 2 * SHARE // 2
    assert Shares(2).of_client(many, [bob]) == 2, "a guided text takes two"


def test_prompts_of_several_clients_are_read_a_little_at_a_time() -> None:
    shares, ann, bob = Shares(64), job("ann"), job("bob")
    first, second = text(ann, prompt_tokens=300), text(bob, prompt_tokens=20)
    assert shares.prompt_tokens([first], [first]) == TOKENS_BETWEEN_STEPS
    assert shares.prompt_tokens([first, second], [first, second]) == 2 * TOKENS_OF_CLIENT + SHORT + 20
    found = []
    for _ in range(GREETED):
        shares.count_step()
        found.append(shares.prompt_tokens([first, second], [second]))
    assert found[:4] == [0, 0, 0, TOKENS_OF_CLIENT] and found[-1] == TOKENS_OF_CLIENT + 20
    begun = text(bob, tokens=1)
    assert Shares(64).prompt_tokens([first, begun], [begun]) == TOKENS_OF_CLIENT


def test_texts_beyond_a_share_and_paused_ones_rest() -> None:
    ann, bob = job("ann"), job("bob", paused=True)
    texts = [text(ann), text(bob), text(ann), text(ann)]
    idle, places = resting(texts, 4, closing=False)
    assert idle == [texts[1], texts[3]] and places == Counter(ann=4)
    assert resting(texts, 4, closing=True)[0] == [texts[3]]


def test_client_with_fewest_places_is_next() -> None:
    first, second, third = job("ann", 2), job("ann", 1), job("bob", 1)
    jobs = deque([first, second, third])
    assert take_next(jobs, 8, Counter(ann=2), 4, closing=False).job is third  # type: ignore[union-attr]
    assert take_next(jobs, 8, Counter(ann=2, bob=2), 4, closing=False).job is first  # type: ignore[union-attr]
    assert take_next(jobs, 8, Counter(ann=4, bob=2), 4, closing=False).job is second  # type: ignore[union-attr]
    assert take_next(jobs, 8, Counter(ann=7), 4, closing=False) is None, "the share is used up"
    assert take_next(jobs, 8, Counter(), 1, closing=False) is None, "no place is free"
    assert take_next(jobs, 8, Counter(), 2, closing=False).job is first  # type: ignore[union-attr]
    paused = deque([job("ann", 1, paused=True)])
    assert take_next(paused, 8, Counter(), 4, closing=False) is None
    assert take_next(paused, 8, Counter(), 4, closing=True) is not None


def test_the_queue_has_a_limit_and_room_for_clients_with_few_texts() -> None:
    most = 2 * FEW
    full = [job("ann", most + 3)]
    check_room([], "ann", most + 3, most, free=3)
    with pytest.raises(QueueFullError, match=r"^0 texts wait already, and at most 32 may; try again later$"):
        check_room([], "ann", most + 4, most, free=3)
    check_room(full, "bob", 2, most, free=3)
    with pytest.raises(QueueFullError, match="35 texts wait already"):
        check_room(full, "bob", 3, most, free=3)
    with pytest.raises(QueueFullError):
        check_room(full, "ann", 1, most, free=3)
