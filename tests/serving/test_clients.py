"""Other people's clients, as they come from PyPI and npm, against a real server.

Each is run in a process of its own, with the Python or the node_modules of the folder that ``MOVIEPLOTGPT_CLIENTS`` names, or with
the Python of the tests. A client that is not installed there is skipped:

    python -m venv clients && clients/bin/pip install langchain-openai litellm llm 'lm-eval[api]' transformers
    npm install --prefix clients openai
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint

pytestmark = pytest.mark.slow
HEADER = "The plot summary of the movie named 'Ada' is:\n"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "f", "description": "f", "parameters": {"type": "object"}},
}
QUIET = {
    "PATH": os.environ["PATH"],
    "OPENAI_API_KEY": "none",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


@pytest.fixture
def films(generators: dict[str, PlotGenerator]) -> PlotGenerator:
    return generators["films"]


@pytest.fixture
def address(serve: Callable[..., str]) -> str:
    return f"{serve()}/v1"


@pytest.fixture
def python() -> str:
    """The Python that has the clients."""
    folder = os.environ.get("MOVIEPLOTGPT_CLIENTS")
    return str(Path(folder) / "bin" / "python") if folder else sys.executable


def run(command: list[str], script: str, given: dict[str, Any], home: Path) -> Any:
    """What a script prints as its last line, which is JSON; ``given`` is its standard input."""
    environment = {**QUIET, "HOME": str(home)}
    done = subprocess.run(
        [*command, script],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=home,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def client(python: str, address: str, tmp_path: Path) -> Callable[..., Any]:
    """``client(package, script, **given)``: what the script makes of ``given`` and the server's address."""

    def asked(package: str, script: str, **given: Any) -> Any:
        found = subprocess.run([python, "-c", f"import {package}"], capture_output=True, timeout=300)
        if found.returncode:
            pytest.skip(f"{package} is not installed for {python}; MOVIEPLOTGPT_CLIENTS names a folder that has it")
        start = f"import json, sys; given = json.load(sys.stdin); address = {address!r}\n"
        return run([python, "-c"], start + script, given, tmp_path)

    return asked


OPENAI = """
from openai import BadRequestError, LengthFinishReasonError, OpenAI
client = OpenAI(base_url=address, max_retries=0, _strict_response_validation=True)
asked = dict(model="films", seed=3, max_tokens=12)
messages = [{"role": "user", "content": "Ada"}]
told = {}
told["completion"] = client.completions.create(prompt=given["prompt"], logprobs=2, echo=True, **asked).choices[0].text
told["chat"] = client.chat.completions.create(messages=messages, logprobs=True, top_logprobs=2, **asked)
assert told["chat"].choices[0].logprobs.refusal is None
told["chat"] = told["chat"].choices[0].message.content
pieces = list(client.chat.completions.create(
    messages=messages, stream=True, stream_options={"include_usage": True}, **asked))
assert [piece.usage is None for piece in pieces] == [True] * (len(pieces) - 1) + [False]
told["stream"] = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
with client.chat.completions.stream(messages=messages, **asked) as stream:
    try:
        told["helper"] = stream.get_final_completion().choices[0].message.content
    except LengthFinishReasonError as error:  # the helper's opinion of texts that were cut at max_tokens
        told["helper"] = error.completion.choices[0].message.content
told["models"] = [model.id for model in client.models.list()]
try:
    client.chat.completions.create(messages=messages, tools=[given["tool"]], **asked)
except BadRequestError as error:
    told["tools"] = error.body["message"]
raw = client.completions.with_raw_response.create(prompt="a", extra_body={"top_k": -1, "mirostat": 2}, **asked)
told["headers"] = [raw.headers["x-changed-fields"], raw.headers["x-ignored-fields"]]
print(json.dumps(told))
"""


def test_openai_python_strictly(client: Callable[..., Any], films: PlotGenerator) -> None:
    told = client("openai", OPENAI, prompt=HEADER, tool=TOOL)
    text = films.plot("Ada", seed=3, max_tokens=12).text
    assert told["completion"] == HEADER + text and told["chat"] == told["stream"] == told["helper"] == text
    assert told["models"] == ["films", "letters"] and told["headers"] == ["top_k=off", "mirostat"]
    assert told["tools"] == "tools: the models of this server call no tools; leave it out"


