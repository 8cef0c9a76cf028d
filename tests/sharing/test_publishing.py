"""What is published is checked to the byte, and a refusal leaves what was there."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from movieplotgpt.checksums import file_sha256
from movieplotgpt.config import build_settings
from movieplotgpt.engine.model_config import parameters
from movieplotgpt.errors import CheckpointError, ConfigError, DataError
from movieplotgpt.evaluation.likelihood import evaluate
from movieplotgpt.evaluation.record import describe, read_evaluation
from movieplotgpt.generation.copying import copy_index
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from movieplotgpt.sharing import publishing
from movieplotgpt.sharing.model_card import SAMPLE_TOKENS
from movieplotgpt.sharing.published import WeightsManifest, read_manifest, verify
from movieplotgpt.sharing.publishing import publish, publish_copies, weights_readme
from movieplotgpt.text.prepare import PrepareSettings, prepare
from movieplotgpt.text.token_files import PreparedCorpus

Make = Callable[..., Checkpoint]
CARDS = """
[cards.films]
models = ["films-bpe", "films-char"]
summary = "Writes an invented film."
licence = "cc-by-sa-4.0"
data = "Trained on 60 invented films."
limits = "It has learned nothing."
example = "The Hollow Piano"
samples = ["The Hollow Piano", "Mars *and* <Venus>"]

