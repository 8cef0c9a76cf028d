"""ZIP and tar archives, read in memory as the folders they are."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import IO

from movieplotgpt.errors import DataError

LARGEST_EXPANSION = 4 << 30  # bytes of all members together
PIECE_BYTES = 1 << 20  # read at a time
PLAUSIBLE_RATIO, ALWAYS_PLAUSIBLE = (
    200,
    64 << 20,
)  # of unpacked to packed bytes: texts have 3 to 20; bytes for which no ratio is too high


def zip_names(name: PurePath, data: bytes) -> set[str]:
    """Return the names of a ZIP file's members.

    Raises:
        DataError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return set(archive.namelist())
    except zipfile.BadZipFile as error:
        raise DataError(f"{name} is a damaged ZIP archive ({error}); get the file again") from None


def check_expansion(name: PurePath | str, packed: int, unpacked: int) -> None:
    """Refuse compressed data that grows without bound, as a decompression bomb does; both sizes are in bytes.

    Raises:
        DataError: ``unpacked`` is more than ``LARGEST_EXPANSION``, or more than ``PLAUSIBLE_RATIO`` times ``packed``.
    """
    if unpacked > LARGEST_EXPANSION:
        raise DataError(f"{name} holds more than {LARGEST_EXPANSION >> 30} GiB; unpack it yourself and name the folder")
    if unpacked > max(ALWAYS_PLAUSIBLE, PLAUSIBLE_RATIO * packed):
        raise DataError(
            f"{name} grows to more than {PLAUSIBLE_RATIO} times its size, which text does not; if it is one, unpack it yourself"
        )


def members(name: PurePath, data: bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, contents) of each file in a ZIP or tar archive; those not ``wanted`` come empty, unread.

    Raises:
        DataError: the archive is damaged or encrypted, or expands as ``check_expansion`` does not allow.
    """
    files = (_zip_members if data.startswith(b"PK") else _tar_members)(name, data, wanted)
    total = 0
    try:
        for member, contents in files:
            total += len(contents)
            check_expansion(name, len(data), total)
            yield member, contents
    except NotImplementedError as error:  # a RuntimeError, too
        raise DataError(f"{name} cannot be unpacked here ({error}); unpack it yourself and name the folder") from None
    except RuntimeError:  # zipfile's, for a password
        raise DataError(f"{name} is encrypted; unpack it yourself and name the folder") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{name} is a damaged archive ({error}); get the file again") from None


def _zip_members(name: PurePath, data: bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            if not wanted(member.filename):
                yield member.filename, b""
                continue
            with archive.open(member) as file:
                yield member.filename, _bounded(name, len(data), file)


def _tar_members(name: PurePath, data: bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                yield member.name.removeprefix("./"), _bounded(name, len(data), file) if wanted(member.name) else b""


def _bounded(name: PurePath, packed: int, file: IO[bytes]) -> bytes:
    """Read all of a member, whatever size its header claims."""
    contents = bytearray()
    while piece := file.read(PIECE_BYTES):
        contents += piece
        check_expansion(name, packed, len(contents))
    return bytes(contents)
