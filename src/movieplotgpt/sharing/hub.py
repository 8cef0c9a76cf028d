"""Models from the Hugging Face hub, each file of the size and SHA-256 that the hub states, and models to it.

``HF_ENDPOINT`` names a mirror of the hub; a token for private models is huggingface_hub's own matter.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils.tqdm import tqdm

from movieplotgpt.atomic import storage_error
from movieplotgpt.checksums import file_sha256
from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.errors import CheckpointError, DownloadError, MoviePlotGPTError, WrongFileError
from movieplotgpt.sharing.published import README as CARD

ENDPOINT = "HF_ENDPOINT"  # environment variable: a mirror of the hub
REFUSED_BY_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # which no network raises
WANTED = ("*.safetensors", "*.json", "README.md")  # nothing that runs, no pickle


def fetch_repository(
    repository: str,
    revision: str | None,
    folder: Path,
    *,
    check: Callable[[dict[str, int]], None],
    tell: Callable[[int, int], None],
) -> list[str]:
    """Download the model files of ``owner/repo`` into ``folder`` and name them; those whole there already stay.

    ``check`` is handed the size of each file before the first comes, and may raise.

    Raises:
        DownloadError: the hub cannot be reached or has no such model, or a file differs from what the hub states.
        StorageError: the disk refuses.
    """
    mirror = os.environ.get(ENDPOINT)
    try:
        info = huggingface_hub.HfApi(endpoint=mirror).model_info(repository, revision=revision, files_metadata=True)
        wanted = [sibling for sibling in info.siblings or [] if _is_wanted(sibling.rfilename)]
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in wanted}
        check(sizes)
        huggingface_hub.snapshot_download(
            repository,
            revision=info.sha,
            allow_patterns=list(sizes),
            local_dir=folder,
            endpoint=mirror,
            tqdm_class=_quiet(tell, sum(sizes.values())),
        )
    except MoviePlotGPTError:
        raise
    except Exception as error:  # the library raises its own, the system's and those of its HTTP client
        if isinstance(error, OSError) and error.errno in REFUSED_BY_DISK:
            raise storage_error(folder, error) from None
        raise DownloadError(_sentence(repository, revision, error)) from None
    for sibling in wanted:
        _compare(folder / sibling.rfilename, sibling, repository)
    return list(sizes)


def upload_folder(folder: Path, repository: str, *, private: bool = False) -> str:
    """Put a published model's files into ``owner/repo``, which is created if needed; return the address of the commit.

    Raises:
        CheckpointError: the folder is damaged, or has no model card.
        DownloadError: the hub cannot be reached, or refuses.
    """
    load_folder(folder).weights()
    if not (folder / CARD).is_file():
        raise CheckpointError(f"{folder} has no model card; make one with `movieplotgpt weights publish`")
    api = huggingface_hub.HfApi(endpoint=os.environ.get(ENDPOINT))
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(WANTED),
            ignore_patterns=["*/*"],
            commit_message="A model of movieplotgpt",
        )
    except Exception as error:  # the library raises its own, the system's and those of its HTTP client
        reason = "the token is missing or may not write; log in with `hf auth login`"
        if getattr(getattr(error, "response", None), "status_code", None) not in (401, 403):
            reason = _first_line(error)
        raise DownloadError(f"cannot upload to {repository}: {reason}") from None
    return str(done.commit_url)


def _is_wanted(name: str) -> bool:
    return bool(re.fullmatch(r"\w[\w.-]*", name)) and any(fnmatch(name, pattern) for pattern in WANTED)


def _compare(path: Path, stated: RepoSibling, repository: str) -> None:
    """A file that is missing, of another size or of another hash than stated; what is wrong is deleted."""
    if not path.is_file():
        raise DownloadError(f"{path.name} of {repository} was not received; run it again to continue")
    sha256 = stated.lfs.sha256 if stated.lfs else None
    if path.stat().st_size != (stated.size or 0) or (sha256 and file_sha256(path) != sha256):
        path.unlink()
        raise WrongFileError(f"{path.name} of {repository} is not what the hub states; it was deleted, try again")


def _sentence(repository: str, revision: str | None, error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return f"{repository} is gated; accept its terms on its page, log in with `hf auth login`, and try again"
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}; leave it out for the newest"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no model {repository}, or it is private; check the name, or log in with `hf auth login`"
    return f"cannot download {repository}: {_first_line(error)}; what was received is kept, run it again to continue"


def _first_line(error: Exception) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.rstrip(".")


def _quiet(tell: Callable[[int, int], None], total: int) -> type[tqdm]:
    """Return a bar of the library's kind that shows nothing and reports the bytes on disk."""

    class Reported(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.done = 0 if kwargs.get("name") == "huggingface_hub.snapshot_download" else None
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if self.done is not None:
                self.done += int(n or 0)
                tell(min(self.done, total), total)
            super().update(n)

    return Reported
