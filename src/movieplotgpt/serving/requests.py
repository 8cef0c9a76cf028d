"""The strict models of requests: OpenAI's fields, those of llama.cpp and vLLM, and the sampler's own.

Every setting of the sampler is a field, so that a new one needs no line here. ``leniency.py`` adapts what clients send before it
is validated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeAlias, get_args

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue

from movieplotgpt.config import Settings
from movieplotgpt.generation.settings import LENGTHS, Length, SamplingConfig, with_length
from movieplotgpt.text.hints import join_hints

TokenId: TypeAlias = Annotated[int, Field(ge=0)]
Text: TypeAlias = Annotated[str, Field(max_length=100_000)]
MOST_TOKENS = 20_000  # of one text: nobody keeps a place for ever
MOST_WISHES = 16  # each is looked for after every token
MOST_STOPS = 64  # likewise
LONGEST_WORD = 200  # characters
MOST_BIASES, MOST_HINTS, MOST_PARTS = 1_024, 16, 1_000
Word: TypeAlias = Annotated[str, Field(min_length=1, max_length=LONGEST_WORD)]
Hint: TypeAlias = Annotated[str, Field(max_length=200)]
Hints: TypeAlias = Mapping[Hint, Hint]
OF_HINTS = "Values by the names of hints, which GET /v1/models lists, such as Decade: 1970s."


def _unsupported(why: str) -> BeforeValidator:
    def refuse(value: Any) -> NoReturn:
        raise ValueError(f"{why}; leave it out")

    return BeforeValidator(refuse)


NoTools: TypeAlias = Annotated[None, _unsupported("the models of this server call no tools")]
PlainText: TypeAlias = Annotated[None, _unsupported("the models of this server write plain text only")]
NoSuffix: TypeAlias = Annotated[None, _unsupported("the models of this server cannot fill in text before a suffix")]
NoSearch: TypeAlias = Annotated[None, _unsupported("this server does not search the web")]


class StreamOptions(Settings):
    """What a stream reports besides its pieces."""

    include_usage: bool = Field(False, description="Send the token counts in a last piece.")


class Sampled(SamplingConfig):
    """What all requests for text have in common."""

    model: str | None = Field(None, max_length=200, description="Which model; none is the first one served.")
    stream: bool = Field(False, description="Send pieces as they are written (server-sent events).")
    max_tokens: int | None = Field(
        None, ge=1, le=MOST_TOKENS, description="Tokens at most; none is about 2,000 characters."
    )
    min_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS, description="The text does not end by itself before.")
    target_characters: int | None = Field(None, ge=1, le=MOST_TOKENS, description="End near this length.")
    stop: tuple[Word, ...] = Field((), max_length=MOST_STOPS, description="Texts before which to stop.")
    banned: tuple[Word, ...] = Field((), max_length=64, description="Texts that are never written.")
    seed: int | None = Field(None, ge=0, lt=1 << 64, description="The same seed writes the same text.")
    top_k: int | None = Field(None, ge=1, le=1 << 31, description="Draw from the k likeliest tokens.")
    no_repeat_ngram: int | None = Field(
        None, ge=1, le=32, description="Never write the same n tokens in a row twice, within a context."
    )
    dry_multiplier: float | None = Field(
        None, gt=0, le=100, description="Punish what would lengthen a repetition, more the longer it is; 0.8 is usual."
    )
    dry_allowed_length: int | None = Field(None, ge=1, le=1_000, description="Tokens that may repeat freely.")
    avoid_copies: int | None = Field(
        None, ge=40, le=1_000, description="Share no run of so many characters with the training text."
    )
    guidance_characters: int | None = Field(
        400, ge=1, le=1_000_000, description="Characters over which guidance fades out; none keeps it."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _number_is_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = {*get_args(kind := cls.model_fields[info.field_name or ""].annotation), kind}
        if isinstance(value, bool | str) and kinds & {int, float} and bool not in kinds:
            raise ValueError(f"{json.dumps(value)[:60]} is not a number")
        return value

    @field_validator("must_mention")
    @classmethod
    def _few_and_short(cls, wishes: tuple[str, ...]) -> tuple[str, ...]:
        if len(wishes) > MOST_WISHES or any(len(wish) > LONGEST_WORD for wish in wishes):
            raise ValueError(f"at most {MOST_WISHES} words of {LONGEST_WORD} characters can be asked for")
        return wishes

    @field_validator("logit_bias", "hints", mode="before", check_fields=False)
    @classmethod
    def _few(cls, given: Any, info: ValidationInfo) -> Any:
        most = MOST_HINTS if info.field_name == "hints" else MOST_BIASES
        if isinstance(given, Mapping) and len(given) > most:
            raise ValueError(f"{len(given):,} entries are given, and at most {most:,} may be")
        return given

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
        """Return how many are to be written, candidates among them."""
        return prompts * self.n * (self.best_of or 1)

    def sampling(self) -> dict[str, Any]:
        """The sampler's settings that were sent."""
        names = self.model_fields_set & SamplingConfig.model_fields.keys()
        return {name: getattr(self, name) for name in names}


def _prompt(prompt: Any, _: ValidatorFunctionWrapHandler) -> Any:
    """Check a prompt here alone: of a union pydantic tries every kind, for every item."""
    each = prompt if isinstance(prompt, list) else [prompt]
    kinds = {type(item) for item in each}
    ids = each if kinds == {int} else [id_ for item in each for id_ in item] if kinds == {list} else []
    wrong = not isinstance(prompt, str | list)
    if wrong or (kinds - {str} and (kinds not in ({int}, {list}) or {type(id_) for id_ in ids} - {int})):
        raise ValueError("a prompt is a text, a list of texts, a list of token ids, or a list of such lists")
    if ids and min(ids) < 0:
        raise ValueError(f"{min(ids)} is not a token id; ids start at 0")
    return prompt


