"""Another server writes: one of our own, llama.cpp's, one that refuses, one that is not there."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fastapi.testclient import TestClient

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.serving.app import create_app
from movieplotgpt.serving.models import ServedModel, ServedModels
from movieplotgpt.serving.upstream import Upstream
from movieplotgpt.sharing.gguf_file import save_gguf

LLAMA_CPP = """
import sys, time, xllamacpp
asked = xllamacpp.CommonParams()
asked.model.path, asked.hostnames, asked.port, asked.verbosity = sys.argv[1], ["127.0.0.1"], 0, 0
asked.n_parallel, asked.n_ctx, asked.cpuparams.n_threads = 2, 256, 1
server = xllamacpp.Server(asked)
print(server.listening_address, flush=True)
time.sleep(600)
"""


@contextmanager
def before(url: str, generator: PlotGenerator, **how: Any) -> Iterator[TestClient]:
    upstream = Upstream(PlotGenerator(generator.checkpoint), url, waiting=10, **how)
    models = ServedModels([ServedModel("films", upstream.generator, upstream)])
    with TestClient(create_app(models)) as client:
        yield client


def test_one_of_our_own(serve: Callable[..., str], generators: dict[str, PlotGenerator]) -> None:
    asked: dict[str, Any] = {"title": "Mars, Texas", "decade": "1970s", "begin": "Tex", "seed": 4, "max_tokens": 20}
    url = f"{serve(api_key='secret')}/v1"
    with before(url, generators["films"], key="secret", model="films") as web:
        told = web.post("/v1/plots", json={**asked, "n": 2, "logprobs": 2}).json()
        streamed = web.post("/v1/plots", json={**asked, "stream": True}).text
        completed = web.post("/v1/completions", json={"prompt": "The baker", "seed": 1, "max_tokens": 9}).json()
        assert web.get("/health").json()["running"] == 0
        assert 'movieplotgpt_texts_total{model="films"} 4.0' in web.get("/metrics").text
        assert web.get("/v1/models").json()["data"][0]["guided"] is False
    settings: dict[str, Any] = {"seed": 4, "max_tokens": 20, "logprobs": 2}  # guided, as that server does by itself
    hints = {"Decade": "1970s"}
    plots = generators["films"].plots("Mars, Texas", n=2, hints=hints, begin="Tex", **settings)
    assert [plot["text"] for plot in told["plots"]] == [plot.text for plot in plots]
    assert [plot["finish_reason"] for plot in told["plots"]] == [plot.finish_reason for plot in plots]
    for got, plot in zip(told["plots"], plots, strict=True):
        assert [token["text"] for token in got["probabilities"]] == [token.text for token in plot.probabilities]
    assert json.dumps(plots[0].text, ensure_ascii=False) in streamed and streamed.endswith("data: [DONE]\n\n")
    expected = generators["films"].plot(prompt="The baker", seed=1, max_tokens=9, stop=["END_OF_PLOT"]).text
    assert "The baker" + completed["choices"][0]["text"] == expected


def test_ids_stops_and_parts_of_characters_are_passed_on(
    serve: Callable[..., str], generators: dict[str, PlotGenerator]
) -> None:
    tokenizer = generators["films"].checkpoint.tokenizer
    letters = [id_ for letter in "The baker" for id_ in tokenizer.encode(letter).tolist()]
    url = f"{serve()}/v1"
    for stops in ([], list("!?;:"), list("!?;:q")):
        asked = {"prompt": letters, "seed": 4, "max_tokens": 9, "logprobs": 2, "stop": stops, "temperature": 2}
        body = json.dumps(asked).encode()
        request = urllib.request.Request(f"{url}/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            [own] = json.load(answer)["choices"]
        with before(url, generators["films"]) as web:
            [passed] = web.post("/v1/completions", json=asked).json()["choices"]
        assert (passed["text"], passed["finish_reason"]) == (own["text"], own["finish_reason"])
        assert passed["logprobs"] == own["logprobs"]
        assert any(token.startswith("bytes:") for token in own["logprobs"]["tokens"]), "the example has such tokens"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"guidance": 2}, "guidance: "),
        ({"end_bias": -1}, "end_bias: "),
        ({"best_of": 4}, "best_of: "),
        ({"must_mention": "Paris", "cast": False}, "must_mention, cast: "),
    ],
)
def test_what_others_do_not_know_is_said(generators: dict[str, PlotGenerator], asked: dict, said: str) -> None:
    with before("http://127.0.0.1:9/v1", generators["films"]) as web:
        answer = web.post("/v1/plots", json={"title": "Ada", **asked})
    assert answer.status_code == 400 and said in answer.json()["error"]["message"]


def test_who_is_not_there_or_refuses_is_named(serve: Callable[..., str], generators: dict[str, PlotGenerator]) -> None:
    with before("http://127.0.0.1:9/v1", generators["films"]) as web:
        answer = web.post("/v1/plots", json={"title": "Ada"})
        assert answer.status_code == 502 and "http://127.0.0.1:9/v1/" in answer.json()["error"]["message"]
        streamed = web.post("/v1/plots", json={"title": "Ada", "stream": True}).text
        assert '"code":"upstream_failed"' in streamed and streamed.endswith("[DONE]\n\n")
    with before(f"{serve(api_key='secret')}/v1", generators["films"], key="wrong") as web:
        answer = web.post("/v1/plots", json={"title": "Ada"})
        assert answer.status_code == 502 and "answers 401: the key is missing" in answer.json()["error"]["message"]


def event(text: str, reason: str | None = None) -> str:
    return "data: " + json.dumps({"choices": [{"text": text, "finish_reason": reason}]}, ensure_ascii=False) + "\n\n"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ('data: {"choices": null}\n\n', "has broken off"),
        (
            'data: {"choices": [{"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": []}}]}\n\n',
            "does not send completions",
        ),
        ("data: {\n\n", "cannot be asked"),
        (event("a"), "has broken off"),
        ('data: {"error": {"message": "on fire"}}\n\n', "on fire"),
        (event("a\u2028b\x85c").replace("data: ", "data:") + event("d", "stop") + "data: [DONE]\n\n", None),
    ],
    ids=["nothing", "odd", "cut", "broken off", "failed", "whole"],
)
def test_whatever_another_server_sends(generators: dict[str, PlotGenerator], sent: str, said: str | None) -> None:
    class Odd(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(sent.encode())

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Odd) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        with before(f"http://127.0.0.1:{other.server_port}/v1", generators["films"]) as web:
            answer = web.post("/v1/plots", json={"title": "Ada"})
            assert web.get("/health").json()["running"] == 0
        other.shutdown()
    if said:
        assert answer.status_code == 502 and said in answer.json()["error"]["message"]
    else:
        assert answer.json()["plots"][0]["text"] == "a\u2028b\x85cd"


def test_a_client_that_leaves_hangs_up(serve: Callable[..., str], generators: dict[str, PlotGenerator]) -> None:
    """Two servers, a real client: what it no longer reads is no longer written."""
    writes = serve()
    stands = serve(upstream=f"{writes}/v1")
    body = json.dumps({"title": "Ada", "stream": True, "max_tokens": 20_000, "seed": 1}).encode()
    request = urllib.request.Request(f"{stands}/v1/plots", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as stream:
        for _ in range(6):
            stream.readline()

    def running(address: str) -> int:
        with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
            return int(json.load(answer)["running"])

    deadline = time.monotonic() + 30
    while running(stands) or running(writes):
        assert time.monotonic() < deadline, "it is still written"
        time.sleep(0.05)


@pytest.mark.slow
def test_llama_cpp(tiny_checkpoint: Callable[..., Checkpoint], tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("bpe", context_length=128)
    checkpoint.model.model.embed_tokens.weight.data[0] *= 0.2  # it hardly ever ends by itself
    save_gguf(checkpoint, tmp_path / "films.gguf", "f32")
    command = [sys.executable, "-c", LLAMA_CPP, str(tmp_path / "films.gguf")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        address = next(line for line in server.stdout if line.startswith("http")).strip()
        generator = PlotGenerator(checkpoint, precision="float32")
        with before(f"{address}/v1", generator) as web:
            asked = {"title": "Ada", "temperature": 0, "max_tokens": 30, "logprobs": 2}
            [plot] = web.post("/v1/plots", json=asked).json()["plots"]
        assert plot["text"] == generator.plot("Ada", temperature=0, max_tokens=30, guidance=1).text
        assert plot["tokens"] == 30 and plot["finish_reason"] == "length"
        assert 10 < len(plot["probabilities"]) <= 30  # it tells none of half a character
    finally:
        server.kill()
        server.wait()
