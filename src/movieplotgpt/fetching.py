"""Download a file: resumable, checked, and never half written.

A download grows as ``NAME.part`` beside its place, with the server's version of the file in ``NAME.part.tag``; a broken
one continues where it stopped, also in a later run, as long as the server still has that version.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from movieplotgpt.atomic import move_file, storage_error
from movieplotgpt.checksums import file_sha256
from movieplotgpt.errors import DownloadError, WrongFileError

ATTEMPTS = 5
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 20
USER_AGENT = "movieplotgpt"  # some servers refuse urllib's own

ByteReport: TypeAlias = Callable[[int, int | None], None]  # bytes so far, and in total if the server reports it


def fetch(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    check: Callable[[Path], None] | None = None,
    at_most: int | None = None,
    progress: ByteReport | None = None,
    pause: float = 1.0,
) -> Path:
    """Download ``url`` to ``path``, which appears only when it is whole and right.

    A file of more than ``at_most`` bytes is a wrong one, which nobody need wait for. ``check`` is handed the finished
    download under another name and may raise; ``pause`` is the seconds before the second attempt, doubled before each
    further one.

    Raises:
        DownloadError: the server cannot be reached, refuses, or sent something else; nothing is left of the latter.
        StorageError: the disk refuses.
    """
    part, tag = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.tag")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    for attempt in range(ATTEMPTS):
        try:
            if _download_on(url, part, tag, at_most, progress):
                break
            reason = "the connection broke off"
        except WrongFileError:
            part.unlink()
            tag.unlink(missing_ok=True)
            raise
        except _NetworkError as error:
            reason = str(error)
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                tag.unlink(missing_ok=True)  # start over: a part without its tag is not continued
        if attempt + 1 == ATTEMPTS:
            kept = f"; {part.stat().st_size:,} bytes are kept, run it again to continue" if part.exists() else ""
            raise DownloadError(f"cannot download {url}: {reason}{kept}")
        time.sleep(pause * 2**attempt)
    try:
        if sha256 and (found := file_sha256(part)) != sha256:
            raise WrongFileError(f"what came from {url} has SHA-256 {found}, not {sha256}; it was deleted, try again")
        if check:
            check(part)
    except Exception:
        part.unlink()
        raise
    finally:
        tag.unlink(missing_ok=True)
    try:
        move_file(part, path)
    except OSError as error:
        raise storage_error(path, error) from error
    return path


class _NetworkError(Exception):
    """The server could not be reached, or the connection failed: another attempt may succeed."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code  # of the HTTP answer, if one came


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Raise each error of the network as a ``_NetworkError``: sockets and TLS raise the same OSError as a disk does."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise _NetworkError(_reason(url, error), getattr(error, "code", None)) from error


def _download_on(url: str, part: Path, tag: Path, at_most: int | None, progress: ByteReport | None) -> bool:
    """Add to ``part`` what is missing; False if the connection ended before the file did."""
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if part.exists() and tag.exists():
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": tag.read_text(encoding="utf-8")}
    with _network(url):
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    with answer:
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        done = part.stat().st_size if resumed else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        try:
            with part.open("ab" if resumed else "wb") as file:
                if not resumed:
                    tag.unlink(missing_ok=True)
                if version and not version.startswith("W/"):  # a weak one does not promise the same bytes
                    tag.write_text(version, encoding="utf-8")
                for chunk in _chunks(url, answer):
                    file.write(chunk)
                    done += len(chunk)
                    if at_most is not None and (size := max(done, total or 0)) > at_most:
                        raise WrongFileError(f"{url} has {size:,} bytes, not {at_most:,}; it was deleted, try again")
                    if progress:
                        progress(done, total)
        except OSError as error:
            raise storage_error(part, error) from error
    return total is None or done == total


def _chunks(url: str, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The bytes of an answer as they arrive."""
    while True:
        with _network(url):
            chunk = answer.read1(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def _reason(url: str, error: Exception) -> str:
    """Return what went wrong in words; raise if trying again cannot help."""
    if isinstance(error, urllib.error.HTTPError):
        with error:
            if error.code < 500 and error.code not in (408, 416, 429):
                raise DownloadError(f"{url} answers {error.code} {error.reason}; download it by hand") from None
            return f"the server answers {error.code} {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return getattr(reason, "strerror", None) or str(reason) or type(error).__name__
