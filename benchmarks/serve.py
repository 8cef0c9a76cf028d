"""Many clients at once: tokens per second and time to the first token, beside llama.cpp's server on the same weights.

    pip install 'movieplotgpt[serve,gguf]' xllamacpp
    python benchmarks/serve.py --model plots-large --out results/benchmarks/serve-30M.json

Each server is a process of its own, and so are the clients; all share the machine. A client streams one completion after the
other; nobody ends before its tokens are written. The servers take their turn in each round; the table shows medians over the
rounds, of the time to the first token over all requests. What leaves memory flat is asked as well: ours is sent --flat short
requests, and its resident memory is told before and after.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from machine import keep, machine, settings_of
from movieplotgpt.model.checkpoints import load_checkpoint

TITLE = "Mars, Texas"
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
    prompt = load_checkpoint(arguments.model).format.sentence(TITLE)
    slots = max(arguments.clients)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {
            "ours": stack.enter_context(ours(arguments.model, slots)),
            "llama.cpp bf16": stack.enter_context(llama_cpp(arguments.model, folder, "bf16", slots)),
            "llama.cpp q8_0": stack.enter_context(llama_cpp(arguments.model, folder, "q8_0", slots)),
        }
        rows = []
        for clients in arguments.clients:
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
            for _ in range(arguments.rounds):
                for name, server in servers.items():
                    found[name].append(load(server, prompt, clients, arguments.requests, arguments.tokens))
            rows.append({"clients": clients, "found": found})
            for name, rounds in found.items():
                print(f"{clients:3} clients  {name:16} {told(rounds)}", flush=True)
        flat = memory_of(servers["ours"], prompt, arguments.flat)
    print(f"memory of ours after 50 and after {arguments.flat:,} requests: {flat[0]:.0f} and {flat[1]:.0f} MB")
    keep(arguments.out, {"settings": settings_of(arguments), "rows": rows, "resident_megabytes": flat})


class Server:
    """A process that serves at a port; ``asks`` is how a number of tokens, no more and no less, is asked for."""

    def __init__(self, command: list[str], port: int, asks: Callable[[int], dict[str, Any]]) -> None:
        self.port, self.asks = port, asks
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait(self) -> Server:
        """Until it answers."""
        deadline = time.monotonic() + 300
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return self
            except OSError:
                pass
            assert self.process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)

    def megabytes(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmRSS:")[1].split()[0]) / 1000


@contextmanager
def running(command: list[str], port: int, asks: Callable[[int], dict[str, Any]]) -> Iterator[Server]:
    """A server, which is ended."""
    server = Server(command, port, asks)
    try:
        yield server.wait()
    finally:
        server.process.kill()
        server.process.wait()


@contextmanager
def ours(model: str, slots: int) -> Iterator[Server]:
    """`movieplotgpt serve`."""
    port = free_port()
    places = ["--max-concurrency", str(max(2, slots)), "--max-waiting", "2000"]
    command = [sys.executable, "-m", "movieplotgpt", "serve", "--model", model, "--port", str(port), *places]
    with running(command, port, lambda n: {"min_tokens": n, "max_tokens": n, "guidance": 1}) as server:
        yield server


@contextmanager
def llama_cpp(model: str, folder: Path, kind: Any, slots: int) -> Iterator[Server]:
    """llama.cpp's server, as the package xllamacpp holds it, with as many slots as there are clients at most."""
    from movieplotgpt.sharing.gguf import save_gguf

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
    with running(command, port, lambda n: {"n_predict": n, **fixed}) as server:
        yield server


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


def free_port() -> int:
    """One that nobody has."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def load(server: Server, prompt: str, clients: int, requests: int, tokens: int) -> dict[str, Any]:
    """Tokens per second of all together, and seconds to the first token of each request."""

    def client(number: int) -> list[float]:
        return [streamed(server, prompt, tokens, 1000 * number + i) for i in range(requests)]

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        firsts = [first for each in pool.map(client, range(clients)) for first in each]
    seconds = time.perf_counter() - began
    return {"tokens_per_second": clients * requests * tokens / seconds, "first_token_seconds": firsts}


def streamed(server: Server, prompt: str, tokens: int, seed: int) -> float:
    """Seconds to the first token of a completion that is read to its end."""
    body = {"prompt": prompt, "seed": seed, **SAMPLING, **server.asks(tokens)}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    began, first = time.perf_counter(), 0.0
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    while line := answer.readline():
        if not first and line.startswith(b"data: "):
            first = time.perf_counter() - began
    assert first, "no token came"
    return first


def memory_of(server: Server, prompt: str, requests: int) -> tuple[float, float]:
    """Megabytes after 50 requests, and after all."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: streamed(server, prompt, 4, seed), range(50)))
        before = server.megabytes()
        list(pool.map(lambda seed: streamed(server, prompt, 4, seed), range(requests - 50)))
    return before, server.megabytes()


def told(rounds: list[dict[str, Any]]) -> str:
    """The medians of a row."""
    firsts = sorted(first for each in rounds for first in each["first_token_seconds"])
    late = quantiles(firsts, n=20)[-1] if len(firsts) > 1 else firsts[0]
    rate = median(each["tokens_per_second"] for each in rounds)
    return f"{rate:8,.0f} tokens/s, first token after {median(firsts):.3f} s, one in twenty after {late:.3f} s or more"


if __name__ == "__main__":
    main()
