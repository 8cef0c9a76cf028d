"""Hostile and ordinary clients together, on the loopback device: does the server stay fast, and its memory flat?

    pip install 'movieplotgpt[serve]'
    python benchmarks/soak.py --minutes 15 --out results/benchmarks/soak.json

Ordinary clients, each at an address of its own, stream short completions with titles of their own, first alone, then beside
hostile ones: half bodies, streams that nobody reads, the largest requests, texts whose folding takes long. The number of hostile
clients is bounded, and they are at ``--addresses`` addresses. Kept: the time to the first token, one in twenty of which is
longer (p95), alone and under attack, and memory and open descriptors every few seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from fairness import heavy_requests
from loopback import Address, Server, served, times
from machine import keep, machine, settings_of
from movieplotgpt.engine.model_folder import load_folder

ORDINARY = 4  # clients
THINKING = 0.5  # seconds between two of their requests
TOKENS = 40
HALF = b"POST /v1/plots HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
UNREAD: dict[str, Any] = {
    "prompt": "x",
    "stream": True,
    "max_tokens": 20_000,
    "min_tokens": 20_000,
    "logprobs": 20,
    "n": 4,
}
LETTERS = "".join(map(chr, range(0x4E00, 0x4E00 + 20_000)))  # all of them are transliterated
HALVES = 200  # half bodies at a time


def main() -> None:
    """Let the ordinary clients run alone, then under attack; print what they saw, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="plots-large")
    parser.add_argument("--minutes", type=float, default=15, help="under attack; a fifth of it, at least 10 s, alone")
    parser.add_argument("--addresses", type=int, default=3, help="of the hostile clients")
    parser.add_argument("--every", type=float, default=5, help="seconds between two looks at memory and descriptors")
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    sentence = load_folder(arguments.model).format.sentence
    with served(arguments.model) as server:
        seconds = 60 * arguments.minutes
        alone = during(server, sentence, max(10, seconds / 5), arguments.every, 0)
        print(f"alone         {told(alone)}", flush=True)
        under = during(server, sentence, seconds, arguments.every, arguments.addresses)
        print(f"under attack  {told(under)}", flush=True)
    ratio = p95(under["first_token_seconds"]) / p95(alone["first_token_seconds"])
    print(f"p95 under attack is {ratio:.2f} times that alone")
    keep(arguments.out, {"settings": settings_of(arguments), "alone": alone, "under_attack": under, "p95_ratio": ratio})


def during(
    server: Server, sentence: Callable[[str], str], seconds: float, every: float, addresses: int
) -> dict[str, Any]:
    """Return what ordinary clients see in ``seconds``, hostile clients at so many addresses beside them, and what it takes."""
    ended = threading.Event()
    firsts: list[float] = []
    failed: list[str] = []
    looks: list[dict[str, float]] = []
    threads = [
        threading.Thread(target=ordinary, args=(server, sentence, ended, number, firsts, failed))
        for number in range(ORDINARY)
    ]
    spawning = multiprocessing.get_context("spawn")
    over = spawning.Event()
    hostile = spawning.Process(
        target=attack, args=(server.port, addresses, over)
    )  # its threads delay no ordinary client
    hostile.start()
    for thread in threads:
        thread.start()
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(min(every, seconds))
        look = {"megabytes": server.megabytes(), "descriptors": server.descriptors()}
        looks.append({"seconds": round(time.monotonic() - began, 1), **look})
    ended.set()
    over.set()
    for thread in threads:
        thread.join()
    hostile.join()
    return {"first_token_seconds": firsts, "failed": failed, "looks": looks}


