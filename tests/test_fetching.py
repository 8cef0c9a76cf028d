"""Downloads from a server of our own: resumed, checked, and nothing wrong is kept."""

from __future__ import annotations

import errno
import hashlib
import http.client
import ssl
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FileSite, FileSizeLimit

from movieplotgpt import fetching
from movieplotgpt.errors import DownloadError, StorageError
from movieplotgpt.fetching import fetch


def test_a_file_arrives_whole(site: FileSite, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = fetch(site.url, tmp_path / "new" / "file", progress=lambda *event: told.append(event))
    assert path.read_bytes() == FileSite.DATA
    assert told[-1] == (len(FileSite.DATA), len(FileSite.DATA))
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_broken_connection_is_resumed_where_it_stopped(site: FileSite, tmp_path: Path) -> None:
    site.breaks = [100_000, 50_000]
    path = fetch(site.url, tmp_path / "file", sha256=hashlib.sha256(FileSite.DATA).hexdigest(), pause=0)
    assert path.read_bytes() == FileSite.DATA
    assert site.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_run_goes_on(site: FileSite, tmp_path: Path) -> None:
    site.breaks = [100_000, 0, 0, 0, 0]
    with pytest.raises(
        DownloadError, match="the connection broke off; 100,000 bytes are kept, run it again to continue"
    ):
        fetch(site.url, tmp_path / "file", pause=0)
    assert not (tmp_path / "file").exists()
    site.ranges.clear()
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == FileSite.DATA
    assert site.ranges == ["bytes=100000-"]


@pytest.mark.parametrize("etag", ['"v2"', None, 'W/"v1"'])
def test_another_version_or_an_unknown_one_starts_afresh(site: FileSite, tmp_path: Path, etag: str | None) -> None:
    site.breaks = [100_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError):
        fetch(site.url, tmp_path / "file", pause=0)
    site.etag, site.body = etag, FileSite.DATA[::-1]
    site.breaks = [1_000]
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == FileSite.DATA[::-1]
    assert (site.ranges[-1] is None) == (etag != '"v2"'), "without a version to name, all is asked for"


def test_a_busy_server_is_asked_again(site: FileSite, tmp_path: Path) -> None:
    site.codes = [503, 429, 200]
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == FileSite.DATA


def test_a_part_as_long_as_the_file_is_fetched_anew(site: FileSite, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(FileSite.DATA)
    (tmp_path / "file.part.tag").write_text('"v1"', encoding="utf-8")
    site.codes = [416]
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == FileSite.DATA
    assert site.ranges == [f"bytes={len(FileSite.DATA)}-", None]


def test_a_missing_page_is_said_at_once(site: FileSite, tmp_path: Path) -> None:
    site.codes = [404]
    with pytest.raises(DownloadError, match="answers 404 Not Found; download it by hand"):
        fetch(site.url, tmp_path / "file", pause=0)
    assert list(tmp_path.iterdir()) == []


def test_nobody_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "ATTEMPTS", 2)
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
    site: FileSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, when: str
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
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == FileSite.DATA
    times[0] = 99
    with pytest.raises(DownloadError, match=f"^cannot download {site.url}: ") as caught:
        fetch(site.url, tmp_path / "file", pause=0)
    assert times[0] == 99 - fetching.ATTEMPTS
    assert (getattr(error, "strerror", None) or str(error)) in str(caught.value)


def test_an_error_of_the_disk_is_called_one_and_not_tried_again(
    site: FileSite, tmp_path: Path, file_size_limit: FileSizeLimit
) -> None:
    with file_size_limit(100_000), pytest.raises(StorageError, match=r"^cannot write .*file\.part: File too large$"):
        fetch(site.url, tmp_path / "file", pause=0)
    assert len(site.ranges) == 1
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == FileSite.DATA
    assert site.ranges[1] == "bytes=100000-"


def test_a_wrong_hash_is_refused_and_nothing_left(site: FileSite, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"has SHA-256 [0-9a-f]{{64}}, not {'0' * 64}; it was deleted, try again"):
        fetch(site.url, tmp_path / "file", sha256="0" * 64, pause=0)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(site: FileSite, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot write .*taken"):
        fetch(site.url, tmp_path / "taken" / "file", pause=0)


def test_a_weak_tag_promises_nothing(site: FileSite, tmp_path: Path) -> None:
    """Two files with one weak ETag may differ in their bytes, so that no part of one continues the other."""
    site.etag, site.breaks = 'W/"v1"', [1_000, 2_000, 3_000, 4_000, 100_000]
    with pytest.raises(DownloadError, match="100,000 bytes are kept"):
        fetch(site.url, tmp_path / "file", pause=0)
    site.body = FileSite.DATA[::-1]
    assert fetch(site.url, tmp_path / "file", pause=0).read_bytes() == FileSite.DATA[::-1]
    assert site.ranges == [None] * 6
