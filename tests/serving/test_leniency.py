"""What clients mean by off, by nothing and by too much; and any body that OpenAI's documentation allows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.conftest import make_tiny_checkpoint

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.writing import Writing
from movieplotgpt.serving.app import create_app
from movieplotgpt.serving.leniency import Adapted, adapt
from movieplotgpt.serving.models import ServedModels
from movieplotgpt.serving.requests import (
    MOST_TOKENS,
    ChatRequest,
    CompletionRequest,
    PlotsRequest,
    Sampled,
    TokenizeRequest,
)

CHAT = {"messages": [{"role": "user", "content": "Ada"}]}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize("name", ["top_k", "top_p", "typical_p", "seed", "min_tokens", "repetition_penalty", "best_of"])
@pytest.mark.parametrize("model", [CompletionRequest, ChatRequest, PlotsRequest])
def test_off_in_the_words_of_clients_is_unsaid(name: str, model: type[Sampled]) -> None:
    for off in (-1, -1.0, *([] if name == "seed" else [0])):
        assert adapt({name: off}, model) == Adapted({}, (), (f"{name}=off",))
    assert adapt({name: None}, model) == Adapted({})
    assert adapt({name: 1}, model).body == {name: 1}


@pytest.mark.parametrize(
    ("sent", "meant", "changed"),
    [
        ({"max_tokens": -1}, {}, "max_tokens=off"),
        ({"max_tokens": 0}, {"max_tokens": 0}, ""),
        ({"max_tokens": MOST_TOKENS}, {"max_tokens": MOST_TOKENS}, ""),
        ({"max_tokens": 10**9}, {"max_tokens": MOST_TOKENS}, f"max_tokens={MOST_TOKENS}"),
        ({"max_tokens": float("inf")}, {"max_tokens": MOST_TOKENS}, f"max_tokens={MOST_TOKENS}"),
        ({"max_tokens": True}, {"max_tokens": True}, ""),
        ({"seed": 0}, {"seed": 0}, ""),
        ({"seed": -2}, {"seed": (1 << 63) - 2}, f"seed={(1 << 63) - 2}"),
        ({"seed": "-1"}, {"seed": "-1"}, ""),
        ({"stop": ""}, {"stop": []}, ""),
        ({"stop": ["", "a", None]}, {"stop": ["a"]}, ""),
        ({"stop": list("abcdef")}, {"stop": list("abcdef")}, ""),
        ({"logprobs": 0}, {"logprobs": 0}, ""),
        ({"logprobs": False}, {}, ""),
        ({"logprobs": -1}, {}, "logprobs=off"),
        ({"suffix": ""}, {}, ""),
        ({"model": ""}, {}, ""),
        ({"logit_bias": {"1": None, "2": 3}}, {"logit_bias": {"2": 3}}, ""),
        ({"stream_options": {"include_usage": None}}, {"stream_options": {}}, ""),
        ({"min_p": 0}, {"min_p": 0}, ""),
        ({"temperature": 0}, {"temperature": 0}, ""),
    ],
)
def test_what_is_meant(sent: dict, meant: dict, changed: str) -> None:
    assert adapt(sent, CompletionRequest) == Adapted(meant, (), (changed,) if changed else ())
    if True in meant.values() or "-1" in meant.values():  # nobody means a number by that
        with pytest.raises(ValidationError, match="is not a number"):
            CompletionRequest.model_validate(meant)
    else:
        CompletionRequest.model_validate(meant)


def test_unknown_fields_are_ignored_and_named_at_any_depth() -> None:
    part = {"type": "text", "text": "Ada", "cache_control": {"type": "ephemeral"}}
    message = {"role": "user", "content": [part, None, {"type": "refusal", "refusal": "no"}], "name": "n", "id": 3}
    sent = {"messages": [message, None, message], "n_predict": 3, "user": None, "stream_options": {"chunk": 1}}
    adapted = adapt(sent, ChatRequest)
    clean = {"role": "user", "content": [{"type": "text", "text": "Ada"}]}
    assert adapted.body == {"messages": [clean, clean], "stream_options": {}}
    assert adapted.ignored == (
        "messages.content.cache_control",
        "messages.name",
        "messages.id",
        "n_predict",
        "stream_options.chunk",
    )
    assert adapted.headers() == {"X-Ignored-Fields": ", ".join(adapted.ignored)}
    assert adapt({"content": "a", "parse_special": True}, TokenizeRequest).ignored == ("parse_special",)
    assert adapt({"title": "a", "lenght": 3}, PlotsRequest) == Adapted({"title": "a", "lenght": 3}), "our own route"


def test_tools_are_dropped_where_none_may_be_called() -> None:
    assert adapt({**CHAT, "tools": [TOOL], "tool_choice": "none"}, ChatRequest) == Adapted(CHAT, ("tools",))
    nothings: list[dict] = [{"tools": []}, {"tool_choice": "auto"}, {"functions": []}, {"modalities": ["text"]}]
    for nothing in nothings:
        assert adapt({**CHAT, **nothing}, ChatRequest) == Adapted(CHAT)


@pytest.mark.parametrize("body", [None, 3, "a", [], [{"a": None}], True])
def test_what_is_no_object_stays(body: Any) -> None:
    assert adapt(body, CompletionRequest) == Adapted(body)


def test_names_in_a_header_are_harmless_and_short() -> None:
    names = ["a\r\nSet-Cookie: b=c", "é\ud800\u2028", "x" * 10_000, *(f"field{number}" for number in range(100))]
    [header] = adapt(dict.fromkeys(names, 1), CompletionRequest).headers().values()
    assert (
        len(header) < 5000 and header.isascii() and header.isprintable() and header.startswith("a%0D%0ASet-Cookie%3A")
    )


@pytest.fixture(scope="module")
def web() -> Iterator[TestClient]:
    """A server whose texts have three tokens at most."""
    begun = Writing.__init__

    def short(self: Writing, *arguments: Any, **how: Any) -> None:
        begun(self, *arguments, **how)
        self.max_tokens, self._grace = min(self.max_tokens, 3), 0

    generators = {"films": PlotGenerator(make_tiny_checkpoint("bpe"))}
    generators["films"].plot(max_tokens=1)
    served = ServedModels.scheduled(generators, readings=8, waiting=64)
    with pytest.MonkeyPatch.context() as patched, TestClient(create_app(served)) as client:
        patched.setattr(Writing, "__init__", short)
        yield client


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}, "response_format"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
    ],
)
def test_what_is_not_supported_gets_a_sentence(web: TestClient, asked: dict, param: str) -> None:
    answer = web.post("/v1/chat/completions", json={**CHAT, **asked})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == param and error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{param}: ") and " leave " in error["message"]
    suffix = web.post("/v1/completions", json={"suffix": "x"}).json()["error"]
    assert suffix["message"] == ("suffix: the models of this server cannot fill in text before a suffix; leave it out")


def test_what_was_adapted_is_in_the_headers(web: TestClient) -> None:
    asked = {"max_tokens": 10**6, "top_k": -1, "best": 3, "mirostat": 2}
    for stream in (False, True):
        headers = web.post("/v1/completions", json={**asked, "stream": stream}).headers
        assert headers["x-changed-fields"] == "max_tokens=20000, top_k=off"
        assert headers["x-ignored-fields"] == "best, mirostat"
    assert not {"x-changed-fields", "x-ignored-fields"} & web.post("/v1/completions", json={}).headers.keys()


def test_a_body_that_is_not_sent_as_json_gets_a_sentence(web: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = web.post("/v1/completions", content=b'{"prompt": "a"}', headers={"content-type": kind})
        assert answer.status_code == 400 and "Content-Type: application/json" in answer.json()["error"]["message"]


def nullable(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


TEXT = st.text(max_size=8)
STOP = nullable(TEXT | st.lists(nullable(TEXT), max_size=6))
IDS = st.lists(st.integers(0, 500), max_size=6)
OFF = st.sampled_from([-1, 0])
COMMON: dict[str, st.SearchStrategy] = {  # as the documentation of OpenAI's API has them, and off as clients write it
    "model": st.sampled_from(["films", "", None, "gpt-4o"]),
    "frequency_penalty": nullable(st.floats(-2, 2)),
    "presence_penalty": nullable(st.floats(-2, 2)),
    "logit_bias": nullable(st.dictionaries(st.integers(0, 500).map(str), nullable(st.integers(-100, 100)), max_size=3)),
    "max_tokens": nullable(st.integers(-1, 3) | st.integers(10**5, 10**30)),
    "n": nullable(st.integers(1, 2)),
    "seed": nullable(st.integers(-(1 << 63), (1 << 63) - 1) | OFF),
    "stop": STOP,
    "stream": nullable(st.booleans()),
    "stream_options": nullable(st.dictionaries(st.sampled_from(["include_usage", "more"]), nullable(st.booleans()))),
    "temperature": nullable(st.floats(0, 2)),
    "top_p": nullable(st.floats(0, 1) | OFF),
    "top_k": nullable(st.integers(-1, 9)),
    "min_p": nullable(st.floats(0, 1)),
    "user": nullable(TEXT),
    "unheard_of": st.recursive(
        nullable(TEXT), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=4
    ),
}
COMPLETION = COMMON | {
    "prompt": nullable(TEXT | st.lists(TEXT, min_size=1, max_size=2) | IDS | st.lists(IDS, min_size=1, max_size=2)),
    "best_of": nullable(st.integers(0, 3)),
    "echo": nullable(st.booleans()),
    "logprobs": nullable(st.integers(0, 5)),
    "suffix": nullable(st.just("") | TEXT),
}
PART = st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}, optional={"cache_control": st.none() | TEXT})
PARTS = st.lists(
    nullable(PART | st.just({"type": "refusal", "refusal": "no"}) | st.just({"type": "image_url"})), max_size=3
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"])},
    optional={"content": nullable(TEXT | PARTS), "name": nullable(TEXT), "tool_calls": st.none() | st.just([TOOL])},
)
CHATTING = COMMON | {
    "max_completion_tokens": nullable(st.integers(0, 3)),
    "logprobs": nullable(st.booleans()),
    "top_logprobs": nullable(st.integers(0, 20)),
    "tools": nullable(st.sampled_from([[], [TOOL]])),
    "tool_choice": nullable(st.sampled_from(["none", "auto", "required", TOOL])),
    "parallel_tool_calls": nullable(st.booleans()),
    "response_format": nullable(st.sampled_from([{"type": "text"}, {"type": "json_object"}])),
    "modalities": nullable(st.sampled_from([["text"], ["text", "audio"]])),
    "reasoning_effort": nullable(st.sampled_from(["none", "low", "high"])),
    "prediction": nullable(st.just({"type": "content", "content": "x"})),
    "metadata": nullable(st.dictionaries(TEXT, TEXT, max_size=2)),
    "store": nullable(st.booleans()),
    "verbosity": nullable(st.just("low")),
}
BODIES = st.tuples(st.just("/v1/completions"), st.fixed_dictionaries({}, optional=COMPLETION)) | st.tuples(
    st.just("/v1/chat/completions"),
    st.fixed_dictionaries({"messages": st.lists(MESSAGE, min_size=1, max_size=3)}, optional=CHATTING),
)


@given(BODIES)
def test_adapting_is_idempotent(sent: tuple[str, dict]) -> None:
    path, body = sent
    model = ChatRequest if "chat" in path else CompletionRequest
    before = json.dumps(body)
    adapted = adapt(body, model)
    assert json.dumps(body) == before, "what was sent stays as it is"
    assert adapt(adapted.body, model) == Adapted(adapted.body)
    assert None not in adapted.body.values() and adapted.body.keys() <= model.model_fields.keys()
    try:
        model.model_validate(adapted.body)
    except ValidationError as error:
        kinds = {problem["type"] for problem in error.errors()}
        assert kinds <= {"value_error", "too_short"}, kinds  # a sentence of ours; no message is left


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=BODIES)
def test_documented_fields_are_answered_or_refused(web: TestClient, sent: tuple[str, dict]) -> None:
    path, body = sent
    answer = web.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and len(error["message"]) > 15
        assert body.get("model") == "gpt-4o" if answer.status_code == 404 else error["type"] == "invalid_request_error"
    elif body.get("stream"):
        assert answer.text.endswith("data: [DONE]\n\n") and '"error"' not in answer.text
    else:
        assert answer.json()["choices"]
