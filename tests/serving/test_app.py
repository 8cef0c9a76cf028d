"""What is served where, and what a person or a stranger can send wrong."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.plots import Plot
from movieplotgpt.generation.prompts import PromptForm
from movieplotgpt.serving.answers import KEEP_ALIVE, event
from movieplotgpt.serving.app import HEADERS, MOST_BYTES, create_app
from movieplotgpt.serving.models import Answer, ServedModels


@pytest.fixture
def web(models: ServedModels) -> Iterator[TestClient]:
    with TestClient(create_app(models), raise_server_exceptions=False) as client:
        yield client


def events(text: str) -> list[dict[str, Any]]:
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]


def test_plots_of_a_title(web: TestClient, generators: dict[str, PlotGenerator]) -> None:
    asked: dict[str, Any] = {"seed": 4, "max_tokens": 20, "n": 2, "logprobs": 1}
    plots = generators["films"].plots("Mars, Texas", hints={"Decade": "1970s"}, begin="Tex", **asked)
    told = web.post("/v1/plots", json={"title": "Mars, Texas", "decade": "1970s", "begin": "Tex", **asked}).json()
    assert told["model"] == "films" and [plot["index"] for plot in told["plots"]] == [0, 1]
    for got, plot in zip(told["plots"], plots, strict=True):
        assert (got["text"], got["seed"], got["tokens"]) == (plot.text, plot.seed, plot.tokens)
        assert (got["title"], got["hints"], got["begun"]) == ("Mars, Texas", {"Decade": "1970s"}, "Tex")
        assert [token["text"] for token in got["probabilities"]] == [token.text for token in plot.probabilities]


def test_a_chat_takes_hints(web: TestClient, generators: dict[str, PlotGenerator]) -> None:
    asked: dict[str, Any] = {"seed": 4, "max_tokens": 20}
    plot = generators["films"].plot("Mars, Texas", hints={"Decade": "1970s"}, **asked)
    chat = {"messages": [{"role": "user", "content": "Mars, Texas"}], "hints": {"Decade": "1970s"}, **asked}
    assert web.post("/v1/chat/completions", json=chat).json()["choices"][0]["message"]["content"] == plot.text
    assert plot.text != generators["films"].plot("Mars, Texas", **asked).text


def test_streamed_plots(web: TestClient, generators: dict[str, PlotGenerator]) -> None:
    asked: dict[str, Any] = {"seed": 4, "max_tokens": 20, "n": 2}
    plots = generators["films"].plots("Café", begin="Tex", **asked)
    with web.stream("POST", "/v1/plots", json={"title": "Café", "begin": "Tex", "stream": True, **asked}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        first, *others = events(answer.read().decode())
    assert first == {"begin": {"changes": ["é→e"], "seeds": [4, 5]}}
    for index, plot in enumerate(plots):
        pieces = "".join(told["text"] for told in others if told.get("index") == index)
        assert "Tex" + pieces == plot.text
    assert [told["plot"]["text"] for told in others if "plot" in told and told["plot"]["index"] == 1] == [plots[1].text]


def test_stream_reports_the_plan_first(planned: Path) -> None:
    generator = PlotGenerator(load_folder(planned))
    served = ServedModels.scheduled({"planned": generator}, readings=16, waiting=40)
    with TestClient(create_app(served)) as web:
        asked: dict[str, Any] = {"seed": 4}
        plot = generator.plot("Red Dust 3", **asked)
        told = events(web.post("/v1/plots", json={"title": "Red Dust 3", "stream": True, **asked}).text)
        assert told[1] == {"index": 0, "plan": plot.plan}
        assert "".join(each.get("text", "") for each in told) == plot.text
        assert told[-1]["plot"]["hints"] == {"Plan": plot.plan}
        chat = {"messages": [{"role": "user", "content": "Red Dust 3"}], "stream": True, **asked}
        assert plot.plan not in web.post("/v1/chat/completions", json=chat).text
        completed = web.post("/v1/completions", json={"prompt": "The plot of 'Red Dust 3' is:", **asked}).json()
        assert completed["choices"][0]["text"] == generator.plot("Red Dust 3", plan="none", **asked).text
    served.close()


def test_length_and_cast(web: TestClient, generators: dict[str, PlotGenerator]) -> None:
    told = web.post("/v1/plots", json={"title": "Ada", "seed": 1, "length": "short", "cast": False}).json()
    assert told["plots"][0]["text"] == generators["films"].plot("Ada", seed=1, target_characters=400, banned=["("]).text


def test_an_invented_title(web: TestClient) -> None:
    told = web.post("/v1/titles", json={"seed": 4}).json()
    assert told["seed"] == 4 and "\n" not in told["title"] and "' is:" not in told["title"]
    assert web.post("/v1/titles", json={"seed": 4}).json() == told
    assert "without titles" in web.post("/v1/titles", json={"model": "letters"}).json()["error"]["message"]


def test_an_empty_title_is_none(web: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Answer.plots

    async def nothing_at_first(answer: Answer) -> list[Plot]:
        first, *others = await drawn(answer)
        return [replace(first, text=f"{first.begun} "), *others]

    second = web.post("/v1/titles", json={"seed": 5}).json()
    monkeypatch.setattr(Answer, "plots", nothing_at_first)
    assert web.post("/v1/titles", json={"seed": 4}).json() == second != {"title": "", "seed": 5}


def test_tokens_and_back(web: TestClient, generators: dict[str, PlotGenerator]) -> None:
    tokenizer = generators["letters"].checkpoint.tokenizer
    text = "the baker; 東京 <b>\x00"
    ids = web.post("/tokenize", json={"content": text, "model": "letters", "add_special": True}).json()["tokens"]
    assert ids == [tokenizer.end_id, *tokenizer.encode(text).tolist()]
    assert web.post("/detokenize", json={"tokens": ids[1:], "model": "letters"}).json() == {"content": text}
    pieces = web.post("/tokenize", json={"content": "baker", "with_pieces": True}).json()["tokens"]
    assert "".join(piece["piece"] for piece in pieces) == "baker"
    assert web.post("/detokenize", json={"tokens": [10**9]}).status_code == 400


def test_what_the_server_does_can_be_watched(web: TestClient) -> None:
    web.post("/v1/plots", json={"seed": 1, "max_tokens": 7})
    assert web.get("/health").json() == {"status": "ok", "models": ["films", "letters"], "running": 0, "waiting": 0}
    lines = web.get("/metrics").text.splitlines()
    assert (
        'movieplotgpt_tokens_total{model="films"} 7.0' in lines
        and 'movieplotgpt_texts_total{model="films"} 1.0' in lines
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/plots", {"title": 3}, 400, "title: "),
        ("/v1/plots", {"title": "x", "temprature": 1}, 400, "temprature: "),
        ("/v1/plots", {"title": "x", "n": 0}, 400, "n: "),
        ("/v1/plots", {"title": "x", "min_p": False}, 400, "min_p: "),
        ("/v1/plots", {"title": "x", "temperature": "1"}, 400, "temperature: "),
        ("/v1/plots", {"title": "x", "n": -5}, 400, "n: "),
        ("/v1/plots", {"title": "x", "n": 1000}, 400, "1,000 texts are asked for"),
        ("/v1/plots", {"title": "x", "n": 10, "best_of": 10}, 400, "100 texts are asked for"),
        ("/v1/plots", {"title": "x", "n": 10**12}, 400, "1,000,000,000,000 texts are asked for"),
        ("/v1/completions", {"prompt": ["x"] * 100_000}, 400, "100,000 texts are asked for"),
        ("/v1/plots", {"title": "x", "banned": ["x"] * 100}, 400, "banned: "),
        ("/v1/plots", {"title": "x", "must_mention": "x," * 100}, 400, "must_mention: "),
        ("/v1/plots", {"title": "x", "hints": {"Weather": "wet"}}, 400, "'Weather'"),
        ("/v1/plots", {"title": "x", "hints": {"decade": "1950s"}, "decade": "1960s"}, 400, "Decade is given twice"),
        ("/v1/plots", {"title": "x", "model": "letters"}, 400, "without titles"),
        ("/v1/plots", {"title": "x", "copies": True}, 400, "no copy index"),
        ("/v1/plots", {"title": "x", "avoid_copies": 60}, 400, "no copy index"),
        ("/v1/plots", {"title": "x", "model": "/etc/passwd"}, 404, "'/etc/passwd'"),
        ("/v1/completions", {"prompt": {"a": 1}}, 400, "prompt"),
        ("/v1/completions", {"prompt": 0}, 400, "prompt"),
        ("/v1/completions", {"prompt": "x", "stop": ["a"] * 65}, 400, "stop: "),
        ("/v1/completions", {"prompt": "x", "stop": ["a" * 201]}, 400, "stop.0: "),
        ("/v1/completions", {"prompt": ["x", 3]}, 400, "prompt: "),
        ("/v1/completions", {"prompt": [[3, True]]}, 400, "prompt: "),
        ("/v1/completions", {"prompt": [[3, -1]]}, 400, "prompt: "),
        ("/v1/completions", {"prompt": [3, 99_999]}, 400, "99999 is not a token id of films"),
        ("/v1/completions", {"prompt": "x", "logit_bias": {"1": 1e9}}, 400, "logit_bias.1: "),
        ("/v1/plots", {"title": "x", "max_tokens": 0}, 400, "max_tokens: "),
        ("/v1/completions", {"prompt": []}, 400, "0 texts are asked for"),
        ("/v1/completions", {"prompt": "x", "suffix": "y"}, 400, "suffix: "),
        ("/v1/chat/completions", {"messages": []}, 400, "messages: "),
        ("/v1/chat/completions", {"messages": [{"role": "cat", "content": "x"}]}, 400, "messages.0.role: "),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens.0: "),
    ],
)
def test_what_is_wrong_is_said_with_its_path(web: TestClient, path: str, body: Any, status: int, said: str) -> None:
    answer = web.post(path, json=body)
    error = answer.json()["error"]
    assert answer.status_code == status and said in error["message"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    if said.endswith(": "):
        assert error["param"] == said[:-2] and error["message"].startswith(said)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"title": NaN, "temperature": NaN}', 400),
        (b'{"temperature": NaN}', 400),
        (b'{"temperature": 1e999}', 400),
        (b'{"title": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", 400),
        (b'{"logit_bias": ' + b'{"1":' * 100_000 + b"1" + b"}" * 100_000 + b"}", 400),
        (b'{"title": "' + b"a" * MOST_BYTES + b'"}', 413),
        (b"[1, 2]", 400),
    ],
    ids=["empty", "cut", "no utf-8", "nan", "nan alone", "infinite", "deep", "deep object", "long", "a list"],
)
def test_hostile_bodies(web: TestClient, body: bytes, status: int) -> None:
    answer = web.post("/v1/plots", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status and answer.json()["error"]["message"]
    assert "Traceback" not in answer.text and "File " not in answer.text
    assert web.get("/health").json()["status"] == "ok"


def test_a_long_body_is_not_read_to_its_end(web: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 50 * MOST_BYTES:
            sent += 100_000
            yield b" " * 100_000

    json_type = {"content-type": "application/json"}
    assert web.post("/v1/plots", content=endless(), headers=json_type).status_code == 413


@pytest.mark.parametrize(
    "title", ["\x00\x1b[31m", "<script>alert(1)</script>", "a" * 50_000, "🎬" * 500, "\u202e", "\ud800"]
)
def test_any_title_is_a_title(web: TestClient, title: str) -> None:
    answer = web.post(
        "/v1/plots",
        content=json.dumps({"title": title, "seed": 0, "max_tokens": 3}),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in (200, 400)
    answer.content.decode()
    json.loads(answer.text)


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "/page/../../app.py",
        "/nothing",
    ],
)
def test_no_file_but_the_pages_is_read(web: TestClient, path: str) -> None:
    answer = web.get(path)
    assert answer.status_code == 404 and "import" not in answer.text and "root:" not in answer.text
    assert web.get(f"/v1/models/{path}").status_code == 404


def test_the_card_is_the_models_own(web: TestClient, generators: dict[str, PlotGenerator], tmp_path: Path) -> None:
    assert web.get("/v1/models/films/card").text == ""
    object.__setattr__(generators["films"].checkpoint, "folder", tmp_path)
    (tmp_path / "README.md").write_text("# Films\n", encoding="utf-8")
    assert web.get("/v1/models/films/card").text == "# Films\n"


def test_the_page_and_its_headers(web: TestClient, models: ServedModels) -> None:
    page = web.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    for name, value in HEADERS.items():
        assert page.headers[name] == value
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    with TestClient(create_app(models, page=False)) as bare:
        assert bare.get("/").status_code == 404


def test_a_key_is_asked_for_where_text_is_read_or_written(models: ServedModels) -> None:
    with TestClient(create_app(models, api_key="s3cret")) as web:
        for path in ("/v1/models", "/v1/models/films", "/v1/models/films/card"):
            assert web.get(path).status_code == 401
        for path in ("/v1/plots", "/v1/completions", "/v1/chat/completions", "/v1/titles", "/tokenize", "/detokenize"):
            refused = web.post(path, json={})
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
        assert web.get("/health").status_code == 200
        assert web.get("/v1/models", headers={"Authorization": "Bearer s3cret"}).status_code == 200
        assert web.get("/v1/models", headers={"Authorization": "Bearer s3cre"}).status_code == 401


def test_it_answers_to_its_own_names_only(models: ServedModels) -> None:
    with TestClient(create_app(models, hosts=["localhost", "[::1]"]), base_url="http://localhost:8000") as web:
        assert web.get("/health").status_code == 200
        assert web.get("/health", headers={"host": "[::1]:8000"}).status_code == 200
        for host in ("elsewhere.example", "localhost.example", ""):
            refused = web.get("/health", headers={"host": host})
            assert refused.status_code == 400 and refused.headers["content-type"] == "application/json"
            error = refused.json()["error"]
            assert set(error) == {"message", "type", "param", "code"} and error["code"] == "unknown_host"
            assert repr(host) in error["message"] and "--allow-host" in error["message"]


def test_no_site_may_ask_unless_its_origin_is_allowed(models: ServedModels) -> None:
    asked = {
        "origin": "https://plots.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang",
    }
    with TestClient(create_app(models)) as web:
        assert web.options("/v1/completions", headers=asked).status_code == 405
        assert "access-control-allow-origin" not in web.get("/v1/models", headers={"origin": asked["origin"]}).headers
    with TestClient(create_app(models, origins=["https://plots.example"], api_key="s3cret")) as web:
        allowed = web.options("/v1/completions", headers=asked)
        assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == "https://plots.example"
        assert allowed.headers["access-control-allow-headers"] == asked["access-control-request-headers"]
        refused = web.get("/v1/models", headers={"origin": asked["origin"]})
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == "https://plots.example"
        assert "X-Ignored-Fields" in refused.headers["access-control-expose-headers"]
        for origin in ("https://other.example", "http://plots.example", "null"):
            assert web.options("/v1/completions", headers={**asked, "origin": origin}).status_code == 400
            answer = web.get("/v1/models", headers={"origin": origin})
            assert "access-control-allow-origin" not in answer.headers
    with TestClient(create_app(models, origins=["*"])) as web:
        assert web.get("/v1/models", headers={"origin": "null"}).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", ["/v1/plots", "/v1/completions", "/v1/chat/completions"])
def test_streams_pass_proxies_and_readers_of_lines(web: TestClient, path: str) -> None:
    """Some readers of events break lines where Unicode does; JSON may escape what it likes."""
    text = "a\x85b\u2028c\u2029d é"
    asked: dict[str, Any] = {"title": text} if path == "/v1/plots" else {"prompt": text, "echo": True}
    asked = {"messages": [{"role": "user", "content": text}], "model": "letters"} if "chat" in path else asked
    answer = web.post(path, json={**asked, "stream": True, "seed": 0, "max_tokens": 2})
    assert answer.headers["cache-control"] == "no-cache" and answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert all(line == "" or line.startswith("data: ") for line in answer.text.splitlines())
    assert len(events(answer.text)) >= 2


def test_the_ends_of_lines_of_unicode_are_escaped_in_events() -> None:
    told = event({"text": "a\x85b\u2028c\u2029d é\n"})
    assert told == 'data: {"text": "a\\u0085b\\u2028c\\u2029d é\\n"}\n\n'
    assert json.loads(told.removeprefix("data: ")) == {"text": "a\x85b\u2028c\u2029d é\n"}


@pytest.mark.parametrize("path", ["/v1/plots", "/v1/completions", "/v1/chat/completions"])
def test_a_client_that_waits_hears_that_the_server_lives(
    models: ServedModels, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("movieplotgpt.serving.models.KEEP_ALIVE_SECONDS", 0.01)
    asked = {"messages": [{"role": "user", "content": "x"}], "stream": True, "seed": 1, "max_tokens": 3}
    with TestClient(create_app(models)) as web:
        silent = web.post(path, json=asked if "chat" in path else {"stream": True, "seed": 1, "max_tokens": 3}).text
        turn = models["films"].turn
        turn.acquire()  # as while another model takes a long step
        threading.Timer(0.5, turn.release).start()
        heard = web.post(path, json=asked if "chat" in path else {"stream": True, "seed": 1, "max_tokens": 3}).text
    assert KEEP_ALIVE == ": keep-alive\n\n" and KEEP_ALIVE in heard
    plain = [re.sub(r'"(id|created)":[^,]*', "", text.replace(KEEP_ALIVE, "")) for text in (silent, heard)]
    assert plain[0] == plain[1], "comments are all that differs"


def test_null_is_as_if_it_had_not_been_said(web: TestClient) -> None:
    """As OpenAI's clients send it, among what is taken and not needed."""
    names = ("temperature", "top_p", "n", "stop", "logit_bias", "min_p", "stream", "best_of", "guidance", "metadata")
    unsaid = dict.fromkeys(names)
    asked: dict[str, Any] = {"seed": 1, "max_tokens": 9}
    told = web.post("/v1/plots", json={"title": "Ada", **asked, **unsaid}).json()
    assert told["plots"] == web.post("/v1/plots", json={"title": "Ada", **asked}).json()["plots"]
    unneeded = {
        "user": "u",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "tools": [],
        "tool_choice": "auto",
    }
    chat = {"messages": [{"role": "user", "content": "Ada"}], **asked, "response_format": {"type": "text"}}
    answer = web.post("/v1/chat/completions", json={**chat, **unneeded, "stop": None, "parallel_tool_calls": True})
    assert answer.json()["choices"][0]["message"]["content"] == told["plots"][0]["text"]
    assert answer.headers["x-ignored-fields"] == "user, metadata, store, service_tier, parallel_tool_calls"


