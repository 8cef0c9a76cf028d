"""Two ways to hold a small model to its title: guidance while it writes, and the best of several afterwards.

Both ask what the title and the hints change: the same text is read behind its header and behind the sentence with an empty
title and no hint, which training has in a twentieth of its windows. Shapes: B batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from movieplotgpt.errors import PromptError
from movieplotgpt.model.checkpoints import Checkpoint

USUAL = 1.5  # where nobody says, and the model was trained for it (results/LOG.md)


def guide(logits_BV: Tensor, without_BV: Tensor, strength: float) -> Tensor:
    """Logits moved away from those without a title: of the order of logits, so that penalties weigh as they do unguided.

    What the title makes implausible ``sampling.choose`` leaves out, as contrastive decoding does (arXiv 2210.15097).

    Source: classifier-free guidance for language models (arXiv 2306.17806).
    """
    guided_BV: Tensor = without_BV + strength * (logits_BV - without_BV)
    return guided_BV


def knows_no_title(checkpoint: Checkpoint) -> bool:
    """Whether the model was trained on the empty title."""
    windows = checkpoint.info.get("settings", {}).get("windows", {})
    return bool(checkpoint.format.header and windows.get("no_title"))


def bare_header(checkpoint: Checkpoint) -> str:
    """The header that guidance and the best of several compare with: an empty title, and no hint.

    Raises:
        PromptError: the model was not trained on it.
    """
    if not knows_no_title(checkpoint):
        raise PromptError(
            "this model was trained without the empty title (windows.no_title), which guidance and best-of compare with; "
            "leave them out"
        )
    return checkpoint.format.sentence("")


def best(gains: Sequence[float], soundness: Sequence[int]) -> int:
    """The text that gains most of those that are most sound; the first of equals."""
    return max(range(len(gains)), key=lambda i: (soundness[i], gains[i]))
