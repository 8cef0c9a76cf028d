"""What a study found, in words and tables."""

from __future__ import annotations

from typing import Any

from movieplotgpt.study.results import (
    Law,
    StudyResults,
    StudyRow,
    advice,
    circumstances,
    laws,
    study_csv,
    study_markdown,
    tables,
)
from movieplotgpt.study.scaling import SizeLaw, TextLaw

SIZES = {"tiny": 900_000, "mini": 2_400_000, "small": 5_100_000}


def row(size: str, tokenizer: str, bits: float, **changes: Any) -> StudyRow:
    values: dict[str, Any] = {
        **{
            "size": size,
            "tokenizer": tokenizer,
            "budget": "flops",
            "amount": 1e13,
            "seed": 1,
            "parameters": SIZES[size],
        },
        **{
            "tokens": 500_000,
            "characters": 2e6,
            "epochs": 0.5,
            "flops": 1e13,
            "minutes": 3.25,
            "bits_per_character": bits,
        },
        **{"interval": (bits - 0.02, bits + 0.02), "curve": ((5e12, bits + 0.3), (1e13, bits))},
    }
    return StudyRow(**{**values, **changes})


def study(*rows: StudyRow, found: tuple[Law, ...] = ()) -> StudyResults:
    return StudyResults(
        name="films",
        source="plots.csv",
        corpus_hash="c" * 64,
        split_hash="5" * 64,
        split="test",
        settings={},
        machine="cpu, threads 2, torch 2.13.0",
        rows=rows,
        laws=found,
    )


def test_the_best_is_advised_and_how_sure_that_is() -> None:
    seeds = [row("mini", "bpe-4096", bits, seed=k) for k, bits in enumerate((1.9, 1.91, 1.92), start=1)]
    (sentence,) = advice(study(*seeds, row("tiny", "bpe-4096", 1.66), row("tiny", "char", 1.97)))
    assert sentence == (
        "at 1e+13 flops take tiny with bpe-4096: 1.660 bits per character; next mini with bpe-4096, 0.250 more (one seed of "
        "these; seeds of one run differ by up to 0.020); it is the smallest size tried, so a smaller one may be better still"
    )
    few = study(*seeds).model_copy(update={"documents": 1, "missing": ("tiny-char-1e+13-flops-1",)})
    assert advice(few)[-1].startswith("no more than 1 held-out text was scored")
    assert "on 1 documents of the test split" in circumstances(few)
    assert "test split (`5555555555555555`), by which the choices below were made, too;" in circumstances(few)
    unseen = circumstances(few.model_copy(update={"split": "validation"}))
    assert "on 1 documents of the validation split (`5555555555555555`); cpu" in unseen
    assert circumstances(few).endswith("of 4 runs these are missing: tiny-char-1e+13-flops-1")
    (alone,) = advice(study(row("tiny", "char", 1.97)))
    assert alone == "at 1e+13 flops tiny with char, the only one, reaches 1.970 bits per character"
    (each,) = advice(study(row("tiny", "char", 1.97), row("tiny", "byte", 1.98)))
    assert each.endswith("(one seed each: what seeds alone make is not known here)")
    (between,) = advice(study(row("tiny", "char", 1.98), row("mini", "char", 1.97), row("small", "char", 2.0)))
    assert between.endswith("not known here)")
    (largest,) = advice(study(row("tiny", "char", 1.98), row("mini", "char", 1.97)))
    assert largest.endswith("it is the largest size tried, so a larger one may be better still")


def test_every_budget_has_a_table_with_the_best_first() -> None:
    rows = [row("mini", "char", 2.07), row("mini", "char", 2.09, seed=2), row("tiny", "char", 1.97)]
    epochs = {"budget": "epochs", "amount": 2.0, "read_bits": 1.25, "by_heart": 0.5, "copied": 61.4}
    first, second = tables(study(*rows, row("tiny", "char", 1.5, **epochs)))
    assert (first.note, second.note) == ("At 2 epochs each", "At 1e+13 flops each")
    assert first.rows == [
        (*("tiny", "char", "0.9 M", "1.500", "1.480 to 1.520", "0.50", "3.2"), *("1.250", "50.0%", "61"))
    ] and len(first.columns) == len(first.rows[0])
    assert [line[3] for line in second.rows] == ["1.970", "2.070, 2.090"] and second.rows[0][-3:] == ("-", "-", "-")
    assert len(tables(study(*rows))[0].columns) == len(first.columns) - 3  # nobody asked what was learnt by heart


def test_what_varies_stands_beside_the_tokenizer() -> None:
    rows = (
        row("tiny", "char", 2.0),
        row("tiny", "char", 1.9, changes=("training.dropout=0.1", "optimizer.kind=adamw")),
    )
    results = study(*rows)
    assert advice(results)[0].startswith(
        "at 1e+13 flops take tiny with char, training.dropout=0.1, optimizer.kind=adamw: 1.900 bits per character; next tiny "
        "with char, 0.100 more"
    )
    assert "| tiny | char, training.dropout=0.1, optimizer.kind=adamw | 0.9 M | 1.900 |" in study_markdown(results)
    assert [line.split(",")[5] for line in study_csv(results).splitlines()] == [
        *("changes", "", "training.dropout=0.1 optimizer.kind=adamw")
    ]


TEXT_LAW = TextLaw(
    **{"floor": 0.8, "interval": (0.7, 0.9), "a": 45, "alpha": 0.3, "b": 900, "beta": 0.4, "points": 9},
    largest_error=0.02,
    foretold_error=0.04,
)


def test_markdown_and_csv_hold_every_run_and_law() -> None:
    found = (
        Law(
            tokenizer="char",
            settings={},
            sizes={"2 epochs": SizeLaw(floor=0.9, scale=60, exponent=0.3, interval=(0.8, 1.0), largest_error=0.01)},
            text=TEXT_LAW,
        ),
    )
    results = study(row("mini", "char", 2.07), row("tiny", "char", 1.97), found=found)
    text = study_markdown(results)
    assert text.startswith("# films\n\n`movieplotgpt compare`: plots.csv, bits per character on the test split")
    assert "\n## At 1e+13 flops each\n\n| size | tokenizer | parameters |" in text
    assert "| tiny | char | 0.9 M | 1.970 | 1.950 to 1.990 | 0.50 | 3.2 |\n| mini |" in text
    of_sizes, of_text = laws(results)
    assert of_sizes.startswith(
        "char, 2 epochs: 0.900 + 60 / parameters^0.30 (95 % of the first number: 0.800 to 1.000;"
    )
    assert (
        "+ 900 / characters^0.40 (95 % of the first number: 0.700 to 0.900; no run is off by more than 0.020" in of_text
    )
    assert of_text.endswith(", nor by more than 0.040 when the others foretell it)")
    assert f"## Laws\n\n- {of_sizes}\n- {of_text}\n" in text
    header, *lines = study_csv(results).splitlines()
    assert header.startswith("size,tokenizer,budget,amount,seed,changes,parameters") and header.endswith("low,high")
    assert [line.split(",")[:2] for line in lines] == [["mini", "char"], ["tiny", "char"]]
