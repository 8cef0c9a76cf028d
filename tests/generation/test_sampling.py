from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.config import build_settings
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.generation.sampling import (
    Chosen,
    History,
    Logits,
    add_bias,
    choose,
    draw,
    drop_unusual,
    filter_logits,
    forbid,
    heat,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    log_softmax,
    logprob,
    longer_repetitions,
    ngram_ends,
    punish,
    punish_repetition,
    shortlist,
    subtract_counts,
)
from movieplotgpt.generation.settings import SamplingConfig

IDS = st.lists(st.integers(0, 4), max_size=30)  # few tokens: many repetitions
LOGITS = np.array([2.0, -1.0, 0.5, 3.0, 0.0, -2.0])
TIED = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)  # few values: many ties


def kept(logits_V: Logits) -> set[int]:
    return {int(i) for i in np.flatnonzero(np.isfinite(logits_V))}


def array(logits: list[float]) -> Logits:
    return np.array(logits, np.float64)


def ranked(logits: list[float]) -> list[int]:
    return sorted(range(len(logits)), key=lambda i: (-logits[i], i))


def softmax(logits: list[float]) -> np.ndarray:
    weights = np.exp(np.array(logits) - max(logits))
    return np.asarray(weights / weights.sum())


def test_top_k_keeps_exactly_k_even_when_all_tie() -> None:
    assert kept(keep_top_k(np.zeros(10), 3)) == {0, 1, 2}


@given(TIED, st.integers(1, 15))
def test_top_k_is_the_oracles(logits: list[float], k: int) -> None:
    assert kept(keep_top_k(array(logits), k)) == set(ranked(logits)[:k])


def test_top_p_keeps_the_fewest_that_reach_p_even_when_all_tie() -> None:
    assert kept(keep_top_p(np.zeros(4), 0.5)) == {0, 1}
    assert kept(keep_top_p(np.zeros(4), 0.51)) == {0, 1, 2}


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
    assert kept(keep_top_p(array(logits), p)) == set(expected)


@given(TIED, st.floats(0, 1))
def test_min_p_is_the_oracles(logits: list[float], p: float) -> None:
    probabilities = softmax(logits)
    if np.isclose(probabilities, p * probabilities.max(), atol=1e-12).any() and p < 1:
        return
    assert kept(keep_min_p(array(logits), p)) == {
        int(i) for i in np.flatnonzero(probabilities >= p * probabilities.max())
    }


def test_min_p_of_one_keeps_what_ties_with_the_best() -> None:
    assert kept(keep_min_p(array([2, 1, 2, 0]), 1.0)) == {0, 2}


@given(TIED, st.floats(0.01, 0.99))
def test_typical_is_the_oracles(logits: list[float], p: float) -> None:
    probabilities = softmax(logits)
    surprise = -np.log(probabilities)
    distance = abs(surprise - (probabilities * surprise).sum())
    if any(abs(a - b) < 1e-9 and a != b for a in distance for b in distance):
        return  # rounding may decide which is nearer
    expected, total = set(), 0.0
    for i in np.argsort(distance, kind="stable").tolist():
        if abs(total - p) < 1e-9:
            return
        if total >= p:
            break
        expected.add(i)
        total += probabilities[i]
    found = kept(keep_typical(array(logits), p))
    assert len(found) == len(expected) and {logits[i] for i in found} == {logits[i] for i in expected}


def test_typical_may_leave_out_the_likeliest() -> None:
    logits = [math.log(p) for p in (0.4, 0.12, 0.12, 0.12, 0.12, 0.12)]
    assert 0 not in kept(keep_typical(array(logits), 0.5))


@pytest.mark.parametrize("rule", [keep_top_p, keep_typical, keep_min_p])
@given(logits=TIED, p=st.floats(0.01, 1))
def test_a_rule_again_leaves_out_nothing_that_matters(rule: Any, logits: list[float], p: float) -> None:
    """One token at least is kept, and what is kept holds p of the probability (min-p: each p of the best's)."""
    found = kept(rule(array(logits), p))
    assert found
    probabilities = softmax(logits)
    if rule is keep_min_p:
        assert kept(rule(rule(array(logits), p), p)) == found
    else:
        assert sum(probabilities[i] for i in found) >= p - 1e-9


