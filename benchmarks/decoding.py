"""What each way of writing brings, and what it takes: settings of the sampler against the scorecard.

    python benchmarks/decoding.py --data data/plots-bpe --judge plots-bpe --out results/benchmarks/decoding-plots-large.json
    python benchmarks/decoding.py --data data/plots-bpe --model plots-bpe --judge plots-large \\
        --out results/benchmarks/decoding-plots-bpe.json

The same titles, of the validation split unless another is named, for each setting and seed, between real plots and random texts (as
`movieplotgpt evaluate --samples`). The judge is another model. Best-of chooses by the title's gain under its own model, among
plots that ended and, where there are any, hold no invented words: of these columns it is no wonder that it leads.
What is measured already is kept; the table shows means over seeds and their spread, and lies beside the JSON file, too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from machine import keep, machine
from movieplotgpt import PlotGenerator, atomic
from movieplotgpt.evaluation.samples import SampleReport, SampleScores, Scorecard
from movieplotgpt.generation.mentions import URGENT
from movieplotgpt.generation.plots import Plot, PlotRequest
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import CALM, MAX_TOKENS
from movieplotgpt.model.checkpoints import load_checkpoint
from movieplotgpt.progress_bars import stage_bars
from movieplotgpt.text.token_files import PreparedCorpus

SETTINGS = {
    "default": SamplingConfig(),
    "no plan": SamplingConfig(plan="none"),
    "no plan, with cast": SamplingConfig(plan="none", cast=True),  # the default before plans
    "no plan, best of 4": SamplingConfig(plan="none", best_of=4),
    "the default before: guidance 1.5, 512 tokens": SamplingConfig(
        guidance=1.5, guidance_characters=None, max_tokens=512
    ),
    "no guidance": SamplingConfig(guidance=1),
    "guidance 1.25, not fading": SamplingConfig(guidance=1.25, guidance_characters=None),
    "guidance 1.5, not fading": SamplingConfig(guidance=1.5, guidance_characters=None),
    "guidance 1.5, fading over 400": SamplingConfig(guidance=1.5, guidance_characters=400),
    "guidance 2, fading over 200": SamplingConfig(guidance=2, guidance_characters=200),
    "guidance 1.75, fading over 400": SamplingConfig(guidance=1.75, guidance_characters=400),
    "names may return": SamplingConfig(distinct_names=False),
    "end bias 1": SamplingConfig(end_bias=1),
    "end bias 2": SamplingConfig(end_bias=2),
    "best of 4": SamplingConfig(best_of=4),
    "best of 8": SamplingConfig(best_of=8),
    "best of 4, no guidance": SamplingConfig(guidance=1, best_of=4),
    "temperature 0.9, min-p 0.05": SamplingConfig(temperature=0.9, min_p=0.05),
    "min-p 0.05": SamplingConfig(min_p=0.05),
    "top-p 0.92": SamplingConfig(min_p=None, top_p=0.92),
    "typical 0.9": SamplingConfig(min_p=None, typical_p=0.9),
    "no rule": SamplingConfig(min_p=None),
    "DRY 0.8": SamplingConfig(dry_multiplier=0.8),
    "repetition penalty 1.2": SamplingConfig(repetition_penalty=1.2),
}
BY_SENTENCE = "best of 4 for each sentence"
SETTINGS[BY_SENTENCE] = SamplingConfig(best_of=4)


def percent(share: float | None) -> float | None:
    """Return a share in per cent."""
    return None if share is None else 100 * share


COLUMNS: dict[str, Callable[[SampleScores], float | None]] = {
    "meets itself": lambda row: row.self_meetings,
    "name 3 times, %": lambda row: percent(row.crowded_sentences),
    "top name": lambda row: row.top_name,
    "names that return": lambda row: row.names_that_return,
    "names": lambda row: row.names_per_text,
    "invented words, %": lambda row: 100 * row.invented,
    "repeated, %": lambda row: 100 * row.repeated,
    "title words per 100": lambda row: row.title_words,
    "sentences with one, %": lambda row: percent(row.title_sentences),
    "title word 4 times, %": lambda row: percent(row.title_word_4),
    "6 times, %": lambda row: percent(row.title_word_6),
    "9 times, %": lambda row: percent(row.title_word_9),
    "copied, %": lambda row: percent(row.copied),
    "similarity lift": lambda row: row.similarity_lift,
    "told from real": lambda row: row.told_from_real,
    "title at 1": lambda row: row.titles.at_1 if row.titles else None,
    "title at 10": lambda row: row.titles.at_10 if row.titles else None,
    "... its words left out": lambda row: row.titles.masked_at_10 if row.titles else None,
    "judge, bits": lambda row: row.judge_bits,
    "ended": lambda row: row.ended,
    "in 320 tokens": lambda row: row.ended_320,
    "in 512": lambda row: row.ended_512,
    "in 1,000": lambda row: row.ended_1000,
    "same opening, %": lambda row: percent(row.shared_openings),
    "length distance": lambda row: row.length_distance,
}
MOST_SENTENCES = 60
# The three plots that the original project published (519 words), by the same definitions, when this one was planned.
ORIGINAL = {
    "names that return": 0.16,
    "names": 21.0,
    "invented words, %": 3.12,
    "repeated, %": 0.0,
    "similarity lift": -0.024,
}


class BySentence(PlotGenerator):
    """Writes each sentence ``best_of`` times and goes on from the one that gains most by its title."""

    def plots(self, titles: Any = "", **asked: Any) -> list[Plot]:
        """Write one plot for each title; guidance fades, and the end pulls, as in a text that is written at once."""
        config, seed = self.builder.settled(asked["sampling"]), asked["seed"]
        texts, tokens, open_ones = [""] * len(titles), [0] * len(titles), [*range(len(titles))]
        for turn in range(MOST_SENTENCES):
            candidates = [
                PlotRequest(
                    self.builder.form.from_title(titles[i], {}, texts[i]),
                    self._sentence(config, texts[i], tokens[i]),
                    seed + i,
                    rank,
                )
                for i in open_ones
                for rank in range(1 + 4 * turn, 5 + 4 * turn)
            ]
            writings = [self.writing(candidate) for candidate in candidates]
            for _ in self.write(writings):
                pass
            still_open = []
            for place, i in enumerate(open_ones):
                four = range(4 * place, 4 * place + 4)
                chosen = writings[max(four, key=lambda each: writings[each].title_gain or 0.0)]
                texts[i] += chosen.told
                tokens[i] += chosen.tokens
                if chosen.told != chosen.written.text:  # more was written: the sentence ended, not the plot
                    still_open.append(i)
            open_ones = still_open
        return [
            Plot(title, "", texts[i], "length" if i in open_ones else "stop", seed + i, tokens[i], 0)
            for i, title in enumerate(titles)
        ]

    @staticmethod
    def _sentence(config: SamplingConfig, text: str, tokens: int) -> SamplingConfig:
        fading = max(0.0, 1 - len(text) / (config.guidance_characters or 1))
        pull = URGENT * max(0.0, tokens / MAX_TOKENS["bpe"] - CALM) / (1 - CALM)
        strength = 1 + ((config.guidance or 1) - 1) * fading
        return config.model_copy(
            update={"guidance": strength, "guidance_characters": None, "target_characters": 1, "end_bias": pull}
        )


def table(kept: dict[str, dict[str, SampleReport]]) -> str:
    """Markdown: real and random texts, then each setting's means over its seeds."""
    first = next(iter(next(iter(kept.values())).values()))
    lines = [f"| | {' | '.join(COLUMNS)} | seconds a plot |", f"| --- |{' ---: |' * (len(COLUMNS) + 1)}"]
    lines += [_line(row.name, [row], None) for row in first.rows[:-1]]
    cells = [f"{ORIGINAL[column]:.3f}" if column in ORIGINAL else "-" for column in COLUMNS]
    lines.append(f"| the original's published samples | {' | '.join(cells)} | - |")
    for name, reports in kept.items():
        written = [report.rows[-1] for report in reports.values()]
        seconds = mean((report.seconds_writing or 0) / report.rows[-1].texts for report in reports.values())
        lines.append(_line(name, written, seconds))
    return "\n".join(lines)


