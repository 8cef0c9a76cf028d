"""Tokens per second of generation beside llama.cpp and transformers: the same weights, prompt and number of new tokens.

    pip install xllamacpp gguf transformers
    python benchmarks/generate.py --model plots-bpe --out results/benchmarks/generate-12M.json

Everyone draws with temperature 0.9 and min-p 0.05, never ends before its tokens are written, and takes its turn in each
round, in a process of its own; the table shows medians, prompts read included, loading and compiling not. llama.cpp is what
the package xllamacpp holds, asked through its server without a network between. The floor is what reading the weights (once
a step) and the keys and values (of each text) would take at the memory bandwidth measured here, or the products at the
rate measured here, whichever is longer. Whole commands are timed as well, from the start of the process to its end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from machine import keep, machine, seconds_of, settings_of
from movieplotgpt import PlotGenerator
from movieplotgpt.engine.model_config import Precision, kv_cache_bytes, matrix_parameters
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint

Writer = Callable[[int, int], int]  # (tokens, seed) -> tokens written in all
Recipe = Callable[[Checkpoint, int], Writer]  # (model, batch)
TITLE = "Mars, Texas"
MEASURE = """
import resource, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
process.stdout.read(1)
first = time.perf_counter() - began
process.stdout.read()
assert process.wait() == 0
print(first, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)
"""  # in a small process: a child's peak memory includes its parent's at the start
SAMPLING = SamplingConfig(temperature=0.9, min_p=0.05, guidance=1)


def main() -> None:
    """Let each write in turn, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="plots-bpe")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 16, 64], help="none: whole processes only")
    parser.add_argument(
        "--tokens", type=int, default=400, help="of each text; with the prompt no more than the context"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peers", nargs="*", choices=["llama.cpp", "transformers"], default=["llama.cpp", "transformers"]
    )
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.model)
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    rows = []
    for batch in arguments.batches:
        with tempfile.TemporaryDirectory() as folder:
            recipes: dict[str, Recipe] = {"ours": ours, "ours, float32": partial(ours, precision="float32")}
            if "llama.cpp" in arguments.peers:
                for kind, threads in product(("bf16", "q8_0"), (1, 2)):
                    name = f"llama.cpp {kind}, {threads} thread{'s' * (threads > 1)}"
                    recipes[name] = partial(llama_cpp, folder=Path(folder), kind=kind, threads=threads)
            if "transformers" in arguments.peers:
                recipes["transformers"] = transformers
            writers = {name: Apart(recipe, arguments.model, batch) for name, recipe in recipes.items()}
            rates = measure(writers, arguments.tokens, arguments.rounds)
        limit = floor(checkpoint, batch, arguments.tokens)
        rows.append({"batch": batch, "tokens_per_second": rates, "floor": limit})
        for name, found in rates.items():
            print(f"batch {batch:3}  {name:32} {median(found):8,.0f} tokens/s", flush=True)
        print(f"batch {batch:3}  {'the floor':32} {limit:8,.0f} tokens/s", flush=True)
    if rows:
        print(table(rows))
    processes = whole_processes(arguments.model, arguments.rounds)
    for name, measured in processes.items():
        first, seconds, megabytes = map(median, measured.values())
        print(f"whole process, {name:38} first character {first:5.2f} s  end {seconds:5.2f} s  {megabytes:4.0f} MB")
    keep(arguments.out, {"settings": settings_of(arguments), "rows": rows, "processes": processes})


