"""Routes of our own: plots by their titles, titles, and tokens as llama.cpp has them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse

from movieplotgpt.config import build_settings
from movieplotgpt.errors import PromptError
from movieplotgpt.generation.plots import Plot, PlotRequest
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.serving.answers import (
    KEEP_ALIVE,
    Content,
    EventStream,
    JSONText,
    PlotAnswer,
    Plots,
    Title,
    Tokens,
    event,
)
from movieplotgpt.serving.models import Answer, ServedModel, served, weight_of_plots
from movieplotgpt.serving.openai_routes import STREAM
from movieplotgpt.serving.refusals import framed
from movieplotgpt.serving.requests import DetokenizeRequest, PlotsRequest, TitleRequest, TokenizeRequest
from movieplotgpt.serving.routing import LenientRoute, weight_of_body
from movieplotgpt.serving.workers import in_worker

router = APIRouter(tags=["plots"], route_class=LenientRoute)
TITLE_TOKENS, TITLES = 40, 8  # that are drawn for one: some are empty, as a tenth of the texts in training had none


@router.post("/v1/plots", response_model=Plots, responses=STREAM)
async def plots(http: Request, body: PlotsRequest) -> Response:
    """Write ``n`` plots for a title.

    A stream's events are ``{"begin": {"changes": [...], "seeds": [...]}}``, ``{"index": 0, "plan": "..."}`` where the model
    wrote a plan, ``{"index": 0, "text": "..."}`` for each piece, ``{"plot": {...}}`` for each plot when it is whole, and
    ``[DONE]``.
    """
    model = served(http).named(body.model)
    model.check_number(body.texts())
    requests = await in_worker(await weight_of_body(http, body.texts()), plot_requests, model, body)
    answer = Answer(http, model, requests)
    if body.stream:
        begin = {"changes": list(requests[0].prompt.changes), "seeds": [request.seed for request in requests]}
        return EventStream(framed(_events(await answer.__aenter__(), model, body, begin)))
    async with answer:
        written = await answer.plots()
        told = [await _told(model, body, index, plot) for index, plot in enumerate(written)]
        return JSONText(await in_worker(weight_of_plots(written), _whole, model, told))


def plot_requests(model: ServedModel, body: PlotsRequest) -> list[PlotRequest]:
    """Return ``n`` requests for a title.

    Raises:
        DataError: copies are to be reported and no index of the training text is installed.
    """
    if body.copies:
        _ = model.generator.copies
    return model.generator.requests(body.title, begin=body.begin, hints=body.all_hints(), **body.sampling())


def _whole(model: ServedModel, plots: list[PlotAnswer]) -> str:
    return Plots(model=model.name, plots=plots).model_dump_json()


@router.post("/v1/titles")  # not GET, by which any web page could make the model write
async def title(http: Request, body: TitleRequest) -> Title:
    """A title that the model invents."""
    inventor = served(http).named(body.model)
    layout = inventor.generator.builder.form.format
    if not layout.header:
        raise HTTPException(404, f"{inventor.name} was trained on text without titles, and invents none")
    before, _, after = layout.header.partition(f"{{{layout.title_column}}}")
    settings = {
        "max_tokens": TITLE_TOKENS,
        "stop": (after or "\n", "\n"),
        "guidance": 1.0,
        "seed": body.seed,
        "n": TITLES,
    }
    requests = inventor.generator.requests(
        prompt=before, sampling=build_settings(SamplingConfig, settings, where="title")
    )
    async with Answer(http, inventor, requests) as answer:
        plots = await answer.plots()
    drawn = [Title(title=plot.text[len(plot.begun) :].strip(), seed=plot.seed) for plot in plots]
    return next((each for each in drawn if each.title), drawn[0])


@router.get("/v1/models/{name:path}/card", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def card(http: Request, name: str) -> Response:
    """The model card, as Markdown."""
    return PlainTextResponse(served(http).named(name).card())


@router.post("/tokenize", response_model=Tokens)
async def tokenize(http: Request, body: TokenizeRequest) -> Response:
    """A text's ids, as a prompt's."""
    tokenizer = served(http).named(body.model).generator.checkpoint.tokenizer

    def made() -> str:
        ids = [*([tokenizer.end_id] if body.add_special else []), *tokenizer.encode(body.content).tolist()]
        pieces = [{"id": id_, "piece": tokenizer.decode([id_])} for id_ in ids] if body.with_pieces else ids
        return json.dumps({"tokens": pieces})

    return JSONText(await in_worker(len(body.content), made))


@router.post("/detokenize")
async def detokenize(http: Request, body: DetokenizeRequest) -> Content:
    """The text of ids."""
    model = served(http).named(body.model)
    tokenizer = model.generator.checkpoint.tokenizer

    def made() -> str:
        if wrong := [id_ for id_ in body.tokens if id_ >= tokenizer.vocab_size]:
            raise PromptError(f"{wrong[0]} is not a token id of {model.name}, which has {tokenizer.vocab_size:,}")
        return tokenizer.decode(body.tokens)

    return Content(content=await in_worker(len(body.tokens), made))


async def _events(answer: Answer, model: ServedModel, body: PlotsRequest, begin: dict[str, Any]) -> AsyncIterator[str]:
    try:
        yield event({"begin": begin})
        async for each in answer:
            if each is None:
                yield KEEP_ALIVE
            elif each.plot is not None:
                told = await _told(model, body, each.index, each.plot)
                yield await in_worker(weight_of_plots([each.plot]), _event_of_plot, told)
            elif each.plan:
                yield event({"index": each.index, "plan": each.plan})
            elif each.piece:
                yield event({"index": each.index, "text": each.piece})
    finally:
        answer.close()


def _event_of_plot(told: PlotAnswer) -> str:
    return event({"plot": told.model_dump(mode="json")})


async def _told(model: ServedModel, body: PlotsRequest, index: int, plot: Plot) -> PlotAnswer:
    report = await asyncio.to_thread(model.generator.copies.report, plot.text) if body.copies else None
    return await in_worker(weight_of_plots([plot]), PlotAnswer.of, index, plot, report)
