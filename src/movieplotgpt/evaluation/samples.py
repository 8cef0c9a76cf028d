"""The scorecard of what a model writes, between its ceiling, real plots, and its floors, texts made of real ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation import words
from movieplotgpt.evaluation.embeddings import F32, Encoder, own_title_ranks, similarity_lift, told_from_real
from movieplotgpt.evaluation.floors import shuffled_sentences, trigram_texts
from movieplotgpt.evaluation.held_out import Progress, draw_documents
from movieplotgpt.evaluation.intervals import bits_per_character
from movieplotgpt.generation.generator import TEXTS_AT_ONCE, Plot, PlotGenerator
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.scoring import score_documents
from movieplotgpt.text.copies import CopyIndex
from movieplotgpt.text.sentences import lower_case_words
from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit

SAMPLES, FEWEST = 300, 5
READ = 1_000  # characters of each text that are looked at: names and loops depend on the length
REAL_A, REAL_B, SHUFFLED, TRIGRAMS = "real A", "real B", "sentences shuffled", "trigrams"
EXAMPLES, SHOWN = 3, 600  # texts that are kept, and characters of each
_LABELLED = 0.8  # of a text's lines: then it is a dialogue


class TitlesFound(BaseModel):
    """How often a text's title is the nearest, or among the ten nearest, of all titles, by a sentence encoder.

    ``masked_at_10`` reads the texts without the words of their titles.
    """

    model_config = ConfigDict(frozen=True)

    at_1: float
    at_10: float
    masked_at_10: float
    candidates: int


class SampleScores(BaseModel):
    """One row of the scorecard; what cannot be asked of these texts is None.

    ``told_from_real`` is of a classifier against real A, by chance 0.5; ``length_distance`` the greatest difference of
    the two distributions of lengths; ``judge_bits`` bits per character under another model, to be near to real text's:
    lower is loops, higher is salad; ``invented`` the share of lower-case words that neither English nor the training
    text knows; ``copied`` the share of characters in runs of 50 and more that stand in the training text, ``longest_copy``
    the mean over texts of the longest shared run (none is told under 31); ``known_speakers`` the share of lines whose
    speaker the training text knows.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    texts: int
    characters: float
    length_distance: float | None
    ended: float | None
    names_that_return: float
    names_per_text: float
    invented: float
    repeated: float
    similarity_lift: float
    told_from_real: float | None
    titles: TitlesFound | None
    known_speakers: float | None
    judge_bits: float | None
    copied: float | None = None
    longest_copy: float | None = None


class Example(BaseModel):
    """The beginning of a text the model wrote."""

    model_config = ConfigDict(frozen=True)

    title: str
    text: str


