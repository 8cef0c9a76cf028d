"""Plan first, then write: the model drafts several plans for a title, and the plot follows the best one.

A plan has a tenth of a plot's tokens, so choosing the best of 16 is cheap. The best is the valid plan whose likelihood gains
most from the title, compared with an empty title; the title's own words do not count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from movieplotgpt.engine.model_folder import TextModel
from movieplotgpt.generation.candidates import best
from movieplotgpt.generation.guidance import knows_no_title
from movieplotgpt.generation.plots import Plot, PlotRequest
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.settings import AUTO, NO_PLAN, SamplingConfig
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.plans import MOST_ITEMS, plan_parts

PLANS = 16
_MAX_TOKENS = 120  # real plans have 45 to 170 characters
_GUIDANCE = 1.5
_SAMPLING = SamplingConfig(
    temperature=0.9,
    min_p=0.05,
    guidance=1.0,
    end_bias=0.0,
    distinct_names=False,
    plan=NO_PLAN,
    stop=("\n",),
    max_tokens=_MAX_TOKENS,
)


def wants_plan(request: PlotRequest) -> bool:
    """Return whether a plan is to be drafted: not if the prompt already has one or has begun the text."""
    prompt = request.prompt
    lines = prompt.header.splitlines()
    return (
        request.config.plan == AUTO
        and bool(lines)
        and not prompt.begun
        and not any(line.startswith(f"{PLAN}: ") for line in lines)
    )


def plan_request(request: PlotRequest, model: TextModel) -> PlotRequest:
    """Return the request for a plan; its candidates are the drafts to choose from."""
    title, several = request.prompt.title, knows_no_title(model)
    by_title = {"best_of": PLANS, "guidance": _GUIDANCE, "guidance_characters": None} if several else {}
    sampling = _SAMPLING.model_copy(update=by_title)
    return PlotRequest(Prompt(model.format.plan_request(title), title=title), sampling, request.seed, of_plan=True)


def best_plan(plans: Sequence[Plot]) -> str:
    """Return the best draft, or an empty string if none is valid."""
    valid = [plan.finish_reason == "stop" and _is_valid(plan.text) for plan in plans]
    gains = [(plan.title_gain or 0.0) * plan.tokens for plan in plans]  # summed: how well the plan identifies the title
    chosen = best(gains, valid)
    return plans[chosen].text.strip() if valid[chosen] else ""


def _is_valid(plan: str) -> bool:
    """Return whether a plan has a few names and words and repeats none of them."""
    names, words = plan_parts(plan)
    if not (0 < len(names) <= MOST_ITEMS and 0 < len(words) <= MOST_ITEMS and all(map(str.isalpha, words))):
        return False
    each = [word for item in (*names, *words) for word in re.findall(r"\w+", item.casefold())]
    return len(each) == len(set(each))
