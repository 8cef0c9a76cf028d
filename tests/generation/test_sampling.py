from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.config import build_settings
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.generation.sampling import (
    SamplingConfig,
    choose,
    draw,
    filter_logits,
    heat,
    keep_min_p,
    keep_top_k,
    keep_top_p,
)

TIED = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)  # few values: many ties


def kept(logits_BV: torch.Tensor) -> set[int]:
    return {int(i) for i in logits_BV[0].isfinite().nonzero()[:, 0]}


def row(logits: list[float]) -> torch.Tensor:
    return torch.tensor([logits], dtype=torch.float64)


def ranked(logits: list[float]) -> list[int]:
    return sorted(range(len(logits)), key=lambda i: (-logits[i], i))


def softmax(logits: list[float]) -> np.ndarray:
    weights = np.exp(np.array(logits) - max(logits))
    return np.asarray(weights / weights.sum())


def test_top_k_keeps_exactly_k_even_when_all_tie() -> None:
    assert kept(keep_top_k(torch.zeros(1, 10), 3)) == {0, 1, 2}


@given(TIED, st.integers(1, 15))
def test_top_k_is_the_oracles(logits: list[float], k: int) -> None:
    assert kept(keep_top_k(row(logits), k)) == set(ranked(logits)[:k])


def test_top_p_keeps_the_fewest_that_reach_p_even_when_all_tie() -> None:
    assert kept(keep_top_p(torch.zeros(1, 4, dtype=torch.float64), 0.5)) == {0, 1}
    assert kept(keep_top_p(torch.zeros(1, 4, dtype=torch.float64), 0.51)) == {0, 1, 2}


@given(TIED, st.floats(0.01, 1))
def test_top_p_is_the_oracles(logits: list[float], p: float) -> None:
    probabilities = softmax(logits)
    expected, total = [], 0.0
    for i in ranked(logits):
        if abs(total - p) < 1e-9:
            return  # on the border rounding may decide
        if total >= p:
            break
        expected.append(i)
        total += probabilities[i]
    assert kept(keep_top_p(row(logits), p)) == set(expected)


@given(TIED, st.floats(0, 1))
def test_min_p_is_the_oracles(logits: list[float], p: float) -> None:
    probabilities = softmax(logits)
    if np.isclose(probabilities, p * probabilities.max(), atol=1e-12).any() and p < 1:
        return
    assert kept(keep_min_p(row(logits), p)) == {
        int(i) for i in np.flatnonzero(probabilities >= p * probabilities.max())
    }


def test_min_p_of_one_keeps_what_ties_with_the_best() -> None:
    assert kept(keep_min_p(row([2, 1, 2, 0]), 1.0)) == {0, 2}


def test_rules_are_applied_in_order_and_to_each_text_alone() -> None:
    logits_BV = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
    config = SamplingConfig(temperature=0.5, top_k=3, top_p=0.99, min_p=0.1)
    filtered = filter_logits(logits_BV, config)
    assert filtered.isfinite().tolist() == [[True, True, False, False], [False, False, True, True]]
    assert filtered[0, 1] == pytest.approx(-2.0)  # twice the distance to the best


@pytest.mark.parametrize("temperature", [1e-300, 1e-3, 1e3])
def test_no_temperature_overflows(temperature: float) -> None:
    heated = heat(row([1000.0, -1000.0, 3.0]), temperature)
    assert heated[0, 0] == 0
    assert not heated.isnan().any()
    assert int(draw(heated, torch.tensor([0.0], dtype=torch.float64))) == 0


@given(TIED, st.floats(0, 1, exclude_max=True))
def test_the_draw_is_the_inverse_of_the_distribution(logits: list[float], u: float) -> None:
    drawn = int(draw(row(logits), torch.tensor([u], dtype=torch.float64)))
    cdf = softmax(logits).cumsum()
    assert cdf[drawn] > u - 1e-12
    assert drawn == 0 or cdf[drawn - 1] <= u + 1e-12


@pytest.mark.parametrize("u", [0.0, 0.3, 1 - 2**-53])
def test_what_is_left_out_is_never_drawn(u: float) -> None:
    logits = row([-math.inf, 0.0, -math.inf, 0.1, -math.inf])
    assert int(draw(logits, torch.tensor([u], dtype=torch.float64))) in {1, 3}


def test_draws_have_the_frequencies_of_the_distribution() -> None:
    logits = [0.0, 1.0, -1.0, 2.0]
    random = np.random.default_rng(0)
    config = SamplingConfig(temperature=1, min_p=None)
    counts = np.bincount([choose(row(logits), config, [random])[0] for _ in range(4000)], minlength=4)
    assert counts / 4000 == pytest.approx(softmax(logits), abs=0.03)


def test_greedy_takes_the_first_of_the_best() -> None:
    assert choose(row([1, 3, 3]), SamplingConfig(temperature=0), [np.random.default_rng(0)]) == [1]


def test_each_text_draws_from_its_own_generator() -> None:
    logits_BV = torch.zeros(2, 50)
    config = SamplingConfig(min_p=None)
    both = choose(logits_BV, config, [np.random.default_rng(5), np.random.default_rng(6)])
    assert both == [choose(logits_BV[:1], config, [np.random.default_rng(seed)])[0] for seed in (5, 6)]


def test_damaged_weights_are_said() -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        choose(row([math.nan, 1.0]), SamplingConfig(), [np.random.default_rng(0)])


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"top_k": 0}, {"top_p": 0}, {"min_p": 1.5}, {"stop": [""]}, {"n": 0}, {"max_tokens": 0}],
)
def test_a_wrong_value_names_its_setting(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build_settings(SamplingConfig, dict(wrong))


def test_a_single_stop_string_is_not_taken_letter_by_letter() -> None:
    assert build_settings(SamplingConfig, {"stop": "The end"}).stop == ("The end",)
