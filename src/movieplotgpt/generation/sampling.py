"""From logits to the next token: one small function per rule, composed in one place, and one draw.

The rules work in float64, so that every door draws alike. Where tokens tie, the lower id is the more probable one.
Shapes: V vocabulary, M tokens of a short list; a token that a rule leaves out has the logit -inf.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from movieplotgpt.errors import CheckpointError
from movieplotgpt.generation.settings import SamplingConfig

PLAUSIBLE = 0.02  # of the likeliest token's probability: what the title alone would hardly write, guidance does not
Logits: TypeAlias = npt.NDArray[np.floating[Any]]
Ids: TypeAlias = npt.NDArray[np.int64]
UNUSUAL = 0.1  # of the probability: tokens that together have less are left out where a text has to open as usual
_SLACK = 1e-3  # more than float32 rounds logits by
_LONGEST_MATCH = 50  # tokens of a repetition that DRY looks at: its penalty is beyond all logits long before


@dataclass(frozen=True)
class History:
    """What the rules know of one text.

    ``ids`` are the last tokens of its body, a context at most; ``forbidden`` those that may not come next; ``breakers`` the tokens across
    which DRY sees no repetition; ``free`` how many tokens may repeat before it does; ``bias`` is added to some logits;
    ``unusual`` are tokens that are left out if all of them together are unlikely; ``never`` those that no text of the
    request may have.
    """

    ids: Sequence[int] = ()
    forbidden: Collection[int] = ()
    breakers: Collection[int] = frozenset()
    free: int = 5
    bias: Mapping[int, float] = field(default_factory=dict)
    unusual: Collection[int] = ()
    never: Ids = field(default_factory=lambda: np.empty(0, np.int64))
    costs: dict[int, float] = field(
        default_factory=dict, repr=False, compare=False
    )  # of repetitions, once they are known


@dataclass(frozen=True, slots=True)
class Chosen:
    """The next token of a text; ``doubt`` is how likely the rules had made another one.

    ``logprob`` is the model's own, in nats, and ``others`` are the likeliest tokens with theirs, where these are kept;
    ``gain`` is by how many nats the title made it likelier, where the text is read without one, too.
    """

    id: int
    doubt: float = 0.0
    logprob: float | None = None
    others: Sequence[tuple[int, float]] = field(default=())
    gain: float | None = None


def fresh_seed() -> int:
    """A seed nobody has asked for, short enough to type."""
    return secrets.randbelow(1 << 31)


def choose(
    logits_V: Logits,
    config: SamplingConfig,
    random: np.random.Generator,
    history: History = History(),
    guided_V: Logits | None = None,
) -> Chosen:
    """Return the next token of a text; ``random`` moves on by one number.

    ``guided_V`` are logits to draw from in place of the text's own logits, which then say what is plausible.

    Raises:
        CheckpointError: the logits are NaN or infinite, as those of damaged weights.
    """
    if not math.isfinite(logits_V.max()):
        raise CheckpointError("the model's logits are NaN or infinite; its weights are damaged, get them again")
    u = random.random()
    ruled_V = punish(logits_V, config, history)
    if guided_V is not None:
        ruled_V = _guided(ruled_V, logits_V, guided_V, config, history)
    some_M, ids_M = shortlist(ruled_V, config)
    place = int(some_M.argmax()) if config.temperature == 0 else draw(filter_logits(some_M, config), u)
    id_ = place if ids_M is None else int(ids_M[place])
    doubt = 0.0 if config.avoid_copies is None else 1 - math.exp(logprob(ruled_V, id_))
    if config.logprobs is None:
        return Chosen(id_, doubt)
    logprobs_V = log_softmax(logits_V)
    return Chosen(id_, doubt, float(logprobs_V[id_]), likeliest(logprobs_V, config.logprobs))


def log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Return log-probabilities over the last dimension, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    logprobs: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logprobs


def logprob(logits_V: Logits, id_: int) -> float:
    """Return the log-probability of one token."""
    shifted_V = logits_V.astype(np.float64) - logits_V.max()
    return float(shifted_V[id_]) - math.log(np.exp(shifted_V).sum())


def _guided(own_V: Logits, logits_V: Logits, guided_V: Logits, config: SamplingConfig, history: History) -> Logits:
    """Guided logits by the same rules, of what is plausible or wished for; where nothing of that is left, the own ones."""
    least = math.log(PLAUSIBLE)  # a token may be plausible for what the rules add to it
    allowed_V = (logits_V >= logits_V.max() + least) | (own_V >= own_V.max() + least)
    ruled_V = np.where(allowed_V, punish(guided_V, config, history), -np.inf)
    return ruled_V if math.isfinite(ruled_V.max()) else own_V


def shortlist(logits_V: Logits, config: SamplingConfig) -> tuple[Logits, Ids | None]:
    """Return the tokens that no filter will leave out, in float64, and their ids, (M,) each; no ids where these are all.

    Where min-p alone decides, or with top-k, the tokens are few, and the rules need not look at the others.
    """
    min_p = config.min_p if config.temperature > 0 and config.top_p is None and config.typical_p is None else None
    if not min_p:
        return logits_V.astype(np.float64), None
    below = max(config.temperature * math.log(min_p) - _SLACK, -1e30)  # what overflows float32 is all the same
    ids_M = np.flatnonzero(logits_V >= logits_V.max() + below)
    return logits_V[ids_M].astype(np.float64), ids_M


def likeliest(logprobs_V: Logits, k: int) -> list[tuple[int, float]]:
    """Return the ``k`` likeliest tokens with their log-probabilities, the best first."""
    least = np.partition(logprobs_V, -k)[-k] if 0 < k < len(logprobs_V) else -np.inf
    ids_M = np.flatnonzero(logprobs_V >= least)
    return [(i, float(logprobs_V[i])) for i in ids_M[_ranked(logprobs_V[ids_M])][:k].tolist()]


def punish(logits_V: Logits, config: SamplingConfig, history: History) -> Logits:
    """Apply the rules that know the text so far, in their order: bias, penalties, n-grams, DRY, what is forbidden.

    If they would forbid every token, the model's own logits are used.
    """
    ruled_V = logits_V
    if rules := _has_rules(config):
        ruled_V = _penalised(logits_V.astype(np.float64), history, config)
    if history.bias:
        ruled_V = add_bias(ruled_V.astype(np.float64), history.bias)
    if forbidding := len(history.forbidden) + len(history.never) > 0:
        ruled_V = ruled_V.copy()
        ruled_V[history.never] = -np.inf
        ruled_V[[*history.forbidden]] = -np.inf
    if history.unusual:
        ruled_V = drop_unusual(ruled_V, history.unusual)
    unruled = not rules and not history.bias and not forbidding
    return ruled_V if unruled or math.isfinite(ruled_V.max()) else logits_V


def _has_rules(config: SamplingConfig) -> bool:
    rules = (config.repetition_penalty, config.frequency_penalty, config.presence_penalty)
    return bool(config.logit_bias or config.no_repeat_ngram or config.dry_multiplier or any(rules))


def _penalised(logits_V: Logits, history: History, config: SamplingConfig) -> Logits:
    logits_V = add_bias(logits_V, config.logit_bias)
    if config.repetition_penalty is not None:
        logits_V = punish_repetition(logits_V, history.ids, config.repetition_penalty)
    if config.frequency_penalty or config.presence_penalty:
        logits_V = subtract_counts(
            logits_V, history.ids, config.frequency_penalty or 0.0, config.presence_penalty or 0.0
        )
    if config.no_repeat_ngram is not None or config.dry_multiplier is not None:
        if not history.costs:  # a guided text asks twice
            history.costs.update(_costs_of_repetition(history, config))
        logits_V = _added(logits_V, history.costs)
    return logits_V


def _costs_of_repetition(history: History, config: SamplingConfig) -> dict[int, float]:
    """Return what n-grams and DRY add to logits."""
    costs: dict[int, float] = {}
    if config.dry_multiplier is not None:
        free = config.dry_allowed_length or history.free
        costs |= longer_repetitions(history.ids, config.dry_multiplier, config.dry_base, free, history.breakers)
    if config.no_repeat_ngram is not None:
        costs |= dict.fromkeys(ngram_ends(history.ids, config.no_repeat_ngram), -math.inf)
    return costs


def add_bias(logits_V: Logits, bias: Mapping[int, float]) -> Logits:
    """Add to the logits of some tokens; at -100 a token is left out, and ids beyond the vocabulary mean nothing."""
    known = {id_: value for id_, value in bias.items() if 0 <= id_ < len(logits_V)}
    return _added(logits_V, {id_: value if value > -100 else -math.inf for id_, value in known.items()})


def _added(logits_V: Logits, more: Mapping[int, float]) -> Logits:
    """The logits with something added to those of some tokens."""
    if not more:
        return logits_V
    changed_V = logits_V.copy()
    changed_V[list(more)] += list(more.values())
    return changed_V


def punish_repetition(logits_V: Logits, ids: Sequence[int], penalty: float) -> Logits:
    """Divide the positive logits of what was written by ``penalty``, multiply the negative ones.

    Source: CTRL (arXiv 1909.05858), as transformers has it.
    """
    if not ids:
        return logits_V
    seen, changed_V = sorted(set(ids)), logits_V.copy()
    changed_V[seen] = np.where(logits_V[seen] > 0, logits_V[seen] / penalty, logits_V[seen] * penalty)
    return changed_V


def subtract_counts(logits_V: Logits, ids: Sequence[int], frequency: float, presence: float) -> Logits:
    """Subtract ``frequency`` for each time a token was written, and ``presence`` once.

    Source: the OpenAI API's definition.
    """
    return _added(logits_V, {id_: -frequency * count - presence for id_, count in Counter(ids).items()})


def ngram_ends(ids: Sequence[int], n: int) -> set[int]:
    """The tokens that would complete ``n`` tokens in a row which were written before."""
    if len(ids) < n:
        return set()
    ends_T = repeated_before(ids, n - 1) >= n - 1
    return set(np.asarray(ids)[ends_T].tolist())


def repeated_before(ids: Sequence[int], most: int, breakers: Collection[int] = frozenset()) -> Ids:
    """Return how many tokens before each of ``ids`` equal the last ones, ``most`` at most and back to a breaker, (T,)."""
    ids_T = np.asarray(ids, np.int64)
    matches_T, places = np.zeros(len(ids), np.int64), np.arange(1, len(ids))
    for size in range(1, min(most, len(ids) - 1) + 1):
        if ids[-size] in breakers:
            break
        places = places[places >= size]
        places = places[ids_T[places - size] == ids_T[-size]]
        if not len(places):
            break
        matches_T[places] = size
    return matches_T


def longer_repetitions(
    ids: Sequence[int], multiplier: float, base: float, free: int, breakers: Collection[int] = frozenset()
) -> dict[int, float]:
    """Return ``-multiplier * base ** (m - free)`` for what would lengthen a repetition of ``m`` tokens, m at least free.

    Source: DRY (text-generation-webui 5677), as llama.cpp has it.
    """
    matches_T = repeated_before(ids, _LONGEST_MATCH, breakers)
    longest: dict[int, int] = {}
    for place in np.flatnonzero(matches_T >= free).tolist():
        longest[ids[place]] = max(int(matches_T[place]), longest.get(ids[place], 0))
    return {id_: -multiplier * base ** (match - free) for id_, match in longest.items()}


def forbid(logits_V: Logits, ids: Collection[int]) -> Logits:
    """Leave out some tokens."""
    return _added(logits_V, dict.fromkeys(sorted(ids), -math.inf))


def drop_unusual(logits_V: Logits, ids: Collection[int]) -> Logits:
    """Leave out ``ids`` if together they have less than ``UNUSUAL`` of the probability."""
    kept_V = forbid(logits_V, ids)
    if not math.isfinite(kept_V.max()):
        return logits_V
    shares_V = np.exp(logits_V.astype(np.float64) - logits_V.max())
    return kept_V if shares_V[[*ids]].sum() < UNUSUAL * shares_V.sum() else logits_V


def filter_logits(logits_V: Logits, config: SamplingConfig) -> Logits:
    """The rules that know the logits alone, in their order: temperature, top-k, typical, top-p, min-p."""
    logits_V = heat(logits_V, config.temperature)
    if config.top_k is not None:
        logits_V = keep_top_k(logits_V, config.top_k)
    if config.typical_p is not None:
        logits_V = keep_typical(logits_V, config.typical_p)
    if config.top_p is not None:
        logits_V = keep_top_p(logits_V, config.top_p)
    if config.min_p is not None:
        logits_V = keep_min_p(logits_V, config.min_p)
    return logits_V


def heat(logits_V: Logits, temperature: float) -> Logits:
    """Divide by a positive temperature, the best logit at zero, so that a tiny temperature overflows nothing."""
    heated_V: Logits = (logits_V - logits_V.max()) / max(temperature, 1e-200)
    return heated_V


def keep_top_k(logits_V: Logits, k: int) -> Logits:
    """Keep exactly the ``k`` likeliest tokens (all, where there are fewer)."""
    kept_V = logits_V.copy()
    kept_V[_ranked(logits_V)[k:]] = -np.inf
    return kept_V


def keep_typical(logits_V: Logits, p: float) -> Logits:
    """Keep the fewest tokens, those first whose surprise is nearest to the mean surprise, that together reach ``p``.

    Source: Locally Typical Sampling (arXiv 2202.00666).
    """
    if p == 1:
        return logits_V
    surprise_V = -log_softmax(logits_V)
    shares_V = np.exp(-surprise_V)
    mean = np.multiply(shares_V, surprise_V, where=shares_V > 0, out=np.zeros_like(shares_V)).sum()
    return _keep_until(logits_V, np.abs(surprise_V - mean).argsort(kind="stable"), p)


def keep_top_p(logits_V: Logits, p: float) -> Logits:
    """Keep the fewest of the likeliest tokens whose probabilities together reach ``p``; at least one.

    Source: The Curious Case of Neural Text Degeneration (arXiv 1904.09751).
    """
    return logits_V if p == 1 else _keep_until(logits_V, _ranked(logits_V), p)


def _ranked(logits_V: Logits) -> Ids:
    """All tokens, the likeliest first."""
    return (-logits_V).argsort(kind="stable")


def _keep_until(logits_V: Logits, order_V: Ids, p: float) -> Logits:
    """Keep tokens in this order until their probabilities reach ``p``; at least one."""
    reached_V = np.exp(log_softmax(logits_V))[order_V].cumsum()
    kept_V = logits_V.copy()
    kept_V[order_V[1:][reached_V[:-1] >= p]] = -np.inf
    return kept_V


def keep_min_p(logits_V: Logits, p: float) -> Logits:
    """Keep tokens at least ``p`` times as likely as the likeliest.

    Source: Turning Up the Heat: Min-p Sampling (arXiv 2407.01082).
    """
    least = math.log(p) if p > 0 else -math.inf
    return np.where(logits_V < logits_V.max() + least, -np.inf, logits_V)


def draw(logits_V: Logits, u: float) -> int:
    """Return the token where the distribution function passes ``u``, uniform in [0, 1); never one that is left out."""
    cdf_V = np.exp(logits_V - logits_V.max()).cumsum()
    total = float(cdf_V[-1])
    return int(cdf_V.searchsorted(min(u * total, math.nextafter(total, 0)), "right"))
