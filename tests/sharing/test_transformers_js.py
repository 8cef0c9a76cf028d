"""transformers.js, in node, runs what ``export --to onnx`` writes: the same prompt, the same greedy text.

The package is fetched from npm, or taken from the folder that MOVIEPLOTGPT_NODE names, in which
``npm install --ignore-scripts @huggingface/transformers`` was run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from tests.sharing.test_chat import ASKED, HEADER, TOKENS, expected, printable

from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.sharing import exporting
from movieplotgpt.sharing.runners import Runner

Make: TypeAlias = Callable[..., Checkpoint]
PACKAGE = "@huggingface/transformers@4.3.2"
TEXTS = ["", "Zoë, 漢字 🎬\ufeff ÿ", "  two  blanks,\r\n\ttabs \n", "it's 1999's", "END_OF_PLOTx END_OF_PLO <|pad|>"]
PROGRAM = """
import { env, pipeline } from "@huggingface/transformers";
const { folder, name, messages, tokens, texts } = JSON.parse(process.argv[2]);
env.allowRemoteModels = false;
env.localModelPath = folder + "/";
const write = await pipeline("text-generation", name, { session_options: { intraOpNumThreads: 1 } });
const how = { add_generation_prompt: true, return_tensor: false };
const ids = write.tokenizer.apply_chat_template(messages, how).input_ids;
const [{ generated_text }] = await write(messages, { do_sample: false, max_new_tokens: tokens });
const encoded = texts.map((text) => write.tokenizer.encode(text, { add_special_tokens: false }));
console.log(JSON.stringify({ ids, encoded, text: generated_text.at(-1).content, defaults: write.model.generation_config }));
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds transformers.js."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    if "MOVIEPLOTGPT_NODE" in os.environ:
        return Path(os.environ["MOVIEPLOTGPT_NODE"])
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {(done.stderr.splitlines() or ['no reason'])[0]}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("header", [HEADER, ""])
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_it_writes_the_greedy_text_for_a_chat(
    tiny_checkpoint: Make, tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch, kind: str, header: str
) -> None:
    monkeypatch.setattr(exporting, "RUNNERS", {"onnx": Runner("nobody", "no_such_package", Path())})
    checkpoint = printable(tiny_checkpoint(kind, header=header, context_length=128))
    exporting.export(checkpoint, "onnx", "f32", tmp_path)
    ids, text = expected(checkpoint)
    messages = [{"role": "user", "content": ASKED}]
    asked = {"folder": str(tmp_path), "name": "onnx-f32", "messages": messages, "tokens": TOKENS, "texts": TEXTS}
    program = tmp_path / "program.mjs"
    program.write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(node / "node_modules")
    done = subprocess.run(["node", program, json.dumps(asked)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["ids"] == ids
    assert answer["encoded"] == [checkpoint.tokenizer.encode(each).tolist() for each in TEXTS]
    assert answer["text"] == text
    given = {name: answer["defaults"][name] for name in ("do_sample", "temperature", "min_p", "top_k", "top_p")}
    assert given == {"do_sample": True, "temperature": 1, "min_p": 0.02, "top_k": 0, "top_p": 1}