@given(IDS, st.floats(0.5, 3))
def test_the_repetition_penalty_is_the_oracles(ids: list[int], penalty: float) -> None:
    expected = LOGITS.copy()
    for i in set(ids):
        expected[i] = expected[i] / penalty if expected[i] > 0 else expected[i] * penalty
    assert punish_repetition(LOGITS, ids, penalty) == pytest.approx(expected)


@given(IDS, st.floats(-2, 2), st.floats(-2, 2))
def test_frequency_and_presence_are_the_oracles(ids: list[int], frequency: float, presence: float) -> None:
    counts = np.bincount(ids, minlength=6) if ids else np.zeros(6)
    expected = LOGITS - frequency * counts - presence * (counts > 0)
    assert subtract_counts(LOGITS, ids, frequency, presence) == pytest.approx(expected)


@given(IDS, st.integers(1, 5))
def test_no_ngram_twice_is_the_oracles(ids: list[int], n: int) -> None:
    known = {tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)}
    expected = {next_id for next_id in range(6) if tuple([*ids, next_id][-n:]) in known}
    assert ngram_ends(ids, n) == (expected if len(ids) >= n - 1 else set())


def _longest_lengthened(ids: list[int], next_id: int, breakers: set[int]) -> int:
    """The longest end of ``ids``, without a breaker in it, that stands before an earlier ``next_id``."""
    longest = 0
    for place in range(1, len(ids)):
        if ids[place] != next_id:
            continue
        for size in range(1, place + 1):
            end = ids[-size:]
            if ids[place - size : place] == end and not breakers & set(end):
                longest = max(longest, size)
    return longest


@given(IDS, st.integers(1, 4), st.sets(st.integers(0, 4), max_size=1))
def test_dry_is_the_oracles(ids: list[int], free: int, breakers: set[int]) -> None:
    expected = LOGITS.copy()
    for next_id in range(6):
        match = _longest_lengthened(ids, next_id, breakers)
        if match >= free:
            expected[next_id] -= 0.8 * 1.75 ** (match - free)
    found = LOGITS.copy()
    for id_, cost in longer_repetitions(ids, 0.8, 1.75, free, breakers).items():
        found[id_] += cost
    assert found == pytest.approx(expected)


def test_a_bias_is_added_and_at_its_least_forbids() -> None:
    biased = add_bias(LOGITS, {0: 1.5, 3: -100, 77: 5})
    assert biased.tolist() == [3.5, -1.0, 0.5, -math.inf, 0.0, -2.0]


def test_what_is_forbidden_is_never_chosen_unless_everything_is() -> None:
    config = SamplingConfig(temperature=0)
    random = np.random.default_rng(0)
    assert choose(LOGITS, config, random, History(forbidden={3})).id == 0
    assert forbid(LOGITS, {3, 0}).argmax() == 2
    everything = History(forbidden=set(range(6)))
    assert choose(LOGITS, config, random, everything).id == 3


def test_no_rule_changes_the_logits_it_is_given() -> None:
    logits_V = LOGITS.copy()
    config = SamplingConfig(
        repetition_penalty=2, frequency_penalty=1, presence_penalty=1, no_repeat_ngram=2, dry_multiplier=1,
        dry_allowed_length=1, logit_bias={0: 4}, top_k=5, typical_p=0.9, top_p=0.9,
    )  # fmt: skip
    history = History([1, 2, 3, 1, 2], forbidden={4})
    ruled_V = filter_logits(punish(logits_V, config, history), config)
    assert logits_V.tolist() == LOGITS.tolist()
    assert not np.isfinite(ruled_V[[3, 4]]).any()
    assert np.isfinite(ruled_V).any() and not np.isnan(ruled_V).any()


def test_probabilities_are_the_models_own_before_any_rule() -> None:
    config = SamplingConfig(temperature=0.3, top_k=1, logprobs=3, presence_penalty=2)
    chosen = choose(LOGITS, config, np.random.default_rng(0), History([3]))
    expected = np.log(softmax(LOGITS.tolist()))
    assert chosen.id == 0 and chosen.logprob == pytest.approx(expected[0])
    assert [i for i, _ in chosen.others] == [3, 0, 2]
    assert [value for _, value in chosen.others] == pytest.approx(expected[[3, 0, 2]])


