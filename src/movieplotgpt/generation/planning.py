"""A plan before the plot: the model writes several for a title, and the plot follows the best of them.

A plan costs a tenth of a plot, so that choosing among sixteen is cheap where choosing among sixteen plots is not. The best
is the sound plan that the title makes likelier than no title does, the title's own words left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from movieplotgpt.engine.model_folder import TextModel
from movieplotgpt.generation.guidance import best, knows_no_title
from movieplotgpt.generation.plots import Plot, PlotRequest
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.settings import AUTO, NO_PLAN, SamplingConfig
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.plans import plan_parts

PLANS = 16
_CHARACTERS = 300  # of a plan at most: real ones have 45 to 170
_SAMPLING = SamplingConfig(
    guidance=1.0, end_bias=0.0, distinct_names=False, plan=NO_PLAN, stop=("\n",), max_tokens=_CHARACTERS
)


def wants_plan(request: PlotRequest) -> bool:
    """Whether a plan is written before the text: not where the prompt has one, or has begun the text."""
    prompt = request.prompt
    lines = prompt.header.splitlines()
    return (
        request.config.plan == AUTO
        and bool(lines)
        and not prompt.begun
        and not any(line.startswith(f"{PLAN}: ") for line in lines)
    )


def asking_for_plan(request: PlotRequest, model: TextModel) -> PlotRequest:
    """Return the request for the plan of a request's text; its candidates are the plans to choose from."""
    title, several = request.prompt.title, knows_no_title(model)
    sampling = _SAMPLING.model_copy(update={"best_of": PLANS if several else None})
    return PlotRequest(Prompt(model.format.plan_request(title), title=title), sampling, request.seed, of_plan=True)


def best_plan(plans: Sequence[Plot]) -> str:
    """Return the best of a request's plans; nothing where none is sound."""
    sound = [plan.finish_reason == "stop" and _is_sound(plan.text) for plan in plans]
    chosen = best([plan.title_gain or 0.0 for plan in plans], sound)
    return plans[chosen].text.strip() if sound[chosen] else ""


def _is_sound(plan: str) -> bool:
    """Whether a plan has names and words, each once."""
    names, words = plan_parts(plan)
    said = [word for item in (*names, *words) for word in re.findall(r"\w+", item.casefold())]
    return bool(names and words) and len(said) == len(set(said))
