"""Learning from teachers beside the text: their mean probabilities, at every place, are the second target.

Source: Hinton et al. (arXiv 1503.02531); mean of an ensemble as in BabyLlama (arXiv 2308.02019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from movieplotgpt.config import Settings
from movieplotgpt.errors import TrainingError
from movieplotgpt.model.checkpoints import load_checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.text.tokenizer import Tokenizer
from movieplotgpt.training.compiling import compiled_call, compiled_function
from movieplotgpt.training.windows import NO_TARGET


class DistillationSettings(Settings):
    """Whom a model learns from beside the text."""

    teachers: tuple[str, ...] = Field((), description="Models of the same tokenizer; their probabilities are averaged.")
    weight: float = Field(0.5, gt=0, le=1, description="Of the teachers; the text has the rest.")
    temperature: float = Field(1.0, gt=0, description="Above 1, what teachers hold for unlikely counts more.")


class DistilledLoss:
    """In place of ``GPT.loss``: (1 - weight) cross-entropy on the text + weight cross-entropy on the teachers."""

    def __init__(
        self, student: GPT, teachers: Sequence[GPT], settings: DistillationSettings, *, compiled: bool
    ) -> None:
        self.student, self.teachers, self.settings = student, teachers, settings
        self._call = compiled_call() if compiled else nn.Module.__call__
        self._mixed = compiled_function(self._mix) if compiled else self._mix

    def __call__(self, ids_BT: Tensor, targets_BT: Tensor, starts_BT: Tensor | None = None) -> Tensor:
        """Return the mean over the targets, in nats per token."""
        with torch.no_grad():
            theirs = [teacher.hidden(ids_BT, starts_BT, call=self._call) for teacher in self.teachers]
        return self._mixed(self.student.hidden(ids_BT, starts_BT, call=self._call), theirs, targets_BT)

    def _mix(self, hidden_BTC: Tensor, theirs: list[Tensor], targets_BT: Tensor) -> Tensor:
        temperature, weight = self.settings.temperature, self.settings.weight
        logits_BTV = self.student.lm_head(hidden_BTC).float()
        with torch.no_grad():
            shares = [
                (teacher.lm_head(x_BTC).float() / temperature).softmax(-1)
                for teacher, x_BTC in zip(self.teachers, theirs, strict=True)
            ]
            taught_BTV = torch.stack(shares).mean(0)
        text = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=NO_TARGET)
        softened_BTV = (logits_BTV / temperature).log_softmax(-1)
        counted_BT = targets_BT != NO_TARGET
        taught = -((taught_BTV * softened_BTV).sum(-1) * counted_BT).sum() / counted_BT.sum()
        mixed: Tensor = (1 - weight) * text + weight * temperature**2 * taught
        return mixed


def load_teachers(settings: DistillationSettings, student: GPT, tokenizer: Tokenizer) -> list[GPT]:
    """The teachers, ready to be asked, on the student's device and in its precision.

    Raises:
        TrainingError: one has another tokenizer or a shorter context than the student.
    """
    teachers = []
    for name in settings.teachers:
        checkpoint = load_checkpoint(name)
        if checkpoint.tokenizer.to_json() != tokenizer.to_json():
            raise TrainingError(
                f"the teacher {name} has another tokenizer than the prepared text; prepare the text with the teacher's "
                f"(training with from_={name} does), or take a teacher trained on this text"
            )
        theirs, ours = checkpoint.config.context_length, student.config.context_length
        if theirs < ours:
            raise TrainingError(
                f"the teacher {name} reads {theirs} tokens at once and the student {ours}; set model.context_length={theirs}"
            )
        teacher = checkpoint.model.to(next(student.parameters()).device).eval()
        teacher.compute_dtype = student.compute_dtype
        teachers.append(teacher.requires_grad_(False))
    return teachers
