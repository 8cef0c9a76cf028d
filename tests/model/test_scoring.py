"""A likelihood is summed in one place; here it is summed in another, slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.scoring import score_documents

CONTEXT, VOCABULARY, END = 16, 24, 0


def tiny_model(*, uniform: bool = False, context_length: int = CONTEXT) -> GPT:
    config = ModelConfig(
        vocab_size=VOCABULARY,
        context_length=context_length,
        n_layer=2,
        n_embd=16,
        n_head=2,
        n_kv_head=1,
        head_dim=8,
        n_ff=16,
    )
    model = GPT(config)
    model.initialize(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.zeros_like(weight) if uniform else torch.randn(weight.shape, generator=generator) * 0.3)
    return model.eval()


def ids(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, VOCABULARY, size=length).astype(np.uint16)


@torch.no_grad()
def by_hand(model: GPT, header: np.ndarray, body: np.ndarray) -> tuple[float, float, float]:
    """Nats of header, body with end, end: one window after the other, one token after the other."""
    context = model.config.context_length
    top = [int(i) for i in header][-(context // 2) :]
    text = [*(int(i) for i in body), END]
    header_nats = 0.0
    nats: list[float] = []
    while len(nats) < len(text):
        start = max(0, len(nats) - context // 4) if nats else 0
        window = [END, *top, *text[start : start + context - len(top)]]
        log_p = torch.log_softmax(model(torch.tensor([window[:-1]]))[0].double(), -1)
        each = [-log_p[at, token].item() for at, token in enumerate(window[1:])]
        if not nats:
            header_nats = sum(each[: len(top)])
        nats += each[len(top) + len(nats) - start :]
    return header_nats, sum(nats), nats[-1]


@pytest.mark.parametrize("body_length", [0, 1, 9, 10, 11, 12, 13, 40, 41, 100])
def test_windows_are_scored_as_one_at_a_time(body_length: int) -> None:
    model, header, body = tiny_model(), ids(5), ids(body_length, seed=1)
    scores = score_documents(model, [(header, body)], END)
    expected = by_hand(model, header, body)
    assert (scores.header[0], scores.body[0], scores.end[0]) == pytest.approx(expected, rel=1e-5)


def test_neighbours_in_a_batch_do_not_matter() -> None:
    model = tiny_model()
    documents = [(ids(seed % 7, seed), ids(seed * 3, seed + 50)) for seed in range(12)]
    together = score_documents(model, documents, END)
    for i, document in enumerate(documents):
        alone = score_documents(model, [document], END, tokens_per_batch=1)
        assert together.header[i] == pytest.approx(alone.header[0], rel=1e-5)
        assert together.body[i] == pytest.approx(alone.body[0], rel=1e-5)
        assert together.end[i] == pytest.approx(alone.end[0], rel=1e-5)


@given(header=st.integers(0, 40), body=st.integers(0, 120))
def test_every_token_is_counted_once(header: int, body: int) -> None:
    scores = score_documents(tiny_model(uniform=True), [(ids(header), ids(body))], END)
    price = math.log(VOCABULARY)
    assert scores.body[0] == pytest.approx((body + 1) * price, rel=1e-5)
    assert scores.header[0] == pytest.approx(min(header, CONTEXT // 2) * price, rel=1e-5)
    assert scores.end[0] == pytest.approx(price, rel=1e-5)


def test_scoring_turns_dropout_off_and_restores_it() -> None:
    model = tiny_model()
    document = (ids(4), ids(30))
    expected = score_documents(model, [document], END).body
    model.dropout = 0.5
    model.train()
    np.testing.assert_array_equal(score_documents(model, [document], END).body, expected)
    assert model.training


def test_progress_ends_with_all_windows() -> None:
    told: list[tuple[int, int]] = []
    documents = [(ids(4), ids(40)), (ids(4), ids(3))]
    score_documents(tiny_model(), documents, END, tokens_per_batch=16, progress=lambda *done: told.append(done))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] > len(documents)


def test_nothing_to_score() -> None:
    assert len(score_documents(tiny_model(), [], END).body) == 0
