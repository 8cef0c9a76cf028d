"""``movieplotgpt prepare``: the table that says what was found, and nothing on disk lost when something is wrong."""

from __future__ import annotations

import errno
import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.cli import main
from movieplotgpt.text.prepare import PrepareReport
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.windows import share_with_title

Run = Callable[..., tuple[int, str, str]]
PLAIN = '[corpus]\nkind = "plain"\n\n[tokenizer]\nkind = "char"\n'
SMALL = "tokenizer.vocab_size=400"


@pytest.fixture
def run(
    tmp_path: Path,
    repository: Path,
    plots_csv: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """``run(...)``: exit code, stdout and stderr of ``prepare`` in a folder with plots.toml and plots.csv."""
    shutil.copy(repository / "configs" / "plots-bpe.toml", tmp_path / "plots.toml")
    shutil.copy(repository / "configs" / "office-bpe.toml", tmp_path / "office.toml")
    (tmp_path / "plain.toml").write_text(PLAIN, encoding="utf-8")
    assert plots_csv == tmp_path / "plots.csv"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["prepare", *arguments])
        return code, *capsys.readouterr()

    return call


def table(out: str) -> dict[str, str]:
    """The rows of the printed table."""
    rows = [line.split("│") for line in out.splitlines() if line.startswith("│")]
    return {name.strip(): value.strip() for _, name, value, _ in rows}


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_the_table_says_all_that_was_found(run: Run) -> None:
    code, out, err = run("plots.toml", SMALL, "--source", "plots.csv", "--out", "data")
    assert (code, err) == (0, "")
    assert out.startswith("plots.csv")
    assert out.endswith("prepared data; next: movieplotgpt train plots.toml --data data\n")
    report, rows = PrepareReport.load(Path("data/report.json"), missing="", damaged=""), table(out)
    train = report.splits["train"]
    expected = {
        "rows read": "60",
        "documents kept": "58",
        "dropped: without text": "1",
        "dropped: repeating a title and its text": "1",
        "cleaned: line breaks": f"{report.cleaning['line breaks']}",
        "cleaned: footnote marks": "2",
        "cleaned: characters folded": f"{report.non_ascii_before}",
        "characters outside ASCII, before / after": f"{report.non_ascii_before} / 0",
        "characters a document: least / median / most": " / ".join(str(report.lengths[i]) for i in (0, 3, 6)),
        "groups of duplicates and remakes": "56",
        "joined by same text": "1",
        "joined by same page": "0",
        "joined by same title": "1",
        "joined by shared shingles": "0",
        "documents with Decade": "58",
        "documents with Origin": "58",
        "documents with Genre": f"{report.hints['Genre']}",
        "vocabulary (bpe)": "400",
        "characters per token": f"{report.characters_per_token:.2f}",
        "train: documents / characters": f"{train.documents:,} / {train.characters:,}",
        "train: body tokens / header tokens": f"{train.body_tokens:,} / {train.header_tokens:,}",
    }
    assert {name: rows.get(name) for name in expected} == expected
    thresholds = "(shingles: 3 or more runs of 13 words, and 1% of the shorter text's)"
    patterns = [r"largest: .*", r"seconds \(read .*, encode .*\)", "peak memory", re.escape(thresholds)]
    patterns += [rf"{split}: (documents / characters|body tokens / header tokens)" for split in report.splits]
    assert [pattern for pattern in patterns if not any(re.fullmatch(pattern, name) for name in rows)] == []


