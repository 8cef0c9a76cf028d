"""Download models into the user's cache: resumed, checked to the byte, and there whole or not at all.

A model is collected in ``.NAME.partial`` beside its folder, where an interrupted download continues, also in a later run. Only
`movieplotgpt weights download` and `import` use the network.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from movieplotgpt import __version__
from movieplotgpt.atomic import replacing_folder
from movieplotgpt.checksums import file_sha256
from movieplotgpt.engine.places import HUB, downloaded_folder, weights_folder
from movieplotgpt.errors import CheckpointError, ConfigError, DownloadError, StorageError, WrongFileError
from movieplotgpt.fetching import fetch
from movieplotgpt.generation.copying import PUBLISHED as COPIES_FOLDER
from movieplotgpt.locks import locked
from movieplotgpt.progress_bars import CountReport
from movieplotgpt.sharing.hub import fetch_repository
from movieplotgpt.sharing.published import (
    MANIFEST,
    FileEntry,
    ModelEntry,
    WeightsManifest,
    check_name,
    problems_of,
    read_manifest,
)

PUBLISHED_AT = (
    f"https://raw.githubusercontent.com/movieplotgpt/movieplotgpt/v{__version__}/weights"  # a tag never moves
)
MIRROR = "MOVIEPLOTGPT_MIRROR"  # environment variable: another address of the same folder
UPDATE = "update with pip install --upgrade movieplotgpt"
LARGEST_MANIFEST = 4_000_000  # bytes
KINDS = {".json", ".md", ".safetensors"}  # of files: nothing that runs
THEIRS = {"config.json", "tokenizer.json"}  # what a model has in any case
OURS = {*THEIRS, "movieplotgpt.json"}
HERE = {"localhost", "127.0.0.1", "::1"}  # hosts for which http is safe


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A model that was downloaded."""

    name: str  # what `--model` takes
    folder: Path
    size: int


def download(
    source: str,
    *,
    revision: str | None = None,
    to: Path | None = None,
    progress: CountReport | None = None,
    pause: float = 1.0,
) -> Downloaded:
    """Fetch the model ``source`` into ``to``, by default the user's cache; files that are complete are not fetched again.

    ``source`` is a published NAME, the address of a folder with a manifest (``https://.../weights#NAME``), or
    ``hf:owner/repo``. ``pause`` is the seconds before a second attempt.

    Raises:
        ConfigError: the source is not a name, an address or a repository.
        DownloadError: it cannot be reached, or has no such model; what has come is kept, a wrong file is not.
        StorageError: the disk refuses or has no room, or something else than this model is in its place.
    """
    tell = progress or (lambda done, total: None)
    if source.startswith(HUB):
        return _from_hub(source, revision, to, tell)
    if revision:
        raise ConfigError(f"revision={revision} is for {HUB}owner/repo; leave it out for {source}")
    if "://" in source:
        base, name, manifest = _elsewhere(source, pause)
        shelf = Path(re.sub(r"[^\w.-]", "-", urlsplit(base).netloc))  # no stranger's model has the name of ours
    else:
        base, name, manifest = _published(source, pause)
        shelf = Path()
    called = (shelf / name).as_posix()
    entry = manifest.models[name]
    _refuse_strange_files(base, name, entry)
    place = to or _cache() / shelf
    with _alone(place, name):
        folder = place / name
        at_home = weights_folder() / name
        if to is None and called == name and not problems_of(at_home, entry.files):
            folder = at_home
        elif not all(_is(folder / file, facts) for file, facts in entry.files.items()):
            _refuse_foreign_folder(folder, entry, chosen=to is not None)
            try:
                _fetch_model(base, folder, entry, tell, pause)
            except WrongFileError as error:
                if "://" in source:
                    raise
                raise WrongFileError(
                    f"{error}; or {name} is newer there than in version {__version__}: {UPDATE}"
                ) from None
        _fetch_copies(base, manifest, entry.corpus_hash, place, pause)
    return Downloaded(str(folder) if to else called, folder, entry.size)