NODE = """
import OpenAI from "openai";
import { readFileSync } from "node:fs";
const given = JSON.parse(readFileSync(0, "utf8"));
const client = new OpenAI({ baseURL: given.address, maxRetries: 0 });
const asked = { model: "films", seed: 3, max_tokens: 12 }, messages = [{ role: "user", content: "Ada" }];
const told = {};
told.completion = (await client.completions.create({ ...asked, prompt: given.prompt })).choices[0].text;
told.chat = (await client.chat.completions.create({ ...asked, messages })).choices[0].message;
told.stream = "";
for await (const piece of await client.completions.create({ ...asked, prompt: given.prompt, stream: true }))
  told.stream += piece.choices[0].text;
told.helper = await client.chat.completions.stream({ ...asked, messages }).finalContent();
told.tools = await client.chat.completions.create({ ...asked, messages, tools: [given.tool] }).catch((error) => error.param);
console.log(JSON.stringify(told));
"""


def test_openai_node(address: str, films: PlotGenerator, tmp_path: Path) -> None:
    folder = Path(os.environ.get("MOVIEPLOTGPT_CLIENTS") or Path.cwd())
    if not shutil.which("node") or not (folder / "node_modules" / "openai").is_dir():
        pytest.skip(f"node, or the npm package openai below {folder}, is not installed")
    (tmp_path / "node_modules").symlink_to(folder / "node_modules")
    (tmp_path / "ask.mjs").write_text(NODE, encoding="utf-8")
    told = run(["node"], "ask.mjs", {"address": address, "prompt": HEADER, "tool": TOOL}, tmp_path)
    text = films.plot("Ada", seed=3, max_tokens=12).text
    assert told["completion"] == told["stream"] == told["helper"] == text and told["tools"] == "tools"
    assert told["chat"] == {"role": "assistant", "content": text, "refusal": None}


LANGCHAIN = """
from langchain_openai import ChatOpenAI, OpenAI
from openai import BadRequestError
asked = dict(model="films", base_url=address, max_retries=0, seed=3, temperature=1, max_tokens=12)
completion, chat = OpenAI(**asked), ChatOpenAI(**asked)
told = {"completion": completion.invoke(given["prompt"]), "stream": "".join(completion.stream(given["prompt"]))}
told["batch"] = completion.batch([given["prompt"]] * 2)
answer = chat.invoke("Ada")
told["chat"], told["usage"] = answer.content, answer.usage_metadata["total_tokens"]
told["chat stream"] = "".join(piece.content for piece in chat.stream("Ada"))
told["logprobs"] = len(chat.bind(logprobs=True).invoke("Ada").response_metadata["logprobs"]["content"])
try:
    chat.bind_tools([given["tool"]]).invoke("Ada")
except BadRequestError as error:
    told["tools"] = error.param
try:
    completion.invoke("the baker " * 1000)
except BadRequestError as error:
    told["long"] = error.code
print(json.dumps(told))
"""


def test_langchain(client: Callable[..., Any], films: PlotGenerator) -> None:
    told = client("langchain_openai", LANGCHAIN, prompt=HEADER, tool=TOOL)
    plot = films.plot("Ada", seed=3, max_tokens=12)
    assert {told[name] for name in ("completion", "stream", "chat", "chat stream")} == {plot.text}
    assert len(told["batch"]) == 2 and told["usage"] > told["logprobs"] == plot.tokens
    assert told["tools"] == "tools" and told["long"] == "context_length_exceeded"


LLM = """
import pathlib, os, subprocess
folder = pathlib.Path(os.environ["HOME"]) / "llm"
folder.mkdir()
os.environ["LLM_USER_PATH"] = str(folder)
models = [{"model_id": "chat", "model_name": "films", "api_base": address},
          {"model_id": "text", "model_name": "films", "api_base": address, "completion": True}]
(folder / "extra-openai-models.yaml").write_text(json.dumps(models))  # JSON is YAML
def ask(*arguments):
    command = [sys.executable, "-m", "llm", "prompt", *arguments, "-o", "seed", "3", "-o", "max_tokens", "12", "--key", "none"]
    return subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
told = {"chat": ask("Ada", "-m", "chat"), "whole": ask("Ada", "-m", "chat", "--no-stream"), "text": ask(given["prompt"], "-m", "text")}
print(json.dumps(told))
"""


