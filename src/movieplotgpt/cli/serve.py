"""``movieplotgpt serve``: an API and a page."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from movieplotgpt.engine.model_config import Device, Precision
from movieplotgpt.engine.places import DEFAULT_MODEL
from movieplotgpt.errors import CheckpointError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from movieplotgpt.generation.generator import PlotGenerator
    from movieplotgpt.serving.models import ServedModels

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # what this machine calls itself
PLACES = 64  # readings at once
WAITING = 256  # texts
CONNECTIONS = 1_000
FILES = 200  # that are open besides connections, those being accepted among them
SWITCH = 0.0005  # seconds after which a thread that prepares a request lets the one that writes continue
PATIENCE = 60  # seconds for what is being written, when the server is ended


def serve(
    *,
    model: Annotated[tuple[str, ...], Parameter(name=["--model", "-m"], consume_multiple=True)] = (DEFAULT_MODEL,),
    host: str = "127.0.0.1",
    port: int = 8000,
    device: Device = "auto",
    precision: Precision | None = None,
    data: Path | None = None,
    api_key_env: str | None = None,
    max_concurrency: int = PLACES,
    max_waiting: int = WAITING,
    max_connections: int = CONNECTIONS,
    page: Annotated[bool, Parameter(negative="--no-page")] = True,
    allow_origin: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    allow_host: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    upstream: str | None = None,
    upstream_model: str | None = None,
    upstream_key_env: str | None = None,
) -> None:
    """Serve models: OpenAI's API, plots by their titles, and a page to write with.

    Args:
        model: Published names, model folders or runs; the first is the default for requests that name no model.
        host: The address to listen on; 0.0.0.0 is every address of this machine.
        port: The port; 0 takes a free one.
        device: cpu, or cuda for an NVIDIA GPU (needs onnxruntime-gpu); auto uses the GPU if there is one.
        precision: By default int8 on the processor and float16 on a GPU; float32 takes twice as long. With another precision
            the same seed writes another text.
        data: The prepared corpus the models were trained on, to find copies exactly.
        api_key_env: The environment variable that holds the key which clients must send.
        max_concurrency: Texts written at once (a guided one counts twice); the memory they need is printed at the start.
        max_waiting: Texts that may wait; further requests get status 429.
        max_connections: Open connections, of which one address may have a fourth; beyond it the slowest is closed for a new one.
        page: Also serve the page.
        allow_origin: Sites whose pages may call the API from a browser, such as https://example.org; * is every site. None
            may, if you leave it out.
        allow_host: Further names that the server answers to, such as that of a proxy before it; * is every name. A server that
            listens at another address than this machine's own answers to every name, if you leave it out.
        upstream: The address of another server's OpenAI API (http://host:8000/v1), which writes instead of this one:
            vLLM, llama.cpp. The model given here has the form of the prompts and knows what was copied.
        upstream_model: The name of the model on the other server.
        upstream_key_env: The environment variable that holds the other server's key.
    """
    try:
        import uvicorn

        from movieplotgpt.serving.app import create_app
        from movieplotgpt.serving.connections import server_config
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from None
    from movieplotgpt.serving.models import ServedModels

    if max_concurrency < 2 or max_waiting < 1 or max_connections < 1:
        raise ConfigError(
            "--max-concurrency has to be at least 2 (a guided text counts twice), --max-waiting and --max-connections at "
            "least 1"
        )
    key, origins = _key(api_key_env), [_origin(each) for each in allow_origin]
    _check_names(allow_host)
    with _listening(host, port) as listening:
        hosts = _hosts(host, listening.getsockname()[0], allow_host)
        generators = _generators(model, data, precision, device)
        if upstream:
            models = _before(upstream, generators, upstream_model, upstream_key_env, max_waiting)
        else:
            models = ServedModels.scheduled(generators, readings=max_concurrency, waiting=max_waiting)
        app = create_app(models, api_key=key, page=page, hosts=hosts, origins=origins)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
        memory = f"{max_concurrency} texts at once; requests take {models.most_bytes / 1e9:.1f} GB at most"
        how = f"written by {upstream}" if upstream else memory
        print(f"serving {', '.join(models)} at {address}; {how}", file=sys.stderr, flush=True)
        config = server_config(
            app, connections=_connections(max_connections), log_level="warning", timeout_graceful_shutdown=PATIENCE
        )
        sys.setswitchinterval(SWITCH)
        uvicorn.Server(config).run(sockets=[listening])


def _generators(
    names: Sequence[str], data: Path | None, precision: Precision | None, device: Device
) -> dict[str, PlotGenerator]:
    """By the names they are served under, each ready to write."""
    from movieplotgpt.generation.generator import PlotGenerator

    generators: dict[str, PlotGenerator] = {}
    for name in names:
        served_as = Path(name).resolve().name if Path(name).exists() else name
        if served_as in generators:
            raise CheckpointError(f"two models would be served as {served_as}; rename the folder of one")
        generators[served_as] = PlotGenerator.load(name, data=data, precision=precision, device=device)
        generators[served_as].plot(max_tokens=1, seed=0)  # what is made at the first text is made now
    return generators


def _before(
    url: str, generators: dict[str, PlotGenerator], name: str | None, key_env: str | None, waiting: int
) -> ServedModels:
    from movieplotgpt.serving.models import ServedModel, ServedModels
    from movieplotgpt.serving.upstream import Upstream

    if len(generators) > 1:
        raise ConfigError(f"one model stands before {url}; name one, not {len(generators)}")
    key = _key(key_env)
    return ServedModels(
        ServedModel(served_as, generator, Upstream(generator, url, model=name, key=key, waiting=waiting))
        for served_as, generator in generators.items()
    )


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror
        raise ConfigError(f"port {port} of {host} cannot be had ({why}); --port names another") from None


def _check_names(names: Sequence[str]) -> None:
    if wrong := [name for name in names if not re.fullmatch(r"\*|(\*\.)?[\w.-]+|\[[\da-fA-F:]+\]", name)]:
        raise ConfigError(
            f"--allow-host {wrong[0]} is not a host name; give it without a scheme and a port: example.org"
        )


def _hosts(host: str, address: str, others: Sequence[str]) -> list[str]:
    """Return the names that the server answers to, which listens at ``address``; none are all."""
    if not others and not ip_address(address).is_loopback:
        return []
    own = [f"[{name}]" if ":" in name else name for name in (host, address)]
    return list(dict.fromkeys((*LOOPBACK, "[::1]", *own, *others)))


def _connections(most: int) -> int:
    """Return how many connections there may be, fewer where the system allows fewer open files."""
    try:
        from resource import RLIMIT_NOFILE, getrlimit
    except ModuleNotFoundError:  # Windows
        return most
    allowed, _ = getrlimit(RLIMIT_NOFILE)
    return most if allowed < 0 else max(1, min(most, allowed - FILES))


def _origin(text: str) -> str:
    """Return an origin as browsers send it."""
    if text in ("*", "null"):
        return text
    if found := re.fullmatch(r"([a-z][a-z\d+.-]*://[^/\s?#@*]+)/?", text, re.IGNORECASE):
        return found[1].lower()
    raise ConfigError(
        f"--allow-origin {text} is not an origin; give scheme, name and port alone: https://example.org:8443"
    )


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigError(f"the environment variable {variable} is empty or not set; put the key into it")
    return key