class SampleReport(BaseModel):
    """The scorecard: the rows, how the samples were drawn, and the first of them."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[SampleScores, ...]
    sampling: SamplingConfig
    seed: int
    characters_read: int
    judge: str | None
    seconds: float
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class _Texts:
    """Whole texts and their titles; ``ended`` is the share that came to an end by itself."""

    name: str
    titles: Sequence[str]
    whole: Sequence[str]
    ended: float | None = None


def score_samples(
    name: str,
    checkpoint: Checkpoint,
    corpus: PreparedCorpus,
    *,
    samples: int = SAMPLES,
    sampling: SamplingConfig | None = None,
    judge: Checkpoint | None = None,
    judge_name: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> SampleReport:
    """Write ``samples`` texts under titles of the test split, and score them, as ``name``, beside real ones.

    Real A are the test documents of these titles, real B as many of the validation split.

    Raises:
        DataError: the corpus has no test or no validation split, or fewer than FEWEST documents in one.
        MissingExtraError: a library of the extra ``evaluate`` is not installed.
    """
    began = time.monotonic()
    progress = progress or (lambda stage, done, total: None)
    words.word_frequencies()
    encode = Encoder()
    sampling = sampling or SamplingConfig()
    real_a, real_b = (_real(corpus, name, samples, seed) for name in (REAL_A, REAL_B))
    if min(len(real_a.whole), len(real_b.whole)) < FEWEST:
        raise DataError(f"a scorecard of samples needs {FEWEST} test and {FEWEST} validation documents at least")
    training = corpus.split("train")
    floors = (
        _Texts(SHUFFLED, real_a.titles, shuffled_sentences(real_a.whole, seed)),
        _Texts(TRIGRAMS, real_a.titles, trigram_texts(_some(corpus, training), list(map(len, real_a.whole)), seed)),
    )
    written = _write(name, checkpoint, real_a.titles, sampling, seed, progress)
    everything = [real_a, real_b, *floors, written]
    known = _Known(corpus, training, everything, progress)
    real_vectors = encode(_cut(real_a.whole))
    rows = []
    copies = CopyIndex.of_corpus(corpus)
    for k, texts in enumerate(everything):
        rows.append(_score(texts, real_a, real_vectors, encode, known, judge, copies))
        progress("scorecard", k + 1, len(everything))
    return SampleReport(
        rows=tuple(rows),
        sampling=sampling,
        seed=seed,
        characters_read=READ,
        judge=judge_name,
        examples=tuple(
            Example(title=title, text=text[:SHOWN])
            for title, text in zip(written.titles[:EXAMPLES], written.whole, strict=False)
        ),
        seconds=round(time.monotonic() - began, 2),
    )


def _real(corpus: PreparedCorpus, name: str, samples: int, seed: int) -> _Texts:
    part = corpus.split("test" if name == REAL_A else "validation")
    rows = draw_documents(part, samples, seed).tolist()
    return _Texts(name, [part.titles[i] for i in rows], [corpus.tokenizer.decode(part.body(i)) for i in rows])


def _some(corpus: PreparedCorpus, part: PreparedSplit, most: int = 3_000) -> list[str]:
    rows = draw_documents(part, most, seed=0).tolist()
    return [corpus.tokenizer.decode(part.body(i)) for i in rows]


def _write(
    name: str,
    checkpoint: Checkpoint,
    titles: Sequence[str],
    sampling: SamplingConfig,
    seed: int,
    progress: Progress,
) -> _Texts:
    generator = PlotGenerator(checkpoint)
    asked = titles if checkpoint.format.header else [""] * len(titles)
    plots: list[Plot] = []
    while len(plots) < len(asked):
        some = asked[len(plots) : len(plots) + TEXTS_AT_ONCE]
        plots += generator.plots(some, sampling=sampling, seed=seed + len(plots), n=1)
        progress("writing samples", len(plots), len(asked))
    ended = float(np.mean([plot.finish_reason == "stop" for plot in plots]))
    return _Texts(name, titles, [plot.text for plot in plots], ended)


def _score(
    texts: _Texts,
    real: _Texts,
    real_vectors: F32,
    encode: Encoder,
    known: _Known,
    judge: Checkpoint | None,
    copies: CopyIndex,
) -> SampleScores:
    from scipy.stats import ks_2samp

    read, is_real = _cut(texts.whole), texts.name == REAL_A
    lengths = [len(text) for text in texts.whole]
    copied = [copies.report(text) for text in read]
    distance = (
        None if is_real else float(ks_2samp(lengths, [len(text) for text in real.whole], method="asymp").statistic)
    )
    return SampleScores(
        name=texts.name,
        texts=len(read),
        characters=float(np.median(lengths)),
        length_distance=distance,
        ended=texts.ended,
        names_that_return=words.share_of_names_that_return(read),
        names_per_text=words.names_per_text(read),
        invented=known.invented(read),
        repeated=words.repeated_spans(read),
        similarity_lift=similarity_lift(encode, read),
        told_from_real=None if is_real else told_from_real(real_vectors, encode(read)),
        titles=_titles_found(encode, texts.titles, read),
        known_speakers=known.speakers(read),
        judge_bits=_judge_bits(judge, texts.titles, read) if judge else None,
        copied=sum(found.share * len(text) for found, text in zip(copied, read, strict=True))
        / max(1, sum(map(len, read))),
        longest_copy=float(np.mean([found.longest for found in copied])),
    )


def _cut(texts: Sequence[str]) -> list[str]:
    return [text[:READ] for text in texts]


def _titles_found(encode: Encoder, titles: Sequence[str], texts: Sequence[str]) -> TitlesFound | None:
    if not any(titles):
        return None
    vectors = encode(titles)
    ranks = own_title_ranks(vectors, encode(texts))
    masked = [words.without_words_of(title, text) for title, text in zip(titles, texts, strict=True)]
    return TitlesFound(
        at_1=float((ranks <= 1).mean()),
        at_10=float((ranks <= 10).mean()),
        masked_at_10=float((own_title_ranks(vectors, encode(masked)) <= 10).mean()),
        candidates=len(titles),
    )


def _judge_bits(judge: Checkpoint, titles: Sequence[str], texts: Sequence[str]) -> float | None:
    """Bits per character of the texts, which do not end where reading stops; None where all are empty."""
    if not any(texts):
        return None
    headers = judge.tokenizer.encode_batch([judge.format.sentence(title) for title in titles])
    documents = list(zip(headers, judge.tokenizer.encode_batch(list(texts)), strict=True))
    scores = score_documents(judge.model, documents, judge.tokenizer.end_id)
    return bits_per_character(scores.body - scores.end, np.array([len(text) for text in texts]))


class _Known:
    """What the training text knows of the words and the speakers that are asked about."""

    def __init__(
        self, corpus: PreparedCorpus, training: PreparedSplit, asked: Sequence[_Texts], progress: Progress
    ) -> None:
        read = (text for texts in asked for text in _cut(texts.whole))
        self._invented = words.unknown_to_english(word for text in read for word in lower_case_words(text))
        self._speakers: set[str | None] | None = set() if _is_dialogue(asked[0].whole) else None
        for i in range(training.n_documents):
            text = corpus.tokenizer.decode(training.body(i))
            self._invented.difference_update(lower_case_words(text))
            if self._speakers is not None:
                self._speakers.update(words.labels(text))
            progress("words of the training text", i + 1, training.n_documents)

    def invented(self, texts: Sequence[str]) -> float:
        """The share of lower-case words that neither English nor the training text knows."""
        found = [word for text in texts for word in lower_case_words(text)]
        return sum(word in self._invented for word in found) / max(1, len(found))

    def speakers(self, texts: Sequence[str]) -> float | None:
        """The share of lines that a speaker of the training text speaks; None where the real text is no dialogue."""
        if self._speakers is None:
            return None
        found = [label for text in texts for label in words.labels(text)]
        return sum(label is not None and label in self._speakers for label in found) / max(1, len(found))


def _is_dialogue(texts: Sequence[str]) -> bool:
    found = [label for text in texts for label in words.labels(text)]
    return sum(label is not None for label in found) > _LABELLED * len(found)