@pytest.mark.parametrize("filters", [{}, {"top_k": 1}, {"temperature": 0}])
def test_the_doubt_of_a_token_is_what_the_model_gave_to_others(filters: dict[str, Any]) -> None:
    config = SamplingConfig(min_p=None, avoid_copies=60, **filters)
    chosen = choose(array([9.0, 9.0, -99.0]), config, np.random.default_rng(0))
    assert chosen.doubt == pytest.approx(0.5)


def test_filters_are_applied_in_order() -> None:
    config = SamplingConfig(temperature=0.5, top_k=3, top_p=0.99, min_p=0.1)
    filtered_V = filter_logits(array([3, 2, 1, 0]), config)
    assert np.isfinite(filtered_V).tolist() == [True, True, False, False]
    assert filtered_V[1] == pytest.approx(-2.0)  # twice the distance to the best


@given(TIED.filter(lambda logits: len(logits) > 1))
def test_log_softmax_is_torchs(logits: list[float]) -> None:
    logits[0] = -math.inf
    float32 = torch.tensor([logits, logits[::-1]])
    found = log_softmax(float32.numpy())
    assert found.dtype == np.float64
    assert found == pytest.approx(float32.double().log_softmax(-1).numpy(), abs=1e-12)


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"typical_p": 0.9}, {"min_p": None}, {"top_k": 2}])
@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-30])
def test_a_tiny_temperature_takes_the_best_and_warns_of_nothing(temperature: float, filters: dict[str, Any]) -> None:
    config = SamplingConfig(temperature=temperature, **filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = choose(np.array([-3e38, 1, 3, 2], np.float32), config, np.random.default_rng(0))
    assert chosen == Chosen(2)


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"typical_p": 0.9}, {"min_p": None}, {"top_k": 2}])
@pytest.mark.parametrize("temperature", [1e39, 1.7e308])
def test_a_huge_temperature_draws_from_all_and_warns_of_nothing(temperature: float, filters: dict[str, Any]) -> None:
    config = SamplingConfig(temperature=temperature, **filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        random = np.random.default_rng(0)
        drawn = {choose(np.array([-9, 9], np.float32), config, random).id for _ in range(30)}
    assert drawn == {0, 1}


@given(
    logits=st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=12),
    min_p=st.floats(0, 1),
    temperature=st.floats(0.05, 20),
    top_k=st.none() | st.integers(1, 12),
    u=st.floats(0, 1, exclude_max=True),
)
def test_a_shortlist_draws_what_the_whole_distribution_draws(
    logits: list[float], min_p: float, temperature: float, top_k: int | None, u: float
) -> None:
    logits_V = np.array(logits, np.float32)
    config = SamplingConfig(min_p=min_p, temperature=temperature, top_k=top_k)
    some_M, ids_M = shortlist(logits_V, config)
    place = draw(filter_logits(some_M, config), u)
    expected = draw(filter_logits(logits_V.astype(np.float64), config), u)
    assert (place if ids_M is None else ids_M[place]) == expected


def test_a_shortlist_is_short() -> None:
    some_M, ids_M = shortlist(np.array([5, 0, 4], np.float32), SamplingConfig(min_p=0.02))
    assert some_M.tolist() == [5, 4] and ids_M is not None and ids_M.tolist() == [0, 2]
    some_M, ids_M = shortlist(np.zeros(3), SamplingConfig(min_p=0.02, top_p=0.9))
    assert some_M.tolist() == [0, 0, 0] and ids_M is None, "top-p counts every token"


@given(TIED)
def test_the_log_probability_of_one_token_is_that_among_all(logits: list[float]) -> None:
    found = [logprob(array(logits), id_) for id_ in range(len(logits))]
    assert found == pytest.approx(log_softmax(array(logits)).tolist(), abs=1e-12)


@pytest.mark.parametrize("temperature", [1e-300, 1e-3, 1e3])
def test_no_temperature_overflows(temperature: float) -> None:
    heated = heat(array([1000.0, -1000.0, 3.0]), temperature)
    assert heated[0] == 0
    assert not np.isnan(heated).any()
    assert draw(heated, 0.0) == 0


