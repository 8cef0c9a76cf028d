"""What Windows refuses, refused here: syncing a file that is open for reading, renaming what is mapped or open."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from movieplotgpt.atomic import replacing_folder, write_text
from movieplotgpt.cli import main
from movieplotgpt.errors import StorageError
from movieplotgpt.model.weight_files import save_tensors

if sys.platform != "linux":
    pytest.skip("it looks into /proc", allow_module_level=True)

TINY = [
    *("model.n_layer=1", "model.n_embd=16", "model.n_head=1", "model.head_dim=16", "model.n_ff=32"),
    *("model.context_length=96", "training.compile=off", "training.precision=float32", "training.tokens_per_step=96"),
    *("training.evaluations=1", "--steps", "6", "--out", "run"),
]


def in_use() -> set[str]:
    """Files that this process has mapped or open."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    mapped = {line.split(maxsplit=5)[5] for line in maps if "/" in line}
    opened = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            opened.add(str(link.readlink()))
        except FileNotFoundError:  # the one that the folder was read with
            continue
    return mapped | opened


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    sync, open_file, rename, replace = os.fsync, os.open, os.rename, os.replace

    def windows_fsync(handle: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        sync(handle)

    def windows_open(path: Any, *arguments: Any, **options: Any) -> int:
        caller = sys._getframe(1).f_globals["__name__"]  # shutil opens folders on POSIX only
        if Path(path).is_dir() and caller.startswith("movieplotgpt"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_file(path, *arguments, **options)

    def refused(move: Callable[..., None], source: Any, target: Any) -> None:
        used = in_use()
        for place in (os.path.abspath(source), os.path.abspath(target)):
            if any(file == place or file.startswith(f"{place}/") for file in used):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
        move(source, target)

    monkeypatch.setattr(os, "fsync", windows_fsync)
    monkeypatch.setattr(os, "open", windows_open)
    monkeypatch.setattr(os, "rename", lambda source, target: refused(rename, source, target))
    monkeypatch.setattr(os, "replace", lambda source, target: refused(replace, source, target))


@pytest.mark.usefixtures("windows")
def test_files_and_folders_are_written(tmp_path: Path) -> None:
    for word in ("old", "new"):
        write_text(tmp_path / "note", word)
        with replacing_folder(tmp_path / "model") as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "weights").write_text(word, encoding="utf-8")
    assert (tmp_path / "note").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "model/inner/weights").read_text(encoding="utf-8") == "new"


@pytest.mark.usefixtures("windows")
def test_the_simulation_refuses_what_is_mapped(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "model") as folder:
        save_tensors({"weight": torch.zeros(100_000)}, folder / "weights")
    mapped = load_file(tmp_path / "model" / "weights")
    with pytest.raises(StorageError, match="no permission"), replacing_folder(tmp_path / "model"):
        pass
    assert np.all(mapped["weight"].numpy() == 0)


@pytest.mark.usefixtures("windows")
def test_a_run_is_saved_resumed_and_saved_again(
    tmp_path: Path, text_of: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mytext.txt").write_text(text_of(9_000), encoding="utf-8")

    def stopping(_: str) -> Callable[[], bool]:
        steps = iter(range(100))
        return lambda: next(steps) == 1

    with monkeypatch.context() as patch:
        patch.setattr("movieplotgpt.cli.train.stop_on_signal", stopping)
        assert main(["train", "mytext.txt", *TINY]) == 130
        assert main(["train", "mytext.txt", *TINY, "--resume"]) == 130
    progress = json.loads(Path("run/last/training/progress.json").read_text(encoding="utf-8"))
    assert progress["step"] == 4
    assert main(["train", "mytext.txt", *TINY, "--resume"]) == 0
