"""What a client may send: OpenAI's fields, those of llama.cpp and vLLM beside them, and the sampler's own.

Every setting of the sampler is a field, so that a new one needs no line here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import Field, GetJsonSchemaHandler, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue

from movieplotgpt.config import Settings
from movieplotgpt.generation.settings import LENGTHS, Length, SamplingConfig, with_length

TokenId: TypeAlias = Annotated[int, Field(ge=0)]
Text: TypeAlias = Annotated[str, Field(max_length=100_000)]
MOST_TOKENS = 20_000  # of one text: nobody keeps a place for ever
MOST_WISHES, LONGEST_WISH = 16, 200  # each is looked for behind every token
Word: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
UNNEEDED = "Taken and not needed."


class StreamOptions(Settings):
    """What a stream tells besides its pieces."""

    include_usage: bool = Field(False, description="Send the tokens counted in a last piece.")
    include_obfuscation: bool = Field(False, description=UNNEEDED)


class Sampled(SamplingConfig):
    """What all requests for text have in common."""

    model: str | None = Field(None, max_length=200, description="Which model; none is the first one served.")
    stream: bool = Field(False, description="Send pieces as they are written (server-sent events).")
    max_tokens: int | None = Field(
        None, ge=1, le=MOST_TOKENS, description="Tokens at most; none is about 2,000 characters."
    )
    min_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS, description="The text does not end by itself before.")
    target_characters: int | None = Field(None, ge=1, le=MOST_TOKENS, description="End near this length.")
    stop: tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...] = Field(
        (), max_length=4, description="At most four texts before which to stop."
    )
    banned: tuple[Word, ...] = Field((), max_length=64, description="Texts that are never written.")
    # what OpenAI's clients send besides: taken, and not needed
    user: str | None = Field(None, max_length=1000, description=UNNEEDED)
    metadata: Mapping[str, Any] | None = Field(None, description=UNNEEDED)
    store: bool | None = Field(None, description=UNNEEDED)
    service_tier: str | None = Field(None, description=UNNEEDED)
    prompt_cache_key: str | None = Field(None, description=UNNEEDED)
    safety_identifier: str | None = Field(None, description=UNNEEDED)

    @field_validator("*", mode="before")
    @classmethod
    def _number_is_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = {*get_args(kind := cls.model_fields[info.field_name or ""].annotation), kind}
        if isinstance(value, bool | str) and kinds & {int, float} and bool not in kinds:
            raise ValueError(f"{json.dumps(value)} is no number")
        return value

    @field_validator("must_mention")
    @classmethod
    def _few_and_short(cls, wishes: tuple[str, ...]) -> tuple[str, ...]:
        if len(wishes) > MOST_WISHES or any(len(wish) > LONGEST_WISH for wish in wishes):
            raise ValueError(f"at most {MOST_WISHES} words of {LONGEST_WISH} characters can be asked for")
        return wishes

    @model_validator(mode="before")
    @classmethod
    def _null_is_unsaid(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None or name not in cls.model_fields}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As pydantic has it, and null for whatever may be left out."""
        described = handler.resolve_ref_schema(handler(schema))
        for name, field in described["properties"].items():
            if name not in described.get("required", ()) and {"type": "null"} not in field.get("anyOf", ()):
                told = {key: field.pop(key) for key in ("title", "description", "default") if key in field}
                described["properties"][name] = {"anyOf": [field, {"type": "null"}], **told}
        return described

    def texts(self, prompts: int = 1) -> int:
        """How many are to be written, candidates among them."""
        return prompts * self.n * (self.best_of or 1)

    def sampling(self) -> dict[str, Any]:
        """The sampler's settings that were sent."""
        names = self.model_fields_set & SamplingConfig.model_fields.keys()
        return {name: getattr(self, name) for name in names}


