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
        TEMPERATURE, ge=0, description="Below 1 more predictable, above 1 wilder; 0 takes the likeliest token."
    )
    top_k: int | None = Field(None, ge=1, description="Draw from the k likeliest tokens.")
    top_p: float | None = Field(
        None, gt=0, le=1, description="Draw from the smallest set of tokens with total probability p."
    )
    min_p: float | None = Field(
        MIN_P, ge=0, le=1, description="Draw from tokens at least p times as likely as the likeliest."
    )
    typical_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Draw from the tokens whose surprise is closest to average, with total probability p.",
    )
    repetition_penalty: float | None = Field(
        None, ge=0.1, le=10, description="Above 1 tokens that were written are less likely to return, names included."
    )
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="Subtracted from a token's logit for each time it was written."
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="Subtracted once from the logit of a token that was written."
    )
    no_repeat_ngram: int | None = Field(None, ge=1, description="Never write the same n tokens in a row twice.")
    dry_multiplier: float | None = Field(
        None,
        gt=0,
        description="DRY: penalise tokens that would lengthen a repetition, more the longer it is; 0.8 is usual.",
    )
    dry_base: float = Field(1.75, ge=1, le=10, description="DRY: growth of the penalty for each further token.")
    dry_allowed_length: int | None = Field(
        None, ge=1, description="DRY: repetitions up to this length are free (default: 5 tokens, or 20 characters)."
    )
    logit_bias: Mapping[int, Annotated[float, Field(ge=-100, le=100)]] = Field(
        {}, description="Added to the logits of tokens by their ids; -100 means never."
    )
    seed: int | None = Field(None, ge=0, description="The same seed writes the same text (default: a random one).")
    min_tokens: int | None = Field(None, ge=1, description="Minimum number of new tokens before the text may end.")
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="Maximum number of new tokens (default: texts end by themselves, before about 2,000 characters).",
    )
    target_characters: int | None = Field(
        None,
        ge=1,
        description="End with a sentence near this length in characters: not before half of it, soon after it.",
    )
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), description="Stop before this text.")
    banned: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), description="Text that is never written.")
    must_mention: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="Words that must appear before the text may end, separated by commas."
    )
    avoid_copies: int | None = Field(
        None, ge=40, description="Share no passage of N characters with the training text; 60 allows stock phrases."
    )
    distinct_names: bool | None = Field(
        None,
        description="Take back names that return within five words, three times in a sentence, or too often (default: on for "
        "models with titles).",
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
    logprobs: int | None = Field(
        None, ge=0, le=20, description="Keep each token's probability and those of the N likeliest others."
    )
    guidance: float | None = Field(
        None,
        ge=1,
        le=10,
        description="Strength of classifier-free guidance by title and hints: 1 is off; above 1 each token is computed "
        "twice (default: 1.75, if the model was trained for it).",
    )
    guidance_characters: int | None = Field(
        400, ge=1, description="Characters over which guidance fades out; none keeps it to the end."
    )
    end_bias: float | None = Field(
        None,
        ge=-20,
        le=20,
        description="Added to the logit of the end token: above 0 texts end sooner (default: set by the model).",
    )
    best_of: int | None = Field(
        None,
        ge=1,
        description="Write N candidates and keep the one that fits title and hints best (N times the work).",
    )
    n: int = Field(1, ge=1, description="Texts for each title; text i has seed + i.")

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
