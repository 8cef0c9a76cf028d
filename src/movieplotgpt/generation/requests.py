"""From what a person asks for to complete requests: prompts laid out, settings checked, defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from movieplotgpt.config import build_settings
from movieplotgpt.engine.model_folder import TextModel
from movieplotgpt.errors import PromptError
from movieplotgpt.generation.guidance import USUAL, bare_header, knows_no_title
from movieplotgpt.generation.plots import PlotKeywords, PlotRequest
from movieplotgpt.generation.prompts import Prompt, PromptForm, once
from movieplotgpt.generation.sampling import fresh_seed
from movieplotgpt.generation.settings import AUTO, NO_PLAN, SamplingConfig


class RequestBuilder:
    """Build requests to one model.

    Attributes:
        form: How its prompts are laid out.
        defaults: Its own defaults of sampling settings.
    """

    def __init__(self, model: TextModel) -> None:
        self._model, self.form = model, PromptForm(model)
        self.defaults: Mapping[str, Any] = {
            "guidance": USUAL if knows_no_title(model) else 1.0,
            "end_bias": model.record.end_bias,
            "distinct_names": bool(model.format.header),
            "plan": AUTO if model.format.has_plan else NO_PLAN,
            "cast": True,
        }
        own = model.record.settings.sampling
        given = {name: own[name] for name in self.defaults if own.get(name) is not None}
        build_settings(SamplingConfig, given, where="sampling")  # of a stranger's model they may be anything
        self.defaults = {**self.defaults, **given}

    def build(
        self,
        titles: str | Sequence[str] = "",
        **asked: Unpack[PlotKeywords],
    ) -> list[PlotRequest]:
        """Return ``n`` requests for each title, one seed after the other.

        Raises:
            PromptError: the model has no titles, or does not know a hint.
            ConfigError: an unknown sampling setting, or a value out of range.
        """
        prompt, begin = asked.pop("prompt", None), asked.pop("begin", "")
        hints, sampling = asked.pop("hints", None), asked.pop("sampling", None)
        config, changes = self._settled(sampling, asked)
        seed = fresh_seed() if config.seed is None else config.seed
        prompts = [
            self._prompt(title, prompt, begin, hints) for title in ([titles] if isinstance(titles, str) else titles)
        ]
        if config.plan not in (AUTO, NO_PLAN, None):
            prompts = [self.form.with_plan(each, config.plan) for each in prompts]
        prompts = [replace(each, changes=once((*each.changes, *changes))) for each in prompts]
        if not self._model.format.header and ((config.guidance or 1) > 1 or (config.best_of or 1) > 1):
            raise PromptError(
                "guidance and best-of compare with no title, and this model was trained on text without titles; leave them out"
            )
        each = (prompt for prompt in prompts for _ in range(config.n))
        requests = [PlotRequest(prompt, config, seed + i) for i, prompt in enumerate(each)]
        for request in requests[:: config.n]:
            if request.compared:
                bare_header(self._model)  # a missing one is reported before anything is written
        return requests

    def settled(
        self, sampling: SamplingConfig | None = None, settings: Mapping[str, Any] | None = None
    ) -> SamplingConfig:
        """Return the complete config of a request with these settings: defaults filled in.

        Raises:
            ConfigError: an unknown sampling setting, or a value out of range.
            PromptError: the model cannot spell what must be mentioned.
        """
        return self._settled(sampling, settings or {})[0]

    def _settled(
        self, sampling: SamplingConfig | None, settings: Mapping[str, Any]
    ) -> tuple[SamplingConfig, tuple[str, ...]]:
        given = sampling.model_dump() if sampling else {}
        asked = build_settings(SamplingConfig, {**given, **settings}, where="sampling")
        config, changes = self.form.folded_wishes(asked)
        config = config.model_copy(
            update={name: value for name, value in self.defaults.items() if getattr(config, name) is None}
        )
        if config.plan == AUTO:
            config = config.model_copy(update={"plan": self.defaults["plan"]})
        return config, changes

    def _prompt(self, title: str, prompt: str | None, begin: str, hints: Mapping[str, str] | None) -> Prompt:
        if prompt is None:
            return self.form.from_title(title, hints, begin)
        if beside := [name for name, given in (("title", title), ("hints", hints), ("begin", begin)) if given]:
            raise PromptError(
                f"a free prompt is whole, and {' and '.join(beside)} cannot be added; leave one of them out"
            )
        return self.form.from_text(prompt)
