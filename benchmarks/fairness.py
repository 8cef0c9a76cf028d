"""How much one heavy client slows the tokens of a light one: each kind of heavy request in turn, on the loopback device.

    pip install 'movieplotgpt[serve]'
    python benchmarks/fairness.py --model plots-large --out results/benchmarks/fairness.json

The light client streams a completion alone and beside the heavy client, in turn; the table shows the medians of the time from
token to token, and of their ratio in each round. Heavy requests are the largest that the server takes. The aim: at most three
times the time alone.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from loopback import Server, served, times
from machine import keep, machine, settings_of
from movieplotgpt.engine.model_folder import load_folder

LIGHT, HEAVY = "127.0.0.2", "127.0.0.3"
LONG: dict[str, Any] = {"stream": True, "min_tokens": 5_000, "max_tokens": 5_000, "seed": 0}
WORDS = [f"{'a' * 90}{number:02}" for number in range(64)]
BEGIN = "ab " * 33_000


def main() -> None:
    """Let each heavy client run beside the light one, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="plots-large")
    parser.add_argument("--tokens", type=int, default=60, help="of the light client's completions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    prompt = load_folder(arguments.model).format.sentence("Mars, Texas")
    rows = []
    with served(arguments.model) as server:
        for name, path, body in heavy_requests():
            found: dict[str, list[float]] = {"alone": [], "beside": []}
            for _ in range(arguments.rounds):
                found["alone"].append(light(server, prompt, arguments.tokens))
                with repeated(server, path, body):
                    found["beside"].append(light(server, prompt, arguments.tokens))
            ratio = median(beside / alone for alone, beside in zip(found["alone"], found["beside"], strict=True))
            milliseconds = {key: round(1000 * median(values), 1) for key, values in found.items()}
            rows.append({"heavy": name, "milliseconds_a_token": milliseconds, "times": round(ratio, 2)})
            print(
                f"{name:32} alone {milliseconds['alone']:6} ms, beside {milliseconds['beside']:6} ms: {ratio:.1f} times"
            )
    keep(arguments.out, {"settings": settings_of(arguments), "rows": rows})


def heavy_requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield kinds of requests that take much work: their name, route and body."""
    plot = {"title": "x", "plan": "none", **LONG}
    yield "256 texts", "/v1/plots", {**plot, "n": 256, "max_tokens": 500, "min_tokens": 500}
    yield "64 banned words, 64 stops", "/v1/plots", {**plot, "banned": WORDS, "stop": WORDS, "logit_bias": {"98": 100}}
    yield (
        "16 wishes after 99,000 letters",
        "/v1/plots",
        {**plot, "begin": BEGIN, "must_mention": [f"q{i}" for i in range(16)]},
    )
    yield (
        "n-grams after 99,000 letters",
        "/v1/plots",
        {**plot, "begin": BEGIN, "no_repeat_ngram": 32, "dry_multiplier": 0.8},
    )
    yield "long prompts, one token", "/v1/plots", {**plot, "begin": BEGIN, "min_tokens": None, "max_tokens": 1, "n": 16}
    yield "probabilities", "/v1/completions", {"prompt": "x", **LONG, "logprobs": 20, "n": 16}


@contextmanager
def repeated(server: Server, path: str, body: dict[str, Any]) -> Iterator[None]:
    """Ask for ``body`` again and again, two requests at a time."""
    ended, encoded = threading.Event(), json.dumps(body).encode()

    def ask() -> None:
        while not ended.is_set():
            answer = server.ask(path, encoded, address=HEAVY)
            if answer.status != 200:
                time.sleep(0.1)
            while not ended.is_set() and answer.readline():
                pass
            answer.close()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(1)  # until it writes
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def light(server: Server, prompt: str, tokens: int) -> float:
    """Return the seconds from token to token of one completion, on the mean."""
    body = {"prompt": prompt, "stream": True, "min_tokens": tokens, "max_tokens": tokens, "seed": 1}
    came = [*times(server.ask("/v1/completions", body, address=LIGHT))]
    gaps = [later - earlier for earlier, later in pairwise(came)]
    return sum(gaps) / len(gaps)


if __name__ == "__main__":
    main()
