"""Continue a published model on your own text: python examples/fine_tune.py mytext.txt."""

import argparse

import movieplotgpt as mp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text")
parser.add_argument("--text-column")
parser.add_argument("--model", default="office-bpe")
parser.add_argument("--minutes", type=float, default=5)
parser.add_argument("--out")
arguments = parser.parse_args()

run = mp.train(
    arguments.text,
    text_column=arguments.text_column,
    from_=arguments.model,  # its size, tokenizer and format are kept
    minutes=arguments.minutes,
    settings={"optimizer.learning_rate": 0.005, "schedule.decay": 1.0},  # lower than a training from scratch
    out=arguments.out,
)
print(run.generator.plot(seed=1, max_tokens=200).text)