def _published(name: str, pause: float) -> tuple[str, str, WeightsManifest]:
    """Return the address of this version's published models, the name, and the manifest that has it: the installed one first."""
    check_name(name)
    base = (os.environ.get(MIRROR) or PUBLISHED_AT).rstrip("/")
    if urlsplit(base).scheme not in ("http", "https"):
        raise ConfigError(f"{MIRROR} is {base!r}; name an address that begins with https://")
    manifest = read_manifest(weights_folder())
    if name not in manifest.models:
        manifest = _manifest_at(base, pause)
    if name not in manifest.models:
        raise DownloadError(f"{base} has no model {name!r}; it has {', '.join(manifest.models) or 'none'}")
    return base, name, manifest


def _elsewhere(source: str, pause: float) -> tuple[str, str, WeightsManifest]:
    """Return the folder at an address, the name of its model (the one after ``#``, or its only one), and its manifest."""
    base, _, name = source.partition("#")
    base = base.removesuffix(MANIFEST).rstrip("/")
    parts = urlsplit(base)
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in HERE)) or not parts.netloc:
        raise ConfigError(f"{source} is not a safe address; give one that starts with https://")
    manifest = _manifest_at(base, pause)
    names = list(manifest.models)
    name = names[0] if not name and len(names) == 1 else name
    if name not in names:
        asked = f"no model {name!r}" if name else "not one model"
        raise DownloadError(
            f"{base} has {asked}; it has {', '.join(names) or 'none'}: name one as {base}#{(names or ['NAME'])[0]}"
        )
    check_name(name)
    return base, name, manifest


def _manifest_at(base: str, pause: float) -> WeightsManifest:
    url = f"{base}/{MANIFEST}"
    with tempfile.TemporaryDirectory() as folder:
        fetch(url, Path(folder) / MANIFEST, at_most=LARGEST_MANIFEST, pause=pause)
        try:
            return read_manifest(Path(folder))
        except CheckpointError as error:
            raise DownloadError(str(error).replace(f"{Path(folder) / MANIFEST}", url)) from None


def _refuse_strange_files(base: str, name: str, entry: ModelEntry) -> None:
    """A manifest may be a stranger's: it writes into the model's folder only, and nothing that runs."""
    for file in entry.files:
        path = PurePosixPath(file)
        if path.suffix not in KINDS or not all(re.fullmatch(r"\w[\w.-]*", part) for part in file.split("/")):
            raise DownloadError(
                f"{base} lists {file!r} for {name}, which is not a file of a model; nothing was fetched"
            )


def _refuse_foreign_folder(folder: Path, entry: ModelEntry, *, chosen: bool) -> None:
    """Replace nothing but a copy of the model: in the user's cache an older or damaged one, elsewhere only a damaged one."""
    if _is_free(folder):
        return
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    files = {file: facts for file, facts in entry.files.items() if file.endswith(".safetensors") or not chosen}
    if (chosen and there - entry.files.keys()) or not any(_is(folder / file, facts) for file, facts in files.items()):
        raise _occupied(folder)


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _occupied(folder: Path) -> StorageError:
    return StorageError(
        f"{folder} holds something else than this model; move or remove it, or name another folder with to=FOLDER"
    )


def _fetch_model(base: str, folder: Path, entry: ModelEntry, tell: CountReport, pause: float) -> None:
    staging = folder.with_name(f".{folder.name}.partial")
    missing = {file: facts for file, facts in entry.files.items() if not _is(staging / file, facts)}
    left, total = (sum(facts.size for facts in files.values()) for files in (missing, entry.files))
    _check_room(folder, left)
    before = total - left
    try:
        for file, facts in missing.items():
            told = partial(lambda start, done, _: tell(start + done, total), before)
            url = f"{base}/{folder.name}/{file}"
            fetch(url, staging / file, sha256=facts.sha256, at_most=facts.size, progress=told, pause=pause)
            before += facts.size
    except WrongFileError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _move_in(staging, list(entry.files), folder)


def _move_in(staging: Path, files: list[str], folder: Path) -> None:
    with replacing_folder(folder) as new:
        for file in files:
            (new / file).parent.mkdir(parents=True, exist_ok=True)
            (staging / file).replace(new / file)
    shutil.rmtree(staging, ignore_errors=True)


