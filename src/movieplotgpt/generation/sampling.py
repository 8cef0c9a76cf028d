"""From logits to the next token: one small function per rule, composed in one place, and one draw.

The rules work in float64 on the CPU, so that every device and every door draws alike. Where tokens tie, the lower id is
the more probable one. Shapes: B batch, V vocabulary; a token that a rule leaves out has the logit -inf.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from movieplotgpt.errors import CheckpointError
from movieplotgpt.generation.settings import SamplingConfig

PLAUSIBLE = 0.02  # of the likeliest token's probability: what the title alone would hardly write, guidance does not
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
    logits_BV: Tensor,
    config: SamplingConfig,
    randoms: Sequence[np.random.Generator],
    histories: Sequence[History] = (),
    guided_BV: Tensor | None = None,
) -> list[Chosen]:
    """The next token of each text; ``randoms`` holds the generator of each, which moves on by one number.

    ``guided_BV`` are logits to draw from in place of the texts' own logits, which then say what is plausible.

    Raises:
        CheckpointError: the logits are no numbers, as those of damaged weights.
    """
    if not bool(logits_BV.amax(-1).isfinite().all()):
        raise CheckpointError("the model computes logits that are no numbers; its weights are damaged, get them again")
    u_B = torch.tensor([random.random() for random in randoms], dtype=torch.float64)
    ruled_BV = punish(logits_BV, config, histories)
    if guided_BV is not None:
        ruled_BV = _guided(ruled_BV, logits_BV, guided_BV, config, histories)
    some_BM, ids_BM = shortlist(ruled_BV, config)
    if config.temperature == 0:
        places_B, filtered_BM = some_BM.argmax(-1), some_BM
    else:
        filtered_BM = filter_logits(some_BM, config)
        places_B = draw(filtered_BM, u_B)
    ids = ids_BM.gather(-1, places_B[:, None])[:, 0]
    doubts = [0.0] * len(ids)
    if config.avoid_copies is not None:
        doubts = (1 - ruled_BV.double().softmax(-1).gather(-1, ids[:, None])[:, 0]).tolist()
    if config.logprobs is None:
        return [Chosen(id_, doubt) for id_, doubt in zip(ids.tolist(), doubts, strict=True)]
    logits_BV = logits_BV.double()
    logprobs_BV = logits_BV.log_softmax(-1)
    others = [likeliest(row_V, config.logprobs) for row_V in logprobs_BV]
    own = logprobs_BV.gather(-1, ids[:, None])[:, 0].tolist()
    return [Chosen(*parts) for parts in zip(ids.tolist(), doubts, own, others, strict=True)]


def _guided(
    own_BV: Tensor, logits_BV: Tensor, guided_BV: Tensor, config: SamplingConfig, histories: Sequence[History]
) -> Tensor:
    """Guided logits by the same rules, of what is plausible or wished for; where nothing of that is left, the own ones."""
    allowed_BV = logits_BV >= logits_BV.amax(-1, keepdim=True) + math.log(PLAUSIBLE)
    for row, history in enumerate(histories):
        if history.bias:
            allowed_BV[row, list(history.bias)] = True
    ruled_BV = punish(guided_BV.to("cpu", torch.float64), config, histories).masked_fill(~allowed_BV, -math.inf)
    return torch.where(ruled_BV.amax(-1, keepdim=True).isfinite(), ruled_BV, own_BV.double())


def shortlist(logits_BV: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor]:
    """The tokens that no filter will leave out, in float64, and their ids: (B, M) each, in the order of ids.

    Where min-p alone decides, or with top-k, these are few, and the rules need not look at the others.
    """
    min_p = config.min_p if config.temperature > 0 and config.top_p is None and config.typical_p is None else None
    if not min_p:
        return logits_BV.double(), torch.arange(logits_BV.shape[-1]).expand_as(logits_BV)
    least_B1 = logits_BV.amax(-1, keepdim=True) + (config.temperature * math.log(min_p) - _SLACK)
    rows, ids = (logits_BV >= least_B1).nonzero(as_tuple=True)
    if len(logits_BV) == 1:
        return logits_BV[:, ids].double(), ids[None]
    counts_B = rows.bincount(minlength=len(logits_BV))
    places = torch.arange(len(rows)) - (counts_B.cumsum(0) - counts_B)[rows]
    some_BM = torch.full((len(logits_BV), int(counts_B.max())), -math.inf, dtype=torch.float64)
    some_BM[rows, places] = logits_BV[rows, ids].double()
    return some_BM, torch.zeros_like(some_BM, dtype=torch.long).index_put_((rows, places), ids)


def likeliest(logprobs_V: Tensor, k: int) -> list[tuple[int, float]]:
    """The ``k`` likeliest tokens with their log-probabilities, the best first."""
    order = logprobs_V.argsort(descending=True, stable=True)[:k].tolist()
    return [(i, float(logprobs_V[i])) for i in order]


def punish(logits_BV: Tensor, config: SamplingConfig, histories: Sequence[History]) -> Tensor:
    """The rules that know the text so far, in their order: bias, penalties, n-grams, DRY, what is forbidden.

    Where they would forbid every token, what the model alone says stands.
    """
    ruled_BV = logits_BV
    if _has_rules(config) or any(history.bias for history in histories):
        each = histories or [History()] * len(logits_BV)
        rows = [_punish_one(*row, config) for row in zip(logits_BV.double(), each, strict=True)]
        ruled_BV = torch.stack(rows)
    places = [(row, id_) for row, history in enumerate(histories) for id_ in history.forbidden]
    if places:
        ruled_BV = ruled_BV.index_put(tuple(torch.tensor(places).T), ruled_BV.new_tensor(-math.inf))
    if ruled_BV is logits_BV:
        return logits_BV
    return torch.where(ruled_BV.amax(-1, keepdim=True).isfinite(), ruled_BV, logits_BV.to(ruled_BV.dtype))


def _has_rules(config: SamplingConfig) -> bool:
    rules = (config.repetition_penalty, config.frequency_penalty, config.presence_penalty)
    return bool(config.logit_bias or config.no_repeat_ngram or config.dry_multiplier or any(rules))


def _punish_one(logits_V: Tensor, history: History, config: SamplingConfig) -> Tensor:
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
    return add_bias(logits_V, history.bias)


def add_bias(logits_V: Tensor, bias: Mapping[int, float]) -> Tensor:
    """Add to the logits of some tokens; at -100 a token is left out, and ids beyond the vocabulary mean nothing."""
    known = {id_: value for id_, value in bias.items() if 0 <= id_ < len(logits_V)}
    if not known:
        return logits_V
    added = [value if value > -100 else -math.inf for value in known.values()]
    return logits_V.index_add(0, torch.tensor(list(known)), torch.tensor(added, dtype=logits_V.dtype))


def punish_repetition(logits_V: Tensor, ids: Sequence[int], penalty: float) -> Tensor:
    """Divide the positive logits of what was written by ``penalty``, multiply the negative ones.

    Source: CTRL (arXiv 1909.05858), as transformers has it.
    """
    if not ids:
        return logits_V
    seen = torch.tensor(sorted(set(ids)))
    old = logits_V[seen]
    return logits_V.index_copy(0, seen, torch.where(old > 0, old / penalty, old * penalty))


def subtract_counts(logits_V: Tensor, ids: Sequence[int], frequency: float, presence: float) -> Tensor:
    """Subtract ``frequency`` for each time a token was written, and ``presence`` once.

    Source: the OpenAI API's definition.
    """
    counts = Counter(ids)
    if not counts:
        return logits_V
    less = torch.tensor([-frequency * count - presence for count in counts.values()], dtype=logits_V.dtype)
    return logits_V.index_add(0, torch.tensor(list(counts)), less)


def ngram_ends(ids: Sequence[int], n: int) -> set[int]:
    """The tokens that would complete ``n`` tokens in a row which were written before."""
    last = tuple(ids[len(ids) - n + 1 :])
    if len(last) < n - 1:
        return set()
    return {ids[i + n - 1] for i in range(len(ids) - n + 1) if tuple(ids[i : i + n - 1]) == last}


def punish_longer_repetitions(
    logits_V: Tensor,
    ids: Sequence[int],
    multiplier: float,
    base: float,
    free: int,
    breakers: Collection[int] = frozenset(),
) -> Tensor:
    """Subtract ``multiplier * base ** (m - free)`` from what would lengthen a repetition of ``m`` tokens, m at least free.

    Source: DRY (text-generation-webui 5677), as llama.cpp has it.
    """
    longest: dict[int, int] = {}
    for end in range(1, len(ids)):
        match = _shared_end(ids, end, breakers)
        if match >= free and match > longest.get(ids[end], 0):
            longest[ids[end]] = match
    if not longest:
        return logits_V
    less = [-multiplier * base ** (match - free) for match in longest.values()]
    return logits_V.index_add(0, torch.tensor(list(longest)), torch.tensor(less, dtype=logits_V.dtype))


def _shared_end(ids: Sequence[int], end: int, breakers: Collection[int]) -> int:
    """How many tokens before ``end`` are the last ones of ``ids``, back to a breaker."""
    match = 0
    while match < min(end, _LONGEST_MATCH) and ids[end - 1 - match] == ids[-1 - match]:
        if ids[-1 - match] in breakers:
            break
        match += 1
    return match


def forbid(logits_V: Tensor, ids: Collection[int]) -> Tensor:
    """Leave out some tokens."""
    return logits_V.index_fill(0, torch.tensor(sorted(ids)), -math.inf) if ids else logits_V


def filter_logits(logits_BV: Tensor, config: SamplingConfig) -> Tensor:
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


def heat(logits_BV: Tensor, temperature: float) -> Tensor:
    """Divide by a positive temperature, the best logit at zero, so that a tiny temperature overflows nothing."""
    return (logits_BV - logits_BV.amax(-1, keepdim=True)) / temperature


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """Keep exactly the ``k`` likeliest tokens (all, where there are fewer)."""
    if k >= logits_BV.shape[-1]:
        return logits_BV
    order_BV = logits_BV.argsort(dim=-1, descending=True, stable=True)
    return logits_BV.scatter(-1, order_BV[:, k:], -math.inf)


def keep_typical(logits_BV: Tensor, p: float) -> Tensor:
    """Keep the fewest tokens, those first whose surprise is nearest to the mean surprise, that together reach ``p``.

    Source: Locally Typical Sampling (arXiv 2202.00666).
    """
    if p == 1:
        return logits_BV
    logprobs_BV = logits_BV.log_softmax(-1)
    surprise_BV = -logprobs_BV
    mean_B1 = (logprobs_BV.exp() * surprise_BV).nansum(-1, keepdim=True)
    order_BV = (surprise_BV - mean_B1).abs().argsort(dim=-1, stable=True)
    return _keep_until(logits_BV, order_BV, p)


def keep_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """Keep the fewest of the likeliest tokens whose probabilities together reach ``p``; at least one.

    Source: The Curious Case of Neural Text Degeneration (arXiv 1904.09751).
    """
    if p == 1:
        return logits_BV
    return _keep_until(logits_BV, logits_BV.argsort(dim=-1, descending=True, stable=True), p)


def _keep_until(logits_BV: Tensor, order_BV: Tensor, p: float) -> Tensor:
    """Keep tokens in this order until their probabilities reach ``p``; at least one."""
    sorted_BV = logits_BV.gather(-1, order_BV)
    before_BV = logits_BV.softmax(-1).gather(-1, order_BV).cumsum(-1).roll(1, -1)
    before_BV[:, 0] = 0
    return logits_BV.scatter(-1, order_BV, sorted_BV.masked_fill(before_BV >= p, -math.inf))


def keep_min_p(logits_BV: Tensor, p: float) -> Tensor:
    """Keep tokens at least ``p`` times as likely as the likeliest.

    Source: Turning Up the Heat: Min-p Sampling (arXiv 2407.01082).
    """
    least = math.log(p) if p > 0 else -math.inf
    return logits_BV.masked_fill(logits_BV < logits_BV.amax(-1, keepdim=True) + least, -math.inf)


def draw(logits_BV: Tensor, u_B: Tensor) -> Tensor:
    """The token where the distribution function passes ``u_B``, uniform in [0, 1); never one that is left out."""
    cdf_BV = (logits_BV - logits_BV.amax(-1, keepdim=True)).exp().cumsum(-1)
    total_B = cdf_BV[:, -1]
    point_B = torch.minimum(u_B * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
    return torch.searchsorted(cdf_BV, point_B[:, None], right=True)[:, 0]
