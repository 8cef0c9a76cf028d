"""Run an exported ONNX file with ONNX Runtime and Hugging Face tokenizers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def main() -> None:
    """Answer the request on stdin."""
    asked = json.load(sys.stdin)
    path = Path(asked["path"])
    folder = path.parent.parent
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in asked["texts"]]
    shapes = {each.name: each.shape for each in session.get_inputs() if each.name != "input_ids"}
    past = {name: np.zeros((1, heads, 0, size), np.float32) for name, (_, heads, _, size) in shapes.items()}
    end = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    read, written = asked["prompt"], list[int]()
    while len(written) < asked["tokens"] and end not in written:
        logits, *present = session.run(None, {"input_ids": np.array([read]), **past})
        past = dict(zip(past, present, strict=True))
        read = [int(logits[0, -1].argmax())]
        written += read
    sys.stdout.write(json.dumps({"ids": ids, "written": written, "ended": end in written}))


if __name__ == "__main__":
    main()
