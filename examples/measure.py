"""Score a model on text it has not seen, beside compressors: python examples/measure.py runs/mytext."""

import argparse
from pathlib import Path

import movieplotgpt as mp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="a run, or a published name with --data")
parser.add_argument("--data", help="a prepared corpus (default: the run's own)")
arguments = parser.parse_args()

data = arguments.data or Path(arguments.model) / "data"
evaluation = mp.evaluate(arguments.model, data, metrics=["compressors"], split="validation")
scored = evaluation.likelihood
print(f"{scored.documents} documents, {scored.characters:,} characters")
print(f"{evaluation.model:12} {scored.bits_per_character:.3f} bits per character")
for compressor in evaluation.compressors:
    print(f"{compressor.name:12} {compressor.bits_per_character:.3f}")