def _content(content: Any) -> Any:
    kinds = [part.get("type") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    if other := [kind for kind in kinds if isinstance(kind, str) and kind != "text"]:
        raise ValueError(f"the models of this server read text only, not {other[0][:40]}; leave that part out")
    return content


class OpenAIRequest(Sampled):
    """What completions and chats have in common."""

    max_tokens: int | None = Field(
        None, ge=0, le=MOST_TOKENS, description="Maximum number of new tokens (default: about 2,000 characters)."
    )
    stream_options: StreamOptions | None = None

    @property
    def wants_no_text(self) -> bool:
        """Return whether only the prompt is to be read, and nothing written."""
        return self.max_tokens == 0

    def sampling(self) -> dict[str, Any]:
        """Return the sampler's settings that were sent."""
        settings = super().sampling()
        return {name: value for name, value in settings.items() if (name, value) != ("max_tokens", 0)}


class CompletionRequest(OpenAIRequest):
    """``POST /v1/completions``: continue a document, in the form the model was trained on."""

    prompt: Annotated[str | list[str] | list[TokenId] | list[list[TokenId]], WrapValidator(_prompt)] = Field(
        "", description="A text, several, or the ids of one or several; each is answered n times."
    )
    echo: bool = Field(False, description="Put the prompt before the text.")
    suffix: NoSuffix = Field(None, description="Not supported.")


class TextPart(Settings):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class Message(Settings):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[
        Text | Annotated[list[TextPart], Field(max_length=MOST_PARTS)] | None, BeforeValidator(_content)
    ] = None

    @property
    def text(self) -> str:
        """The content, parts joined."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatRequest(OpenAIRequest):
    """``POST /v1/chat/completions``: the last message of a user is the title, the answer is a plot."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    hints: Hints = Field({}, description=OF_HINTS)
    max_completion_tokens: int | None = Field(None, ge=0, le=MOST_TOKENS, description="As max_tokens.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20, description="How many other tokens are reported in each place.")
    tools: NoTools = Field(None, description="Not supported.")
    tool_choice: NoTools = Field(None, description="Not supported.")
    functions: NoTools = Field(None, description="Not supported.")
    function_call: NoTools = Field(None, description="Not supported.")
    response_format: PlainText = Field(None, description="Not supported.")
    modalities: PlainText = Field(None, description="Not supported.")
    audio: PlainText = Field(None, description="Not supported.")
    web_search_options: NoSearch = Field(None, description="Not supported.")

    @property
    def wants_no_text(self) -> bool:
        """Return whether only the prompt is to be read, and nothing written."""
        return 0 in (self.max_completion_tokens, self.max_tokens)

    def title(self) -> str:
        """The last message of a user."""
        said = [message.text for message in self.messages if message.role == "user"]
        return said[-1].strip() if said else ""

    def sampling(self) -> dict[str, Any]:
        """As of all, in the names of a chat."""
        settings = super().sampling()
        if self.max_completion_tokens:
            settings["max_tokens"] = self.max_completion_tokens
        if settings.pop("logprobs", False):
            settings["logprobs"] = self.top_logprobs or 0
        return settings


class PlotsRequest(Sampled):
    """``POST /v1/plots``: a title, and hints that the model knows."""

    title: Text = Field("", description="The title; without one the model chooses its own.")
    begin: Text = Field("", description="How the text begins.")
    hints: Hints = Field({}, description=OF_HINTS)
    decade: str | None = Field(None, max_length=200, description="The hint Decade, such as 1970s.")
    origin: str | None = Field(None, max_length=200, description="The hint Origin, such as American.")
    genre: str | None = Field(None, max_length=200, description="The hint Genre, such as comedy.")
    length: Length | None = Field(None, description=f"About {', '.join(map(str, LENGTHS.values()))} characters.")
    copies: bool = Field(False, description="List what was copied from the training text, if its index is installed.")

    def all_hints(self) -> dict[str, str]:
        """Return the values of hints by their names.

        Raises:
            PromptError: a hint is given twice.
        """
        named = {"Decade": self.decade, "Origin": self.origin, "Genre": self.genre}
        return join_hints([*self.hints.items(), *((name, value) for name, value in named.items() if value)])

    def sampling(self) -> dict[str, Any]:
        """As of all, and what the length asks for."""
        return with_length(super().sampling(), self.length)


class TitleRequest(Settings):
    """``POST /v1/titles``: a title that the model invents."""

    model: str | None = Field(None, max_length=200, description="Which model; none is the first one served.")
    seed: int | None = Field(None, ge=0, lt=1 << 64, description="The same seed invents the same title.")


class TokenizeRequest(Settings):
    """``POST /tokenize``: text to ids."""

    content: Text = Field(description="Is cleaned as prompts are.")
    model: str | None = Field(None, max_length=200)
    add_special: bool = Field(False, description="Put the BOS token before it.")
    with_pieces: bool = Field(False, description="Return each token's text as well.")


class DetokenizeRequest(Settings):
    """``POST /detokenize``: ids to text."""

    tokens: list[TokenId] = Field(max_length=100_000)
    model: str | None = Field(None, max_length=200)