[cards.talk]
models = ["talk"]
summary = "Writes invented dialogue."
licence = "other"
licence_name = "none-stated"
data = "Trained on invented dialogue."
limits = "It has learned nothing."
example = "Ada:"
"""
TRAINING = {"step": 7, "tokens": 3584, "seconds": 2.5, "device": "cpu", "precision": "float32", "threads": 1}
INFO: dict[str, Any] = {
    "corpus": {"source": "films.csv", "source_sha256": "a" * 64, "hash": "c" * 64, "split_hash": "5" * 64},
    "training": {**TRAINING, "torch": "2.13.0"},
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights folder with cards and nothing published yet."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "cards.toml").write_text(CARDS, encoding="utf-8")
    return folder


@pytest.fixture
def run(tmp_path: Path, tiny_checkpoint: Make) -> Path:
    """A run with a best checkpoint, in float32, and what resuming needs beside its last."""
    for name, seed in (("best", 0), ("last", 1)):
        save_checkpoint(tmp_path / "run" / name, replace(tiny_checkpoint(seed=seed), info=INFO))
        (tmp_path / "run" / name / "training").mkdir()
        (tmp_path / "run" / name / "training" / "state.json").write_text("{}", encoding="utf-8")
    return tmp_path / "run"


@pytest.fixture
def evaluated(tmp_path: Path, plots_csv: Path) -> Callable[[Path], Path]:
    """``evaluated(folder)``: a file of what its weights are worth on two invented films."""
    values: dict[str, Any] = {
        "corpus": {"kind": "table", "text": "Plot"},
        "format": {"header": "The plot summary of the movie named '{Title}' is:"},
        "split": {"kind": "group", "test": 0.2},
        "tokenizer": {"kind": "byte"},
    }

    def measure(folder: Path) -> Path:
        if not (tmp_path / "data").exists():
            prepare(build_settings(PrepareSettings, values), plots_csv, tmp_path / "data")
        checkpoint, corpus = load_checkpoint(folder), PreparedCorpus.load(tmp_path / "data")
        path = tmp_path / f"{folder.name}.json"
        describe(folder.name, checkpoint, evaluate(checkpoint, corpus, documents=3, resamples=20)).write(path)
        return path

    return measure


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("file", ["last/model.safetensors", "config.json", "notes.txt"])
def test_publishing_replaces_no_folder_of_something_else(weights: Path, run: Path, file: str) -> None:
    path = weights / "films-bpe" / file
    path.parent.mkdir(parents=True)
    path.write_text("mine", encoding="utf-8")
    before = contents(weights)
    with pytest.raises(ConfigError) as caught:
        publish(run, "films-bpe", weights)
    assert str(caught.value) == (
        f"{weights / 'films-bpe'} holds {file}, which is not of a published model; move it, or take another name"
    )
    assert contents(weights) == before


def test_refresh_leaves_the_weights(weights: Path, run: Path) -> None:
    before = publish(run, "films-bpe", weights)
    folder = weights / "films-bpe"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert publishing.refresh("films-bpe", weights) == before
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(
        CheckpointError, match=r"films-bpe is not as published: films-bpe/tokenizer_config.json differs"
    ):
        publishing.refresh("films-bpe", weights)
    card = files["README.md"].decode().replace("ids = model.generate(**inputs)", "ids = old(**inputs)")
    (folder / "README.md").write_text(card, encoding="utf-8")
    manifest = read_manifest(weights)
    old = manifest.models["films-bpe"].model_copy(update={"files": publishing._files(folder), "size": 1})
    manifest.model_copy(update={"models": {"films-bpe": old}}).write(weights / "manifest.json")
    assert publishing.refresh("films-bpe", weights) == before, "as an older version had written it"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert verify(weights) == ["films-bpe"]
    with pytest.raises(ConfigError, match=r"has no model 'films'; it has films-bpe$"):
        publishing.refresh("films", weights)


def test_refreshing_records_the_usual_values_of_hints(
    weights: Path, tmp_path: Path, tiny_checkpoint: Make, plots_csv: Path
) -> None:
    values: dict[str, Any] = {
        "corpus": {"kind": "table", "text": "Plot", "hints": {"Decade": {"kind": "decade", "column": "Release Year"}}},
        "format": {"header": "The plot summary of the movie named '{Title}' is:", "hints": ["Decade"]},
        "tokenizer": {"kind": "byte"},
    }
    prepare(build_settings(PrepareSettings, values), plots_csv, tmp_path / "data")
    corpus = PreparedCorpus.load(tmp_path / "data")
    info = {**INFO, "corpus": {**INFO["corpus"], "hash": corpus.manifest.corpus_hash}}
    save_checkpoint(tmp_path / "model", replace(tiny_checkpoint(hints=("Decade",)), info=info))
    publish(tmp_path / "model", "films-bpe", weights)
    weights_before = file_sha256(weights / "films-bpe" / "model.safetensors")
    publishing.refresh("films-bpe", weights, tmp_path / "data")
    recorded = load_checkpoint(weights / "films-bpe").info["corpus"]
    assert recorded == {**info["corpus"], "hint_values": {"Decade": [*corpus.manifest.hint_values["Decade"]]}}
    assert recorded["hint_values"]["Decade"]
    assert file_sha256(weights / "films-bpe" / "model.safetensors") == weights_before
    assert verify(weights) == ["films-bpe"]
    save_checkpoint(tmp_path / "other", replace(tiny_checkpoint(hints=("Decade",)), info=INFO))
    publish(tmp_path / "other", "films-char", weights)
    with pytest.raises(DataError, match=r"is not the corpus that .* was trained on"):
        publishing.refresh("films-char", weights, tmp_path / "data")


def test_the_best_checkpoint_is_published_in_bfloat16(weights: Path, run: Path) -> None:
    entry = publish(run, "films-bpe", weights)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (run / "best", weights / "films-bpe"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, ours[name].to(torch.bfloat16))
    assert json.loads((weights / "films-bpe" / "config.json").read_text(encoding="utf-8"))["torch_dtype"] == "bfloat16"
    published, source = load_checkpoint(weights / "films-bpe"), load_checkpoint(run)
    assert (published.format, published.cleaning, published.info) == (source.format, source.cleaning, source.info)
    assert published.tokenizer.to_json() == source.tokenizer.to_json()
    assert entry.parameters == parameters(source.model.config)


def test_what_resuming_needs_is_not_published(weights: Path, run: Path) -> None:
    publish(run / "last", "films-bpe", weights)
    assert [path for path in (weights / "films-bpe").rglob("*") if path.is_dir()] == []
    assert sorted(path.name for path in weights.iterdir()) == ["README.md", "cards.toml", "films-bpe", "manifest.json"]


def test_the_manifest_names_every_byte(weights: Path, run: Path) -> None:
    entry = publish(run, "films-bpe", weights)
    files = contents(weights / "films-bpe")
    assert read_manifest(weights).models == {"films-bpe": entry}
    assert {name: (file.sha256, file.size) for name, file in entry.files.items()} == {
        name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()
    }
    assert {"README.md", "config.json", "model.safetensors", "movieplotgpt.json", "tokenizer.json"} < files.keys()
    assert entry.size == sum(map(len, files.values()))
    assert (entry.corpus_hash, entry.bits_per_character, entry.split) == ("c" * 64, None, None)
    assert verify(weights) == ["films-bpe"]


def test_the_card_shows_what_the_published_weights_write(weights: Path, run: Path) -> None:
    publish(run, "films-bpe", weights)
    text = (weights / "films-bpe" / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Samples\n")[2].partition("\n## ")[0]
    assert "**Mars *and* &lt;Venus&gt;**" in section
    written = PlotGenerator.load(weights / "films-bpe").plot("The Hollow Piano", seed=1, max_tokens=SAMPLE_TOKENS).text
    quoted = "\n".join(line.removeprefix(">").removeprefix(" ") for line in section.split("\n") if line.startswith(">"))
    first_lines = [" ".join(html.unescape(line).split()) for line in quoted.split("\n")]
    expected = [" ".join(line.split()) for line in written.strip().split("\n")]
    assert first_lines[: len(expected)] == expected


def test_publishing_twice_gives_the_same_bytes(weights: Path, run: Path) -> None:
    publish(run, "films-bpe", weights)
    first = contents(weights)
    publish(run, "films-bpe", weights)
    assert contents(weights) == first


def test_models_stand_side_by_side_in_the_order_of_their_names(weights: Path, run: Path, tiny_checkpoint: Make) -> None:
    save_checkpoint(weights.parent / "talk", tiny_checkpoint("char", header=""))
    entries = {"talk": publish(weights.parent / "talk", "talk", weights)}
    before = contents(weights / "talk")
    entries["films-bpe"] = publish(run, "films-bpe", weights)
    assert verify(weights) == ["films-bpe", "talk"]
    assert read_manifest(weights).models == entries
    assert contents(weights / "talk") == before
    assert entries["talk"].licence == "none-stated"
    assert entries["talk"].corpus_hash is None, "a checkpoint that names no corpus"


def test_evaluation_is_put_on_the_card(weights: Path, run: Path, evaluated: Callable[[Path], Path]) -> None:
    publish(run, "films-bpe", weights)
    folder = weights / "films-bpe"
    before = contents(folder)
    assert b"Not measured yet." in before["README.md"]
    path = evaluated(folder)
    entry = publish(folder, "films-bpe", weights, evaluation=path)
    after, measured = contents(folder), read_evaluation(path).likelihood
    assert {name for name in after if after[name] != before[name]} == {"README.md", "movieplotgpt.json"}
    card = after["README.md"].decode()
    assert f"**{measured.bits_per_character:.3f}**" in card
    assert measured.title_lift and f"{measured.title_lift.bits_per_character:.4f}" in card
    assert "before they were rounded" not in card and "Not measured" not in card
    assert (entry.bits_per_character, entry.split) == (measured.bits_per_character, "test")
    kept = load_checkpoint(folder).info
    assert kept["evaluation"]["bits_per_character"] == measured.bits_per_character
    assert {name: kept[name] for name in INFO} == INFO
    assert verify(weights) == ["films-bpe"]
    assert f"| {measured.bits_per_character:.3f} (test) |" in (weights / "README.md").read_text(encoding="utf-8")


def test_numbers_of_the_weights_before_rounding_say_so(
    weights: Path, run: Path, evaluated: Callable[[Path], Path]
) -> None:
    publish(run, "films-bpe", weights, evaluation=evaluated(run / "best"))
    card = (weights / "films-bpe" / "README.md").read_text(encoding="utf-8")
    assert "Measured on the float32 weights, before they were rounded to bfloat16." in card


def test_numbers_of_other_weights_are_refused(weights: Path, run: Path, evaluated: Callable[[Path], Path]) -> None:
    publish(run, "films-bpe", weights)
    before = contents(weights)
    path = evaluated(run / "last")
    with pytest.raises(
        CheckpointError, match=r"last\.json was measured on other weights \(SHA-256 [0-9a-f]{16}\.\.\."
    ) as e:
        publish(run, "films-bpe", weights, evaluation=path)
    assert "run `movieplotgpt evaluate` on the checkpoint to publish" in str(e.value)
    assert contents(weights) == before


def test_more_than_64_mb_are_refused(weights: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert publishing.LARGEST == 64_000_000 and publishing.LARGEST_FILE < 30_000_000
    entry = publish(run, "films-bpe", weights)
    monkeypatch.setattr(publishing, "LARGEST", entry.size)
    publish(run, "films-bpe", weights)
    before = contents(weights)
    monkeypatch.setattr(publishing, "LARGEST", entry.size - 1)
    for name in ("films-bpe", "films-char"):
        with pytest.raises(
            CheckpointError, match=rf"{name} would take \d+ MB.*stay under .* MB; publish a smaller model"
        ):
            publish(run, name, weights)
    assert contents(weights) == before
    assert verify(weights) == ["films-bpe"]


@pytest.mark.parametrize("name", ["", "Films", "a b", "../x", "a/b", ".hidden", "-x", "é"])
def test_a_name_that_is_no_folders_is_refused(weights: Path, run: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a model; use small letters, digits and hyphens"):
        publish(run, name, weights)


def test_what_is_missing_is_said_before_anything_is_written(weights: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match=r"cards\.toml has no card for 'poems'; add the name to `models`"):
        publish(run, "poems", weights)
    with pytest.raises(CheckpointError, match="there is no model"):
        publish(weights.parent / "nowhere", "films-bpe", weights)
    with pytest.raises(DataError, match="there is no evaluation"):
        publish(run, "films-bpe", weights, evaluation=weights / "none.json")
    assert [path.name for path in weights.iterdir()] == ["cards.toml"]
    (weights / "cards.toml").unlink()
    with pytest.raises(ConfigError, match=r"cards\.toml"):
        publish(run, "films-bpe", weights)


def test_every_deviation_is_named(weights: Path, run: Path) -> None:
    for name in ("films-bpe", "films-char"):
        publish(run, name, weights)
    (weights / "films-bpe" / "config.json").unlink()
    model = weights / "films-char" / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1  # one bit of one weight
    model.write_bytes(data)
    (weights / "films-char" / "deep").mkdir()
    (weights / "films-char" / "deep" / "extra.bin").write_bytes(b"")
    (weights / "by-hand").mkdir()
    (weights / "by-hand" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError) as error:
        verify(weights)
    said = str(error.value)
    for problem in (
        "films-bpe/config.json is missing",
        "films-char/model.safetensors differs",
        "films-char/deep/extra.bin is not in the manifest",
        "by-hand is not in the manifest",
    ):
        assert problem in said
    assert said.count(";") == 4 and said.endswith("get or publish it again") and "\n" not in said


def test_a_published_folder_that_is_gone_is_named(weights: Path, run: Path) -> None:
    entry = publish(run, "films-bpe", weights)
    (weights / "films-bpe").rename(weights.parent / "elsewhere")
    with pytest.raises(CheckpointError) as error:
        verify(weights)
    assert all(f"films-bpe/{name} is missing" in str(error.value) for name in entry.files)


def test_a_package_that_carries_some_models_has_to_have_those_whole(
    weights: Path, run: Path, evaluated: Callable[[Path], Path], tmp_path: Path
) -> None:
    for name in ("films-bpe", "films-char"):
        publish(run, name, weights)
    evaluated(weights / "films-bpe")  # which prepares the corpus
    publish_copies(tmp_path / "data", "films", weights)
    (weights / "cards.toml").unlink()
    (weights / "copies" / "films.npz").unlink()
    (weights / "films-char").rename(tmp_path / "elsewhere")
    assert verify(weights) == ["films-bpe"]
    (weights / "films-bpe" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"films-bpe/config\.json is missing; get or publish it again"):
        verify(weights)


def test_nothing_published_is_nothing_wrong(weights: Path) -> None:
    assert verify(weights) == []
    assert read_manifest(weights) == WeightsManifest()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"models": {"a": {}}}', '{"models": 3}', '{"extra": 1}'])
def test_a_damaged_manifest_is_said(weights: Path, run: Path, text: str) -> None:
    (weights / "manifest.json").write_text(text, encoding="utf-8")
    for use in (lambda: verify(weights), lambda: publish(run, "films-bpe", weights)):
        with pytest.raises(
            CheckpointError, match=r"manifest\.json is damaged; get it again or publish the models anew"
        ):
            use()
    assert (weights / "manifest.json").read_text(encoding="utf-8") == text


def test_a_manifest_of_another_version_is_said(weights: Path) -> None:
    (weights / "manifest.json").write_text('{"format_version": 2, "models": {}}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="has format 2, this version reads 1; update movieplotgpt"):
        read_manifest(weights)


def test_the_readme_has_a_row_for_each_model(weights: Path, run: Path, evaluated: Callable[[Path], Path]) -> None:
    publish(run, "films-bpe", weights)
    publish(run, "films-char", weights, evaluation=evaluated(run / "best"))
    text = (weights / "README.md").read_text(encoding="utf-8")
    manifest = read_manifest(weights)
    assert text == weights_readme(manifest)
    rows = [line for line in text.splitlines() if line.startswith("| [")]
    assert [row.split("]")[0] for row in rows] == ["| [films-bpe", "| [films-char"]
    for (name, entry), row in zip(manifest.models.items(), rows, strict=True):
        assert f"[{name}]({name}/README.md)" in row and (weights / name / "README.md").is_file()
        assert "Writes an invented film." in row and f"{entry.size / 1e6:.1f} MB" in row and "cc-by-sa-4.0" in row
    assert "| - |" in rows[0] and "(test) |" in rows[1]


def test_an_index_of_copies_is_published_beside_the_models(
    weights: Path, run: Path, tmp_path: Path, evaluated: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(run, "films-bpe", weights)
    evaluated(weights / "films-bpe")  # which prepares the corpus
    entry = publish_copies(tmp_path / "data", "films", weights)
    publish(run, "films-bpe", weights)  # leaves it where it is
    assert read_manifest(weights).copies == {"films": entry}
    assert verify(weights) == ["films-bpe"] and f"| [films](copies/films.npz) | {entry.works} |" in weights_readme(
        read_manifest(weights)
    )
    corpus = PreparedCorpus.load(tmp_path / "data")
    monkeypatch.setenv("MOVIEPLOTGPT_WEIGHTS", str(weights))
    checkpoint = load_checkpoint("films-bpe")
    with pytest.raises(DataError, match="no copy index of the text this model was trained on"):
        copy_index(checkpoint)
    trained = replace(checkpoint, info={"corpus": {"hash": entry.corpus_hash}})
    body = corpus.tokenizer.decode(corpus.split("train").body(3))
    report = copy_index(trained).report(body)
    assert corpus.split("train").titles[3] in {copy.title for copy in report.copies} and not report.exact
    assert copy_index(trained, tmp_path / "data").report(body).exact
    with pytest.raises(DataError, match="is not the corpus this model was trained on"):
        copy_index(replace(checkpoint, info={"corpus": {"hash": "other"}}), tmp_path / "data")
    (weights / "copies" / "stray.npz").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"copies/stray\.npz is not in the manifest"):
        verify(weights)
    assert copy_index(trained).report(body).copies, "a damaged index of another text is passed over"
    (weights / "copies" / "stray.npz").unlink()
    with pytest.raises(ConfigError, match="'copies' cannot name a model"):
        publish(run, "copies", weights)
    path = weights / "copies" / "films.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"copies/films\.npz differs"):
        verify(weights)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"copies/films\.npz is missing"):
        verify(weights)


@pytest.mark.parametrize("size", [0, 1, 1_000_003])
def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(b"x" * size)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(b"x" * size).hexdigest()
