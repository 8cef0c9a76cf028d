"""What the fast decoder costs: bits per character that it finds a text likelier or less likely than the exact one does.

    python benchmarks/fast_loss.py --data data/plots-bpe --model plots-bpe --out results/benchmarks/fast_loss-12M.json

Both read the begins of the same held-out documents token by token, as they do while writing.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from machine import keep, machine, settings_of
from movieplotgpt.cli.progress import stage_bars
from movieplotgpt.model.checkpoints import load_checkpoint
from movieplotgpt.model.decoder import Decoder
from movieplotgpt.model.fast_decoder import FastDecoder
from movieplotgpt.text.token_files import PreparedCorpus


@torch.no_grad()
def nats(decoder: Decoder, ids_BT: torch.Tensor) -> torch.Tensor:
    """Of each token but the first, given those before."""
    cache, lost = decoder.new_cache(len(ids_BT)), []
    for at in range(ids_BT.shape[1] - 1):
        logprobs_BV = decoder.next_logits(ids_BT[:, at], cache).log_softmax(-1)
        lost.append(-logprobs_BV.gather(-1, ids_BT[:, at + 1, None])[:, 0])
    return torch.stack(lost, 1)


def main() -> None:
    """Read, compare, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a prepared corpus")
    parser.add_argument("--model", default="plots-bpe")
    parser.add_argument("--documents", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=300, help="of each document, its header among them")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    corpus, checkpoint = PreparedCorpus.load(arguments.data), load_checkpoint(arguments.model)
    part = corpus.split("test")
    tokenizer, read = checkpoint.tokenizer, corpus.tokenizer.decode
    headers, bodies = (
        tokenizer.encode_batch([read(ids(i)) for i in range(part.n_documents)]) for ids in (part.header, part.body)
    )
    documents = [each for each in zip(headers, bodies, strict=True) if len(each[0]) + 8 < arguments.tokens]
    long = [each for each in documents if sum(map(len, each)) >= arguments.tokens][: arguments.documents]
    if not long:
        parser.error(f"no held-out document has {arguments.tokens} tokens; ask for fewer (--tokens)")
    begin = [tokenizer.end_id]
    ids_BT = torch.tensor(np.array([np.concatenate([begin, *each])[: arguments.tokens] for each in long], np.int64))
    in_body = torch.arange(1, arguments.tokens) > torch.tensor([[len(header)] for header, _ in long])
    texts = [tokenizer.decode(ids[len(header) + 1 :].tolist()) for ids, (header, _) in zip(ids_BT, long, strict=True)]
    lost = {"exact": 0.0, "fast": 0.0}
    decoders = {"exact": Decoder(checkpoint.model), "fast": FastDecoder(checkpoint.model)}
    with stage_bars() as progress:
        for start in range(0, len(long), arguments.batch):
            rows = slice(start, start + arguments.batch)
            for name, decoder in decoders.items():
                lost[name] += float((nats(decoder, ids_BT[rows]) * in_body[rows]).sum())
            progress("reading", min(start + arguments.batch, len(long)), len(long))
    characters = sum(map(len, texts))
    bits = {name: each / math.log(2) / characters for name, each in lost.items()}
    bits["cost"] = bits["fast"] - bits["exact"]
    print("  ".join(f"{name} {each:.5f}" for name, each in bits.items()), "bits per character")
    found = {"documents": len(long), "characters": characters, "bits_per_character": bits}
    keep(arguments.out, {"settings": settings_of(arguments), **found})


if __name__ == "__main__":
    main()