def test_a_title_column_that_repeats_is_warned_of(run: Run, text_of: Callable[[int], str]) -> None:
    rows = [{"Title": f"Kind {i % 3}", "Plot": text} for i, text in enumerate(text_of(40_000).split("\n\n"))]
    Path("kinds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = '[corpus]\nkind = "table"\ntext = "Plot"\n\n[format]\nheader = "A {Title}"\n'
    Path("kinds.toml").write_text(settings, encoding="utf-8")
    code, out, err = run("kinds.toml", SMALL, "--source", "kinds.jsonl", "--out", "data")
    assert (code, err) == (0, "")
    assert f"warning: {len(rows)} documents have only 3 titles or pages, too few to hold some of them out" in out
    report = PrepareReport.load(Path("data/report.json"), missing="", damaged="")
    assert report.splits["train"].documents > 0.8 * len(rows) and len(report.warnings) == 1


def test_the_share_of_tokens_that_see_their_title_is_printed(run: Run) -> None:
    out = run("plots.toml", SMALL, "--source", "plots.csv", "--out", "data")[1]
    share = share_with_title(PreparedCorpus.load(Path("data")).split("train"), 512)
    assert share >= 0.95
    assert table(out)["body tokens that see their whole title (context 512 tokens)"] == f"{share:.1%}"
    overridden = [SMALL, "model.context_length=64"]
    out = run("plots.toml", *overridden, "--source", "plots.csv", "--out", "data")[1]
    narrow = share_with_title(PreparedCorpus.load(Path("data")).split("train"), 64)
    assert narrow < share
    assert table(out)["body tokens that see their whole title (context 64 tokens)"] == f"{narrow:.1%}"


def test_json_is_the_report_and_the_share(run: Run) -> None:
    code, out, err = run("plots.toml", SMALL, "--source", "plots.csv", "--out", "data", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told.pop("share_with_title") == share_with_title(PreparedCorpus.load(Path("data")).split("train"), 512)
    assert PrepareReport.model_validate(told) == PrepareReport.load(Path("data/report.json"), missing="", damaged="")


def test_dialogue_and_plain_text_are_other_tomls(run: Run, office_csv: Path, text_of: Callable[[int], str]) -> None:
    code, out, _ = run("office.toml", SMALL, "--source", office_csv.name, "--out", "office")
    rows = table(out)
    assert code == 0
    assert rows["documents kept"] == "12" and rows["dropped: marked deleted"] == "4"
    assert rows["cleaned: broken quotes"] == "12"
    assert not any("title (context" in name for name in rows), "there are no titles to see"
    Path("my.txt").write_text(text_of(9_000), encoding="utf-8")
    code, out, _ = run("plain.toml", "--source", "my.txt", "--out", "plain")
    assert code == 0 and table(out)["vocabulary (char)"]
    told = json.loads(run("plain.toml", "--source", "my.txt", "--out", "plain", "--json")[1])
    assert told["share_with_title"] is None


def test_titles_are_shown_as_they_are(run: Run, plots_csv: Path) -> None:
    """Not as markup: a title may stand in brackets, and folding writes emoji as names in colons."""
    text = plots_csv.read_text(encoding="utf-8")
    row = "1999,[red]:smile: [/b],American,,,drama,https://example.org/{},A {} keeper of light finds a map.\n"
    Path("x[y].csv").write_text(text + "".join(row.format(i, i * "very ") for i in range(3)), encoding="utf-8")
    code, out, _ = run("plots.toml", SMALL, "--source", "x[y].csv", "--out", "data[1]")
    assert code == 0
    assert out.startswith("x[y].csv") and "prepared data[1]; next" in out
    assert table(out)["largest: [red]:smile: [/b]"] == "3"


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "jsonl", "parquet"])
def test_every_kind_of_table_gives_the_same_documents(
    run: Run, films: list[dict[str, str]], plots_csv: Path, suffix: str
) -> None:
    import polars as pl

    frame = pl.DataFrame(films)
    path = Path(f"films.{suffix}")
    if suffix == "csv.gz":
        path.write_bytes(gzip.compress(plots_csv.read_bytes()))
    elif suffix == "parquet":
        frame.write_parquet(path)
    elif suffix == "jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if suffix == "tsv" else ",")
    run("plots.toml", SMALL, "--source", "plots.csv", "--out", "expected")
    assert run("plots.toml", SMALL, "--source", str(path), "--out", "data")[0] == 0
    for name in ("train", "validation", "test"):
        tokens = f"{name}.tokens.npy"
        assert Path("data", tokens).read_bytes() == Path("expected", tokens).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plots.toml", "--source", "gone.csv"], "there is no file gone.csv"),
        (["plots.toml", "--source", "plots.csv/x"], "there is no file plots.csv/x"),
        (["plots.toml", "--source", "."], "bad.csv.gz is damaged ("),
        (["plots.toml", "--source", "my.txt"], "my.txt has no column 'Plot'; its columns are "),
        (["plain.toml", "--source", "plots.csv"], "plots.csv is a table; name its text column"),
        (
            ["plots.toml", "corpus.text=plott", "--source", "plots.csv"],
            "plots.csv has no column 'plott'; did you mean 'Plot'? its columns are Release Year, Title, Origin/",
        ),
        (["plots.toml", "--source", "other.csv"], "other.csv has no column 'Plot'; its columns are a, b"),
        (["plots.toml", "--source", "empty.csv"], "empty.csv is empty; a table needs a line of column names and rows"),
        (["plots.toml", "--source", "head.csv"], "head.csv has columns (Title, Plot) but no rows"),
        (["plain.toml", "--source", "empty.csv", "corpus.separator=x"], "empty.csv is a table"),
        (["plain.toml", "--source", "blank.txt"], "no document is left of blank.txt: 1 without text"),
        (
            ["plots.toml", "--source", "latin.csv"],
            "latin.csv is not UTF-8: byte 14 in line 2 is 0xe9; save it as UTF-8",
        ),
        (["plain.toml", "--source", "latin.txt"], "latin.txt is not UTF-8: byte 3 in line 1 is 0xe9"),
        (
            ["plots.toml", "--source", "cut.csv.gz"],
            "cut.csv.gz is cut short: the compressed data ends too early; get t",
        ),
        (["plots.toml", "--source", "bad.csv.gz"], "bad.csv.gz is damaged ("),
        (["plots.toml", "--source", "bad.csv.zst"], "bad.csv.zst is damaged ("),
        (["plots.toml", "--source", "bad.jsonl"], "bad.jsonl is not JSON Lines: line 1: "),
        (["plots.toml", "--source", "bad.parquet"], "bad.parquet cannot be read as Parquet: "),
        (["gone.toml", "--source", "plots.csv"], "there is no settings file gone.toml"),
        (["plot.toml", "--source", "plots.csv"], "there is no settings file plot.toml; did you mean plots.toml?"),
        (["typo.toml", "--source", "plots.csv"], "unknown setting cleaning.asci; did you mean cleaning.ascii?"),
        (["my.txt", "--source", "plots.csv"], "my.txt is not valid TOML: "),
        (
            ["plots.toml", "corpus.txt=Plot", "--source", "plots.csv"],
            "unknown setting corpus.txt; did you mean corpus.te",
        ),
        (["plots.toml", "vocab_size=9", "--source", "plots.csv"], "did you mean tokenizer.vocab_size?"),
        (
            ["plots.toml", "tokenizer.kind=bpee", "--source", "plots.csv"],
            "one of char, byte, bpe, not 'bpee'; did you m",
        ),
        (["plots.toml", "tokenizer.vocab_size=many", "--source", "plots.csv"], "setting tokenizer.vocab_size: "),
        (["plots.toml", "nonsense", "--source", "plots.csv"], "'nonsense' is not an override; write section.key=value"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_line_and_what_was_there_stays(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    plots_csv: Path,
    text_of: Callable[[int], str],
    arguments: list[str],
    said: str,
) -> None:
    whole = gzip.compress(plots_csv.read_bytes())
    config = Path("plots.toml").read_text(encoding="utf-8")
    for name, data in {
        "my.txt": text_of(3_000).encode(),
        "empty.csv": b"",
        "head.csv": b"Title,Plot\n",
        "other.csv": b"a,b\n1,2\n",
        "blank.txt": b" \n\n",
        "latin.csv": b"Title,Plot\nA,b\xe9\n",
        "latin.txt": b"caf\xe9\n",
        "cut.csv.gz": whole[: len(whole) // 2],
        "bad.csv.gz": b"no gzip at all",
        "bad.csv.zst": b"no zstd at all",
        "bad.jsonl": b"{'Title': 1}\n",
        "bad.parquet": b"PAR1 and nothing more",
        "typo.toml": config.replace("ascii = true", "asci = true").encode(),
    }.items():
        Path(name).write_bytes(data)
    assert main(["prepare", "plain.toml", "--source", "my.txt", "--out", "data"]) == 0
    capsys.readouterr()
    before = files(Path())
    for folder in ("data", "new"):
        code, out, err = run(*arguments, "--out", folder)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("movieplotgpt: ") and said in err
        assert files(Path()) == before and not Path("new").exists()


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("home", "home is not empty and holds no prepared corpus; name a new folder"),
        ("file", "file is a file; name a folder to prepare into"),
        ("file/below", "cannot write "),
    ],
)
def test_a_place_of_something_else_is_never_replaced(run: Run, out: str, said: str) -> None:
    Path("home").mkdir()
    Path("home/letter.txt").write_text("dear", encoding="utf-8")
    Path("file").write_text("mine", encoding="utf-8")
    before = files(Path())
    code, printed, err = run("plots.toml", SMALL, "--source", "plots.csv", "--out", out)
    assert (code, printed, err.count("\n")) == (1, "", 1)
    assert err.startswith("movieplotgpt: ") and said in err
    assert files(Path()) == before


