"""SamplingConfig: what a request may ask of the sampler. Flags, fields of the API and controls of the page come from it.

No torch here, so that ``movieplotgpt generate --help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from pydantic import Field, field_validator

from movieplotgpt.config import Settings
from movieplotgpt.engine.model_config import MIN_P, TEMPERATURE

Length: TypeAlias = Literal["short", "medium", "long"]
AUTO, NO_PLAN = "auto", "none"
LENGTHS: Mapping[Length, int] = {"short": 400, "medium": 1_000, "long": 2_000}  # target_characters


class SamplingConfig(Settings):
    """How the next token is chosen and when a text ends; a rule that is None is off.

    The text whose repetitions are punished is the body, from its begin on: the header is not.
    """

    temperature: float = Field(
        TEMPERATURE, ge=0, description="Below 1 bolder, above 1 wilder; 0 takes the likeliest token."
    )
    top_k: int | None = Field(None, ge=1, description="Draw from the k likeliest tokens.")
    top_p: float | None = Field(None, gt=0, le=1, description="Draw from the fewest tokens that together reach p.")
    min_p: float | None = Field(
        MIN_P, ge=0, le=1, description="Draw from tokens at least p times as likely as the best."
    )
    typical_p: float | None = Field(
        None, gt=0, le=1, description="Draw from the tokens of most ordinary surprise that together reach p."
    )
    repetition_penalty: float | None = Field(
        None, ge=0.1, le=10, description="Above 1 what was written is less likely; names return less, too."
    )
    frequency_penalty: float | None = Field(None, ge=-2, le=2, description="Subtracted for each time it was written.")
    presence_penalty: float | None = Field(None, ge=-2, le=2, description="Subtracted once from what was written.")
    no_repeat_ngram: int | None = Field(None, ge=1, description="Never write the same n tokens in a row twice.")
    dry_multiplier: float | None = Field(
        None, gt=0, description="Punish what would lengthen a repetition, more the longer it is; 0.8 is usual."
    )
    dry_base: float = Field(1.75, ge=1, le=10, description="How much more for each further token.")
    dry_allowed_length: int | None = Field(
        None, ge=1, description="Tokens that may repeat freely; none is 5, or 20 characters: names return."
    )
    logit_bias: Mapping[int, Annotated[float, Field(ge=-100, le=100)]] = Field(
        {}, description="Added to the logits of tokens by their ids; -100 means never."
    )
    seed: int | None = Field(None, ge=0, description="The same seed writes the same text; none draws a fresh one.")
    min_tokens: int | None = Field(None, ge=1, description="The text does not end by itself before.")
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="Maximum number of new tokens; none ends each text by itself, before about 2,000 characters.",
    )
    target_characters: int | None = Field(
        None, ge=1, description="End near this length, with a sentence: not before half of it, soon after it."
    )
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), description="Texts before which to stop.")
    banned: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), description="Texts that are never written.")
    must_mention: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="Words to come up; the text does not end before. Commas part them."
    )
    avoid_copies: int | None = Field(
        None, ge=40, description="Share no run of so many characters with the training text; 60 allows stock phrases."
    )
    distinct_names: bool | None = Field(
        None,
        description="Take back a name that returns within five words, a third time in a sentence, or too often. Default: on "
        "for models of texts with titles.",
    )
    plan: str | None = Field(
        None,
        max_length=1_000,
        description="What the text is about, such as 'names: Ann, Bert; words: island, storm'; auto: the model drafts 16 plans "
        "and follows the best; none: no plan. Default: auto for models trained with plans.",
    )
    cast: bool | None = Field(
        None,
        description="Allow parentheses, in which film plots name actors. Default: set by the model, off for film plots.",
    )
    logprobs: int | None = Field(None, ge=0, le=20, description="Keep each token's probability and so many others.")
    guidance: float | None = Field(
        None,
        ge=1,
        le=10,
        description="How far to move from what neither title nor hint would say: 1 is not at all, above twice the work; "
        "none is 1.75, if the model was trained for it.",
    )
    guidance_characters: int | None = Field(
        400, ge=1, description="Characters over which guidance fades out, and with it the double work; none keeps it."
    )
    end_bias: float | None = Field(
        None,
        ge=-20,
        le=20,
        description="Added to the logit of the end: above 0 texts end sooner; none is the model's own.",
    )
    best_of: int | None = Field(
        None,
        ge=1,
        description="Write N candidates and keep the one that fits title and hints best (N times the work).",
    )
    n: int = Field(1, ge=1, description="Plots for each title; plot i has the seed plus i.")

    @field_validator("stop", "banned", mode="before")
    @classmethod
    def _one_or_many(cls, texts: Any) -> Any:
        return (texts,) if isinstance(texts, str) else texts

    @field_validator("must_mention", mode="before")
    @classmethod
    def _parted_by_commas(cls, wishes: Any) -> Any:
        if not (isinstance(wishes, str) or (isinstance(wishes, Sequence) and all(isinstance(w, str) for w in wishes))):
            return wishes
        each = [wishes] if isinstance(wishes, str) else wishes
        return tuple(wish.strip() for text in each for wish in text.split(",") if wish.strip())


class SamplingKeywords(TypedDict, total=False):
    """The fields of ``SamplingConfig`` as keyword arguments, so that a misspelt one is an error of the type checker."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    no_repeat_ngram: int | None
    dry_multiplier: float | None
    dry_base: float
    dry_allowed_length: int | None
    logit_bias: Mapping[int, float]
    seed: int | None
    min_tokens: int | None
    max_tokens: int | None
    target_characters: int | None
    stop: str | Sequence[str]
    banned: str | Sequence[str]
    must_mention: str | Sequence[str]
    avoid_copies: int | None
    distinct_names: bool | None
    plan: str | None
    cast: bool | None
    logprobs: int | None
    guidance: float | None
    guidance_characters: int | None
    end_bias: float | None
    best_of: int | None
    n: int


def with_length(settings: Mapping[str, Any], length: Length | None) -> dict[str, Any]:
    """Return the settings for a length said in a word."""
    return {**({} if length is None else {"target_characters": LENGTHS[length]}), **settings}