def _line(name: str, rows: Sequence[SampleScores], seconds: float | None) -> str:
    cells = []
    for ask in COLUMNS.values():
        values = [value for row in rows if (value := ask(row)) is not None]
        spread = f" ±{(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
        cells.append(f"{mean(values):.3f}{spread}" if values else "-")
    return f"| {name} | {' | '.join(cells)} | {'-' if seconds is None else f'{seconds:.2f}'} |"


def main() -> None:
    """Write and score what is missing, keep each as it comes, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a prepared corpus")
    parser.add_argument("--model", default="plots-large")
    parser.add_argument("--judge", help="another model, which says how likely it finds the texts")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="whose titles")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, metavar="SETTING", help=f"of: {', '.join(SETTINGS)}")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    corpus = PreparedCorpus.load(arguments.data)
    generator = PlotGenerator.load(arguments.model)
    settings: dict[str, Any] = {
        **{name: getattr(arguments, name) for name in ("model", "judge", "samples", "split")},
        "corpus": corpus.manifest.corpus_hash,
    }
    kept: dict[str, Any] = {"settings": settings, "rows": {}}
    if arguments.out.exists():
        kept = json.loads(arguments.out.read_text(encoding="utf-8"))
        kept["settings"].setdefault("split", "test")  # of files written before it was asked
    if kept["settings"] != settings:
        parser.error(f"{arguments.out} was made with {kept['settings']}; name another file, or take those settings")
    found = {
        name: {seed: SampleReport.model_validate(report) for seed, report in reports.items()}
        for name, reports in kept["rows"].items()
    }
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    asked = [(name, seed) for name in arguments.only or SETTINGS for seed in arguments.seeds]
    for name, reports in found.items():
        if any(report.sampling != generator.builder.settled(SETTINGS[name]) for report in reports.values()):
            parser.error(f"{arguments.out} has {name!r} by other settings; name another file")
    missing = [(name, seed) for name, seed in asked if str(seed) not in found.get(name, {})]
    if missing:
        judge = load_checkpoint(arguments.judge) if arguments.judge else None
        with stage_bars() as progress:
            shared = [report.rows[:-1] for reports in found.values() for report in reports.values()]
            card = Scorecard(
                corpus,
                split=arguments.split,
                samples=arguments.samples,
                judge=judge,
                judge_name=arguments.judge,
                shared=shared[0] if shared else (),
                progress=progress,
            )
            by_sentence = BySentence.load(arguments.model)
            for name, seed in missing:
                writer = by_sentence if name == BY_SENTENCE else generator
                report = card.report(name, writer, SETTINGS[name], 1_000_000 * seed)
                found.setdefault(name, {})[str(seed)] = report.model_copy(update={"examples": ()})
                rows = {
                    name: {seed: report.model_dump(mode="json") for seed, report in reports.items()}
                    for name, reports in found.items()
                }
                keep(arguments.out, {"settings": settings, "rows": rows})
    atomic.write_text(arguments.out.with_suffix(".md"), table(found) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
