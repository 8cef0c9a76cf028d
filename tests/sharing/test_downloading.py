"""Models fetched from a server of our own: resumed, checked to the byte, and there whole or not at all."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FileSizeLimit
from tests.sharing.conftest import COMMIT, PLOT, Site

from movieplotgpt import __version__
from movieplotgpt.cli import main
from movieplotgpt.engine.places import DOWNLOADED_FOLDER, WEIGHTS_FOLDER, resolve
from movieplotgpt.errors import CheckpointError, ConfigError, DownloadError, StorageError, WrongFileError
from movieplotgpt.generation.copying import copy_index
from movieplotgpt.model.checkpoints import load_checkpoint
from movieplotgpt.sharing import downloading
from movieplotgpt.sharing.downloading import MIRROR, download
from movieplotgpt.sharing.hub import upload_folder
from movieplotgpt.sharing.published import WeightsManifest

WEIGHTS = "model.safetensors"


@pytest.fixture
def cache(tmp_path: Path, site: Site, published: WeightsManifest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; a package that carries the manifest alone, as a wheel may; the site is the mirror."""
    (tmp_path / "package").mkdir()
    shutil.copy(site.folder / "manifest.json", tmp_path / "package")
    monkeypatch.setenv(WEIGHTS_FOLDER, str(tmp_path / "package"))
    monkeypatch.setenv(DOWNLOADED_FOLDER, str(tmp_path / "cache"))
    monkeypatch.setenv(MIRROR, site.url)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


# a published name


def test_downloaded_model_is_found_by_name(cache: Path, site: Site) -> None:
    told: list[tuple[int, int]] = []
    model = download("films", progress=lambda *event: told.append(event), pause=0)
    assert (model.name, model.folder) == ("films", cache / "films")
    assert contents(cache / "films") == contents(site.folder / "films")
    assert contents(cache).keys() == {f"films/{name}" for name in contents(site.folder / "films")} | {
        "copies/invented.npz"
    }
    assert told[-1] == (model.size, model.size) and told == sorted(told)
    assert load_checkpoint("films").folder == cache / "films"


