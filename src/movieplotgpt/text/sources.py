"""Read a file, a folder or an archive as named parts: decompressed, hashed and decoded.

Errors are one sentence that names the file.
"""

from __future__ import annotations

import bz2
import codecs
import hashlib
import lzma
import os
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from movieplotgpt.errors import DataError
from movieplotgpt.text.archives import check_expansion, members
from movieplotgpt.text.file_kinds import COMPRESSION_SUFFIXES, SUFFIXES, Kind, kind_of, kind_suffix, true_suffix

CHUNK_BYTES = 1 << 20
PACKED_BYTES = 16 << 10  # of compressed data, decompressed at once
OUR_FILES = {
    "metrics.jsonl",
    "movieplotgpt.json",
    "train.tokens.npy",
}  # a folder with one is a run, a model, a prepared corpus
BYTE_ORDER_MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Part:
    """One file of a source: its name in messages and keys, the suffix of what it is, its decompressed bytes."""

    name: str
    suffix: str
    data: bytes

    @property
    def kind(self) -> Kind:
        """What it is read as."""
        return kind_of(self.suffix)

    @cached_property
    def sha256(self) -> str:
        """Of its decompressed bytes."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Source:
    """The readable files of a path. ``ignored`` counts the other files of a folder or archive by suffix."""

    path: Path
    parts: tuple[Part, ...]
    folder: bool = False
    ignored: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """The name of the file or folder, for people."""
        return printable(self.path.name)

    @property
    def sha256(self) -> str:
        """SHA-256 of a file's decompressed bytes; of names and contents for several files."""
        if len(self.parts) == 1 and not self.folder:
            return self.parts[0].sha256
        return combined_sha256((part.name, part.sha256) for part in self.parts)

    def of_kind(self, *kinds: Kind) -> list[Part]:
        """The parts of some kinds."""
        return [part for part in self.parts if part.kind in kinds]


def read_source(path: Path, suffix: str | None = None) -> Source:
    """Read a file, every readable file of a folder, or every one of an archive, in the order of their names.

    An archive with one readable file is that file, so that ``x.csv``, ``x.csv.gz`` and ``x.zip`` name one corpus.
    ``suffix`` replaces that of the file's name.

    Raises:
        DataError: the path is missing or not readable, a file is damaged, or there is nothing to read in it.
    """
    if path.is_dir():
        return _collected(path, _folder_files(path), folder=True)
    data = _read_once(str(path)) if _is_stream(path) else _read_file(path)
    suffix = suffix or true_suffix(Path(printable(str(path))), data)
    if kind_of(suffix) is Kind.ARCHIVE:
        name = PurePosixPath(printable(str(path)))
        return _collected(path, members(name, data, _readable), folder=False)
    return Source(path, (Part(printable(str(path)), suffix, data),))


def source_sha256(path: Path) -> str:
    """SHA-256 of what ``read_source`` reads.

    Raises:
        DataError: as ``read_source``.
    """
    return read_source(path).sha256


def combined_sha256(named: Iterable[tuple[str, str]]) -> str:
    """One SHA-256 for several named ones, in their order."""
    return hashlib.sha256("".join(f"{sha}  {name}\n" for name, sha in named).encode()).hexdigest()


