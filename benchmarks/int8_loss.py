"""What int8 costs: bits per character of held-out documents, read by the engine in int8 and in float32.

    python benchmarks/int8_loss.py --data data/plots-bpe --models plots-bpe plots-large plots-char \\
        --out results/benchmarks/int8_loss-plots.json
    python benchmarks/int8_loss.py --data data/office-bpe --models office-bpe office-char \\
        --out results/benchmarks/int8_loss-office.json

Each document is read as far as the context reaches, its header first; only the body counts.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import get_args

import numpy as np

from machine import keep, machine, settings_of
from movieplotgpt.engine.model_config import Precision
from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.engine.session import Engine
from movieplotgpt.evaluation.held_out import draw_documents
from movieplotgpt.generation.sampling import log_softmax
from movieplotgpt.progress_bars import stage_bars
from movieplotgpt.text.token_files import PreparedCorpus


def nats(engine: Engine, ids: list[int], header: int) -> float:
    """Of the tokens after the header, given those before."""
    logprobs_TV = log_softmax(engine.logits(ids[:-1]))
    return -float(np.take_along_axis(logprobs_TV, np.array(ids[1:])[:, None], -1)[header:].sum())


def main() -> None:
    """Read, compare, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a prepared corpus")
    parser.add_argument("--models", nargs="+", default=["plots-large", "plots-bpe"])
    parser.add_argument("--documents", type=int, default=200, help="of the test split, drawn at random")
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    corpus = PreparedCorpus.load(arguments.data)
    part = corpus.split("test")
    rows = draw_documents(part, arguments.documents, 0).tolist()
    texts = [(corpus.tokenizer.decode(part.header(i)), corpus.tokenizer.decode(part.body(i))) for i in rows]
    found = {}
    for name in arguments.models:
        model = load_folder(name)
        lost, characters = dict.fromkeys(get_args(Precision), 0.0), 0
        engines = {precision: Engine(model, precision=precision) for precision in get_args(Precision)}
        with stage_bars() as progress:
            for done, (header, body) in enumerate(texts, start=1):
                before = model.tokenizer.encode(header).tolist()
                ids = [model.tokenizer.end_id, *before, *model.tokenizer.encode(body).tolist()]
                ids = ids[: model.config.context_length + 1]
                characters += len(model.tokenizer.decode(ids[len(before) + 1 :]))
                for precision, engine in engines.items():
                    lost[precision] += nats(engine, ids, len(before))
                progress(name, done, len(texts))
        bits = {precision: each / math.log(2) / characters for precision, each in lost.items()}
        found[name] = {**bits, "cost": bits["int8"] - bits["float32"], "characters": characters}
        print(f"{name}: float32 {bits['float32']:.5f}, int8 {bits['int8']:.5f}, cost {found[name]['cost']:+.5f}")
    keep(arguments.out, {"settings": settings_of(arguments), "documents": len(texts), "bits_per_character": found})


if __name__ == "__main__":
    main()