def test_what_is_here_needs_no_network(
    cache: Path, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    download("films", pause=0)
    no_network(monkeypatch)
    site.asked.clear()
    assert download("films", pause=0).folder == cache / "films"
    assert main(["generate", "--model", "films", "--title", "Ada", "--max-tokens", "5", "--seed", "1"]) == 0
    assert main(["info", "films"]) == 0
    assert str(cache / "films") in capsys.readouterr().out
    assert site.asked == []


def test_generating_never_downloads_but_says_how_to(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_network(monkeypatch)
    assert main(["generate", "--model", "films", "--title", "Ada"]) == 1
    said = "movieplotgpt: films is not here yet; fetch it once: movieplotgpt weights download films\n"
    assert capsys.readouterr() == ("", said)
    with pytest.raises(CheckpointError, match=r"^there is no model 'plays'; no published models are here, or give a f"):
        resolve("plays")


def test_the_index_of_copies_comes_with_the_model_and_is_found(cache: Path) -> None:
    download("films", pause=0)
    report = copy_index(load_checkpoint("films")).report(f"Once more. {PLOT}")
    assert [copy.title for copy in report.copies] == ["The Hollow Piano"]


def test_copy_index_is_fetched_once(cache: Path, site: Site, tmp_path: Path) -> None:
    shutil.copytree(site.folder / "copies", tmp_path / "package" / "copies")
    download("films", pause=0)
    assert not (cache / "copies").exists()
    shutil.rmtree(tmp_path / "package" / "copies")
    manifest = json.loads((tmp_path / "package" / "manifest.json").read_text(encoding="utf-8"))
    manifest["copies"]["invented"]["corpus_hash"] = "d" * 64
    (tmp_path / "package" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    download("films", pause=0)
    assert not (cache / "copies").exists()


def test_a_model_that_the_package_carries_is_not_fetched_again(cache: Path, site: Site, tmp_path: Path) -> None:
    shutil.copytree(site.folder / "films", tmp_path / "package" / "films")
    model = download("films", pause=0)
    assert model.folder == tmp_path / "package" / "films"
    assert set(site.files()) == {"invented.npz"}, "its index only"
    assert copy_index(load_checkpoint("films")).titles == ["The Hollow Piano"], "from the cache"


def test_another_folder_may_be_named(cache: Path, site: Site, tmp_path: Path) -> None:
    model = download("films", to=tmp_path / "shelf", pause=0)
    assert model.folder == tmp_path / "shelf" / "films" and model.name == str(model.folder)
    assert contents(model.folder) == contents(site.folder / "films")
    assert copy_index(load_checkpoint(model.name)).titles == ["The Hollow Piano"], "it lies beside the model"
    assert not cache.exists()


def test_mirror_only_name_is_fetched(cache: Path, site: Site, tmp_path: Path) -> None:
    (tmp_path / "package" / "manifest.json").unlink()
    assert download("films", pause=0).folder == cache / "films"
    assert site.files()[0] == "manifest.json"
    with pytest.raises(DownloadError) as caught:
        download("plays", pause=0)
    assert str(caught.value) == f"{site.url} has no model 'plays'; it has films"


# broken connections


def test_a_broken_connection_is_resumed(cache: Path, site: Site) -> None:
    site.breaks[WEIGHTS] = [40_000, 10_000]
    download("films", pause=0)
    assert contents(cache / "films") == contents(site.folder / "films")
    ranges = [path.partition("@")[2] for path in site.asked if WEIGHTS in path]
    assert ranges == ["", "40000-", "50000-"]


def test_download_is_resumed_by_a_later_run(cache: Path, site: Site) -> None:
    site.breaks[WEIGHTS] = [40_000, 0, 0, 0, 0]
    with pytest.raises(
        DownloadError, match="the connection broke off; 40,000 bytes are kept, run it again to continue"
    ):
        download("films", pause=0)
    assert not (cache / "films").exists()
    with pytest.raises(CheckpointError, match="films is not here yet"):
        resolve("films")
    before = set(site.files()) - {WEIGHTS}
    site.asked.clear()
    download("films", pause=0)
    assert contents(cache / "films") == contents(site.folder / "films")
    assert f"films/{WEIGHTS}@40000-" in site.asked and not before & set(site.files())
    assert {path.name for path in cache.iterdir() if path.is_dir()} == {"films", "copies"}


def test_nobody_there_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR, "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"^cannot download http://127\.0\.0\.1:9/films/[\w.]+: .*refused"):
        download("films", pause=0)
    assert contents(cache) == {}


# what came is not what was promised


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


WRONG: dict[str, Callable[[Path], Any]] = {
    "one bit": flipped,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "shorter": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "a page": lambda path: path.write_text("<!DOCTYPE html><title>Log in</title>", encoding="utf-8"),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_wrong_file_is_refused_and_nothing_is_left(
    cache: Path, site: Site, change: Callable[[Path], Any], name: str
) -> None:
    change(site.folder / "films" / name)
    newer = rf"or films is newer there than in version {re.escape(__version__)}: update with pip install --upgrade movieplotgpt"
    with pytest.raises(WrongFileError, match=rf"films/{name} has .*; it was deleted, try again; {newer}$"):
        download("films", pause=0)
    assert contents(cache) == {}
    with pytest.raises(CheckpointError):
        resolve("films")


def test_the_published_address_is_that_of_this_version() -> None:
    assert f"/v{__version__}/" in downloading.PUBLISHED_AT and "/main/" not in downloading.PUBLISHED_AT


def test_a_wrong_index_leaves_the_model_and_nothing_of_itself(cache: Path, site: Site) -> None:
    flipped(site.folder / "copies" / "invented.npz")
    with pytest.raises(WrongFileError, match=r"copies/invented\.npz has SHA-256"):
        download("films", pause=0)
    assert contents(cache).keys() == {f"films/{name}" for name in contents(site.folder / "films")}


def test_a_model_that_was_damaged_here_is_fetched_again(cache: Path, site: Site) -> None:
    download("films", pause=0)
    flipped(cache / "films" / WEIGHTS)
    (cache / "films" / "stray.json").write_text("{}", encoding="utf-8")
    download("films", pause=0)
    assert contents(cache / "films") == contents(site.folder / "films")


def test_a_failed_repair_leaves_what_was_here(cache: Path, site: Site) -> None:
    download("films", pause=0)
    (cache / "films" / "README.md").write_text("noted", encoding="utf-8")
    before = contents(cache)
    flipped(site.folder / "films" / WEIGHTS)
    with pytest.raises(WrongFileError):
        download("films", pause=0)
    assert contents(cache) == before


@pytest.mark.parametrize(
    "file", ["../escape.json", "/etc/escape.json", "a/../../b.json", "run.py", "w.bin", ".hidden.json"]
)
def test_a_manifest_writes_no_other_file(cache: Path, site: Site, tmp_path: Path, file: str) -> None:
    manifest = json.loads((site.folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["models"]["films"]["files"][file] = {"sha256": "0" * 64, "size": 1}
    (site.folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DownloadError) as caught:
        download(f"{site.url}#films", pause=0)
    assert (
        str(caught.value) == f"{site.url} lists {file!r} for films, which is not a file of a model; nothing was fetched"
    )
    assert contents(cache) == {}


# disks and processes


def test_a_disk_without_room_is_said_before_the_first_byte(
    cache: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(
        StorageError, match=r"^no space left for the 0\.1 MB of .*films: 0\.0 MB are free; free some, or"
    ):
        download("films", pause=0)
    assert site.asked == []


def test_a_disk_that_fills_meanwhile_keeps_what_came(cache: Path, site: Site, file_size_limit: FileSizeLimit) -> None:
    with (
        file_size_limit(40_000),
        pytest.raises(StorageError, match=rf"^cannot write .*{WEIGHTS}\.part: File too large$"),
    ):
        download("films", pause=0)
    assert not (cache / "films").exists()
    download("films", pause=0)
    assert contents(cache / "films") == contents(site.folder / "films")
    assert f"films/{WEIGHTS}@40000-" in site.asked


@pytest.mark.parametrize(
    "files", [["best/model.safetensors", "metrics.jsonl"], ["config.json", WEIGHTS], ["notes.txt"]]
)
def test_a_place_of_something_else_is_not_replaced(cache: Path, site: Site, tmp_path: Path, files: list[str]) -> None:
    for file in files:
        path = tmp_path / "runs" / "films" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine", encoding="utf-8")
    before = contents(tmp_path / "runs")
    site.asked.clear()
    with pytest.raises(StorageError) as caught:
        download("films", to=tmp_path / "runs", pause=0)
    assert str(caught.value) == (
        f"{tmp_path / 'runs' / 'films'} holds something else than this model; move or remove it, or name another folder "
        "with to=FOLDER"
    )
    assert contents(tmp_path / "runs") == before and site.asked == []


def test_a_run_in_place_of_the_cache_is_not_replaced(cache: Path) -> None:
    (cache / "films" / "last").mkdir(parents=True)
    (cache / "films" / "last" / WEIGHTS).write_text("mine", encoding="utf-8")
    with pytest.raises(StorageError, match="holds something else than this model"):
        download("films", pause=0)
    assert contents(cache) == {f"films/last/{WEIGHTS}": b"mine"}


def test_damaged_model_in_a_named_folder_is_repaired(cache: Path, site: Site) -> None:
    folder = download("films", to=Path("shelf"), pause=0).folder
    (folder / "config.json").write_text("{}", encoding="utf-8")
    download("films", to=Path("shelf"), pause=0)
    assert contents(folder) == contents(site.folder / "films")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    site.asked.clear()
    assert download("films", to=Path("shelf"), pause=0).folder == folder and site.asked == []
    (folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StorageError, match="holds something else"):
        download("films", to=Path("shelf"), pause=0)
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_download_leaves_nothing_but_the_model(cache: Path) -> None:
    download("films", to=Path("shelf"), pause=0)
    assert sorted(path.name for path in Path("shelf").iterdir()) == ["copies", "films"]
    assert sorted(path.name for path in Path("shelf/copies").iterdir()) == ["invented.npz"]


def test_a_place_that_is_a_file_is_said(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot write .*taken: .*; name another folder with to=FOLDER"):
        download("films", to=tmp_path / "taken", pause=0)


def test_two_processes_at_once_fetch_each_file_once(cache: Path, site: Site) -> None:
    processes = multiprocessing.get_context("fork")
    running = [processes.Process(target=download, args=("films",), kwargs={"pause": 0}) for _ in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0]
    assert contents(cache / "films") == contents(site.folder / "films")
    assert sorted(site.files()) == sorted({*contents(site.folder / "films"), "invented.npz"})


# an address


def test_an_address_names_its_one_model_or_the_one_behind_the_mark(cache: Path, site: Site) -> None:
    name = site.url.removeprefix("http://").replace(":", "-") + "/films"
    for address in (site.url, f"{site.url}/", f"{site.url}/manifest.json", f"{site.url}#films"):
        model = download(address, pause=0)
        assert (model.name, model.folder) == (name, cache / name)
    assert load_checkpoint(name).folder == cache / name
    with pytest.raises(CheckpointError, match="films is not here yet"):
        resolve("films")


def test_an_address_without_the_model_names_those_there_are(cache: Path, site: Site) -> None:
    with pytest.raises(DownloadError) as caught:
        download(f"{site.url}#plays", pause=0)
    assert str(caught.value) == f"{site.url} has no model 'plays'; it has films: name one as {site.url}#films"
    (site.folder / "manifest.json").write_text("<html>", encoding="utf-8")
    with pytest.raises(DownloadError, match=rf"^{site.url}/manifest\.json is damaged; "):
        download(site.url, pause=0)
    (site.folder / "manifest.json").unlink()
    with pytest.raises(DownloadError, match=r"manifest\.json answers 404 Not Found"):
        download(site.url, pause=0)


def test_a_manifest_without_end_is_not_waited_for(cache: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "LARGEST_MANIFEST", 100)
    with pytest.raises(WrongFileError, match=r"manifest\.json has [\d,]+ bytes, not 100"):
        download(site.url, pause=0)


@pytest.mark.parametrize(
    ("source", "flags", "said"),
    [
        (
            "http://example.org/models",
            {},
            "http://example.org/models is not a safe address; give one that starts with http",
        ),
        ("ftp://example.org/models", {}, "ftp://example.org/models is not a safe address"),
        ("https://", {}, "https:// is not a safe address"),
        ("No Name", {}, "'No Name' cannot name a model"),
        ("../films", {}, "'../films' cannot name a model"),
        ("films", {"revision": "v1"}, "revision=v1 is for hf:owner/repo; leave it out for films"),
        ("hf:films", {}, "hf:films names no repository; write hf:owner/repo"),
        ("hf:../films", {}, "names no repository"),
        ("hf:owner/repo", {"revision": "../x"}, "revision='../x' is not a branch, tag or commit"),
    ],
)
def test_what_names_no_model_is_refused_before_the_network_is_asked(
    cache: Path, monkeypatch: pytest.MonkeyPatch, source: str, flags: dict[str, str], said: str
) -> None:
    no_network(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        download(source, pause=0, **flags)  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert not cache.exists()


def test_a_mirror_that_is_no_address_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR, "/srv/mirror")
    with pytest.raises(ConfigError, match=r"^MOVIEPLOTGPT_MIRROR is '/srv/mirror'; name an address that begins with h"):
        download("films", pause=0)


# the Hugging Face hub


@pytest.fixture
def hub(cache: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site as a hub: ``ada/films`` holds the model, and files that nobody wants."""
    shutil.copytree(site.folder / "films", site.folder / "ada" / "films")
    for name in ("pytorch_model.bin", "modeling.py", "notes.txt"):
        (site.folder / "ada" / "films" / name).write_text("os.abort()", encoding="utf-8")
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    return site


def test_a_repository_arrives_without_what_could_run(hub: Site, cache: Path) -> None:
    told: list[tuple[int, int]] = []
    model = download("hf:ada/films", progress=lambda *event: told.append(event))
    assert (model.name, model.folder) == ("hf:ada/films", cache / "hf" / "ada" / "films")
    assert contents(model.folder) == contents(hub.folder / "films")
    assert told[-1] == (model.size, model.size)
    assert load_checkpoint("hf:ada/films").folder == model.folder
    hub.asked.clear()
    assert download("hf:ada/films").folder == model.folder and hub.asked == []
    assert [path.name for path in model.folder.parent.iterdir() if path.is_dir()] == ["films"]


def test_a_revision_is_a_model_of_its_own(hub: Site, cache: Path) -> None:
    model = download("hf:ada/films", revision="v1")
    assert model.folder == cache / "hf" / "ada" / "films@v1" and "api/models/ada/films/revision/v1" in hub.asked
    assert all(COMMIT in path for path in hub.asked if "resolve" in path), "one commit, whatever comes meanwhile"
    assert load_checkpoint(model.name).folder == model.folder


def test_a_repository_replaces_nothing_else(hub: Site, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "films" / "last").mkdir(parents=True)
    with pytest.raises(StorageError, match="films holds something else than this model"):
        download("hf:ada/films", to=tmp_path / "runs")
    assert (tmp_path / "runs" / "films" / "last").is_dir() and hub.asked == []
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["films"]


def test_a_full_disk_is_not_taken_for_the_hub_s_fault(hub: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    with pytest.raises(StorageError, match=r"^no space left on the disk for "):
        download("hf:ada/films")


def test_a_file_that_is_not_what_the_hub_states_is_refused(hub: Site, cache: Path) -> None:
    hub.stated[WEIGHTS] = "0" * 64
    with pytest.raises(WrongFileError) as caught:
        download("hf:ada/films")
    assert str(caught.value) == f"{WEIGHTS} of ada/films is not what the hub states; it was deleted, try again"
    assert not (cache / "hf" / "ada" / "films").exists()


@pytest.mark.parametrize(
    ("source", "revision", "said"),
    [
        ("hf:ada/plays", None, "the hub has no model ada/plays, or it is private; check the name, or log in with"),
        ("hf:ada/films", "v9", "ada/films has no revision 'v9'; leave it out for the newest"),
    ],
)
def test_what_the_hub_has_not_is_one_sentence(hub: Site, source: str, revision: str | None, said: str) -> None:
    with pytest.raises(DownloadError) as caught:
        download(source, revision=revision)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_a_model_of_others_is_not_fetched_but_said_to_be_one(hub: Site, cache: Path) -> None:
    (hub.folder / "ada" / "films" / "movieplotgpt.json").unlink()
    with pytest.raises(DownloadError) as caught:
        download("hf:ada/films")
    assert str(caught.value) == (
        "hf:ada/films is not a movieplotgpt model; import it: movieplotgpt import hf:ada/films -o FOLDER"
    )
    assert contents(cache) == {} and not any("resolve" in path for path in hub.asked)


def test_a_hub_that_nobody_reaches_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"^cannot download ada/films: .*; what was received is kept, run it again"):
        download("hf:ada/films")


def test_a_model_goes_to_the_hub_and_comes_back_the_same(
    cache: Path,
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    films = site.folder / "films"
    (films / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["weights", "upload", str(films), "hf:ada/films"]) == 0
    assert capsys.readouterr().out == f"{site.url}/ada/films/commit/{COMMIT}\n"
    (films / "notes.txt").unlink()
    assert contents(site.folder / "ada" / "films") == contents(films)
    assert contents(download("hf:ada/films").folder) == contents(films)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (401, "cannot upload to ada/films: the token is missing or may not write; log in with `hf auth login`"),
        (409, "cannot upload to ada/films: Client error '409 Conflict'"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    cache: Path, site: Site, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    site.codes["commit"] = code
    with pytest.raises(DownloadError) as caught:
        upload_folder(site.folder / "films", "ada/films")
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_only_a_published_model_is_uploaded(cache: Path, site: Site) -> None:
    (site.folder / "films" / "README.md").unlink()
    with pytest.raises(CheckpointError, match=r"films has no model card; make one with `movieplotgpt weights publish`"):
        upload_folder(site.folder / "films", "ada/films")
    assert site.asked == []


# the command


def test_the_command_says_where_the_model_is_and_how_it_is_used(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "download", "films"]) == 0
    said = f"{cache / 'films'}: 0.1 MB, every file checked; use it as --model films\n"
    assert capsys.readouterr() == (said, "")
    assert main(["weights", "download", "films", "--to", "shelf"]) == 0
    assert capsys.readouterr().out == "shelf/films: 0.1 MB, every file checked; use it as --model shelf/films\n"


def test_what_is_wrong_is_one_line_and_exit_1(cache: Path, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    flipped(site.folder / "films" / WEIGHTS)
    assert main(["weights", "download", "films"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith("movieplotgpt: what came from http://127.0.0.1:")


def test_wrong_staged_file_is_fetched_again(cache: Path, site: Site) -> None:
    site.breaks[WEIGHTS] = [40_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError):
        download("films", pause=0)
    [staged] = cache.rglob("config.json")
    flipped(staged)  # as long as before
    site.asked.clear()
    download("films", pause=0)
    assert "config.json" in site.files()
    assert contents(cache / "films") == contents(site.folder / "films")
