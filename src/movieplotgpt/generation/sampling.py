"""From logits to the next token: one small function per rule, composed in one place, and one draw.

The rules work in float64, so that every door draws alike. Where tokens tie, the lower id is the more probable one.
Shapes: B batch, V vocabulary, M tokens of a short list; a token that a rule leaves out has the logit -inf.
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
_SLACK = 1e-3  # more than float32 rounds logits by
_LONGEST_MATCH = 50  # tokens of a repetition that DRY looks at: its penalty is beyond all logits long before


@dataclass(frozen=True)
class History:
    """What the rules know of one text.

    ``ids`` are the tokens of its body so far; ``forbidden`` those that may not come next; ``breakers`` the tokens across
    which DRY sees no repetition; ``free`` how many tokens may repeat before it does; ``bias`` is added to some logits.
    """

    ids: Sequence[int] = ()
    forbidden: Collection[int] = ()
    breakers: Collection[int] = frozenset()
    free: int = 5
    bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
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
    logits_BV: Logits,
    config: SamplingConfig,
    randoms: Sequence[np.random.Generator],
    histories: Sequence[History] = (),
    guided_BV: Logits | None = None,
) -> list[Chosen]:
    """Return the next token of each text; ``randoms`` holds the generator of each, which moves on by one number.

    ``guided_BV`` are logits to draw from in place of the texts' own logits, which then say what is plausible.

    Raises:
        CheckpointError: a text's logits are all NaN or infinite, as those of damaged weights.
    """
    if not np.isfinite(logits_BV.max(-1)).all():
        raise CheckpointError("the model's logits are NaN or infinite; its weights are damaged, get them again")
    u_B = np.array([random.random() for random in randoms])
    ruled_BV = punish(logits_BV, config, histories)
    if guided_BV is not None:
        ruled_BV = _guided(ruled_BV, logits_BV, guided_BV, config, histories)
    some_BM, ids_BM = shortlist(ruled_BV, config)
    places_B = some_BM.argmax(-1) if config.temperature == 0 else draw(filter_logits(some_BM, config), u_B)
    ids_B = np.take_along_axis(ids_BM, places_B[:, None], -1)[:, 0]
    doubts = [0.0] * len(ids_B)
    if config.avoid_copies is not None:
        doubts = (1 - np.exp(np.take_along_axis(log_softmax(ruled_BV), ids_B[:, None], -1)[:, 0])).tolist()
    if config.logprobs is None:
        return [Chosen(id_, doubt) for id_, doubt in zip(ids_B.tolist(), doubts, strict=True)]
    logprobs_BV = log_softmax(logits_BV)
    others = [likeliest(row_V, config.logprobs) for row_V in logprobs_BV]
    own = np.take_along_axis(logprobs_BV, ids_B[:, None], -1)[:, 0].tolist()
    return [Chosen(*parts) for parts in zip(ids_B.tolist(), doubts, own, others, strict=True)]


def log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Return log-probabilities over the last dimension, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    logprobs: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logprobs


def _guided(
    own_BV: Logits, logits_BV: Logits, guided_BV: Logits, config: SamplingConfig, histories: Sequence[History]
) -> Logits:
    """Guided logits by the same rules, of what is plausible or wished for; where nothing of that is left, the own ones."""
    allowed_BV = np.zeros(logits_BV.shape, bool)
    for each_BV in (logits_BV, own_BV):  # a token may be plausible for what the rules add to it
        allowed_BV |= each_BV >= each_BV.max(-1, keepdims=True) + math.log(PLAUSIBLE)
    ruled_BV = np.where(allowed_BV, punish(guided_BV, config, histories), -np.inf)
    return np.where(np.isfinite(ruled_BV.max(-1, keepdims=True)), ruled_BV, own_BV)


def shortlist(logits_BV: Logits, config: SamplingConfig) -> tuple[Logits, Ids]:
    """Return the tokens that no filter will leave out, in float64, and their ids: (B, M) each, in the order of ids.

    Where min-p alone decides, or with top-k, these are few, and the rules need not look at the others.
    """
    min_p = config.min_p if config.temperature > 0 and config.top_p is None and config.typical_p is None else None
    if not min_p:
        ids_V = np.arange(logits_BV.shape[-1])
        return logits_BV.astype(np.float64), np.broadcast_to(ids_V, logits_BV.shape)
    below = max(config.temperature * math.log(min_p) - _SLACK, -1e30)  # what overflows float32 is all the same
    least_B1 = logits_BV.max(-1, keepdims=True) + below
    rows, ids = (logits_BV >= least_B1).nonzero()
    counts_B = np.bincount(rows, minlength=len(logits_BV))
    places = np.arange(len(rows)) - np.repeat(counts_B.cumsum() - counts_B, counts_B)
    some_BM = np.full((len(logits_BV), counts_B.max()), -np.inf)
    ids_BM = np.zeros(some_BM.shape, np.int64)
    some_BM[rows, places], ids_BM[rows, places] = logits_BV[rows, ids], ids
    return some_BM, ids_BM


def likeliest(logprobs_V: Logits, k: int) -> list[tuple[int, float]]:
    """Return the ``k`` likeliest tokens with their log-probabilities, the best first."""
    order = (-logprobs_V).argsort(kind="stable")[:k].tolist()
    return [(i, float(logprobs_V[i])) for i in order]


def punish(logits_BV: Logits, config: SamplingConfig, histories: Sequence[History]) -> Logits:
    """Apply the rules that know the text so far, in their order: bias, penalties, n-grams, DRY, what is forbidden.

    Where they would forbid every token, what the model alone says stands.
    """
    rules, biased = _has_rules(config), any(history.bias for history in histories)
    if not rules and not biased and not any(history.forbidden for history in histories):
        return logits_BV
    ruled_BV = logits_BV.astype(np.float64) if rules or biased else logits_BV.copy()
    for row, history in enumerate(histories or [History()] * len(ruled_BV)):
        if rules:
            ruled_BV[row] = _punish_one(ruled_BV[row], history, config)
        if history.bias:
            ruled_BV[row] = add_bias(ruled_BV[row], history.bias)
        ruled_BV[row, [*history.forbidden]] = -np.inf
    left_B1 = np.isfinite(ruled_BV.max(-1, keepdims=True))
    return ruled_BV if left_B1.all() else np.where(left_B1, ruled_BV, logits_BV)


def _has_rules(config: SamplingConfig) -> bool:
    rules = (config.repetition_penalty, config.frequency_penalty, config.presence_penalty)
    return bool(config.logit_bias or config.no_repeat_ngram or config.dry_multiplier or any(rules))


def _punish_one(logits_V: Logits, history: History, config: SamplingConfig) -> Logits:
    logits_V = add_bias(logits_V, config.logit_bias)
    if config.repetition_penalty is not None:
        logits_V = punish_repetition(logits_V, history.ids, config.repetition_penalty)
    if config.frequency_penalty or config.presence_penalty:
        logits_V = subtract_counts(
            logits_V, history.ids, config.frequency_penalty or 0.0, config.presence_penalty or 0.0
        )
    if config.no_repeat_ngram is not None:
        logits_V = forbid(logits_V, ngram_ends(history.ids, config.no_repeat_ngram))
    if config.dry_multiplier is not None:
        free = config.dry_allowed_length or history.free
        logits_V = punish_longer_repetitions(
            logits_V, history.ids, config.dry_multiplier, config.dry_base, free, history.breakers
        )
    return logits_V


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
    last = tuple(ids[len(ids) - n + 1 :])
    if len(last) < n - 1:
        return set()
    return {ids[i + n - 1] for i in range(len(ids) - n + 1) if tuple(ids[i : i + n - 1]) == last}


def punish_longer_repetitions(
    logits_V: Logits,
    ids: Sequence[int],
    multiplier: float,
    base: float,
    free: int,
    breakers: Collection[int] = frozenset(),
) -> Logits:
    """Subtract ``multiplier * base ** (m - free)`` from what would lengthen a repetition of ``m`` tokens, m at least free.

    Source: DRY (text-generation-webui 5677), as llama.cpp has it.
    """
    longest: dict[int, int] = {}
    for end in range(1, len(ids)):
        match = _shared_end(ids, end, breakers)
        if match >= free and match > longest.get(ids[end], 0):
            longest[ids[end]] = match
    return _added(logits_V, {id_: -multiplier * base ** (match - free) for id_, match in longest.items()})


def _shared_end(ids: Sequence[int], end: int, breakers: Collection[int]) -> int:
    """How many tokens before ``end`` are the last ones of ``ids``, back to a breaker."""
    match = 0
    while match < min(end, _LONGEST_MATCH) and ids[end - 1 - match] == ids[-1 - match]:
        if ids[-1 - match] in breakers:
            break
        match += 1
    return match


def forbid(logits_V: Logits, ids: Collection[int]) -> Logits:
    """Leave out some tokens."""
    return _added(logits_V, dict.fromkeys(sorted(ids), -math.inf))


def filter_logits(logits_BV: Logits, config: SamplingConfig) -> Logits:
    """The rules that know the logits alone, in their order: temperature, top-k, typical, top-p, min-p."""
    logits_BV = heat(logits_BV, config.temperature)
    if config.top_k is not None:
        logits_BV = keep_top_k(logits_BV, config.top_k)
    if config.typical_p is not None:
        logits_BV = keep_typical(logits_BV, config.typical_p)
    if config.top_p is not None:
        logits_BV = keep_top_p(logits_BV, config.top_p)
    if config.min_p is not None:
        logits_BV = keep_min_p(logits_BV, config.min_p)
    return logits_BV


def heat(logits_BV: Logits, temperature: float) -> Logits:
    """Divide by a positive temperature, the best logit at zero, so that a tiny temperature overflows nothing."""
    with np.errstate(over="ignore"):
        heated_BV: Logits = (logits_BV - logits_BV.max(-1, keepdims=True)) / temperature
    return heated_BV


def keep_top_k(logits_BV: Logits, k: int) -> Logits:
    """Keep exactly the ``k`` likeliest tokens (all, where there are fewer)."""
    if k >= logits_BV.shape[-1]:
        return logits_BV
    kept_BV = logits_BV.copy()
    np.put_along_axis(kept_BV, (-logits_BV).argsort(axis=-1, kind="stable")[:, k:], -np.inf, -1)
    return kept_BV


def keep_typical(logits_BV: Logits, p: float) -> Logits:
    """Keep the fewest tokens, those first whose surprise is nearest to the mean surprise, that together reach ``p``.

    Source: Locally Typical Sampling (arXiv 2202.00666).
    """
    if p == 1:
        return logits_BV
    surprise_BV = -log_softmax(logits_BV)
    shares_BV = np.exp(-surprise_BV)
    mean_B1 = np.multiply(shares_BV, surprise_BV, where=shares_BV > 0, out=np.zeros_like(shares_BV)).sum(
        -1, keepdims=True
    )
    return _keep_until(logits_BV, np.abs(surprise_BV - mean_B1).argsort(axis=-1, kind="stable"), p)


def keep_top_p(logits_BV: Logits, p: float) -> Logits:
    """Keep the fewest of the likeliest tokens whose probabilities together reach ``p``; at least one.

    Source: The Curious Case of Neural Text Degeneration (arXiv 1904.09751).
    """
    return logits_BV if p == 1 else _keep_until(logits_BV, (-logits_BV).argsort(axis=-1, kind="stable"), p)


def _keep_until(logits_BV: Logits, order_BV: Ids, p: float) -> Logits:
    """Keep tokens in this order until their probabilities reach ``p``; at least one."""
    shares_BV = np.take_along_axis(np.exp(log_softmax(logits_BV)), order_BV, -1)
    before_BV = np.roll(shares_BV.cumsum(-1), 1, -1)
    before_BV[:, 0] = 0
    kept_BV = logits_BV.copy()
    np.put_along_axis(
        kept_BV, order_BV, np.where(before_BV >= p, -np.inf, np.take_along_axis(logits_BV, order_BV, -1)), -1
    )
    return kept_BV


def keep_min_p(logits_BV: Logits, p: float) -> Logits:
    """Keep tokens at least ``p`` times as likely as the likeliest.

    Source: Turning Up the Heat: Min-p Sampling (arXiv 2407.01082).
    """
    least = math.log(p) if p > 0 else -math.inf
    return np.where(logits_BV < logits_BV.max(-1, keepdims=True) + least, -np.inf, logits_BV)


def draw(logits_BV: Logits, u_B: npt.NDArray[np.float64]) -> Ids:
    """Return the token where the distribution function passes ``u_B``, uniform in [0, 1); never one that is left out."""
    cdf_BV = np.exp(logits_BV - logits_BV.max(-1, keepdims=True)).cumsum(-1)
    point_B = np.minimum(u_B * cdf_BV[:, -1], np.nextafter(cdf_BV[:, -1], 0))
    passed_B: Ids = (cdf_BV > point_B[:, None]).argmax(-1)
    return passed_B