def printable(name: str) -> str:
    """A file's name as text; bytes that are not UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def decode(part: Part, encoding: str | None = None) -> str:
    """Decode ``part``: in ``encoding``, by its byte order mark, or as UTF-8.

    Raises:
        DataError: it is binary, or not in that encoding; names the line.
    """
    data, name = part.data, part.name
    marked = next((found for mark, found in BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    try:
        text = data.decode(encoding or marked or "utf-8-sig")
    except LookupError:
        raise DataError(f"{encoding!r} is not an encoding; examples are cp1252, latin-1 and utf-16") from None
    except UnicodeError as error:
        raise DataError(_not_decoded(data, name, encoding or marked, error)) from None
    if not marked and not encoding and "\0" in text[:8192]:
        raise DataError(f"{name} is binary, not text; if it is UTF-16, set corpus.encoding to utf-16-le or utf-16-be")
    return text.removeprefix("\ufeff")


def _not_decoded(data: bytes, name: str, encoding: str | None, error: UnicodeError) -> str:
    if not isinstance(error, UnicodeDecodeError):
        return f"{name} is not {encoding}; name another encoding with corpus.encoding"
    line = data.count(b"\n", 0, error.start) + 1 if b"\n" in data else data.count(b"\r", 0, error.start) + 1
    place = f"byte {error.start:,} in line {line:,} is 0x{data[error.start]:02x}"
    if encoding:
        return f"{name} is not {encoding}: {place}; name another encoding with corpus.encoding"
    try:
        data.decode("cp1252")
        likely = "cp1252"
    except UnicodeDecodeError:
        likely = "latin-1"
    return (
        f"{name} is not UTF-8: {place}; save it as UTF-8, or name its encoding: corpus.encoding={likely} (Windows, "
        "Western Europe) or another"
    )


def _readable(name: str) -> bool:
    """Return whether a file of a folder or archive is visible and of a kind that is read."""
    hidden = any(piece.startswith(".") or piece == "__MACOSX" for piece in name.split("/"))
    return not hidden and kind_of(kind_suffix(PurePosixPath(name))) not in (Kind.OTHER, Kind.ARCHIVE)


def _collected(path: Path, files: Iterable[tuple[str, bytes]], *, folder: bool) -> Source:
    parts, ignored = [], Counter[str]()
    for name, data in sorted(files):
        suffix = PurePosixPath(name).suffix.lower()
        if not _readable(name):
            ignored[suffix or PurePosixPath(name).name] += 1
            continue
        unpacked = b"".join(_decompressed(iter([data]), suffix, name))
        parts.append(Part(name, true_suffix(PurePosixPath(name), unpacked), unpacked))
    if not parts:
        kinds = ", ".join(suffix for suffix, kind in SUFFIXES.items() if kind is not Kind.ARCHIVE)
        raise DataError(f"there is no text, table or document in {printable(str(path))} (they end in {kinds})")
    return Source(path, tuple(parts), folder or len(parts) > 1, tuple(ignored.items()))


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a folder without what trainings wrote into it, whose own text would be read the next time."""
    for place, folders, files in os.walk(folder):
        if OUR_FILES & {*files}:
            folders.clear()
            continue
        for file in files:
            name = printable(Path(place, file).relative_to(folder).as_posix())
            yield name, _read_bytes(Path(place, file)) if _readable(name) else b""


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{printable(str(path))} cannot be read: {error.strerror or error}") from None


def _is_stream(path: Path) -> bool:
    """Return whether a path can be read only once, like a pipe."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


@lru_cache(maxsize=4)
def _read_once(path: str) -> bytes:
    return _read_file(Path(path))


def _read_file(path: Path) -> bytes:
    shown = printable(str(path))
    try:
        with path.open("rb") as file:
            first = file.read(CHUNK_BYTES)
            suffix = _compression(path, first)
            return b"".join(_decompressed(_chain(first, file), suffix, shown))
    except FileNotFoundError:
        raise DataError(f"there is no file {shown}") from None
    except PermissionError:
        raise DataError(f"{shown} may not be read; its permissions forbid it") from None
    except OSError as error:
        raise DataError(f"{shown} cannot be read: {error.strerror or error}") from None


def _chain(first: bytes, file: Any) -> Iterator[bytes]:
    yield first
    yield from iter(lambda: file.read(CHUNK_BYTES), b"")


def _compression(path: Path, first: bytes) -> str:
    """Return the suffix of a file's compression, by its name or its first bytes."""
    suffix = path.suffix.lower()
    if suffix in (".tgz", ".tbz2", ".txz"):
        return {".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz"}[suffix]
    magics = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz"}
    found = next((kind for magic, kind in magics.items() if first.startswith(magic)), "")
    return suffix if suffix in COMPRESSION_SUFFIXES else found


def _decompressed(raw: Iterator[bytes], suffix: str, name: str) -> Iterator[bytes]:
    """Several compressed streams in a row are one file, as gzip and zstd define it."""
    if suffix not in COMPRESSION_SUFFIXES:
        yield from raw
        return
    new, failure = _decompressor(suffix)
    stream, packed, unpacked = new(), 0, 0
    try:
        for chunk in _sliced(raw):
            packed += len(chunk)
            while chunk:
                stream = new() if stream.eof else stream
                piece = stream.decompress(chunk)
                unpacked += len(piece)
                check_expansion(name, packed, unpacked)
                yield piece
                chunk = stream.unused_data.lstrip(b"\0") if stream.eof else b""
    except (failure, ValueError, OSError) as error:
        raise DataError(f"{name} is damaged ({error}); get the file again") from None
    if not stream.eof:
        raise DataError(f"{name} is cut short: the compressed data ends too early; get the file again")


def _sliced(raw: Iterator[bytes]) -> Iterator[bytes]:
    """Cut compressed data so small that a piece cannot fill the memory."""
    for chunk in raw:
        for start in range(0, len(chunk), PACKED_BYTES):
            yield chunk[start : start + PACKED_BYTES]


def _decompressor(suffix: str) -> tuple[Callable[[], Any], type[Exception]]:
    if suffix == ".gz":
        return lambda: zlib.decompressobj(wbits=31), zlib.error
    if suffix == ".bz2":
        return bz2.BZ2Decompressor, OSError
    if suffix == ".xz":
        return lzma.LZMADecompressor, lzma.LZMAError
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
