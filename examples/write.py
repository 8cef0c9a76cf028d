"""Write plots with a published model: python examples/write.py "The Last Tram"."""

import argparse

import movieplotgpt as mp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("title", nargs="?", default="The Last Tram")
parser.add_argument("--model", default="plots-bpe")
parser.add_argument("--max-tokens", type=int)
arguments = parser.parse_args()

generator = mp.PlotGenerator.load(arguments.model)

# One plot, as it is written.
for piece in generator.stream(arguments.title, seed=1, max_tokens=arguments.max_tokens):
    print(piece, end="", flush=True)
print("\n")

# Three at once, bolder and from the 1950s; the same seed writes the same plot.
for plot in generator.plots(
    arguments.title, n=3, seed=1, temperature=0.8, hints={"Decade": "1950s"}, max_tokens=arguments.max_tokens
):
    print(f"{plot.seed}: {plot.text}\n")

# What a plot shares with the text the model was trained on.
for copy in generator.copies.report(plot.text).copies:
    print(f"{copy.title}: {plot.text[copy.start : copy.stop]!r}")