def post_in_chunks(app: FastAPI, body: bytes, chunk: int) -> tuple[int, int]:
    """Post ``body`` in chunks; return the status of the answer and how many bytes were read."""
    read, statuses = 0, list[int]()

    async def receive() -> dict[str, Any]:
        nonlocal read
        if read == len(body):
            await asyncio.Event().wait()  # the client listens, and sends no more
        part = body[read : read + chunk]
        read += len(part)
        return {"type": "http.request", "body": part, "more_body": read < len(body)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/plots",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 50_000),
    }
    asyncio.run(app(scope, receive, send))
    [status] = statuses
    return status, read


@pytest.mark.parametrize("chunk", [300_000, MOST_BYTES, 2 * MOST_BYTES])
def test_the_limit_of_a_body_holds_over_all_its_chunks(models: ServedModels, chunk: int) -> None:
    app = create_app(models)
    body = b'{"title": "x", "max_tokens": 1}'.ljust(MOST_BYTES)
    assert post_in_chunks(app, body, chunk) == (200, MOST_BYTES)
    assert post_in_chunks(app, body + b" ", chunk)[0] == 413
    status, read = post_in_chunks(app, body.ljust(9 * MOST_BYTES), chunk)
    assert status == 413 and read <= MOST_BYTES + chunk, "no more is read than shows that it is too long"


