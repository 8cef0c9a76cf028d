"""Run a model folder with transformers."""

from __future__ import annotations

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Answer the request on stdin."""
    asked = json.load(sys.stdin)
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(asked["path"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(asked["path"])
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in asked["texts"]]
    prompt = torch.tensor([asked["prompt"]])
    mask = torch.ones_like(prompt)
    answer = model.generate(prompt, attention_mask=mask, max_new_tokens=asked["tokens"], do_sample=False)
    written = answer[0, len(asked["prompt"]) :].tolist()
    sys.stdout.write(json.dumps({"ids": ids, "written": written, "ended": tokenizer.eos_token_id in written}))


if __name__ == "__main__":
    main()
