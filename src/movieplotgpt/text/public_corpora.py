"""The two public corpora: where they are, and how to check that a download is one of them."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from movieplotgpt.atomic import move_file, storage_error
from movieplotgpt.errors import DataError, DownloadError
from movieplotgpt.fetching import ByteReport, fetch
from movieplotgpt.text.sources import read_source
from movieplotgpt.text.table_files import listed, read_table


@dataclass(frozen=True, slots=True)
class PublicCorpus:
    """Where a corpus lies, and how to know that it is what came."""

    url: str
    file: str
    columns: tuple[str, ...]
    at_least: int  # rows
    zipped: bool = False


PUBLIC_CORPORA = {
    "movie-plots": PublicCorpus(
        url="https://www.kaggle.com/api/v1/datasets/download/jrobischon/wikipedia-movie-plots",
        file="wiki_movie_plots_deduped.csv",
        columns=("Release Year", "Title", "Origin/Ethnicity", "Genre", "Wiki Page", "Plot"),
        at_least=30_000,
        zipped=True,
    ),
    "office": PublicCorpus(
        url="https://docs.google.com/spreadsheets/d/18wS5AAwOh8QO95RwHLS95POmSNKA2jjzdt0phrxeAE0/export?format=csv&gid=747974534",
        file="the-office-lines.csv",
        columns=("season", "episode", "scene", "line_text", "speaker", "deleted"),
        at_least=50_000,
    ),
}


def download_corpus(
    name: str, folder: Path, *, url: str | None = None, progress: ByteReport | None = None, pause: float = 1.0
) -> Path:
    """Fetch a public corpus into ``folder`` and return its CSV; an intact copy is not fetched again.

    Raises:
        DownloadError: an unknown corpus, one that cannot be reached, or an answer that is something else.
        StorageError: the disk refuses.
    """
    if name not in PUBLIC_CORPORA:
        raise DownloadError(f"{name!r} is not a public corpus; choose one of {', '.join(PUBLIC_CORPORA)}")
    corpus = PUBLIC_CORPORA[name]
    path = folder / corpus.file
    if path.exists():
        check_table(path, corpus, str(path))
        return path
    url = url or corpus.url
    if corpus.zipped:
        archive = fetch(url, folder / f"{name}.zip", check=_check_zip, progress=progress, pause=pause)
        try:
            _unpack(archive, corpus, path, url)
        finally:
            archive.unlink()
        return path
    return fetch(url, path, check=lambda part: check_table(part, corpus, url), progress=progress, pause=pause)


def check_table(path: Path, corpus: PublicCorpus, origin: str) -> None:
    """Make sure that a file is the table it should be.

    Raises:
        DownloadError: it is a web page, lacks columns or is too short; ``origin`` is where it came from.
    """
    with path.open("rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DownloadError(f"{origin} is a web page, not the table of {corpus.file}; download it by hand in a browser")
    try:
        table = read_table(read_source(path, suffix=".csv"))
    except DataError as error:
        raise DownloadError(f"{origin} is not the table of {corpus.file}: {error}") from None
    missing = [name for name in corpus.columns if name not in table.names]
    if missing:
        raise DownloadError(f"{origin} lacks the column {missing[0]!r}; it has {listed(table.names)}")
    if table.height < corpus.at_least:
        raise DownloadError(
            f"{origin} has {table.height:,} rows, fewer than the {corpus.at_least:,} expected; try again"
        )


def _check_zip(part: Path) -> None:
    if not zipfile.is_zipfile(part):
        raise DownloadError("the download is not a zip archive, perhaps a login page; download it by hand in a browser")


def _unpack(archive: Path, corpus: PublicCorpus, path: Path, url: str) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        with zipfile.ZipFile(archive) as files, files.open(corpus.file) as packed, part.open("wb") as file:
            shutil.copyfileobj(packed, file)
        check_table(part, corpus, url)
        move_file(part, path)
    except KeyError:
        raise DownloadError(f"the archive from {url} has no {corpus.file}") from None
    except zipfile.BadZipFile as error:
        raise DownloadError(f"the archive from {url} is damaged ({error}); try again") from None
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        part.unlink(missing_ok=True)