def test_no_page_of_another_site_makes_the_server_write(models: ServedModels) -> None:
    own, other = "http://localhost:8000", "https://plots.example"
    with TestClient(create_app(models), base_url=own) as web:
        for path in ("/v1/titles", "/v1/plots", "/v1/completions", "/v1/chat/completions", "/tokenize"):
            assert web.get(path).status_code == 405, "GET, which any page may ask, writes nothing"
            for headers in (
                {"sec-fetch-site": "cross-site"},
                {"sec-fetch-site": "same-site", "origin": "http://localhost:3000"},
                {"origin": other},
                {"origin": "null"},
                {"origin": "http://localhost:3000"},
            ):
                refused = web.post(path, json={}, headers=headers)
                assert refused.status_code == 403 and refused.json()["error"]["code"] == "foreign_page"
        asked = {"seed": 1}
        for headers in ({"sec-fetch-site": "same-origin", "origin": own}, {"sec-fetch-site": "none"}, {}):
            assert web.post("/v1/titles", json=asked, headers=headers).status_code == 200
        assert web.get("/v1/models", headers={"sec-fetch-site": "cross-site"}).status_code == 200
    web = TestClient(create_app(models, origins=[other]), base_url=own)
    headers = {"sec-fetch-site": "cross-site", "origin": other}
    assert web.post("/v1/titles", json={"model": 5}, headers=headers).status_code == 400, "it is read"
    assert web.post("/v1/titles", json=asked, headers={**headers, "origin": "null"}).status_code == 403


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "text/plain; x=application/json", "application/x-www-form-urlencoded", "multipart/form-data"],
)
def test_a_body_is_json_by_its_content_type(web: TestClient, models: ServedModels, kind: str) -> None:
    """Of these a page may send any to another site without asking."""
    answer = web.post("/v1/titles", content=b'{"seed": 1}', headers={"content-type": kind} if kind else {})
    assert answer.status_code == 400 and "Content-Type: application/json" in answer.json()["error"]["message"]
    assert models["films"].scheduler.tokens == 0
    assert web.post("/v1/titles", content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"}).is_success


def test_names_of_the_hub_have_a_slash(generators: dict[str, PlotGenerator]) -> None:
    served = ServedModels.scheduled({"hf:owner/repo": generators["films"]}, readings=2, waiting=2)
    with TestClient(create_app(served)) as web:
        for name in ("hf:owner/repo", "hf%3Aowner%2Frepo"):
            assert web.get(f"/v1/models/{name}").json()["id"] == "hf:owner/repo"
            assert web.get(f"/v1/models/{name}/card").status_code == 200
        assert web.get("/v1/models/hf:owner/other").status_code == 404
        assert web.get("/v1/models/card").status_code == 404


def test_small_requests_and_health_do_not_wait_for_large_ones(
    web: TestClient, generators: dict[str, PlotGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grows with a request runs neither in the event loop nor where small requests are prepared."""
    begun, may_end = threading.Event(), threading.Event()
    folded = PromptForm._folded

    def slow(form: PromptForm, text: str) -> tuple[str, list[str]]:
        if len(text) > 5_000:
            begun.set()
            assert may_end.wait(60)
        return folded(form, text)

    monkeypatch.setattr(PromptForm, "_folded", slow)
    answers: list[int] = []

    def large() -> None:
        asked = {"begin": "storm " * 2_000, "max_tokens": 1, "plan": "none"}
        answers.append(web.post("/v1/plots", json=asked).status_code)

    thread = threading.Thread(target=large)
    thread.start()
    try:
        assert begun.wait(60)
        assert web.get("/health").json()["status"] == "ok"
        assert web.post("/v1/plots", json={"title": "x", "max_tokens": 1}).status_code == 200
        assert not answers
    finally:
        may_end.set()
        thread.join()
    assert answers == [200]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("no_repeat_ngram", 33),
        ("no_repeat_ngram", 100_000),
        ("avoid_copies", 1_001),
        ("dry_allowed_length", 10**6),
        ("dry_multiplier", 1e300),
        ("seed", 10**30),
        ("top_k", 10**30),
        ("guidance_characters", 10**9),
        ("logit_bias", {str(number): 1 for number in range(1_025)}),
        ("hints", {str(number): "x" for number in range(17)}),
        ("hints", {"x" * 201: "x"}),
        ("must_mention", ["x" * 201]),
        ("stop", ["x" * 201]),
        ("begin", "x" * 100_001),
        ("title", "x" * 100_001),
    ],
)
def test_every_parameter_has_a_bound(web: TestClient, field: str, value: Any) -> None:
    error = web.post("/v1/plots", json={field: value}).json()["error"]
    assert error["type"] == "invalid_request_error" and (error["param"] or "").startswith(field)


def test_models_have_the_usual_values_of_their_hints(web: TestClient, generators: dict[str, PlotGenerator]) -> None:
    generators["films"].checkpoint.info["corpus"] = {"hint_values": {"Decade": ["1950s", "1960s"]}}
    films, letters = web.get("/v1/models").json()["data"]
    assert films["hints"] == ["Decade", "Origin", "Genre"] and letters["hint_values"] == {}
    assert films["hint_values"] == {"Decade": ["1950s", "1960s"], "Origin": [], "Genre": []}
    assert films["cast"] is True