def test_llm(client: Callable[..., Any], films: PlotGenerator) -> None:
    told = client("llm", LLM, prompt=HEADER)
    text = films.plot("Ada", seed=3, max_tokens=12).text
    assert {answer.rstrip("\n") for answer in told.values()} == {text.rstrip("\n")}


LITELLM = """
import litellm
asked = dict(api_base=address, api_key="none", seed=3, max_tokens=12)
messages = [{"role": "user", "content": "Ada"}]
told = {"chat": litellm.completion(model="openai/films", messages=messages, **asked).choices[0].message.content}
pieces = litellm.completion(model="openai/films", messages=messages, stream=True, **asked)
told["stream"] = "".join(piece.choices[0].delta.content or "" for piece in pieces)
asked_text = dict(model="text-completion-openai/films", **asked)
told["completion"] = litellm.text_completion(prompt=given["prompt"], **asked_text).choices[0].text
try:
    litellm.text_completion(prompt="the baker " * 1000, **asked_text)
except litellm.ContextWindowExceededError:
    told["long"] = "ContextWindowExceededError"
print(json.dumps(told))
"""


def test_litellm(client: Callable[..., Any], films: PlotGenerator) -> None:
    told = client("litellm", LITELLM, prompt=HEADER)
    text = films.plot("Ada", seed=3, max_tokens=12).text
    assert {told[name] for name in ("chat", "stream", "completion")} == {text}
    assert told["long"] == "ContextWindowExceededError"


LM_EVAL = """
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
def asked(kind, arguments):
    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]
told = {}
for batch in (1, 2):
    model = LocalCompletionsAPI(model="films", base_url=f"{address}/completions", tokenizer=given["folder"],
        tokenizer_backend="huggingface", max_length=64, batch_size=batch, max_retries=1)
    told[f"likelihood {batch}"] = model.loglikelihood(asked("loglikelihood", [tuple(pair) for pair in given["pairs"]]))
told["written"] = model.generate_until(asked("generate_until", [(given["prompt"],
    {"until": ["\\n\\n", "a", "b", "c", "d"], "max_gen_toks": 9, "do_sample": False})]))
print(json.dumps(told))
"""


def test_lm_eval(client: Callable[..., Any], films: PlotGenerator, tmp_path: Path) -> None:
    """Likelihoods are the model's own, greedy or not, of continuations that start in the middle of a word, or after nothing."""
    checkpoint = films.checkpoint
    assert isinstance(checkpoint, Checkpoint)
    save_checkpoint(tmp_path / "films", checkpoint)
    pairs = [("The baker", " hides a letter"), ("The ba", "ker"), ("", "The baker"), (HEADER, "The"), ("A café", " é")]
    told = client("lm_eval", LM_EVAL, folder=str(tmp_path / "films"), pairs=pairs, prompt=HEADER)
    assert told["likelihood 1"] == told["likelihood 2"]
    tokenizer, engine = checkpoint.tokenizer, films.engine()
    for (context, continuation), (likelihood, greedy) in zip(pairs, told["likelihood 1"], strict=True):
        before = tokenizer.encode(context.rstrip()).tolist()  # its last white space is part of what is scored
        ids = [
            *before,
            *tokenizer.encode(context + continuation).tolist()[len(before) :],
        ]  # as lm-eval puts them together
        logits_TV = engine.logits([tokenizer.end_id, *ids])[:, : tokenizer.vocab_size]
        logprobs_TV = torch.tensor(logits_TV).log_softmax(-1)
        places = range(len(before), len(ids))
        assert likelihood == pytest.approx(sum(float(logprobs_TV[place, ids[place]]) for place in places), abs=1e-3)
        assert greedy == all(ids[place] == int(logprobs_TV[place].argmax()) for place in places)
    stops: dict[str, Any] = {"temperature": 0, "seed": 1234, "max_tokens": 9, "stop": ["\n\n", "a", "b", "c", "d"]}
    assert told["written"] == [films.plot(prompt=HEADER, **stops).text]
