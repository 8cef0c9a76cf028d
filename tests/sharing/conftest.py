"""A server of our own: published models in a folder, and the part of the Hugging Face hub that a download asks."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from movieplotgpt.checksums import file_sha256
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.sharing.published import IndexEntry, WeightsManifest, read_manifest
from movieplotgpt.sharing.publishing import publish
from movieplotgpt.text.copies import CopyIndex

PLOT = "Ada, a stubborn welder, hides the crimson letter in the vineyard, and nobody in the mill believes her."
CARDS = """
[cards.films]
models = ["films", "films-large"]
summary = "Writes an invented film."
licence = "mit"
data = "Invented."
limits = "It has learned nothing."
example = "The Hollow Piano"
"""
COMMIT = "c" * 40


@dataclass
class Site:
    """What the server serves, how it fails, and what it was asked."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)  # paths, and the range behind an @
    breaks: dict[str, list[int]] = field(default_factory=dict)  # file: bytes after which its next answers break off
    codes: dict[str, int] = field(default_factory=dict)  # file: the code it is answered with
    stated: dict[str, str] = field(default_factory=dict)  # file: the SHA-256 that the hub states of it

    def files(self) -> list[str]:
        """The files that were asked for, by name."""
        return [path.partition("@")[0].rpartition("/")[2] for path in self.asked]


@pytest.fixture
def site(serve: Callable[[type[BaseHTTPRequestHandler]], str], tmp_path: Path) -> Site:
    """A folder served over HTTP, empty at first; what lies in ``owner/repo`` is a repository of a hub as well."""
    site = Site(tmp_path / "site")
    site.folder.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            asked = self.headers.get("Range")
            site.asked.append(f"{path}@{asked.removeprefix('bytes=')}" if asked else path)
            name = path.rpartition("/")[2]
            if site.codes.get(name):
                self.send_error(site.codes[name])
            elif path.startswith("api/models/"):
                self.hub(path.removeprefix("api/models/").split("/"))
            else:
                parts = path.split("/")
                repository = parts[2:3] == ["resolve"]
                self.file(site.folder.joinpath(*(parts[:2] + parts[4:] if repository else parts)), repository)

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            site.asked.append(self.path.strip("/"))
            call = self.path.split("/")[-2] if self.path.endswith("/main") else self.path.rpartition("/")[2]
            if site.codes.get(call):
                self.send_error(site.codes[call])
                return
            answers: dict[str, object] = {"create": {"url": f"{site.url}/ada/films"}, "validate-yaml": {}}
            if call == "preupload":
                modes = {"uploadMode": "regular", "shouldIgnore": False}
                answers[call] = {"files": [{"path": each["path"], **modes} for each in json.loads(sent)["files"]]}
            if call == "commit":
                for line in map(json.loads, sent.splitlines()):
                    if line["key"] == "file":
                        path = site.folder / "ada" / "films" / line["value"]["path"]
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(base64.b64decode(line["value"]["content"]))
                answers[call] = {"commitUrl": f"{site.url}/ada/films/commit/{COMMIT}", "commitOid": COMMIT}
            self.answer(json.dumps(answers[call]).encode(), "api")

        def hub(self, parts: list[str]) -> None:
            folder = site.folder / parts[0] / parts[1]
            revision = parts[3] if len(parts) > 3 else "main"
            if not folder.is_dir() or revision not in ("main", "v1", COMMIT):
                self.send_response(404)
                self.send_header("X-Error-Code", "RevisionNotFound" if folder.is_dir() else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            files = [(path, site.stated.get(path.name) or file_sha256(path)) for path in sorted(folder.iterdir())]
            lfs = [{"sha256": sha, "oid": sha, "size": path.stat().st_size, "pointerSize": 1} for path, sha in files]
            facts = [{"size": path.stat().st_size, "lfs": each} for (path, _), each in zip(files, lfs, strict=True)]
            if parts[2:3] == ["tree"]:
                answer: object = [
                    {"type": "file", "path": path.name, "oid": "b" * 40, **each}
                    for (path, _), each in zip(files, facts, strict=True)
                ]
            else:
                siblings = [{"rfilename": path.name, **each} for (path, _), each in zip(files, facts, strict=True)]
                answer = {"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": siblings}
            self.answer(json.dumps(answer).encode(), "api")

        def file(self, path: Path, repository: bool) -> None:
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            etag, start, asked = f'"{hashlib.sha256(data).hexdigest()}"', 0, self.headers.get("Range")
            if asked and self.headers.get("If-Range", etag) == etag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
            else:
                self.send_response(200)
            self.send_header("ETag", etag)
            if repository:
                self.send_header("X-Repo-Commit", COMMIT)
            breaks = site.breaks.get(path.name)
            self.body(data[start:], breaks.pop(0) if breaks and self.command == "GET" else None)

        def answer(self, data: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.body(data, None)

        def body(self, data: bytes, stop: int | None) -> None:
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[:stop])

    site.url = serve(Handler)
    return site


@pytest.fixture
def published(site: Site, tiny_checkpoint: Callable[..., Checkpoint], tmp_path: Path) -> WeightsManifest:
    """The model ``films`` and the copy index of its text, published on the site."""
    info = {"corpus": {"hash": "c" * 64}}
    save_checkpoint(tmp_path / "run" / "best", replace(tiny_checkpoint(), info=info))
    (site.folder / "cards.toml").write_text(CARDS, encoding="utf-8")
    publish(tmp_path / "run", "films", site.folder)
    (site.folder / "copies").mkdir()
    path = site.folder / "copies" / "invented.npz"
    CopyIndex.build([PLOT], ["The Hollow Piano"], "c" * 64).save(path)
    index = IndexEntry(sha256=file_sha256(path), size=path.stat().st_size, corpus_hash="c" * 64, works=1)
    manifest = read_manifest(site.folder).model_copy(update={"copies": {"invented": index}})
    (site.folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    return manifest
