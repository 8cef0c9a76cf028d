"""Two ways to hold a small model to its title: guidance while it writes, and the best of several afterwards.

Both ask what the title changes: the same text is read behind its header and behind the same sentence with an empty title,
which training has in a tenth of its windows. Shapes: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from movieplotgpt.errors import PromptError
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.scoring import score_documents

PLAUSIBLE = 0.05  # of the likeliest token's probability: what the title alone would hardly write, guidance does not


def guide(logits_V: Tensor, without_V: Tensor, strength: float) -> Tensor:
    """Log-probabilities moved away from those without a title: ``without + strength * (with - without)``.

    Only tokens at least PLAUSIBLE times as likely as the likeliest, with the title, are left.

    Source: classifier-free guidance for language models (arXiv 2306.17806); the limit is contrastive decoding's
    (arXiv 2210.15097).
    """
    logprobs_V, without_V = logits_V.double().log_softmax(-1), without_V.double().log_softmax(-1)
    guided_V = without_V + strength * (logprobs_V - without_V)
    return guided_V.masked_fill(logprobs_V < logprobs_V.max() + math.log(PLAUSIBLE), -math.inf)


def header_without_title(checkpoint: Checkpoint) -> str:
    """The header that guidance and the best of several compare with.

    Raises:
        PromptError: the model was not trained on it.
    """
    windows = checkpoint.info.get("settings", {}).get("windows", {})
    if not checkpoint.format.header or not windows.get("no_title"):
        raise PromptError(
            "this model was trained without the empty title (windows.no_title), which guidance and best-of compare with; "
            "leave them out"
        )
    return checkpoint.format.sentence("")


def title_gains(checkpoint: Checkpoint, prompt: Prompt, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """What the title gains for each text: nats a token that it is likelier behind its header than without a title."""
    tokenizer = checkpoint.tokenizer
    bodies = tokenizer.encode_batch(list(texts))
    headers = [tokenizer.encode(header) for header in (prompt.header, header_without_title(checkpoint))]
    documents = [(header, body) for header in headers for body in bodies]
    nats = [body.sum() for body in score_documents(checkpoint.model, documents, tokenizer.end_id).bodies]
    lengths = np.array([len(body) + 1 for body in bodies])
    return np.asarray((np.array(nats[len(texts) :]) - np.array(nats[: len(texts)])) / lengths)


def best(gains: npt.NDArray[np.float64], sound: Sequence[bool]) -> int:
    """The text that gains most, of the sound ones where there are any; the first of equals."""
    allowed = np.array(sound) if any(sound) else np.ones(len(gains), bool)
    return int(np.argmax(np.where(allowed, gains, -math.inf)))
