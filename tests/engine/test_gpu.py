"""The engine of GPUs, on the processor: the same graph, cache and steps, but for the provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnxruntime
import pytest
from tests.engine.test_session import distance, expected, tokens

from movieplotgpt import PlotGenerator
from movieplotgpt.engine import gpu
from movieplotgpt.engine.gpu import CUDA, GPUEngine, make_engine
from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import ConfigError
from movieplotgpt.model.checkpoints import Checkpoint

Make = Callable[..., Checkpoint]


class OnProcessor(GPUEngine):
    providers = ("CPUExecutionProvider",)  # type: ignore[assignment]
    place = "cpu"


@pytest.fixture
def engine(text_model: Make) -> OnProcessor:
    return OnProcessor(text_model(n_head=4, n_kv_head=2), precision="float16")


def test_half_precision_is_near_the_network(text_model: Make) -> None:
    model, ids = text_model(), tokens(32)
    assert 0 < distance(OnProcessor(model, precision="float16").logits(ids), expected(model, ids)) < 0.01


def test_rows_that_come_and_go_read_what_they_would_alone(engine: OnProcessor) -> None:
    """Texts of different lengths, one that leaves, one that takes its place, one that begins anew beside a full one."""
    texts = [tokens(9, 1), tokens(4, 2), tokens(32, 3)]
    cache = engine.new_cache(4)
    cache.keep([])

    def step() -> None:
        found = engine.next_logits([text[-1] for text in texts], cache)
        for row, text in enumerate(texts):
            assert distance(found[row][None], engine.logits(text)[-1:]) < 0.01, (row, text)

    for text in texts:
        row = cache.add()
        engine.read([text[:-1]], cache, row)
    step()
    assert cache.lengths.tolist() == [9, 4, 32]
    texts = [[*texts[2][:5]], [*texts[0], 7]]
    assert cache.keep([2, 0]) == [2, 0]
    cache.lengths[0] = 0
    engine.read([texts[0][:-1]], cache, 0)
    step()
    texts = [[*texts[0], 3], [*texts[1], 4], tokens(12, 5), tokens(2, 6)]
    for _ in range(2):
        cache.add()
    engine.read([text[:-1] for text in texts[2:]], cache, 2)
    step()


@pytest.mark.parametrize("settings", [{}, {"guidance": 2.0}, {"banned": ["e"], "max_tokens": 90}])
def test_texts_are_those_of_the_processor(
    tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """Also past the context, in float32, where nothing that is random is so near a tie."""
    checkpoint = replace(tiny_checkpoint(), info={"settings": {"windows": {"no_title": 0.1}}})
    texts = []
    for kind in (Engine, OnProcessor):
        monkeypatch.setattr(
            "movieplotgpt.generation.generator.make_engine",
            lambda model, *_, kind=kind: kind(model, precision="float32"),
        )
        plots = PlotGenerator(checkpoint).plots(["Mars", "Ada", ""], n=2, seed=5, **settings)
        texts.append([plot.text for plot in plots])
    assert texts[0] == texts[1]


def test_without_a_gpu_there_is_the_processor(text_model: Make) -> None:
    model = text_model()
    assert type(make_engine(model)) is type(make_engine(model, "float32", "cpu")) is Engine
    assert make_engine(model).precision == "int8"


def test_what_is_missing_for_a_gpu_is_said(text_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^device cuda needs onnxruntime-gpu, which is not installed; pip uninstall"):
        make_engine(text_model(), device="cuda")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    with pytest.raises(
        ConfigError,
        match=r"^device cuda needs an NVIDIA GPU, its driver and CUDA's libraries, and one of these is missing; pip",
    ):
        make_engine(text_model(), device="cuda")
    monkeypatch.setattr(gpu, "has_gpu", lambda: True)
    with pytest.raises(ConfigError, match=r"^on a GPU the precision is float16, not int8; leave it out"):
        make_engine(text_model(), "int8", "cuda")


def test_a_gpu_is_taken_where_there_is_one(text_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(gpu, "has_gpu", lambda: True)
    monkeypatch.setattr(gpu, "GPUEngine", OnProcessor)
    model = text_model()
    assert isinstance(make_engine(model), OnProcessor) and make_engine(model).precision == "float16"
    assert type(make_engine(model, "int8")) is Engine, "int8 is not a GPU's"


def test_devices_are_those_there_are(text_model: Make) -> None:
    with pytest.raises(ConfigError, match=r"^'tpu' is not a device; choose one of auto, cpu, cuda$"):
        make_engine(text_model(), device="tpu")  # type: ignore[arg-type]
