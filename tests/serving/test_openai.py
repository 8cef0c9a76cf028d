"""The official client, over HTTP, against a real server: each answer is what the generator writes by the same seed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import torch

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.plots import Plot
from movieplotgpt.model.checkpoints import Checkpoint

HEADER = "The plot summary of the movie named 'Ada' is:\n"


def spelled(tokens: list[str]) -> bytes:
    """The bytes of a completion's tokens; those that are no UTF-8 are written ``bytes:\\xe2\\x80``."""
    return b"".join(
        bytes.fromhex(token.removeprefix("bytes:").replace("\\x", "")) if token.startswith("bytes:") else token.encode()
        for token in tokens
    )


def is_utf_8(data: bytes) -> bool:
    try:
        return bool(data.decode()) or not data
    except UnicodeDecodeError:
        return False


@pytest.fixture
def generators(generators: dict[str, PlotGenerator]) -> dict[str, PlotGenerator]:
    """The first in float32, so that its probabilities are the network's."""
    return {**generators, "films": PlotGenerator(generators["films"].checkpoint, precision="float32")}


@pytest.fixture
def films(generators: dict[str, PlotGenerator]) -> PlotGenerator:
    return generators["films"]


@pytest.fixture
def client(serve: Callable[..., str]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{serve()}/v1", api_key="none", max_retries=0, timeout=60)


def test_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["films", "letters"]
    assert client.models.retrieve("letters").id == "letters"


def test_a_completion(client: openai.OpenAI, films: PlotGenerator) -> None:
    plot = films.plot(prompt=HEADER + "The baker", seed=5, max_tokens=30)
    told = client.completions.create(model="films", prompt=HEADER + "The baker", seed=5, max_tokens=30)
    assert told.id.startswith("cmpl-")
    [choice] = told.choices
    assert choice.text == plot.text.removeprefix("The baker")
    assert choice.finish_reason == plot.finish_reason
    prompt = 1 + len(films.checkpoint.tokenizer.encode(HEADER)) + len(films.checkpoint.tokenizer.encode("The baker"))
    assert told.usage and (told.usage.prompt_tokens, told.usage.completion_tokens) == (prompt, plot.tokens)
    assert told.usage.total_tokens == prompt + plot.tokens


def test_a_streamed_completion(client: openai.OpenAI, films: PlotGenerator) -> None:
    asked: dict[str, Any] = {"seed": 5, "max_tokens": 40, "stop": ["e", "q"]}
    stream = client.completions.create(
        model="films", prompt=HEADER, stream=True, stream_options={"include_usage": True}, **asked
    )
    pieces = list(stream)
    plot = films.plot("Ada", **asked)
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == plot.text
    assert [piece.choices[0].finish_reason for piece in pieces if piece.choices][-1] == "stop"
    assert pieces[-1].usage and pieces[-1].usage.completion_tokens == plot.tokens
    assert len({piece.id for piece in pieces}) == 1


def test_several_prompts_and_several_of_each(client: openai.OpenAI, films: PlotGenerator) -> None:
    prompts = [HEADER, "Once", ""]
    told = client.completions.create(model="films", prompt=prompts, n=2, seed=7, max_tokens=12)
    expected = [films.plot(prompt=prompts[i // 2], seed=7 + i, max_tokens=12) for i in range(6)]
    assert [choice.text for choice in told.choices] == [plot.text[len(plot.begun) :] for plot in expected]
    assert [choice.index for choice in told.choices] == list(range(6))


def test_ids_are_a_prompt(client: openai.OpenAI, films: PlotGenerator) -> None:
    ids = films.checkpoint.tokenizer.encode(HEADER).tolist()
    text = films.plot("Ada", seed=1, max_tokens=9).text
    for prompt in (ids, [ids], [films.checkpoint.tokenizer.end_id, *ids]):
        told = client.completions.create(model="films", prompt=prompt, seed=1, max_tokens=9)
        assert told.choices[0].text == text
    with pytest.raises(openai.BadRequestError, match="not a token id of films"):
        client.completions.create(model="films", prompt=[1, 99_999])


def test_ids_are_used_as_they_are(client: openai.OpenAI, films: PlotGenerator) -> None:
    """Spelled letter by letter, with a blank at the end, and with an end token within, which no text can spell."""
    tokenizer = films.checkpoint.tokenizer
    letters = [id_ for letter in "The baker " for id_ in tokenizer.encode(letter).tolist()]
    assert letters != tokenizer.encode("The baker ").tolist()
    prompts = [letters, [*letters, tokenizer.end_id, *letters], [*tokenizer.encode(HEADER).tolist(), *letters]]
    asked: dict[str, Any] = {"model": "films", "max_tokens": 1, "logprobs": 2, "temperature": 0}
    told = client.completions.create(prompt=prompts, extra_body={"guidance": 1}, **asked)
    assert told.usage and told.usage.prompt_tokens == sum(1 + len(ids) for ids in prompts)
    checkpoint = films.checkpoint
    assert isinstance(checkpoint, Checkpoint)
    for ids, choice in zip(prompts, told.choices, strict=True):
        with torch.no_grad():
            logits_V = checkpoint.model(torch.tensor([[tokenizer.end_id, *ids]]))[0, -1]
        [top] = choice.logprobs.top_logprobs if choice.logprobs and choice.logprobs.top_logprobs else [{}]
        expected_V = logits_V[: tokenizer.vocab_size].log_softmax(-1)
        assert sorted(top.values()) == pytest.approx(sorted(expected_V.topk(2).values.tolist()), abs=1e-3)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_is_read_and_nothing_is_written(client: openai.OpenAI, films: PlotGenerator, stream: bool) -> None:
    """As lm-eval asks for the likelihood of a text."""
    tokenizer = films.checkpoint.tokenizer
    ids = [id_ for letter in "The baker" for id_ in tokenizer.encode(letter).tolist()]
    asked: dict[str, Any] = {"model": "films", "max_tokens": 0, "echo": True, "logprobs": 1, "stream": stream}
    for prompt, first in ((ids, []), ([tokenizer.end_id, *ids], [None])):
        told = client.completions.create(prompt=[prompt, ids], **asked)
        choices = [each.choices[0] for each in told][:2] if stream else told.choices
        logits_TV = films.engine().logits([tokenizer.end_id, *ids])
        logprobs_TV = torch.tensor(logits_TV[:, : tokenizer.vocab_size]).log_softmax(-1)
        expected = [float(logprobs_TV[place, id_]) for place, id_ in enumerate(ids)]
        logprobs = choices[0].logprobs
        assert choices[0].text == tokenizer.decode(prompt) and logprobs and logprobs.token_logprobs
        assert logprobs.token_logprobs == [*first, *(pytest.approx(each, abs=1e-4) for each in expected)]
        assert logprobs.text_offset and len(logprobs.text_offset) == len(prompt) == len(logprobs.tokens or ())
        assert choices[1].text == "The baker"
        if not stream:
            assert [choice.finish_reason for choice in choices] == ["length", "length"]
            assert told.usage.completion_tokens == 0
    empty = client.completions.create(model="films", prompt="The baker", max_tokens=0)
    assert (empty.choices[0].text, empty.choices[0].finish_reason) == ("", "length")
    chat = client.chat.completions.create(model="films", messages=[{"role": "user", "content": "Ada"}], max_tokens=0)
    assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == ("", "length")


@pytest.mark.parametrize("stream", [False, True])
def test_an_end_that_comes_at_once_is_a_token_after_an_echoed_prompt(client: openai.OpenAI, stream: bool) -> None:
    """lm-eval leaves the last token out, which it takes for the one that was written."""
    asked: dict[str, Any] = {"model": "films", "prompt": "The", "echo": True, "logprobs": 2, "max_tokens": 1}
    told: Any = client.completions.create(**asked, logit_bias={str(id_): -100 for id_ in range(1, 400)}, stream=stream)
    choices = [each.choices[0] for each in told] if stream else told.choices
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.tokens or []]
    assert tokens[-1] == "END_OF_PLOT" and "".join(tokens[:-1]) == "The"
    assert "".join(choice.text for choice in choices) == "The" and choices[-1].finish_reason == "stop"
    values = [value for choice in choices if choice.logprobs for value in choice.logprobs.token_logprobs or []]
    assert len(values) == len(tokens) and all(value < 0 for value in values)


def test_echo_and_logprobs(client: openai.OpenAI, films: PlotGenerator) -> None:
    asked: dict[str, Any] = {"seed": 2, "max_tokens": 12, "logprobs": 3}
    plot: Plot = films.plot("Ada", **asked)
    [choice] = client.completions.create(model="films", prompt=HEADER, echo=True, **asked).choices
    assert choice.text == HEADER + plot.text
    logprobs = choice.logprobs
    checkpoint = films.checkpoint
    assert isinstance(checkpoint, Checkpoint)
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    ids = tokenizer.encode(HEADER).tolist()
    with torch.no_grad():
        expected_TV = model(torch.tensor([[tokenizer.end_id, *ids]]))[0, :, : tokenizer.vocab_size].log_softmax(-1)
    of_prompt = [float(expected_TV[place, id_]) for place, id_ in enumerate(ids)]
    assert logprobs and logprobs.tokens
    assert logprobs.tokens[: len(ids)] == [tokenizer.decode([id_]) for id_ in ids]
    assert spelled(logprobs.tokens).decode("utf-8", "replace").startswith(choice.text)
    expected = [*of_prompt, *(token.logprob for token in plot.probabilities)]
    assert logprobs.token_logprobs == pytest.approx(expected, abs=1e-4)
    assert logprobs.top_logprobs and len(logprobs.top_logprobs[0]) <= 3
    for token, offset in zip(logprobs.tokens, logprobs.text_offset or [], strict=True):
        assert choice.text[offset:].lstrip("\ufffd").startswith(token) or token.startswith("bytes:")
    pieces = list(client.completions.create(model="films", prompt=HEADER, echo=True, stream=True, **asked))
    assert "".join(piece.choices[0].text for piece in pieces) == HEADER + plot.text
    told = [piece.choices[0].logprobs for piece in pieces]
    assert [token for each in told if each for token in each.tokens or []] == logprobs.tokens
    assert [at for each in told if each for at in each.text_offset or []] == logprobs.text_offset


def test_a_chat_is_a_title_and_its_plot(client: openai.OpenAI, films: PlotGenerator) -> None:
    plot = films.plot("Mars, Texas", seed=3, max_tokens=20, logprobs=2)
    messages: Any = [
        {"role": "system", "content": "You write plots."},
        {"role": "user", "content": "Ada"},
        {"role": "assistant", "content": "..."},
        {"role": "user", "content": [{"type": "text", "text": "Mars, Texas"}]},
    ]
    asked: dict[str, Any] = {"model": "films", "messages": messages, "seed": 3, "max_completion_tokens": 20}
    told = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    [choice] = told.choices
    assert told.object == "chat.completion" and choice.message.role == "assistant"
    assert choice.message.content == plot.text and choice.finish_reason == plot.finish_reason
    assert choice.logprobs and choice.logprobs.content
    told_bytes = [bytes(token.bytes or ()) for token in choice.logprobs.content]
    assert b"".join(told_bytes).decode("utf-8", "replace").startswith(plot.text)
    assert [token.token.encode() for token in choice.logprobs.content] == [
        each if is_utf_8(each) else "".join(f"\\x{byte:02x}" for byte in each).encode() for each in told_bytes
    ]
    assert any(not is_utf_8(each) for each in told_bytes), "the example holds parts of characters"
    assert len(choice.logprobs.content[0].top_logprobs) == 2
    pieces = list(client.chat.completions.create(**asked, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == plot.text
    assert pieces[0].choices[0].delta.role == "assistant" and pieces[0].object == "chat.completion.chunk"


def test_chat_without_titles_continues_the_text(client: openai.OpenAI, generators: dict[str, PlotGenerator]) -> None:
    plot = generators["letters"].plot(prompt="the baker", seed=1, max_tokens=20)
    messages: Any = [{"role": "user", "content": "the baker"}]
    told = client.chat.completions.create(model="letters", messages=messages, seed=1, max_tokens=20)
    assert told.choices[0].message.content == plot.text


def test_the_samplers_settings_are_fields(client: openai.OpenAI, films: PlotGenerator) -> None:
    extra: dict[str, Any] = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2, "dry_multiplier": 0.8, "guidance": 2}
    plain: dict[str, Any] = {"temperature": 1.3, "top_p": 0.9, "frequency_penalty": 0.1, "presence_penalty": 0.2}
    plot = films.plot("Ada", seed=1, max_tokens=25, logit_bias={9: -100}, **extra, **plain)
    told = client.completions.create(
        model="films", prompt=HEADER, seed=1, max_tokens=25, logit_bias={"9": -100}, extra_body=extra, **plain
    )
    assert told.choices[0].text == plot.text


def test_answers_have_the_keys_that_the_schema_requires(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "films", "seed": 1, "max_tokens": 3}
    messages: Any = [{"role": "user", "content": "Ada"}]
    raw = client.with_raw_response
    whole = raw.completions.create(prompt="The", **asked).http_response.json()
    [choice] = whole["choices"]
    assert whole.keys() == {"id", "object", "created", "model", "choices", "usage"}
    assert choice.keys() == {"index", "text", "logprobs", "finish_reason", "seed"} and choice["logprobs"] is None
    chat = raw.chat.completions.create(messages=messages, logprobs=True, **asked).http_response.json()
    [choice] = chat["choices"]
    assert choice.keys() == {"index", "message", "logprobs", "finish_reason", "seed"}
    assert choice["message"].keys() == {"role", "content", "refusal"} and choice["message"]["refusal"] is None
    assert choice["logprobs"].keys() == {"content", "refusal"}
    assert choice["logprobs"]["content"][0].keys() == {"token", "logprob", "bytes", "top_logprobs"}
    for usage in (False, True):
        options: Any = {"include_usage": usage}
        pieces = list(client.chat.completions.create(messages=messages, stream=True, stream_options=options, **asked))
        first, *_, last = [piece.model_dump(exclude_unset=True) for piece in pieces if piece.choices]
        assert first["choices"] == [
            {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        ]
        assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length", "seed": 1}]
        assert ("usage" in first) is usage and first.get("usage") is None
        assert pieces[-1].usage is not None if usage else pieces[-1].usage is None


def test_an_unmet_wish_is_no_reason_to_finish_that_clients_know(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "films", "prompt": HEADER, "seed": 1, "max_tokens": 3}
    told = client.completions.create(**asked, extra_body={"must_mention": "Constantinople"})
    [choice] = told.model_dump()["choices"]
    assert choice["finish_reason"] == "length" and choice["unmet"] == ["does not mention Constantinople"]


def test_the_best_of_several(client: openai.OpenAI, films: PlotGenerator) -> None:
    plot = films.plot("Ada", seed=1, max_tokens=12, best_of=4)
    asked: dict[str, Any] = {"model": "films", "prompt": HEADER, "seed": 1, "max_tokens": 12, "best_of": 4}
    assert client.completions.create(**asked).choices[0].text == plot.text
    assert "".join(piece.choices[0].text for piece in client.completions.create(**asked, stream=True)) == plot.text


def test_what_is_wrong_is_the_clients_error(client: openai.OpenAI, serve: Callable[..., str]) -> None:
    with pytest.raises(openai.NotFoundError, match="there is films, letters"):
        client.completions.create(model="../films", prompt="a")
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="films", prompt="a", temperature=-1)
    assert caught.value.param == "temperature" and "greater than or equal to 0" in str(caught.value)
    with pytest.raises(
        openai.BadRequestError, match=r"context length is 64 tokens, but the prompt has \d+ or more; "
    ) as long:
        client.completions.create(model="films", prompt="the baker hides a letter " * 10_000)
    assert long.value.code == "context_length_exceeded"
    locked = openai.OpenAI(base_url=f"{serve(api_key='secret')}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="key"):
        locked.models.list()
    assert locked.with_options(api_key="secret").models.list().data


def test_fifty_streams_at_once_are_those_written_alone(serve: Callable[..., str], films: PlotGenerator) -> None:
    client = openai.OpenAI(base_url=f"{serve(readings=16)}/v1", api_key="none", max_retries=0, timeout=120)

    def streamed(seed: int) -> str:
        asked: dict[str, Any] = {"model": "films", "prompt": HEADER, "seed": seed, "max_tokens": 10 + seed}
        return "".join(piece.choices[0].text for piece in client.completions.create(**asked, stream=True))

    with ThreadPoolExecutor(50) as pool:
        texts = list(pool.map(streamed, range(50)))
    assert texts == [films.plot("Ada", seed=seed, max_tokens=10 + seed).text for seed in range(50)]


def test_an_overflowing_queue_says_when_to_come_again(serve: Callable[..., str]) -> None:
    client = openai.OpenAI(base_url=f"{serve(readings=2, waiting=2)}/v1", api_key="none", max_retries=0, timeout=120)
    asked: dict[str, Any] = {"model": "films", "prompt": HEADER, "max_tokens": 60}

    def ask(seed: int) -> str | None:
        try:
            return client.completions.create(**asked, seed=seed).choices[0].text
        except openai.RateLimitError as error:
            assert int(error.response.headers["retry-after"]) > 0
            return None

    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(ask, range(20)))
    assert None in told and any(told)
    assert ask(1), "the server is well afterwards"