def _fetch_copies(base: str, manifest: WeightsManifest, corpus_hash: str | None, place: Path, pause: float) -> None:
    """Fetch the copy index of the model's training text, if one is published and not yet installed."""
    for name, index in manifest.copies.items():
        file = f"{COPIES_FOLDER}/{name}.npz"
        here = any(_is(shelf / file, index) for shelf in (place, weights_folder()))
        if index.corpus_hash == corpus_hash and not here:
            check_name(name)
            _check_room(place, index.size)
            fetch(f"{base}/{file}", place / file, sha256=index.sha256, at_most=index.size, pause=pause)


def _is(path: Path, facts: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == facts.size and file_sha256(path) == facts.sha256


def hub_repository(source: str) -> str | None:
    """Return ``owner/repo`` of hf:owner/repo; None if ``source`` has another form."""
    found = re.fullmatch(rf"{HUB}(\w[\w.-]*/\w[\w.-]*)", source)
    return found and found[1]


def download_original(source: str, *, revision: str | None = None, progress: CountReport | None = None) -> Path:
    """Fetch a model of others, ``hf:owner/repo``, into the user's cache, and return its folder.

    Raises:
        ConfigError, DownloadError, StorageError: as for ``download``.
    """
    owner, repo = _repository(source, revision)
    folder = _cache() / "originals" / owner / repo
    refusal = f"{source} has no config.json and tokenizer.json; name a model that transformers can load"
    _fetch_repository(source, revision, folder, THEIRS, refusal, progress or (lambda done, total: None))
    return folder


def _from_hub(source: str, revision: str | None, to: Path | None, tell: CountReport) -> Downloaded:
    owner, repo = _repository(source, revision)
    folder = to / repo if to else _cache() / "hf" / owner / repo
    refusal = f"{source} is not a movieplotgpt model; import it: movieplotgpt import {source} -o FOLDER"
    _fetch_repository(source, revision, folder, OURS, refusal, tell)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Downloaded(str(folder) if to else f"{HUB}{owner}/{repo}", folder, size)


def _repository(source: str, revision: str | None) -> tuple[str, str]:
    """Owner and name; a revision is a model of its own."""
    if hub_repository(source) is None:
        raise ConfigError(f"{source} names no repository; write {HUB}owner/repo")
    if revision and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", revision):
        raise ConfigError(f"revision={revision!r} is not a branch, tag or commit; leave it out for the newest")
    owner, _, repo = source.removeprefix(HUB).partition("/")
    return owner, f"{repo}@{revision}" if revision else repo


def _fetch_repository(
    source: str, revision: str | None, folder: Path, needed: set[str], refusal: str, tell: CountReport
) -> None:
    def check(sizes: dict[str, int]) -> None:
        if not sizes.keys() >= needed:
            raise DownloadError(refusal)
        _check_room(folder, sum(sizes.values()))

    with _alone(folder.parent, folder.name):
        if not all((folder / name).is_file() for name in needed):
            if not _is_free(folder):
                raise _occupied(folder)
            staging = folder.with_name(f".{folder.name}.partial")
            files = fetch_repository(source.removeprefix(HUB), revision, staging, check=check, tell=tell)
            _move_in(staging, files, folder)


def _cache() -> Path:
    try:
        return downloaded_folder()
    except OSError as error:
        raise StorageError(f"there is no folder for downloads ({error.strerror}); name one with to=FOLDER") from None


def _check_room(folder: Path, size: int) -> None:
    """Say before the first byte that a disk is too small."""
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise StorageError(
            f"no space left for the {size / 1e6:.1f} MB of {folder}: {free / 1e6:.1f} MB are free; free some, or name "
            "another folder with to=FOLDER"
        )


@contextmanager
def _alone(place: Path, name: str) -> Iterator[None]:
    """Let one process at a time fetch a model; the next finds it there."""
    with ExitStack() as stack:
        try:
            place.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(place / f".{name}.lock"))
        except OSError as error:
            raise StorageError(
                f"cannot write {place}: {error.strerror or error}; name another folder with to=FOLDER"
            ) from None
        yield
