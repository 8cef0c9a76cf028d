"""Do plots follow their plans? Which of the planned names and words appear, and how good the drafted plans are.

    python benchmarks/plans.py --data data/plots-large --model plots-large --out results/benchmarks/plans.json

Plots for held-out titles: from the real plot's plan, from that plan with its first name replaced by an invented one, and
from the plan the model drafts. The real plot's plan needs a corpus prepared with plans.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from machine import keep, machine, settings_of
from movieplotgpt import PlotGenerator
from movieplotgpt.generation.planning import best_plan, plan_request
from movieplotgpt.progress_bars import stage_bars
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.plans import lay_out_plan, plan_parts
from movieplotgpt.text.token_files import PreparedCorpus

INVENTED = ("Zelda", "Quentin", "Ottilie", "Barnabas", "Philippa")


def main() -> None:
    """Write plots from plans, count what of the plans appears in them, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a corpus prepared with plans")
    parser.add_argument("--model", default="plots-large")
    parser.add_argument("--plots", type=int, default=100)
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    split = PreparedCorpus.load(arguments.data).split("test")
    rows = [i for i, hints in enumerate(split.hints) if plan_parts(hints.get(PLAN, ""))[0]][: arguments.plots]
    titles, plans = [split.titles[i] for i in rows], [split.hints[i][PLAN] for i in rows]
    generator = PlotGenerator.load(arguments.model)
    edited = [with_first_name(plan, INVENTED[i % len(INVENTED)]) for i, plan in enumerate(plans)]
    asked = generator.requests(titles, seed=1_000_000)
    found: dict[str, Any] = {}
    with stage_bars() as progress:
        drafts = generator._candidates([plan_request(request, generator.checkpoint) for request in asked])
        drafted = [best_plan(each) for each in drafts]
        found["drafts: a valid one among 16"] = float(np.mean([bool(plan) for plan in drafted]))
        for name, given in (("real plan", plans), ("first name replaced", edited), ("drafted plan", drafted)):
            texts = []
            for k, (title, plan) in enumerate(zip(titles, given, strict=True)):
                texts.append(generator.plot(title, plan=plan or "none", seed=1_000_000 + k).text)
                progress(name, len(texts), len(titles))
            parts = [plan_parts(plan) for plan in given]
            found[f"{name}: names that appear"] = share([names for names, _ in parts], texts)
            found[f"{name}: words that appear"] = share([words for _, words in parts], texts)
            found[f"{name}: first name appears"] = share([names[:1] for names, _ in parts], texts)
    for name, value in found.items():
        print(f"{name}: {value:.3f}")
    keep(arguments.out, {"settings": settings_of(arguments), "rows": found})


def with_first_name(plan: str, name: str) -> str:
    """Return the plan with its first name replaced."""
    names, words = plan_parts(plan)
    return lay_out_plan([name, *names[1:]], words)


def share(wanted: Sequence[Sequence[str]], texts: Sequence[str]) -> float:
    """Return which share of the wanted items their texts contain; of a name in several words, one suffices."""
    hits = [
        any(re.search(rf"\b{re.escape(word)}\b", text) for word in item.split())
        for items, text in zip(wanted, texts, strict=True)
        for item in items
    ]
    return float(np.mean(hits))


if __name__ == "__main__":
    main()
