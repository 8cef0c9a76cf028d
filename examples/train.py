"""Train on your own text and write with the model: python examples/train.py mytext.txt, or films.csv with its columns."""

import argparse

import movieplotgpt as mp
from movieplotgpt.training.events import Evaluated

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text")
parser.add_argument("--title-column")
parser.add_argument("--text-column")
parser.add_argument("--minutes", type=float, default=5)
parser.add_argument("--out")
arguments = parser.parse_args()

run = mp.train(
    arguments.text,
    title_column=arguments.title_column,
    text_column=arguments.text_column,
    minutes=arguments.minutes,
    out=arguments.out,
)
for event in run:
    if isinstance(event, Evaluated):
        print(f"step {event.step}: {event.bits_per_character:.3f} bits per character on unseen text")

print(f"The model is in {run.folder}.")
print(run.generator.plot(seed=1).text)
