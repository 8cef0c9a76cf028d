"""The promise of the start is kept: what requests hold is counted before they are taken."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from fastapi.testclient import TestClient

from movieplotgpt.errors import PromptError, QueueFullError
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.serving.app import create_app
from movieplotgpt.serving.memory import Memory, running_bytes, size_of
from movieplotgpt.serving.models import ServedModels

WORST: dict[str, Any] = {"n": 3, "min_tokens": 120, "max_tokens": 120, "seed": 0, "guidance": 1.0}


def test_what_is_held_is_bounded_in_all_and_per_client() -> None:
    memory = Memory(100)
    memory.hold("a", 40)
    memory.hold("b", 50)
    with pytest.raises(QueueFullError):
        memory.hold("a", 20)  # beyond its half
    with pytest.raises(QueueFullError):
        memory.hold("c", 20)  # beyond all
    with pytest.raises(PromptError, match="fewer tokens"):
        memory.hold("c", 51)
    memory.release("b", 50)
    memory.hold("c", 20)
    memory.release("a", 40)
    memory.release("c", 20)
    assert not memory.held


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "The baker", "logprobs": 20}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": 20},
        ),
        ("/v1/plots", {"title": "x", "logprobs": 20}),
        ("/v1/plots", {"title": "x", "logprobs": 20, "stream": True}),
        ("/v1/completions", {"prompt": "The baker", "logprobs": 20, "stream": True}),
    ],
)
def test_the_worst_requests_take_no_more_than_is_counted(
    generators: dict[str, PlotGenerator], path: str, body: dict[str, Any]
) -> None:
    models = ServedModels.scheduled(generators, readings=6, waiting=40)
    with TestClient(create_app(models)) as web:
        web.post(path, json={**body, **WORST, "n": 1})  # what is made once
        keep = "completions" not in path or not body.get("stream")
        requests = generators["films"].requests("x", **WORST, logprobs=20)
        counted = size_of(requests, "bpe", 6, keep=keep) + 3 * 120 * running_bytes(1) // 20_000
        tracemalloc.start()
        try:
            with web.stream("POST", path, json={**body, **WORST}) as answer:
                for _ in answer.iter_bytes():  # a real client's memory is not the server's
                    pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer.status_code == 200 and peak < counted, f"{peak / 1e6:.1f} MB of {counted / 1e6:.1f}"
        assert not models.memory.held


def test_requests_beyond_the_memory_are_refused(generators: dict[str, PlotGenerator]) -> None:
    models = ServedModels.scheduled(generators, readings=6, waiting=256)
    with TestClient(create_app(models)) as web:
        asked = {"title": "x", "n": 256, "max_tokens": 20_000, "logprobs": 20}
        refused = web.post("/v1/plots", json=asked)
        assert refused.status_code == 400 and "fewer logprobs" in refused.json()["error"]["message"]
        models.memory.hold("testclient", models.memory.most // 2)
        busy = web.post("/v1/plots", json={"title": "x", "max_tokens": 5})
        assert busy.status_code == 429 and busy.headers["retry-after"]
        models.memory.release("testclient", models.memory.most // 2)
        assert web.post("/v1/plots", json={"title": "x", "max_tokens": 5}).status_code == 200
    assert not models.memory.held


def test_the_promise_is_the_sum_of_the_bounds(models: ServedModels) -> None:
    caches = sum(
        each.generator.engine().new_cache(each.scheduler.readings).values(0, each.scheduler.readings)[0].numpy().nbytes
        * 2
        * each.generator.checkpoint.config.n_layer
        for each in models.values()
    )
    assert models.most_bytes == caches + models.memory.most + 2 * running_bytes(6) + 128_000_000
