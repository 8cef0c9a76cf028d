"""What is known of an evaluated model, as one JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from movieplotgpt import __version__
from movieplotgpt.engine.model_config import parameters
from movieplotgpt.engine.weight_files import weights_sha256
from movieplotgpt.errors import ConfigError
from movieplotgpt.evaluation.compressors import CompressorScore
from movieplotgpt.evaluation.likelihood import LikelihoodReport
from movieplotgpt.evaluation.memorisation import Memorisation
from movieplotgpt.evaluation.next_sentence import NextSentence
from movieplotgpt.evaluation.samples import SampleReport
from movieplotgpt.evaluation.titles import TitleRetrieval
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.records import Record
from movieplotgpt.text.splits import Split
from movieplotgpt.text.token_files import PreparedCorpus

PARTS = ("likelihood", "title_retrieval", "next_sentence", "memorisation", "samples", "compressors")


class Evaluation(Record):
    """What is known of a model: its numbers, how they were measured, how it was trained.

    ``commit`` is that of the code that measured; ``earlier`` has another commit for each of PARTS that was kept of an
    evaluation before.
    """

    model: str
    weights_sha256: str
    parameters: int
    tokenizer: str
    vocab_size: int
    context_length: int
    training: dict[str, Any]
    trained_before: tuple[dict[str, Any], ...] = ()
    likelihood: LikelihoodReport
    title_retrieval: TitleRetrieval | None = None
    next_sentence: NextSentence | None = None
    memorisation: Memorisation | None = None
    samples: SampleReport | None = None
    compressors: tuple[CompressorScore, ...]
    movieplotgpt: str
    commit: str | None
    earlier: dict[str, str | None] = Field({})

    def keeping(self, before: Evaluation) -> Evaluation:
        """This, and of ``before`` what this has not measured."""
        own = {name: getattr(self, name) for name in PARTS}
        kept = {name: getattr(before, name) for name in PARTS}
        parts = {name: found for name, found in kept.items() if found and (not own[name] or own[name] is found)}
        earlier = {name: before.earlier.get(name, before.commit) for name in sorted(parts)}
        return self.model_copy(update=parts | {"earlier": earlier})


def describe(
    name: str,
    checkpoint: Checkpoint,
    likelihood: LikelihoodReport,
    compressors: Sequence[CompressorScore] = (),
    commit: str | None = None,
    **parts: Any,
) -> Evaluation:
    """Put together what was measured, other ``parts`` by name, and what the checkpoint, loaded from a folder, records."""
    assert checkpoint.folder is not None
    return Evaluation(
        model=name,
        weights_sha256=weights_sha256(checkpoint.folder),
        parameters=parameters(checkpoint.config),
        tokenizer=checkpoint.tokenizer.kind,
        vocab_size=checkpoint.tokenizer.vocab_size,
        context_length=checkpoint.config.context_length,
        training=checkpoint.info.get("training", {}),
        trained_before=tuple(checkpoint.info.get("trained_before", ())),
        likelihood=likelihood,
        compressors=tuple(compressors),
        movieplotgpt=__version__,
        commit=commit,
        **parts,
    )


def read_earlier(
    path: Path, checkpoint: Checkpoint, corpus: PreparedCorpus, *, split: Split, documents: int | None, seed: int
) -> Evaluation:
    """Read an evaluation that is to be added to: of the same weights, the same documents.

    Raises:
        ConfigError: it is of others.
        DataError: the file is missing or is not an evaluation.
    """
    assert checkpoint.folder is not None
    found, all_documents = read_evaluation(path), corpus.manifest.splits[split].documents
    measured, asked = found.likelihood, min(documents or all_documents, all_documents)
    differs = {
        "other weights": found.weights_sha256 != weights_sha256(checkpoint.folder),
        "another corpus": measured.corpus_hash != corpus.manifest.corpus_hash,
        f"the {measured.split} split": measured.split != split,
        f"{measured.documents:,} documents": measured.documents != asked,
        f"seed {measured.seed}": measured.seed != seed,
    }
    if others := [what for what, does in differs.items() if does]:
        raise ConfigError(f"{path} is an evaluation of {' and '.join(others)}; leave add=True out to write it anew")
    return found


def read_evaluation(path: Path) -> Evaluation:
    """Read what ``Evaluation.write`` wrote.

    Raises:
        DataError: the file is missing or is neither of these.
    """
    return Evaluation.load(
        path,
        missing=f"there is no evaluation {path}; write it with `movieplotgpt evaluate ... --out`",
        damaged=f"{path} is not an evaluation of this version; run `movieplotgpt evaluate` again",
    )
