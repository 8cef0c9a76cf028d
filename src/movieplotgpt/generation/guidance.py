"""Guidance: hold a small model to its title while it writes.

The same text is read after its header and after the sentence with an empty title and no hint, which training has in a
twentieth of its windows; what differs is what title and hints change. Shape: V vocabulary.
"""

from __future__ import annotations

from movieplotgpt.engine.model_folder import TextModel
from movieplotgpt.errors import PromptError
from movieplotgpt.generation.sampling import Logits

USUAL = 1.75  # where nobody says, and the model was trained for it: title words then come as often as in real plots


def guide(logits_V: Logits, without_V: Logits, strength: float) -> Logits:
    """Logits moved away from those without a title: of the order of logits, so that penalties weigh as they do unguided.

    What the title makes implausible ``sampling.choose`` leaves out, as contrastive decoding does (arXiv 2210.15097).

    Source: classifier-free guidance for language models (arXiv 2306.17806).
    """
    return without_V + strength * (logits_V - without_V)


def knows_no_title(model: TextModel) -> bool:
    """Return whether the model was trained on the empty title."""
    return bool(model.format.header and model.record.settings.windows.no_title)


def bare_header(model: TextModel, of_plan: bool = False) -> str:
    """The header that guidance and the best of several compare with: an empty title, and no hint.

    Raises:
        PromptError: the model was not trained on it.
    """
    if not knows_no_title(model):
        raise PromptError(
            "this model was trained without the empty title (windows.no_title), which guidance and best-of compare with; "
            "leave them out"
        )
    return model.format.plan_request("") if of_plan else model.format.sentence("")
