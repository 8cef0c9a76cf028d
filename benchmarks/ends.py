"""Does a model expect the ends of texts where they are? Expected ends beside true ones, by the length of the text so far.

    python benchmarks/ends.py --data data/plots-bpe --models plots-bpe plots-large --out results/benchmarks/ends.json

Each document of the validation split is read by the engine behind its header, as far as the context reaches; the
probability of the end token at each place, added up, is the number of ends that the model expects there. The bias is what
must be added to the logit of the end for as many ends as there are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from machine import keep, machine, settings_of
from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.engine.session import Engine
from movieplotgpt.evaluation.held_out import draw_documents
from movieplotgpt.generation.sampling import log_softmax
from movieplotgpt.progress_bars import stage_bars
from movieplotgpt.text.token_files import PreparedCorpus

BIN = 100  # tokens


def fitted_bias(odds: np.ndarray, ends: int) -> float:
    """Return the bias at which as many ends are expected as there are; ``odds`` of the end at each place, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(60):
        bias = (low + high) / 2
        raised = odds * np.exp(bias)
        low, high = (bias, high) if (raised / (1 + raised)).sum() < ends else (low, bias)
    return bias


def main() -> None:
    """Read, add up, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a prepared corpus")
    parser.add_argument("--models", nargs="+", default=["plots-large", "plots-bpe"])
    parser.add_argument("--documents", type=int, default=200, help="of the validation split, drawn at random")
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    corpus = PreparedCorpus.load(arguments.data)
    part = corpus.split("validation")
    rows = draw_documents(part, arguments.documents, 0).tolist()
    texts = [(corpus.format.sentence(part.titles[i]), corpus.tokenizer.decode(part.body(i))) for i in rows]
    found = {}
    for name in arguments.models:
        model = load_folder(name)
        engine, end_id, context = Engine(model), model.tokenizer.end_id, model.config.context_length
        expected, true, odds = np.zeros(context // BIN + 1), np.zeros(context // BIN + 1), []
        with stage_bars() as progress:
            for done, (header, body) in enumerate(texts, start=1):
                before = model.tokenizer.encode(header).tolist()
                ids = [end_id, *before, *model.tokenizer.encode(body).tolist(), end_id][: context + 1]
                shares_T = np.exp(log_softmax(engine.logits(ids[:-1]))[len(before) :, end_id])
                places_T = np.arange(len(shares_T)) // BIN
                np.add.at(expected, places_T, shares_T)
                true[places_T[-1]] += ids[-1] == end_id
                odds.append(shares_T / (1 - shares_T))
                progress(name, done, len(texts))
        bias = fitted_bias(np.concatenate(odds), int(true.sum()))
        found[name] = {"expected": expected.tolist(), "true": true.tolist(), "bias": bias}
        cells = (f"{e:.1f}/{t:.0f}" for e, t in zip(expected, true, strict=True))
        print(f"{name}: expected/true per {BIN} tokens {' '.join(cells)}; bias for as many {bias:+.2f}", flush=True)
    keep(arguments.out, {"settings": settings_of(arguments), "documents": len(texts), "models": found})


if __name__ == "__main__":
    main()
