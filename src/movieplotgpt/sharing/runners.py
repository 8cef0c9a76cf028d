"""What runs a model that was exported: token ids in, the likeliest ones out. Other programs have a process of their own.

Of their own, since llama.cpp and torch in one process let each other's threads sleep, and since none of them is needed.
llama.cpp keeps keys and values in float32 here, without flash attention: by itself it rounds them to half the bits.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movieplotgpt.engine.model_config import LARGEST_GRAPH, graph_bytes
from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.checkpoints import load_checkpoint

_PATIENCE = 600  # seconds
_LLAMA_CPP = """
import json, sys, urllib.request, xllamacpp
asked = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = asked["path"], len(asked["prompt"]) + asked["tokens"], 1
params.port, params.verbosity, params.cpuparams.n_threads, params.cpuparams_batch.n_threads = 0, 0, 1, 1
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(params)
def ask(place, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(server.listening_address + place, data, {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))
ids = [ask("/tokenize", {"content": text, "parse_special": True})["tokens"] for text in asked["texts"]]
body = {"prompt": asked["prompt"], "n_predict": asked["tokens"], "temperature": 0, "return_tokens": True}
answer = ask("/completion", body)
print(json.dumps({"ids": ids, "written": answer["tokens"], "ended": answer["stop_type"] == "eos"}))
"""
_ONNX_RUNTIME = """
import json, sys, numpy, onnxruntime, tokenizers
from pathlib import Path
asked = json.load(sys.stdin)
path = Path(asked["path"])
folder = path.parent.parent
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options)
tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in asked["texts"]]
shapes = {each.name: each.shape for each in session.get_inputs() if each.name != "input_ids"}
past = {name: numpy.zeros((1, heads, 0, size), numpy.float32) for name, (_, heads, _, size) in shapes.items()}
end = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
read, written = asked["prompt"], []
while len(written) < asked["tokens"] and end not in written:
    logits, *present = session.run(None, {"input_ids": numpy.array([read]), **past})
    past = dict(zip(past, present))
    read = [int(logits[0, -1].argmax())]
    written += read
print(json.dumps({"ids": ids, "written": written, "ended": end in written}))
"""
_TRANSFORMERS = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
asked = json.load(sys.stdin)
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(asked["path"], dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(asked["path"])
ids = [tokenizer.encode(text, add_special_tokens=False) for text in asked["texts"]]
prompt = torch.tensor([asked["prompt"]])
seen = torch.ones_like(prompt)
answer = model.generate(prompt, attention_mask=seen, max_new_tokens=asked["tokens"], do_sample=False)
written = answer[0, len(asked["prompt"]):].tolist()
print(json.dumps({"ids": ids, "written": written, "ended": tokenizer.eos_token_id in written}))
"""


@dataclass(frozen=True)
class Written:
    """What a program made of a prompt: its likeliest tokens, without the end marker, and whether that ended them."""

    tokens: list[int]
    ended: bool
    ids: list[list[int]]  # of the texts it was given besides


@dataclass(frozen=True)
class Runner:
    """A program that runs a model; ``package`` is what has to be installed for it."""

    name: str
    package: str
    program: str

    @property
    def installed(self) -> bool:
        """Whether this environment has it."""
        return importlib.util.find_spec(self.package) is not None

    def write(
        self, path: Path, prompt: Sequence[int], tokens: int, *, end_id: int = 0, texts: Sequence[str] = ()
    ) -> Written:
        """The likeliest token ``tokens`` times over, or up to the end marker; and the ids of ``texts``.

        Raises:
            CheckpointError: it cannot run the model, or does not come to an end.
        """
        asked = {"path": str(path.resolve()), "prompt": [*prompt], "tokens": tokens, "texts": [*texts]}
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", self.program],  # -P: no module of the working folder is run
                env={**os.environ, "PYTHONSAFEPATH": "1"},  # by what it starts, neither
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=_PATIENCE,
                check=True,
            )
            answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            raise CheckpointError(
                f"{self.name} has not written {tokens} tokens from {path} in {_PATIENCE} s; try another type of weights"
            ) from None
        except (subprocess.CalledProcessError, ValueError, IndexError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines() or ["it said nothing"]
            raise CheckpointError(
                f"{self.name} cannot run {path} ({said[-1].strip()}); try another version of {self.package}"
            ) from None
        written = [token for token in answer["written"] if token != end_id]
        return Written(written, answer["ended"], answer["ids"])


class _Own(Runner):
    """This library, in this process."""

    def write(
        self, path: Path, prompt: Sequence[int], tokens: int, *, end_id: int = 0, texts: Sequence[str] = ()
    ) -> Written:
        model, written = load_checkpoint(path), list[int]()
        engine = Engine(model, precision="float32" if graph_bytes(model.config, "float32") <= LARGEST_GRAPH else "int8")
        while len(written) < tokens and end_id not in written:
            written.append(int(engine.logits([*prompt, *written])[-1].argmax()))
        ids = [model.tokenizer.encode(text).tolist() for text in texts]
        return Written([token for token in written if token != end_id], end_id in written, ids)


LLAMA_CPP = Runner("llama.cpp", "xllamacpp", _LLAMA_CPP)
ONNX_RUNTIME = Runner("ONNX Runtime", "onnxruntime", _ONNX_RUNTIME)
TRANSFORMERS = Runner("transformers", "transformers", _TRANSFORMERS)
OWN = _Own("movieplotgpt", "movieplotgpt", "")
