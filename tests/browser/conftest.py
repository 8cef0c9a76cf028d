"""A browser, and servers for it: one with the published models, one whose model recites and which wants a key."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

QUIETLY = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
STARTING = 60  # seconds


@contextmanager
def served(*arguments: str, **environment: str) -> Iterator[str]:
    """The address of ``movieplotgpt serve`` with these arguments, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "movieplotgpt", "serve", *arguments, "--port", str(port)]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, stderr=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}/"
        await_health(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def await_health(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address + "health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the server is not well within {STARTING} s; it has ended with {process.poll()}")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server with two published models."""
    with served("--model", "plots-bpe", "office-bpe") as address:
        yield address


@pytest.fixture(scope="session")
def key() -> str:
    """What ``reciter`` wants to hear."""
    return "an invented key"


@pytest.fixture(scope="session")
def reciter(overfitted: tuple[Path, Path], key: str) -> Iterator[str]:
    """The address of a server whose model knows its films by heart, and which wants the key."""
    model, data = overfitted
    with served("--model", str(model), "--data", str(data), "--api-key-env", "FILM_KEY", FILM_KEY=key) as address:
        yield address


@pytest.fixture(scope="session")
def hinted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a model of recipes, whose hints have usual values, and one of films."""
    from tests.conftest import make_tiny_checkpoint

    from movieplotgpt.model.checkpoints import save_checkpoint

    folder, values = tmp_path_factory.mktemp("hinted"), {"Cuisine": ["Thai", "Greek"], "Decade": ["1950s"]}
    for name, hints in (("recipes", ("Cuisine", "Time (minutes)", "Decade")), ("films", ("Decade",))):
        checkpoint = make_tiny_checkpoint(hints=hints, context_length=128)
        save_checkpoint(folder / name, replace(checkpoint, info={"corpus": {"hint_values": values}}))
    with served("--model", str(folder / "recipes"), str(folder / "films")) as address:
        yield address


@pytest.fixture(scope="session")
def planning(planned: Path) -> Iterator[str]:
    """The address of a server whose model writes plans."""
    with served("--model", str(planned)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; it is closed with the module, since its event loop would be in the way of others."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIETLY)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """``open_page(address, **context)``: a page in a fresh context; no script fails in it, none is refused by the policy."""
    complaints: list[str] = []
    contexts = []

    def opened(address: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture
def page(open_page: Callable[..., Page], server: str) -> Page:
    """The page with the published models."""
    return open_page(server)
