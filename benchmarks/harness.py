"""A second opinion on likelihoods: EleutherAI's lm-evaluation-harness on the same checkpoint and the same documents.

    python -m venv harness && harness/bin/pip install 'movieplotgpt[evaluate]' 'lm-eval[hf]'   # an environment of its own
    harness/bin/python benchmarks/harness.py --data data/plots-bpe --out results/benchmarks/harness.json

Held-out documents of the test split that fit one context: the harness is asked for the log-likelihood of body and end marker
behind the sentence with the title, and told nothing of our code; beside it stands what `movieplotgpt evaluate` sums.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import math
from pathlib import Path

import numpy as np

from machine import keep, machine, settings_of
from movieplotgpt.evaluation.held_out import read_held_out
from movieplotgpt.model.checkpoints import load_checkpoint
from movieplotgpt.text.token_files import PreparedCorpus


def main() -> None:
    """Score by either, tell the largest difference, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="plots-bpe")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.model)
    held_out = read_held_out(checkpoint, PreparedCorpus.load(arguments.data), "test", 4 * arguments.documents)
    ours = held_out.score(checkpoint, held_out.titles, None).body
    room = checkpoint.config.context_length - 60
    rows = [i for i, body in enumerate(held_out.bodies) if len(body) < room][: arguments.documents]
    form, decode = checkpoint.format, checkpoint.tokenizer.decode
    asked = [(form.sentence(held_out.titles[i]), decode(held_out.bodies[i]) + form.end) for i in rows]
    theirs = -np.array(by_the_harness(str(checkpoint.folder), asked))
    characters = held_out.n_characters[rows]
    bits = {
        name: float(nats.sum() / math.log(2) / characters.sum())
        for name, nats in (("movieplotgpt", ours[rows]), ("lm-evaluation-harness", theirs))
    }
    apart = float(np.abs(ours[rows] - theirs).max())
    version = importlib.metadata.version("lm_eval")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"{len(rows)} documents, {characters.sum():,} characters, lm_eval {version}")
    for name, value in bits.items():
        print(f"{name:24} {value:.6f} bits per character")
    print(f"no document differs by more than {apart:.5f} nats of {ours[rows].mean():.1f} on the mean")
    found = {"bits_per_character": bits, "most_nats_apart": apart, "documents": len(rows), "lm_eval": version}
    keep(arguments.out, {"settings": settings_of(arguments), **found})


def by_the_harness(folder: str, asked: list[tuple[str, str]]) -> list[float]:
    """Natural logarithms of the likelihoods of each continuation behind its context."""
    models, api = (importlib.import_module(f"lm_eval.{name}") for name in ("models.huggingface", "api.instance"))
    model = models.HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=4, add_bos_token=True)
    requests = [
        api.Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=number)
        for number, pair in enumerate(asked)
    ]
    return [likelihood for likelihood, _ in model.loglikelihood(requests)]


if __name__ == "__main__":
    main()