WEIGHTS_MANIFEST = '{"format_version": 1, "models": {"films": {"files": {}}}, "copies": {}}'
FOREIGN = {
    "a web extension": ("manifest.json", '{"manifest_version": 3, "name": "Tabs", "version": "1.0"}'),
    "published models": ("manifest.json", WEIGHTS_MANIFEST),
    "a list": ("manifest.json", '["corpus_hash", "format_version", "splits"]'),
    "no JSON": ("manifest.json", "{"),
    "nested": ("manifest.json", "[" * 100_000),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_manifest_is_never_replaced(run: Run, name: str) -> None:
    file, text = FOREIGN[name]
    Path("home").mkdir()
    Path("home", file).write_text(text, encoding="utf-8")
    before = files(Path())
    code, _, err = run("plots.toml", SMALL, "--source", "plots.csv", "--out", "home")
    assert (code, err) == (1, "movieplotgpt: home is not empty and holds no prepared corpus; name a new folder\n")
    assert files(Path()) == before


@pytest.mark.parametrize("name", ["notes.txt", ".git/config"])
def test_a_prepared_folder_with_a_file_of_others_is_not_replaced(run: Run, name: str) -> None:
    command = ["plots.toml", SMALL, "--source", "plots.csv", "--out", "data"]
    assert run(*command)[0] == 0
    assert run(*command, "split.seed=2")[0] == 0, "its own files are replaced"
    Path("data", name).parent.mkdir(exist_ok=True)
    Path("data", name).write_text("mine", encoding="utf-8")
    before = files(Path())
    code, _, err = run(*command, "split.seed=3")
    top = Path("data", Path(name).parts[0])
    sentence = f"movieplotgpt: {top} is not of the prepared corpus in data; move it, or name a new folder\n"
    assert (code, err) == (1, sentence)
    assert files(Path()) == before


def test_a_full_disk_leaves_the_corpus_that_was_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("plots.toml", SMALL, "--source", "plots.csv", "--out", "data")
    before = files(Path())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("movieplotgpt.atomic.os.fsync", full)
    for out in ("data", "new"):
        code, printed, err = run("plots.toml", SMALL, "split.seed=3", "--source", "plots.csv", "--out", out)
        assert (code, printed, err.count("\n")) == (1, "", 1)
        assert re.match(r"movieplotgpt: no space left on the disk for .*; free some and run the command again\n", err)
        assert files(Path()) == before
    assert not Path("new").exists()
