"""Does a plot follow its hints? Whether a simple classifier of real plots tells the hint from what was written under it.

    python benchmarks/hints.py --data data/plots-bpe --out results/benchmarks/hints.json

Words and pairs of words, weighted by their rarity, in a logistic regression: trained on real plots of each value alike,
asked about real plots it has not seen, and about plots written under the same held-out titles with each value in turn, so
that only the hint differs. Guessing is right as often as one value is of all.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from machine import keep, machine, settings_of
from movieplotgpt import PlotGenerator
from movieplotgpt.progress_bars import stage_bars
from movieplotgpt.text.token_files import PreparedCorpus

READ = 1_000  # characters of each text
VALUES = {
    "Decade": ("1930s", "1950s", "1970s", "1990s", "2010s"),
    "Origin": ("American", "British", "Bollywood", "Tamil", "Japanese"),
    "Genre": ("drama", "comedy", "crime", "thriller", "horror"),
}


def main() -> None:
    """Train, write, ask, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a prepared corpus")
    parser.add_argument("--model", default="plots-bpe")
    parser.add_argument("--most", type=int, default=1_000, help="real plots of each value to learn from")
    parser.add_argument("--asked", type=int, default=50, help="plots of each value to ask about, real and written ones")
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    corpus = PreparedCorpus.load(arguments.data)
    generator = PlotGenerator.load(arguments.model)
    titles = corpus.split("test").titles[: arguments.asked]
    rows: dict[str, Any] = {}
    with stage_bars() as progress:
        for hint, values in VALUES.items():
            known, asked = real_plots(corpus, hint, values, arguments.most, arguments.asked)
            written: list[tuple[str, str]] = []
            for value in values:
                plots = generator.plots(titles, hints={hint: value}, seed=1_000_000)
                written += [(plot.text[:READ], value) for plot in plots]
                progress(f"writing by {hint.lower()}", len(written), len(values) * len(titles))
            classifier = learn(known)
            rows[hint] = {"guessing": 1 / len(values), "learnt from": len(known)}
            for name, texts in (("real", asked), ("written", written)):
                told = classifier.predict([text for text, _ in texts])
                right = [said == value for said, (_, value) in zip(told, texts, strict=True)]
                rows[hint] |= {name: float(np.mean(right)), f"{name}, plus or minus": interval(right)}
    print("| hint | guessing | told from written plots | told from real plots |\n| --- | ---: | ---: | ---: |")
    for hint, row in rows.items():
        cells = [f"{row[name]:.2f} ±{row[name + ', plus or minus']:.2f}" for name in ("written", "real")]
        print(f"| {hint.lower()} | {row['guessing']:.2f} | {' | '.join(cells)} |")
    keep(arguments.out, {"settings": settings_of(arguments), "values": VALUES, "rows": rows})


def real_plots(
    corpus: PreparedCorpus, hint: str, values: tuple[str, ...], most: int, asked: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Begins of plots and their value: as many of each to learn from as all have, and others to ask about."""
    part = corpus.split("train")
    hints = [each.get(hint) for each in part.hints]
    order = np.random.default_rng(0).permutation(part.n_documents)
    found = {value: [i for i in order if hints[i] == value] for value in values}
    each = min(most, *(len(documents) - asked for documents in found.values()))
    counted = Counter({value: len(documents) for value, documents in found.items()})
    assert each > 0, f"too few plots of {counted.most_common()[-1]}"
    texts = {
        value: [corpus.tokenizer.decode(part.body(i)[:READ])[:READ] for i in documents[: asked + each]]
        for value, documents in found.items()
    }
    known = [(text, value) for value, some in texts.items() for text in some[asked:]]
    return known, [(text, value) for value, some in texts.items() for text in some[:asked]]


def learn(known: list[tuple[str, str]]) -> Any:
    """A pipeline of scikit-learn."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=100_000)
    return make_pipeline(words, LogisticRegression(C=10, max_iter=1_000)).fit(*zip(*known, strict=True))


def interval(right: list[bool]) -> float:
    """Half of the 95 % interval of a share."""
    share = float(np.mean(right))
    return float(1.96 * (share * (1 - share) / len(right)) ** 0.5)


if __name__ == "__main__":
    main()
