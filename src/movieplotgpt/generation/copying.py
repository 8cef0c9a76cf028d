"""Which index tells what a model copied: that of the text it was trained on."""

from __future__ import annotations

from pathlib import Path

from movieplotgpt.errors import DataError
from movieplotgpt.model.checkpoints import Checkpoint, weights_folder
from movieplotgpt.text.copies import COPIES, CopyIndex, corpus_of_index
from movieplotgpt.text.token_files import PreparedCorpus

PUBLISHED = "copies"  # the folder beside the published models


def copy_index(checkpoint: Checkpoint, data: Path | None = None) -> CopyIndex:
    """The index of ``data``, the prepared corpus; or the one in the model's folder; or a published one of its corpus.

    Raises:
        DataError: ``data`` is another corpus than the model's, or none is given and no index of it is here.
    """
    wanted = checkpoint.info.get("corpus", {}).get("hash")
    if data is not None:
        corpus = PreparedCorpus.load(data)
        if wanted not in (None, corpus.manifest.corpus_hash):
            raise DataError(
                f"{data} is not the corpus this model was trained on, so it cannot tell what was copied; "
                "prepare that one, or leave the folder out"
            )
        return CopyIndex.of_corpus(corpus)
    own = [checkpoint.folder / COPIES] if checkpoint.folder else []
    for path in (*own, *sorted((weights_folder() / PUBLISHED).glob("*.npz"))):
        if wanted and _is_of(path, wanted):
            return CopyIndex.load(path)
    raise DataError(
        "no copy index of the text this model was trained on is here; name the corpus that `movieplotgpt prepare` made "
        "of it (--data)"
    )


def _is_of(path: Path, corpus_hash: str) -> bool:
    try:
        return corpus_of_index(path) == corpus_hash
    except DataError:  # none, or a damaged one, of which nobody can tell whose it is
        return False
