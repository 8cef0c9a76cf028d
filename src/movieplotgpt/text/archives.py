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


def members(name: PurePath, data: bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, contents) of each file in a ZIP or tar archive; those not ``wanted`` come empty, unread.

    Raises:
        DataError: the archive is damaged, encrypted, or its files are larger than ``LARGEST_EXPANSION`` together.
    """
    files = (_zip_members if data.startswith(b"PK") else _tar_members)(data, wanted)
    total = 0
    try:
        for member, contents in files:
            total += len(contents)
            yield member, contents
            if total > LARGEST_EXPANSION:
                raise _TooLargeError
    except _TooLargeError:
        raise DataError(
            f"{name} holds more than {LARGEST_EXPANSION >> 30} GiB; unpack it yourself and name the folder"
        ) from None
    except NotImplementedError as error:  # a RuntimeError, too
        raise DataError(f"{name} cannot be unpacked here ({error}); unpack it yourself and name the folder") from None
    except RuntimeError:  # zipfile's, for a password
        raise DataError(f"{name} is encrypted; unpack it yourself and name the folder") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{name} is a damaged archive ({error}); get the file again") from None


class _TooLargeError(Exception):
    pass


def _zip_members(data: bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            if not wanted(member.filename):
                yield member.filename, b""
                continue
            with archive.open(member) as file:
                yield member.filename, _bounded(file)


def _tar_members(data: bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                yield member.name.removeprefix("./"), _bounded(file) if wanted(member.name) else b""


def _bounded(file: IO[bytes]) -> bytes:
    """All of a member, whatever size its header claims."""
    contents = file.read(LARGEST_EXPANSION + 1)
    if len(contents) > LARGEST_EXPANSION:
        raise _TooLargeError
    return contents
