"""The copy index of the text a model was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from movieplotgpt.engine.model_folder import TextModel
from movieplotgpt.engine.places import downloaded_folder, weights_folder
from movieplotgpt.errors import DataError
from movieplotgpt.text.copies import COPIES, CopyIndex, corpus_of_index
from movieplotgpt.text.token_files import PreparedCorpus

PUBLISHED = "copies"  # the folder beside the published models


def copy_index(model: TextModel, data: Path | None = None) -> CopyIndex:
    """The index of ``data``, the prepared corpus; or the one in the model's folder; or a published one of its corpus.

    Raises:
        DataError: ``data`` is another corpus than the model's, or it is None and no index is installed.
    """
    wanted = model.record.corpus.hash
    if data is not None:
        corpus = PreparedCorpus.load(data)
        if wanted not in (None, corpus.manifest.corpus_hash):
            raise DataError(
                f"{data} is not the corpus this model was trained on, so copies cannot be found in it; "
                "prepare that one, or leave the folder out"
            )
        return CopyIndex.of_corpus(corpus)
    for path in _indexes(model):
        if wanted and _is_of(path, wanted):
            return CopyIndex.load(path)
    raise DataError(
        "no copy index of the text this model was trained on is installed; name the corpus that `movieplotgpt prepare` made "
        "of it (data=FOLDER), or fetch a published model's with `movieplotgpt weights download`"
    )


def _indexes(model: TextModel) -> Iterator[Path]:
    """The model's own, then those beside the model, the published ones, and the downloaded ones."""
    if model.folder:
        yield model.folder / COPIES
        yield from sorted((model.folder.parent / PUBLISHED).glob("*.npz"))
    for shelf in (weights_folder, downloaded_folder):
        yield from sorted((shelf() / PUBLISHED).glob("*.npz"))


def _is_of(path: Path, corpus_hash: str) -> bool:
    try:
        return corpus_of_index(path) == corpus_hash
    except DataError:  # missing, or damaged and so of unknown origin
        return False
