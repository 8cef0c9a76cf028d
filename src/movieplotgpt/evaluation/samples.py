"""The scorecard of what a model writes, between its ceiling, real plots, and its floors, texts made of real ones."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from movieplotgpt.engine.model_config import Precision
from movieplotgpt.errors import DataError
from movieplotgpt.evaluation import words
from movieplotgpt.evaluation.embeddings import ENCODER_SHA256, Encoder, own_title_ranks, similarity_lift, told_from_real
from movieplotgpt.evaluation.floors import shuffled_sentences, trigram_texts
from movieplotgpt.evaluation.held_out import draw_documents
from movieplotgpt.evaluation.intervals import Interval, Tally, share_interval, tally
from movieplotgpt.generation.generator import TEXTS_AT_ONCE, PlotGenerator
from movieplotgpt.generation.plots import Plot
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.scoring import score_documents
from movieplotgpt.progress_bars import StageReport, silent
from movieplotgpt.records import Record
from movieplotgpt.text.copies import CopyIndex
from movieplotgpt.text.sentences import lower_case_words
from movieplotgpt.text.splits import Split
from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit

SAMPLES, FEWEST = 300, 5
READ = 1_000  # characters of each text that are looked at: names and loops depend on the length
REAL_A, REAL_B, SHUFFLED, TRIGRAMS = "real A", "real B", "sentences shuffled", "trigrams"
ENDS = (320, 512, 1_000)  # tokens: 36, 53 and 76 % of real plots end by then
_COUNTED = 3_000  # training texts that trigrams are counted in
EXAMPLES, SHOWN = 3, 600  # texts that are kept, and characters of each
_LABELLED = 0.8  # of a text's lines: then it is a dialogue


class TitlesFound(Record):
    """How often a text's title is the nearest, or among the ten nearest, of all titles, by a sentence encoder.

    ``masked_at_10`` reads the texts without the words of their titles.
    """

    at_1: float
    at_10: float
    masked_at_10: float
    candidates: int


class SampleScores(Record):
    """One row of the scorecard; what cannot be asked of these texts is None.

    ``told_from_real`` is of a classifier against real A, by chance 0.5; ``length_distance`` the greatest difference of
    the two distributions of lengths; ``judge_bits`` bits per character under another model, to be near to real text's:
    lower is loops, higher is salad; ``invented`` the share of lower-case words that neither English nor the training
    text knows; ``copied`` the share of characters in runs of 50 and more shared with the training text, ``longest_copy``
    the mean over texts of the longest shared passage (31 characters or more); ``known_speakers`` the share of lines whose
    speaker the training text knows.

    What a reader notices: ``self_meetings`` per text ("Brill tells Brill"), ``crowded_sentences`` the share with one name
    three times, ``top_name`` the share of a text's most frequent name, ``title_words`` per 100 words, ``title_sentences`` the
    share of sentences with one, ``title_word_4``, ``_6``, ``_9`` the share of texts that use one title word so often,
    ``shared_openings`` the share of texts whose first three words open another one, ``repeated`` that of five words in a
    row which the text had before. ``names_that_return`` rises with self-meetings: read the two together. ``ended_320``,
    ``_512``, ``_1000`` are the shares of whole texts that end within so many tokens of the corpus.

    ``intervals`` has the 95 % interval of each that is a sum over texts or a share of them, by its name: works drawn anew,
    or Wilson's of as many works.
    """

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
    title_words: float | None = None
    title_sentences: float | None = None
    title_word_4: float | None = None
    title_word_6: float | None = None
    title_word_9: float | None = None
    self_meetings: float | None = None
    crowded_sentences: float | None = None
    top_name: float | None = None
    shared_openings: float | None = None
    ended_320: float | None = None
    ended_512: float | None = None
    ended_1000: float | None = None
    judge_bits: float | None
    copied: float | None = None
    longest_copy: float | None = None
    intervals: dict[str, Interval] = Field({})


SHOWN_SCORES = {  # the rows of the scorecard: how they are shown, and which scores of SampleScores
    "names that return": ("{:.2f}", "names_that_return"),
    "names": ("{:.1f}", "names_per_text"),
    "invented words": ("{:.2%}", "invented"),
    "meets itself": ("{:.2f}", "self_meetings"),
    "name 3x": ("{:.1%}", "crowded_sentences"),
    "top name": ("{:.2f}", "top_name"),
    "repeated": ("{:.2%}", "repeated"),
    "same opening": ("{:.0%}", "shared_openings"),
    "copied": ("{:.2%}", "copied"),
    "title words / 100": ("{:.2f}", "title_words"),
    "title word 4 / 6 / 9x": ("{:.0%}", "title_word_4", "title_word_6", "title_word_9"),
    "similarity lift": ("{:.3f}", "similarity_lift"),
    "told from real": ("{:.2f}", "told_from_real"),
    "title at 1 / 10 / masked 10": ("{:.2f}", "at_1", "at_10", "masked_at_10"),
    "judge, bits": ("{:.3f}", "judge_bits"),
    "ended": ("{:.0%}", "ended"),
    "... in 320 / 512 / 1,000 tokens": ("{:.0%}", "ended_320", "ended_512", "ended_1000"),
    "length distance": ("{:.2f}", "length_distance"),
    "known speakers": ("{:.1%}", "known_speakers"),
}


class Example(Record):
    """The beginning of a text the model wrote."""

    title: str
    text: str


class SampleReport(Record):
    """The scorecard: the rows, how the samples were drawn, and the first of them.

    ``split`` has the titles, and real A. ``by_work`` is false in older records: their ``told_from_real`` tore works apart
    between folds and is too low, and their intervals are of documents.
    """

    rows: tuple[SampleScores, ...]
    split: Split = "test"
    by_work: bool = False
    sampling: SamplingConfig
    seed: int
    precision: Precision = "float32"
    characters_read: int
    judge: str | None
    encoder_sha256: str | None = None  # of the weights of the sentence encoder; None in older records
    seconds: float
    seconds_writing: float | None = None
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class _Texts:
    """Whole texts and their titles; ``ended`` marks the written ones that ended by themselves."""

    name: str
    titles: Sequence[str]
    works: Sequence[str]  # whose titles these are
    whole: Sequence[str]
    ended: Sequence[bool] | None = None


def score_samples(
    name: str,
    checkpoint: Checkpoint,
    corpus: PreparedCorpus,
    *,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    **others: Any,
) -> SampleReport:
    """Write texts under unseen titles, and score them, as ``name``, beside real ones; ``others``: a Scorecard's.

    Raises:
        CheckpointError, DataError, MissingExtraError: as ``Scorecard``.
    """
    card = Scorecard(corpus, draw=seed, **others)
    return card.report(name, PlotGenerator(checkpoint), sampling or SamplingConfig(), seed)


class Scorecard:
    """The rows that every model is set between, made once: real texts, and random ones made of them.

    Real A are documents of ``split``, drawn by ``draw``, under whose titles models write; real B as many of the other one
    of validation and test. Settings are chosen on the validation split.
    """

    def __init__(
        self,
        corpus: PreparedCorpus,
        *,
        split: Split = "test",
        samples: int = SAMPLES,
        judge: Checkpoint | None = None,
        judge_name: str | None = None,
        draw: int = 0,
        shared: Sequence[SampleScores] = (),
        progress: StageReport = silent,
    ) -> None:
        """Score the rows that are ``shared``, unless they are given: those of a scorecard that was made of the same.

        Raises:
            CheckpointError: the weights of the sentence encoder are not the recorded ones.
            DataError: ``split`` was trained on; the corpus has no test or no validation split, or fewer than FEWEST
                documents in one.
            MissingExtraError: a library of the extra ``evaluate`` is not installed.
        """
        if split == "train":
            raise DataError(
                "samples are written under titles of the validation or the test split, not of the training split"
            )
        words.word_frequencies()
        self._encode, self._judge, self._judge_name = Encoder(), judge, judge_name
        self._progress, self._tokenizer = progress, corpus.tokenizer
        self._split: Split = split
        other: Split = "validation" if split == "test" else "test"
        self._real, real_b = _real(corpus, REAL_A, split, samples, draw), _real(corpus, REAL_B, other, samples, draw)
        if min(len(self._real.whole), len(real_b.whole)) < FEWEST:
            raise DataError(f"a scorecard of samples needs {FEWEST} test and {FEWEST} validation documents at least")
        self._copies = CopyIndex.of_corpus(corpus)
        self._speakers = None
        spoken = [label is not None for text in self._real.whole for label in words.labels(text)]
        if sum(spoken) > _LABELLED * len(spoken):
            train = corpus.split("train")
            every = _bodies(corpus, train, range(train.n_documents))
            self._speakers = {label for text in every for label in words.labels(text)} - {None}
        self._real_vectors = self._encode([text[:READ] for text in self._real.whole])
        self.shared = [*shared] or self._score_shared(real_b, corpus, draw)

    def _score_shared(self, real_b: _Texts, corpus: PreparedCorpus, draw: int) -> list[SampleScores]:
        train = corpus.split("train")
        some = _bodies(corpus, train, draw_documents(train, _COUNTED, seed=0).tolist())
        titles, works, whole = self._real.titles, self._real.works, self._real.whole
        shared = (
            self._real,
            real_b,
            _Texts(SHUFFLED, titles, works, shuffled_sentences(whole, draw)),
            _Texts(TRIGRAMS, titles, works, trigram_texts(some, list(map(len, whole)), draw)),
        )
        scores = []
        for k, texts in enumerate(shared):
            scores.append(self._score(texts))
            self._progress("real and random texts", k + 1, len(shared))
        return scores

    def report(self, name: str, generator: PlotGenerator, sampling: SamplingConfig, seed: int) -> SampleReport:
        """Return the scorecard of what ``generator`` writes for the titles of real A, as ``name``, beside the shared rows."""
        began = time.monotonic()
        written = self._write(name, generator, sampling, seed)
        written_in = time.monotonic() - began
        rows = (*self.shared, self._score(written))
        return SampleReport(
            rows=rows,
            split=self._split,
            by_work=True,
            sampling=generator.builder.settled(sampling),
            seed=seed,
            precision=generator.engine().precision,
            characters_read=READ,
            judge=self._judge_name,
            encoder_sha256=ENCODER_SHA256,
            examples=tuple(
                Example(title=title, text=text[:SHOWN])
                for title, text in zip(written.titles[:EXAMPLES], written.whole, strict=False)
            ),
            seconds=round(time.monotonic() - began, 2),
            seconds_writing=round(written_in, 2),
        )

    def _write(self, name: str, generator: PlotGenerator, sampling: SamplingConfig, seed: int) -> _Texts:
        titles = self._real.titles
        asked = titles if generator.checkpoint.format.header else [""] * len(titles)
        plots: list[Plot] = []
        while len(plots) < len(asked):
            some = asked[len(plots) : len(plots) + TEXTS_AT_ONCE]
            plots += generator.plots(some, sampling=sampling, seed=seed + len(plots), n=1)
            self._progress("writing samples", len(plots), len(asked))
        ended = [plot.finish_reason == "stop" for plot in plots]
        return _Texts(name, titles, self._real.works, [plot.text for plot in plots], ended)

    def _score(self, texts: _Texts) -> SampleScores:
        from scipy.stats import ks_2samp

        read, is_real, encode = [text[:READ] for text in texts.whole], texts is self._real, self._encode
        lengths, real_lengths = ([len(text) for text in each.whole] for each in (texts, self._real))
        copied = [self._copies.report(text) for text in read]
        titles = _titles_found(encode, texts.titles, read)
        told = None if is_real else told_from_real(self._real_vectors, encode(read), self._real.works, texts.works)
        tallies = {
            **(words.title_words(texts.titles, read) if any(texts.titles) else {}),
            **self._ended_within(texts),
            "self_meetings": words.self_meetings(read),
            "crowded_sentences": words.crowded_sentences(read),
            "top_name": words.top_name_share(read),
            "shared_openings": words.shared_openings(read),
            "names_that_return": words.names_that_return(read),
            "names_per_text": words.names_per_text(read),
            "invented": self._invented(read),
            "repeated": words.repeated_spans(read),
            "similarity_lift": similarity_lift(encode, read),
            "copied": tally((report.share * len(text), len(text)) for report, text in zip(copied, read, strict=True)),
            "known_speakers": self._known_speakers(read),
            "judge_bits": _judge_bits(self._judge, texts.titles, read) if self._judge else None,
        }
        found = titles.model_dump(exclude={"candidates"}) if titles else {}
        ended = None if texts.ended is None else float(np.mean(texts.ended))
        shares, works = {"ended": ended, **found}, len({*texts.works})
        intervals = {name: tally.of_works(texts.works).interval() for name, tally in tallies.items() if tally}
        intervals |= {name: share_interval(share, works) for name, share in shares.items() if share is not None}
        intervals["told_from_real"] = told.interval if told else None
        return SampleScores(
            name=texts.name,
            texts=len(read),
            characters=float(np.median(lengths)),
            length_distance=None if is_real else float(ks_2samp(lengths, real_lengths, method="asymp").statistic),
            ended=ended,
            told_from_real=told.share if told else None,
            titles=titles,
            longest_copy=float(np.mean([report.longest for report in copied])),
            **{name: tally.value if tally else None for name, tally in tallies.items()},
            intervals={name: interval for name, interval in intervals.items() if interval},
        )

    def _ended_within(self, texts: _Texts) -> dict[str, Tally]:
        """The share of texts that end within a number of tokens; one that was cut does not end."""
        lengths = [len(ids) + 1 for ids in self._tokenizer.encode_batch(texts.whole)]
        whole = texts.ended or [True] * len(lengths)
        return {
            f"ended_{most}": tally((ended and length <= most, 1) for ended, length in zip(whole, lengths, strict=True))
            for most in ENDS
        }

    def _invented(self, texts: Sequence[str]) -> Tally:
        """The lower-case words that neither English nor the training text knows, of all of a text's."""
        unread = [self._copies.invented(text) for text in texts]
        unknown = words.unknown_to_english(word for own in unread for word in own)
        counted = (sum(word in unknown for word in own) for own in unread)
        return tally(zip(counted, (len(lower_case_words(text)) for text in texts), strict=True))

    def _known_speakers(self, texts: Sequence[str]) -> Tally | None:
        """Return the share of lines by speakers of the training text; None if the real text is not dialogue."""
        if self._speakers is None:
            return None
        found, known = [words.labels(text) for text in texts], self._speakers
        return tally((sum(label in known for label in own), len(own)) for own in found)


def _real(corpus: PreparedCorpus, name: str, split: Split, samples: int, draw: int) -> _Texts:
    part = corpus.split(split)
    rows = draw_documents(part, samples, draw).tolist()
    return _Texts(name, [part.titles[i] for i in rows], [part.groups[i] for i in rows], _bodies(corpus, part, rows))


def _bodies(corpus: PreparedCorpus, part: PreparedSplit, rows: Iterable[int]) -> list[str]:
    return [corpus.tokenizer.decode(part.body(i)) for i in rows]


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


def _judge_bits(judge: Checkpoint, titles: Sequence[str], texts: Sequence[str]) -> Tally | None:
    """Bits of the texts, which do not end where reading stops, and characters; None where all are empty."""
    if not any(texts):
        return None
    headers = judge.tokenizer.encode_batch([judge.format.sentence(title) for title in titles])
    bodies = judge.tokenizer.encode_batch(list(texts))
    scores = score_documents(judge.model, list(zip(headers, bodies, strict=True)), judge.tokenizer.end_id)
    characters = [judge.tokenizer.characters(text, body) for text, body in zip(texts, bodies, strict=True)]
    return Tally((scores.body - scores.end) / math.log(2), np.array(characters, float))