@given(TIED, st.floats(0, 1, exclude_max=True))
def test_the_draw_is_the_inverse_of_the_distribution(logits: list[float], u: float) -> None:
    found = draw(array(logits), u)
    cdf = softmax(logits).cumsum()
    assert cdf[found] > u - 1e-12
    assert found == 0 or cdf[found - 1] <= u + 1e-12


@pytest.mark.parametrize("u", [0.0, 0.3, 1 - 2**-53])
def test_what_is_left_out_is_never_draw(u: float) -> None:
    logits = array([-math.inf, 0.0, -math.inf, 0.1, -math.inf])
    assert draw(logits, u) in {1, 3}


def test_draws_have_the_frequencies_of_the_distribution() -> None:
    logits = [0.0, 1.0, -1.0, 2.0]
    random = np.random.default_rng(0)
    config = SamplingConfig(temperature=1, min_p=None)
    counts = np.bincount([choose(array(logits), config, random).id for _ in range(4000)], minlength=4)
    assert counts / 4000 == pytest.approx(softmax(logits), abs=0.03)


def test_greedy_takes_the_first_of_the_best() -> None:
    assert choose(array([1, 3, 3]), SamplingConfig(temperature=0), np.random.default_rng(0)) == Chosen(1)


def test_a_draw_moves_the_generator_on_by_one_number() -> None:
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    choose(np.zeros(50, np.float32), SamplingConfig(min_p=None), ours)
    choose(np.zeros(50, np.float32), SamplingConfig(temperature=0), ours)
    theirs.random(2)
    assert ours.random() == theirs.random()


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("wrong", [[math.nan, 1.0], [1.0, math.nan], [math.nan] * 2, [math.inf, 1.0], [-math.inf] * 2])
def test_damaged_weights_are_said(wrong: list[float], temperature: float) -> None:
    with pytest.raises(CheckpointError, match="logits are NaN or infinite; its weights are damaged"):
        choose(np.array(wrong, np.float32), SamplingConfig(temperature=temperature), np.random.default_rng(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"top_k": 0},
        {"top_p": 0},
        {"min_p": 1.5},
        {"stop": [""]},
        {"n": 0},
        {"max_tokens": 0},
        {"typical_p": 0},
        {"repetition_penalty": 0},
        {"frequency_penalty": 3},
        {"presence_penalty": -3},
        {"no_repeat_ngram": 0},
        {"dry_multiplier": 0},
        {"dry_base": 0.5},
        {"dry_allowed_length": 0},
        {"banned": [""]},
        {"logit_bias": {1: 200}},
        {"min_tokens": 0},
        {"target_characters": 0},
        {"avoid_copies": 10},
        {"logprobs": 21},
    ],
)
def test_a_wrong_value_names_its_setting(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build_settings(SamplingConfig, dict(wrong))


def test_a_single_stop_string_is_not_taken_letter_by_letter() -> None:
    assert build_settings(SamplingConfig, {"stop": "The end"}).stop == ("The end",)


def test_unusual_tokens_are_left_out_only_if_unlikely_together() -> None:
    logits_V = np.log(np.array([0.5, 0.42, 0.05, 0.03]))
    assert np.isneginf(drop_unusual(logits_V, {2, 3})).tolist() == [False, False, True, True]
    assert drop_unusual(logits_V, {1, 3}) is logits_V, "they are usual here"
    assert drop_unusual(logits_V, {0, 1, 2, 3}) is logits_V, "something has to be drawn"
    drawn = {
        choose(logits_V, SamplingConfig(), np.random.default_rng(i), History(unusual={2, 3})).id for i in range(200)
    }
    assert drawn == {0, 1}


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"logit_bias": {4: 1.0}}, {4}),
        ({"repetition_penalty": 2.0}, {0, 1}),
        ({"frequency_penalty": 0.5}, {0, 1}),
        ({"presence_penalty": 0.5}, {0, 1}),
        ({"no_repeat_ngram": 2}, {1}),
        ({"dry_multiplier": 1.0, "dry_allowed_length": 1}, {1}),
        ({}, set()),
    ],
)
def test_each_rule_works_without_the_others(settings: dict[str, Any], changed: set[int]) -> None:
    ruled_V = punish(LOGITS, SamplingConfig(**settings), History(ids=[0, 1, 0]))
    assert {*np.flatnonzero(ruled_V != LOGITS).tolist()} == changed