def whole_processes(model: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds from the start of the command to its first character and to its end, and its peak memory.

    Text is streamed, as in a terminal; also beside a process that keeps a core busy.
    """
    asked = {
        "1 token, no graph in the cache": ["--max-tokens", "1"],
        "1 token": ["--max-tokens", "1"],
        "400 tokens": ["--max-tokens", "400", "--min-tokens", "400"],
        "a default plot": [],
        "a default plot beside a busy process": [],
    }
    found: dict[str, dict[str, list[float]]] = {name: {"first": [], "seconds": [], "megabytes": []} for name in asked}
    command = [sys.executable, "-m", "movieplotgpt", "generate", "--stream", "--model", model, "--title", TITLE]
    for seed in range(1, rounds + 1):
        for name, flags in asked.items():
            with ExitStack() as stack:
                environment = dict(os.environ)
                if "no graph" in name:
                    environment["XDG_CACHE_HOME"] = stack.enter_context(tempfile.TemporaryDirectory())
                if "busy" in name:
                    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                    stack.callback(busy.kill)
                    time.sleep(0.5)
                asked_for = [sys.executable, "-c", MEASURE, *command, "--seed", str(seed), *flags]
                done = subprocess.run(asked_for, env=environment, capture_output=True, text=True, check=True)
            for measured, value in zip(found[name].values(), map(float, done.stdout.split()), strict=True):
                measured.append(value)
    return found


class Apart:
    """A writer in a process of its own: OpenMP lets the threads of one that runs beside others in a process sleep."""

    def __init__(self, recipe: Recipe, model: str, batch: int) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_work, args=(recipe, model, batch, theirs), daemon=True)
        self._process.start()

    def __call__(self, tokens: int, seed: int) -> float:
        """Tokens per second."""
        self._ours.send((tokens, seed))
        return float(self._ours.recv())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _work(recipe: Recipe, model: str, batch: int, pipe: Any) -> None:
    write = recipe(load_checkpoint(model), batch)
    while True:
        tokens, seed = pipe.recv()
        began = perf_counter()
        written = write(tokens, seed)
        pipe.send(written / (perf_counter() - began))


def measure(writers: dict[str, Apart], tokens: int, rounds: int) -> dict[str, list[float]]:
    """Tokens per second of each round; what compiles or warms up does so before."""
    rates: dict[str, list[float]] = {name: [] for name in writers}
    for write in writers.values():
        write(min(tokens, 8), 0)
    for seed in range(1, rounds + 1):
        for name, write in writers.items():
            rates[name].append(write(tokens, seed))
    for write in writers.values():
        write.close()
    return rates


def ours(checkpoint: Checkpoint, batch: int, *, precision: Precision = "int8") -> Writer:
    """Through the door everyone takes."""
    generator = PlotGenerator(checkpoint, precision=precision)

    def write(tokens: int, seed: int) -> int:
        asked: dict[str, Any] = {"n": batch, "seed": seed, "min_tokens": tokens, "max_tokens": tokens}
        return sum(plot.tokens for plot in generator.plots(TITLE, sampling=SAMPLING, **asked))

    return write


def llama_cpp(checkpoint: Checkpoint, batch: int, *, folder: Path, kind: Any, threads: int) -> Writer:
    """Its server, each text a request."""
    import xllamacpp

    from movieplotgpt.sharing.gguf_file import save_gguf

    path = folder / f"{kind}-{threads}.gguf"
    save_gguf(checkpoint, path, kind)
    asked = xllamacpp.CommonParams()
    asked.model.path = str(path)
    asked.n_parallel, asked.n_ctx = batch, batch * checkpoint.config.context_length
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = threads
    asked.cpuparams.poll = asked.cpuparams_batch.poll = 0  # idle threads leave the others their turn
    asked.port, asked.verbosity = 0, 0
    server = xllamacpp.Server(asked)
    prompt = checkpoint.format.sentence(TITLE)

    def write(tokens: int, seed: int) -> int:
        def one(number: int) -> int:
            answer = server.handle_completions(
                {
                    "prompt": prompt,
                    "n_predict": tokens,
                    "ignore_eos": True,
                    "cache_prompt": False,
                    "samplers": ["min_p", "temperature"],
                    "temperature": SAMPLING.temperature,
                    "min_p": SAMPLING.min_p,
                    "seed": seed * 1000 + number,
                }
            )
            return int(answer["usage"]["completion_tokens"])

        with ThreadPoolExecutor(batch) as clients:
            return sum(clients.map(one, range(batch)))

    return write


def transformers(checkpoint: Checkpoint, batch: int) -> Writer:
    """``generate`` of the class that the folder names, in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
    inputs = tokenizer([checkpoint.format.sentence(TITLE)] * batch, return_tensors="pt")

    def write(tokens: int, seed: int) -> int:
        torch.manual_seed(seed)
        written = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=True,
            temperature=SAMPLING.temperature,
            min_p=SAMPLING.min_p,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
        )
        return batch * int(written.shape[1] - inputs["input_ids"].shape[1])

    return write


def floor(checkpoint: Checkpoint, batch: int, tokens: int) -> float:
    """Tokens per second that memory and multipliers allow: weights, keys and values of a byte."""
    c = checkpoint.config
    weights = matrix_parameters(c) + c.vocab_size * c.n_embd
    keys_and_values = kv_cache_bytes(c, batch=batch) * tokens // (2 * c.context_length)
    reading = weights / bandwidth(weights) + keys_and_values / bandwidth(keys_and_values)
    inputs, matrix = (torch.ones(rows, c.n_embd, dtype=torch.int8) for rows in (max(batch, 64), c.vocab_size))
    rate = len(inputs) * matrix.numel() / seconds_of(lambda: torch._int_mm(inputs, matrix.t()))
    return batch / max(reading, batch * weights / rate)


def bandwidth(size: int) -> float:
    """Bytes a second at which so many are read again and again: from a cache, where they fit into one."""
    values = torch.ones(max(size, 1 << 20) // 4)
    return 4 * len(values) / seconds_of(values.sum)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: medians of each batch, the floor last."""
    columns = [
        {name: median(rates) for name, rates in row["tokens_per_second"].items()} | {"the floor": row["floor"]}
        for row in rows
    ]
    cells = [["tokens/s", *(f"batch {row['batch']}" for row in rows)], ["---", *["---:"] * len(rows)]]
    cells += [[name, *(f"{column[name]:,.0f}" for column in columns)] for name in columns[0]]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


if __name__ == "__main__":
    main()
