"""Downloads against a server of our own: resumed, checked, and nothing wrong is ever left."""

from __future__ import annotations

import errno
import hashlib
import http.client
import io
import ssl
import zipfile
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FileSizeLimit

from movieplotgpt.errors import DownloadError, StorageError
from movieplotgpt.text import download
from movieplotgpt.text.download import PUBLIC_CORPORA, PublicCorpus, download_corpus, fetch

DATA = bytes(i * i % 251 for i in range(300_000))
OFFICE = "season,episode,scene,line_text,speaker,deleted\n" + "1,1,1,Hello there.,Ada,False\n" * 20


class Site:
    """What the server serves, how it fails, and what it was asked."""

    def __init__(self) -> None:
        self.body = DATA
        self.etag: str | None = '"v1"'
        self.breaks: list[int] = []  # bytes after which the next answers break off
        self.codes: list[int] = []  # codes the next answers have
        self.ranges: list[str | None] = []
        self.url = ""


@pytest.fixture
def site(serve: Callable[[type[BaseHTTPRequestHandler]], str]) -> Site:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            site.ranges.append(asked)
            if site.codes and (code := site.codes.pop(0)) != 200:
                self.send_error(code)
                return
            start = 0
            if asked and self.headers.get("If-Range") == site.etag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
            else:
                self.send_response(200)
            if site.etag:
                self.send_header("ETag", site.etag)
            self.send_header("Content-Length", str(len(site.body) - start))
            self.end_headers()
            stop = site.breaks.pop(0) if site.breaks else None
            with suppress(ConnectionError):  # a client that failed
                self.wfile.write(site.body[start:][:stop])

    site.url = serve(Handler) + "/file"
    return site


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public corpora, satisfied with ten rows."""
    for name, corpus in PUBLIC_CORPORA.items():
        shrunk = PublicCorpus(corpus.url, corpus.file, corpus.columns, 10, corpus.zipped)
        monkeypatch.setitem(PUBLIC_CORPORA, name, shrunk)


def test_a_file_arrives_whole(site: Site, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = fetch(site.url, tmp_path / "new" / "file", progress=lambda *event: told.append(event))
    assert path.read_bytes() == DATA
    assert told[-1] == (len(DATA), len(DATA))
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_broken_connection_is_resumed_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.breaks = [100_000, 50_000]
    path = fetch(site.url, tmp_path / "file", sha256=hashlib.sha256(DATA).hexdigest(), pause=0)
    assert path.read_bytes() == DATA
    assert site.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_run_goes_on(site: Site, tmp_path: Path) -> None:
    site.breaks = [100_000, 0, 0, 0, 0]
    with pytest.raises(
        DownloadError, match="the connection broke off; 100,000 bytes are kept, run it again to continue"
    ):
        fetch(site.url, tmp_path / "file", pause=0)
    assert not (tmp_path / "file").exists()
    site.ranges.clear()
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == DATA
    assert site.ranges == ["bytes=100000-"]


@pytest.mark.parametrize("etag", ['"v2"', None, 'W/"v1"'])
def test_another_version_or_an_unknown_one_starts_afresh(site: Site, tmp_path: Path, etag: str | None) -> None:
    site.breaks = [100_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError):
        fetch(site.url, tmp_path / "file", pause=0)
    site.etag, site.body = etag, DATA[::-1]
    site.breaks = [1_000]
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == DATA[::-1]


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.codes = [503, 429, 200]
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == DATA


def test_a_part_as_long_as_the_file_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA)
    (tmp_path / "file.part.tag").write_text('"v1"', encoding="utf-8")
    site.codes = [416]
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == DATA
    assert site.ranges == [f"bytes={len(DATA)}-", None]


def test_a_missing_page_is_said_at_once(site: Site, tmp_path: Path) -> None:
    site.codes = [404]
    with pytest.raises(DownloadError, match="answers 404 Not Found; download it by hand"):
        fetch(site.url, tmp_path / "file", pause=0)
    assert list(tmp_path.iterdir()) == []


def test_nobody_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    with pytest.raises(DownloadError, match=r"cannot download http://127.0.0.1:9/x: .*refused"):
        fetch("http://127.0.0.1:9/x", tmp_path / "file", pause=0)


NETWORK = [
    ssl.SSLError(1, "decryption failed or bad record mac"),
    OSError(errno.EHOSTUNREACH, "No route to host"),
    OSError(errno.ENETDOWN, "Network is down"),
    OSError(errno.ENETUNREACH, "Network is unreachable"),
    OSError(errno.EIO, "Input/output error"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    TimeoutError("timed out"),
    http.client.IncompleteRead(b""),
]


@pytest.mark.parametrize("error", NETWORK, ids=lambda error: str(error.args[-1]))
@pytest.mark.parametrize("when", ["connecting", "reading"])
def test_an_error_of_the_network_is_tried_again_and_called_one(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, when: str
) -> None:
    times = [2]
    owner, name = (
        (http.client.HTTPConnection, "getresponse") if when == "connecting" else (http.client.HTTPResponse, "read1")
    )
    real = getattr(owner, name)

    def failing(*arguments: Any, **options: Any) -> Any:
        times[0] -= 1
        if times[0] >= 0:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, failing)
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == DATA
    times[0] = 99
    with pytest.raises(DownloadError, match=f"^cannot download {site.url}: ") as caught:
        fetch(site.url, tmp_path / "file", pause=0)
    assert times[0] == 99 - download.ATTEMPTS
    assert (getattr(error, "strerror", None) or str(error)) in str(caught.value)


def test_an_error_of_the_disk_is_called_one_and_not_tried_again(
    site: Site, tmp_path: Path, file_size_limit: FileSizeLimit
) -> None:
    with file_size_limit(100_000), pytest.raises(StorageError, match=r"^cannot write .*file\.part: File too large$"):
        fetch(site.url, tmp_path / "file", pause=0)
    assert len(site.ranges) == 1
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == DATA
    assert site.ranges[1] == "bytes=100000-"


def test_a_wrong_hash_is_refused_and_nothing_left(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"has SHA-256 [0-9a-f]{{64}}, not {'0' * 64}; it was deleted, try again"):
        fetch(site.url, tmp_path / "file", sha256="0" * 64, pause=0)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(site: Site, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot write .*taken"):
        fetch(site.url, tmp_path / "taken" / "file", pause=0)


@pytest.mark.usefixtures("small")
def test_the_office_is_checked_and_not_fetched_twice(site: Site, tmp_path: Path) -> None:
    site.body = OFFICE.encode()
    path = download_corpus("office", tmp_path, url=site.url, pause=0)
    assert path == tmp_path / "the-office-lines.csv"
    assert path.read_text(encoding="utf-8") == OFFICE
    assert download_corpus("office", tmp_path, url=site.url) == path
    assert len(site.ranges) == 1


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("<!DOCTYPE html><html>Sign in</html>", "is a web page, not the table of the-office-lines.csv; download it by"),
        ("id,season\n1,2\n", "lacks the column 'episode'; it has id, season"),
        (OFFICE[:160], "has 4 rows, fewer than the 10 expected"),
        ("", "is not the table of the-office-lines.csv: .* is empty"),
    ],
)
def test_something_else_is_refused_and_nothing_left(site: Site, tmp_path: Path, body: str, sentence: str) -> None:
    site.body = body.encode()
    with pytest.raises(DownloadError, match=sentence):
        download_corpus("office", tmp_path, url=site.url, pause=0)
    assert list(tmp_path.iterdir()) == []


def _archive(name: str, text: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr(name, text)
    return packed.getvalue()


@pytest.mark.usefixtures("small")
def test_the_movie_plots_are_unpacked(site: Site, tmp_path: Path, plots_csv: Path) -> None:
    text = plots_csv.read_bytes().decode()
    site.body = _archive("wiki_movie_plots_deduped.csv", text)
    site.breaks = [1_000]
    folder = tmp_path / "downloads"
    path = download_corpus("movie-plots", folder, url=site.url, pause=0)
    assert path.read_bytes().decode() == text
    assert [p.name for p in folder.iterdir()] == ["wiki_movie_plots_deduped.csv"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<html>log in</html>", "the download is not a zip archive, perhaps a login page"),
        (_archive("other.csv", "a,b"), "has no wiki_movie_plots_deduped.csv"),
        (_archive("wiki_movie_plots_deduped.csv", "<html>"), "is a web page"),
        (
            _archive("wiki_movie_plots_deduped.csv", "a,b\n" * 999).replace(b"PK\x03\x04", b"PK\x03\x05", 1),
            "is damaged",
        ),
    ],
)
def test_a_wrong_archive_is_refused_and_nothing_left(site: Site, tmp_path: Path, body: bytes, sentence: str) -> None:
    site.body = body
    with pytest.raises(DownloadError, match=sentence):
        download_corpus("movie-plots", tmp_path, url=site.url, pause=0)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_corpus_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="'movies' is not a public corpus; choose one of movie-plots, office"):
        download_corpus("movies", tmp_path)


def test_a_weak_tag_promises_nothing(site: Site, tmp_path: Path) -> None:
    """Two files with one weak ETag may differ in their bytes, so that no part of one continues the other."""
    site.etag, site.breaks = 'W/"v1"', [1_000, 2_000, 3_000, 4_000, 100_000]
    with pytest.raises(DownloadError, match="100,000 bytes are kept"):
        fetch(site.url, tmp_path / "file", pause=0)
    site.body = DATA[::-1]
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == DATA[::-1]
    assert site.ranges == [None] * 6