def ordinary(
    server: Server,
    sentence: Callable[[str], str],
    ended: threading.Event,
    number: int,
    firsts: list[float],
    failed: list[str],
) -> None:
    """Stream completions, each with its own title."""
    draw = random.Random(number)
    while not ended.wait(THINKING * draw.random() * 2):
        title = f"The {draw.choice(['Red', 'Last', 'Silent', 'Paper'])} {draw.choice(['Tram', 'Harbour', 'Key'])} {draw.random():.3f}"
        body = {"prompt": sentence(title), "stream": True, "max_tokens": TOKENS, "min_tokens": TOKENS}
        began = time.perf_counter()
        try:
            came = [*times(server.ask("/v1/completions", body, address=f"127.0.2.{1 + number}"))]
            firsts.append(came[0] - began)
        except (OSError, AssertionError, IndexError, http.client.HTTPException) as error:
            failed.append(repr(error)[:200])


def attack(port: int, addresses: int, ended: Event) -> None:
    """Run all hostile clients, in a process of their own."""
    threads = [
        threading.Thread(target=client, args=(Address(port), ended, f"127.0.1.{1 + number}"))
        for number in range(addresses)
        for client in (half_bodies, unread_streams, large_requests, folded_texts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def half_bodies(server: Address, ended: Event, address: str) -> None:
    """Hold connections whose bodies never come to their ends."""
    while not ended.is_set():
        with ExitStack() as stack:
            for _ in range(HALVES):
                client = stack.enter_context(socket.socket())
                client.settimeout(5)
                with suppress(OSError):
                    client.bind((address, 0))
                    client.connect(("127.0.0.1", server.port))
                    client.sendall(HALF)
            ended.wait(10)


def unread_streams(server: Address, ended: Event, address: str) -> None:
    """Ask for long streams with probabilities, and read nothing of them."""
    while not ended.is_set():
        with ExitStack() as stack:
            for _ in range(4):
                with suppress(OSError, http.client.HTTPException):
                    stack.callback(server.ask("/v1/completions", UNREAD, address=address).close)
            ended.wait(20)


def large_requests(server: Address, ended: Event, address: str) -> None:
    """Ask for all kinds of large requests in turn, each for a while."""
    bodies = [(path, json.dumps(body).encode()) for _, path, body in heavy_requests()]
    while not ended.is_set():
        for path, body in bodies:
            began = time.monotonic()
            with suppress(OSError, http.client.HTTPException):
                answer = server.ask(path, body, address=address)
                while not ended.is_set() and time.monotonic() - began < 3 and answer.readline():
                    pass
                answer.close()
            if ended.wait(0.1):
                return


def folded_texts(server: Address, ended: Event, address: str) -> None:
    """Send texts of which each letter is transliterated, and bodies of many ids."""
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/plots", {"begin": LETTERS * 4, "max_tokens": 1, "plan": "none"}),
        ("/v1/plots", {"title": LETTERS, "max_tokens": 1, "plan": "none"}),
        ("/v1/completions", {"prompt": [1] * 300_000, "max_tokens": 1}),
        ("/tokenize", {"content": "ab c" * 24_000, "with_pieces": True}),
    ]
    encoded = [(path, json.dumps(body).encode()) for path, body in bodies]  # so that clients take little of the machine
    while not ended.is_set():
        for path, body in encoded:
            with suppress(OSError, http.client.HTTPException):
                server.ask(path, body, address=address).close()
            if ended.wait(0.5):
                return


def p95(seconds: list[float]) -> float:
    """Return the time that one in twenty exceeds."""
    return quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]


def told(found: dict[str, Any]) -> str:
    """Return what is printed of a part."""
    firsts, looks = found["first_token_seconds"], found["looks"]
    first, last = looks[0], looks[-1]
    most = max(look["megabytes"] for look in looks)
    return (
        f"{len(firsts)} completions, {len(found['failed'])} failed; first token after {median(firsts):.3f} s, p95 "
        f"{p95(firsts):.3f} s; memory {first['megabytes']:.0f} to {last['megabytes']:.0f} MB (at most {most:.0f}), descriptors "
        f"{first['descriptors']} to {last['descriptors']}"
    )


if __name__ == "__main__":
    main()
