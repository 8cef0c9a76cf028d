"""The public corpora, from a server of our own: checked, unpacked, and nothing wrong is kept."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from tests.conftest import FileSite

from movieplotgpt.errors import DownloadError
from movieplotgpt.text.public_corpora import PUBLIC_CORPORA, PublicCorpus, download_corpus

OFFICE = "season,episode,scene,line_text,speaker,deleted\n" + "1,1,1,Hello there.,Ada,False\n" * 20


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public corpora, satisfied with ten rows."""
    for name, corpus in PUBLIC_CORPORA.items():
        shrunk = PublicCorpus(corpus.url, corpus.file, corpus.columns, 10, corpus.zipped)
        monkeypatch.setitem(PUBLIC_CORPORA, name, shrunk)


@pytest.mark.usefixtures("small")
def test_the_office_is_checked_and_not_fetched_twice(site: FileSite, tmp_path: Path) -> None:
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
def test_something_else_is_refused_and_nothing_left(site: FileSite, tmp_path: Path, body: str, sentence: str) -> None:
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
def test_the_movie_plots_are_unpacked(site: FileSite, tmp_path: Path, plots_csv: Path) -> None:
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
def test_a_wrong_archive_is_refused_and_nothing_left(
    site: FileSite, tmp_path: Path, body: bytes, sentence: str
) -> None:
    site.body = body
    with pytest.raises(DownloadError, match=sentence):
        download_corpus("movie-plots", tmp_path, url=site.url, pause=0)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_corpus_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="'movies' is not a public corpus; choose one of movie-plots, office"):
        download_corpus("movies", tmp_path)
