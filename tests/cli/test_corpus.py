"""``movieplotgpt corpus download`` against a server of our own: the file's path on stdout, or one sentence."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from movieplotgpt.cli import main
from movieplotgpt.text.public_corpora import PUBLIC_CORPORA, PublicCorpus

OFFICE = "season,episode,scene,line_text,speaker,deleted\n" + "1,1,1,Hello there.,Ada,False\n" * 20


class Site:
    """What the server serves, and how often it was asked."""

    def __init__(self) -> None:
        self.body = OFFICE.encode()
        self.code = 200
        self.asked = 0
        self.url = ""


@pytest.fixture
def site(serve: Callable[[type[BaseHTTPRequestHandler]], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A server, the Office satisfied with ten rows, and an empty working folder."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked += 1
            if site.code != 200:
                self.send_error(site.code)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(site.body)))
            self.end_headers()
            self.wfile.write(site.body)

    office = PUBLIC_CORPORA["office"]
    monkeypatch.setitem(PUBLIC_CORPORA, "office", PublicCorpus(office.url, office.file, office.columns, 10))
    monkeypatch.chdir(tmp_path)
    site.url = serve(Handler) + "/file"
    return site


@pytest.mark.parametrize("flags", [[], ["--out", "new/folder"]])
def test_the_path_is_printed_and_what_is_there_is_not_fetched_again(
    site: Site, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    for _ in range(2):
        assert main(["corpus", "download", "office", "--url", site.url, *flags]) == 0
        path = Path(flags[-1] if flags else "data") / "the-office-lines.csv"
        assert capsys.readouterr() == (f"{path}\n", "")
        assert path.read_bytes() == site.body
    assert site.asked == 1


def test_what_is_downloaded_can_be_prepared(
    site: Site, repository: Path, office_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.body = office_csv.read_bytes()
    assert main(["corpus", "download", "office", "--url", site.url]) == 0
    source = capsys.readouterr().out.strip()
    config = str(repository / "configs" / "office-char.toml")
    assert main(["prepare", config, "--source", source, "--out", "prepared"]) == 0


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (404, "", "answers 404 Not Found; download it by hand"),
        (200, "<!DOCTYPE html><html>Sign in</html>", "is a web page, not the table of the-office-lines.csv"),
        (200, "id,season\n1,2\n", "lacks the column 'episode'; it has id, season"),
        (200, OFFICE[:160], "has 4 rows, fewer than the 10 expected; try again"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_left(
    site: Site, capsys: pytest.CaptureFixture[str], code: int, body: str, said: str
) -> None:
    site.code, site.body = code, body.encode()
    assert main(["corpus", "download", "office", "--url", site.url]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("movieplotgpt: ") and said in err
    assert list(Path("data").iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert main(["corpus", "download", "office", "--url", site.url, "--out", "file"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("movieplotgpt: cannot write file/the-office-lines.csv: ")
    assert site.asked == 0
