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
    with pytest.raises(openai.BadRequestError, match="no id of films"):
        client.completions.create(model="films", prompt=[1, 99_999])


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
    assert logprobs and logprobs.tokens == [
        *map(tokenizer.decode, ([i] for i in ids)),
        *(t.text for t in plot.probabilities),
    ]
    expected = [*of_prompt, *(token.logprob for token in plot.probabilities)]
    assert logprobs.token_logprobs == pytest.approx(expected, abs=1e-4)
    assert logprobs.top_logprobs and len(logprobs.top_logprobs[0]) <= 3
    for token, offset in zip(logprobs.tokens, logprobs.text_offset or [], strict=True):
        assert choice.text[offset:].startswith(token)
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
    assert [token.token for token in choice.logprobs.content] == [token.text for token in plot.probabilities]
    assert len(choice.logprobs.content[0].top_logprobs) == 2
    pieces = list(client.chat.completions.create(**asked, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == plot.text
    assert pieces[0].choices[0].delta.role == "assistant" and pieces[0].object == "chat.completion.chunk"


def test_a_chat_with_a_model_that_knows_no_titles_goes_on_with_the_text(
    client: openai.OpenAI, generators: dict[str, PlotGenerator]
) -> None:
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
    with pytest.raises(openai.BadRequestError, match=r"the prompt has [\d,]+ tokens, and the context of films is 64"):
        client.completions.create(model="films", prompt="the baker hides a letter " * 100)
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