class CompletionRequest(Sampled):
    """``POST /v1/completions``: the begin of a document, in the form the model was trained on, is gone on with."""

    prompt: Text | list[Text] | list[TokenId] | list[list[TokenId]] = Field(
        "", description="A text, several, or the ids of one or several; each is answered n times."
    )
    echo: bool = Field(False, description="Put the prompt before the text.")
    stream_options: StreamOptions | None = None
    suffix: None = Field(None, description="Not known here.")


class TextPart(Settings):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class TextFormat(Settings):
    """The form of an answer."""

    type: Literal["text"]


class Message(Settings):
    """Who said what."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[TextPart] | None = None
    name: str | None = None
    refusal: str | None = Field(None, description=UNNEEDED)
    tool_calls: list[Any] | None = Field(None, description=UNNEEDED)
    tool_call_id: str | None = Field(None, description=UNNEEDED)
    function_call: Any = Field(None, description=UNNEEDED)
    annotations: list[Any] | None = Field(None, description=UNNEEDED)
    audio: Any = Field(None, description=UNNEEDED)

    @property
    def text(self) -> str:
        """The content, parts joined."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatRequest(Sampled):
    """``POST /v1/chat/completions``: the last message of a user is the title, the answer is a plot."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS, description="As max_tokens.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20, description="How many others are told of each token.")
    stream_options: StreamOptions | None = None
    tools: list[Any] | None = Field(None, max_length=0, description="None is known here.")
    tool_choice: Literal["none", "auto"] | None = Field(None, description=UNNEEDED)
    parallel_tool_calls: bool | None = Field(None, description=UNNEEDED)
    reasoning_effort: str | None = Field(None, description=UNNEEDED)
    verbosity: str | None = Field(None, description=UNNEEDED)
    modalities: list[Literal["text"]] | None = Field(None, description="Text is all there is.")
    response_format: TextFormat | None = Field(None, description="Text is all there is.")

    def title(self) -> str:
        """The last message of a user."""
        said = [message.text for message in self.messages if message.role == "user"]
        return said[-1].strip() if said else ""

    def sampling(self) -> dict[str, Any]:
        """As of all, in the names of a chat."""
        settings = super().sampling()
        if self.max_completion_tokens is not None:
            settings["max_tokens"] = self.max_completion_tokens
        if settings.pop("logprobs", False):
            settings["logprobs"] = self.top_logprobs or 0
        return settings


class PlotsRequest(Sampled):
    """``POST /v1/plots``: a title, and what is known of the film."""

    title: Text = Field("", description="The film's title; none leaves it to the model.")
    begin: Text = Field("", description="How the plot begins.")
    decade: str | None = Field(None, max_length=200, description="Such as 1970s, for a model that knows decades.")
    origin: str | None = Field(None, max_length=200, description="Such as American, for a model that knows origins.")
    genre: str | None = Field(None, max_length=200, description="Such as comedy, for a model that knows genres.")
    hints: Mapping[str, Annotated[str, Field(max_length=200)]] = Field({}, description="Other hints by their names.")
    length: Length | None = Field(None, description=f"About {', '.join(map(str, LENGTHS.values()))} characters.")
    copies: bool = Field(False, description="Tell what was copied from the training text, where its index is here.")

    def all_hints(self) -> dict[str, str]:
        """By the names that document formats have."""
        named = {"Decade": self.decade, "Origin": self.origin, "Genre": self.genre}
        return {**self.hints, **{name: value for name, value in named.items() if value}}

    def sampling(self) -> dict[str, Any]:
        """As of all, and what the length asks for."""
        return with_length(super().sampling(), self.length)


class TokenizeRequest(Settings):
    """``POST /tokenize``: text to ids."""

    content: Text = Field(description="Is cleaned as prompts are.")
    model: str | None = Field(None, max_length=200)
    add_special: bool = Field(False, description="Put the begin token before it.")
    with_pieces: bool = Field(False, description="Tell each token's text, too.")


class DetokenizeRequest(Settings):
    """``POST /detokenize``: ids to text."""

    tokens: list[TokenId] = Field(max_length=100_000)
    model: str | None = Field(None, max_length=200)
