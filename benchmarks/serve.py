"""Many clients at once: tokens per second and time to the first token, beside llama.cpp's server on the same weights.

    pip install 'movieplotgpt[serve,gguf]' xllamacpp
    python benchmarks/serve.py --model plots-large --out results/benchmarks/serve-30M.json

Each server is a process of its own, and so are the clients; all share the machine. A client streams one completion after the
other, each for a title of its own, so that no prompt was read before; nobody ends before its tokens are written. Neither server
keeps prompts from one request to the next. The servers take their turn in each round; the table shows medians over the
rounds, of the time to the first token over all requests. Memory is measured as well: ours is sent --flat short requests, and
its resident memory is printed before and after.

llama.cpp has no guidance, so ours is compared with it at guidance 1 ("guidance 1" in the table), and measured with the default's
guidance, too ("guidance 1.75"): each token is then read twice at first, so fewer are written.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from loopback import Server, free_port, running, served, times
from machine import keep, machine, settings_of
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import load_checkpoint

ADJECTIVES = "Red Last Silent Paper Golden Hidden Broken Distant Velvet Hollow".split()
NOUNS = "Tram Harbour Key Garden Engine Letter Orchard Mirror Bridge Lantern".split()
NUMBERS = count(1)
SAMPLING = {"temperature": 0.9, "min_p": 0.05, "stream": True}


def main() -> None:
    """Let each serve in turn, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="plots-bpe")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 50])
    parser.add_argument("--tokens", type=int, default=200, help="of each completion")
    parser.add_argument("--requests", type=int, default=2, help="of each client, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flat", type=int, default=1000, help="short requests, between which memory is to stay flat")
    parser.add_argument("--llama", type=Path, help=argparse.SUPPRESS)  # what a child serves
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--slots", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    if arguments.llama:
        serve_llama_cpp(arguments.llama, arguments.port, arguments.slots, load_checkpoint(arguments.model))
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    sentence = load_checkpoint(arguments.model).format.sentence
    default = PlotGenerator.load(arguments.model).builder.defaults["guidance"]
    slots = max(arguments.clients)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {
            "ours, guidance 1": (own := stack.enter_context(ours(arguments.model, slots))),
            f"ours, guidance {default:g}": replace(own, asks=lambda n: {"min_tokens": n, "max_tokens": n}),
            "llama.cpp bf16": stack.enter_context(llama_cpp(arguments.model, folder, "bf16", slots)),
            "llama.cpp q8_0": stack.enter_context(llama_cpp(arguments.model, folder, "q8_0", slots)),
        }
        rows = []
        for clients in arguments.clients:
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
            for _ in range(arguments.rounds):
                for name, server in servers.items():
                    found[name].append(load(server, sentence, clients, arguments.requests, arguments.tokens))
            rows.append({"clients": clients, "found": found})
            for name, rounds in found.items():
                print(f"{clients:3} clients  {name:19} {told(rounds)}", flush=True)
        flat = memory_of(own, sentence, arguments.flat)
    print(f"memory of ours after 50 and after {arguments.flat:,} requests: {flat[0]:.0f} and {flat[1]:.0f} MB")
    keep(
        arguments.out,
        {"settings": settings_of(arguments), "guidance": default, "rows": rows, "resident_megabytes": flat},
    )


@dataclass(frozen=True)
class Asked:
    """A server, and how a number of tokens, no more and no less, is asked for."""

    server: Server
    asks: Callable[[int], dict[str, Any]]


@contextmanager
def ours(model: str, slots: int) -> Iterator[Asked]:
    """`movieplotgpt serve`, with places for two readings of each client's text."""
    places = ["--max-concurrency", str(2 * slots), "--max-waiting", "2000"]
    with served(model, *places) as server:
        yield Asked(server, lambda n: {"min_tokens": n, "max_tokens": n, "guidance": 1})


@contextmanager
def llama_cpp(model: str, folder: Path, kind: Any, slots: int) -> Iterator[Asked]:
    """llama.cpp's server, as the package xllamacpp holds it, with as many slots as there are clients at most."""
    from movieplotgpt.sharing.gguf_file import save_gguf

    path, port = folder / f"{kind}.gguf", free_port()
    save_gguf(load_checkpoint(model), path, kind)
    command = [
        sys.executable,
        __file__,
        "--model",
        model,
        "--llama",
        str(path),
        "--port",
        str(port),
        "--slots",
        str(slots),
    ]
    fixed = {"ignore_eos": True, "cache_prompt": False, "samplers": ["min_p", "temperature"]}
    with running(command, port) as server:
        yield Asked(server, lambda n: {"n_predict": n, **fixed})


def serve_llama_cpp(path: Path, port: int, slots: int, checkpoint: Any) -> None:
    """The child: serve until it is killed."""
    import xllamacpp

    asked = xllamacpp.CommonParams()
    asked.model.path = str(path)
    asked.n_parallel, asked.n_ctx = slots, slots * checkpoint.config.context_length
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = os.cpu_count() or 1
    asked.cpuparams.poll = asked.cpuparams_batch.poll = 0  # idle threads leave the others their turn
    asked.hostnames, asked.port, asked.verbosity = ["127.0.0.1"], port, 0
    server = xllamacpp.Server(asked)
    while server:
        time.sleep(3600)


def load(asked: Asked, sentence: Callable[[str], str], clients: int, requests: int, tokens: int) -> dict[str, Any]:
    """Tokens per second of all together, and seconds to the first token of each request."""

    def client(number: int) -> list[float]:
        return [streamed(asked, sentence(title(number, i)), tokens, 1000 * number + i) for i in range(requests)]

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        firsts = [first for each in pool.map(client, range(clients)) for first in each]
    seconds = time.perf_counter() - began
    return {"tokens_per_second": clients * requests * tokens / seconds, "first_token_seconds": firsts}


def title(client: int, request: int) -> str:
    """Return a title that no other request has."""
    adjective, noun = ADJECTIVES[client % len(ADJECTIVES)], NOUNS[client // len(ADJECTIVES) % len(NOUNS)]
    return f"The {adjective} {noun} {next(NUMBERS)}, {client}.{request}"


def streamed(asked: Asked, prompt: str, tokens: int, seed: int) -> float:
    """Seconds to the first token of a completion that is read to its end."""
    body = {"prompt": prompt, "seed": seed, **SAMPLING, **asked.asks(tokens)}
    began = time.perf_counter()
    first, *_ = times(asked.server.ask("/v1/completions", body))
    return first - began


def memory_of(asked: Asked, sentence: Callable[[str], str], requests: int) -> tuple[float, float]:
    """Megabytes after 50 requests, and after all."""

    def short(seed: int) -> float:
        return streamed(asked, sentence(title(seed, 0)), 4, seed)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(short, range(50)))
        before = asked.server.megabytes()
        list(pool.map(short, range(requests - 50)))
    return before, asked.server.megabytes()


def told(rounds: list[dict[str, Any]]) -> str:
    """The medians of a row."""
    firsts = sorted(first for each in rounds for first in each["first_token_seconds"])
    late = quantiles(firsts, n=20)[-1] if len(firsts) > 1 else firsts[0]
    rate = median(each["tokens_per_second"] for each in rounds)
    return f"{rate:8,.0f} tokens/s, first token after {median(firsts):.3f} s, one in twenty after {late:.3f} s or more"


if __name__ == "__main__":
    main()
