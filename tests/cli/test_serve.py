"""The server as a person starts and stops it."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.cli import main
from movieplotgpt.cli.serve import _connections, _hosts, _origin
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint

Make = Callable[..., Checkpoint]


@pytest.fixture
def model(tiny_checkpoint: Make, tmp_path: Path) -> Path:
    checkpoint = tiny_checkpoint()
    checkpoint.model.model.embed_tokens.weight.data[0] *= 0.2  # it hardly ever ends by itself
    save_checkpoint(tmp_path / "films", checkpoint)
    return tmp_path / "films"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def test_what_is_being_written_is_finished_when_the_server_is_ended(model: Path) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "movieplotgpt", "serve", "--model", str(model), "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5)
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        asked = {"prompt": "The baker", "stream": True, "max_tokens": 1500, "seed": 1}
        request = urllib.request.Request(
            f"{address}/v1/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as stream:
            first = stream.readline()
            server.send_signal(signal.SIGTERM)
            lines = [first, *stream.readlines()]
        assert lines[-2].strip() == b"data: [DONE]"
        assert json.loads(lines[-4].removeprefix(b"data: "))["choices"][0]["finish_reason"] in ("length", "stop")
        said = server.communicate(timeout=60)[1]
        assert server.returncode in (0, -signal.SIGTERM)
        assert f"serving films at {address}/; 64 texts at once; requests take " in said and "Traceback" not in said
    finally:
        server.kill()


def test_what_is_wrong_is_said(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: str) -> str:
        assert main(["serve", *arguments]) == 1
        return capsys.readouterr().err

    assert "nothing" in said("--model", str(tmp_path / "nothing"))
    monkeypatch.delenv("MY_KEY", raising=False)
    assert "MY_KEY is empty or not set" in said("--model", str(model), "--api-key-env", "MY_KEY")
    for origin in ("example.org", "https://example.org/path", "https://*.example.org", ""):
        assert f"--allow-origin {origin} is not an origin" in said("--model", str(model), "--allow-origin", origin)
    for host in ("http://example.org", "example.org:80", "exa*mple.org"):
        assert f"--allow-host {host} is not a host name" in said("--model", str(model), "--allow-host", host)
    twin = shutil.copytree(model, tmp_path / "other" / "films")
    assert "two models would be served as films" in said("--model", str(model), str(twin))
    assert "--max-concurrency has to be at least 2" in said("--model", str(model), "--max-concurrency", "1")
    assert "--max-connections at least 1" in said("--model", str(model), "--max-connections", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 cannot be had (Address already in use)" in said(
            "--model", str(model), "--port", str(port)
        )
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'movieplotgpt[serve]'" in said("--model", str(model))


def test_hosts_and_origins_are_those_that_browsers_send() -> None:
    own = ["127.0.0.1", "localhost", "::1", "[::1]"]
    assert _hosts("127.0.0.1", "127.0.0.1", ()) == own
    assert _hosts("localhost", "127.0.0.1", ["plots.example"]) == [*own, "plots.example"]
    assert _hosts("0.0.0.0", "0.0.0.0", ()) == []
    assert _hosts("0.0.0.0", "0.0.0.0", ["*.example.org"]) == [*own, "0.0.0.0", "*.example.org"]
    assert _hosts("fd00::1", "fd00::1", ["[fd00::2]"]) == [*own, "[fd00::1]", "[fd00::2]"]
    assert _hosts("my-machine", "127.0.1.1", ()) == [*own, "my-machine", "127.0.1.1"]
    assert _hosts("0:0:0:0:0:0:0:1", "::1", ()) == [*own, "[0:0:0:0:0:0:0:1]"]
    origins = ("https://Example.org:8443/", "http://localhost:3000", "null", "*", "app://obsidian.md")
    assert [_origin(each) for each in origins] == ["https://example.org:8443", *origins[1:]]


@pytest.mark.parametrize("host", ["127.0.0.2", "127.1.2.3", "::1"])
def test_every_loopback_address_answers_to_its_own_names_only(model: Path, host: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "movieplotgpt", "serve", "-m", str(model), "--port", str(port), "--host", host]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr and "serving films" in server.stderr.readline()
        for name, status in ((f"[{host}]" if ":" in host else host, 200), ("localhost", 200), ("evil.example", 400)):
            connection = http.client.HTTPConnection(host, port, timeout=60)
            connection.request("GET", "/health", headers={"Host": f"{name}:{port}"})
            assert connection.getresponse().status == status
            connection.close()
    finally:
        server.kill()
        server.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of open files")
def test_connections_leave_room_for_other_files() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard))
        assert _connections(1_000) == min(512, soft) - 200 and _connections(50) == 50
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
