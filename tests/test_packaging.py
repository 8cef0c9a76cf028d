"""What is declared, locked and imported agree."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import runpy
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import movieplotgpt
from movieplotgpt.errors import EXTRAS, PACKAGES

LOCKS = ("requirements.txt", "requirements-train.txt", "requirements-dev.txt")  # each begins with the one before
CARRIED = ("office-bpe", "plots-large")  # models in a wheel
NAMES = {"sklearn": "scikit-learn"}  # packages that are imported by another name
FOR_ONE_PLATFORM = re.compile(r"nvidia-|cuda-|triton|intel-|pytorch-triton|colorama")  # never locked


@pytest.fixture
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked(path: Path) -> dict[str, str]:
    """Name -> version of the pins of a requirements file, in its order."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#-"]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def closure(requirements: list[str]) -> set[str]:
    """Every package that ``requirements`` bring in here, those for one platform left out."""
    todo = [Requirement(text) for text in requirements]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            if FOR_ONE_PLATFORM.match(name):
                continue
            wanted = [Requirement(text) for text in importlib.metadata.requires(name) or []]
            todo += [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen if not FOR_ONE_PLATFORM.match(name)}


def imported(folder: Path) -> Iterator[tuple[str, str]]:
    """(top-level package, file) of every third-party import below ``folder``, lazy ones too."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top != "movieplotgpt":
                    yield top, path.name


def all_locked(repository: Path) -> dict[str, str]:
    return {name: version for lock in LOCKS for name, version in locked(repository / lock).items()}


def test_each_lock_adds_what_its_extras_bring_in(repository: Path, project: dict) -> None:
    extras = project["optional-dependencies"]
    everything = [text for texts in extras.values() for text in texts if "movieplotgpt" not in text]
    added: list[str] = []
    known: set[str] = set()
    for lock, more in zip(LOCKS, (project["dependencies"], extras["train"], everything), strict=True):
        added += more
        assert set(locked(repository / lock)) == closure(added) - known, lock
        known |= closure(added)
    assert "torch" not in locked(repository / LOCKS[0])


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_installs_anywhere(repository: Path, name: str) -> None:
    lock = locked(repository / name)
    assert list(lock) == sorted(lock), "keep the lock sorted"
    for package, version in lock.items():
        assert re.fullmatch(r"[0-9.]+", version), f"{package}: {version} is no plain version"
        assert not FOR_ONE_PLATFORM.match(package), f"{package} is for one platform; torch asks for it where needed"


@pytest.mark.parametrize(("before", "name"), [*pairwise(LOCKS)])
def test_a_lock_begins_with_the_one_before(repository: Path, before: str, name: str) -> None:
    lines = (repository / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line[:1] == "-"] == [f"-r {before}"]


def test_locked_versions_lie_within_the_declared_bounds(repository: Path, project: dict) -> None:
    lock = all_locked(repository)
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    for requirement in map(Requirement, project["dependencies"] + extras):
        if requirement.name != "movieplotgpt":
            assert lock[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_every_third_party_import_is_declared(repository: Path, project: dict) -> None:
    texts = project["dependencies"] + [t for ts in project["optional-dependencies"].values() for t in ts]
    declared = {canonicalize_name(Requirement(text).name) for text in texts} - {"transformers"}  # an oracle for tests
    imports = [(NAMES.get(top, top), file) for top, file in imported(repository / "src")]
    imports.remove(("transformers", "hf_transformers.py"))  # a program that runs where transformers is installed
    assert not {f"{top} in {file}" for top, file in imports if canonicalize_name(top) not in declared}


def test_every_extra_an_error_names_exists(repository: Path, project: dict) -> None:
    named = set()
    asked = dict(EXTRAS)  # what `main` says of a package that is missing
    for path in (repository / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'MissingExtraError\([^)]*,\s*"([a-z]+)"\)', text))
        for module, extra in re.findall(r'optional\(\s*"([\w.]+)",\s*"([a-z]+)"', text):
            top = module.partition(".")[0]
            asked[PACKAGES.get(module) or PACKAGES.get(top, top)] = extra
    assert named <= set(project["optional-dependencies"])
    assert asked.keys() >= {"matplotlib", "pyppmd", "scikit-learn", "scipy", "tensorboard", "wordfreq"}
    for package, extra in asked.items():
        requirements = map(Requirement, project["optional-dependencies"][extra])
        assert package in {canonicalize_name(requirement.name) for requirement in requirements}


@pytest.mark.slow
def test_a_wheel_carries_two_models_and_their_manifest(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", build, str(tmp_path)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path = tmp_path / done.stdout.split()[-1]
    with zipfile.ZipFile(path) as wheel:
        files = {file.filename: file.file_size for file in wheel.infolist()}
    manifest = json.loads((repository / "weights" / "manifest.json").read_text(encoding="utf-8"))
    expected = {
        f"movieplotgpt/weights/{name}/{file}": facts["size"]
        for name in CARRIED
        for file, facts in manifest["models"][name]["files"].items()
    }
    carried = {name: size for name, size in files.items() if "/weights/" in name}
    assert carried.pop("movieplotgpt/weights/manifest.json") > 0
    assert carried == expected
    code = {path.relative_to(repository / "src").as_posix() for path in (repository / "src").rglob("*.py")}
    assert code == {name for name in files if name.endswith(".py")}
    assert path.stat().st_size < 75_000_000


def test_an_editable_install_carries_no_weights(repository: Path) -> None:
    pytest.importorskip("hatchling")
    hook = runpy.run_path(str(repository / "hatch_build.py"))["CarriedWeights"]
    for version, many in (("standard", 1 + 7 + 10), ("editable", 0)):
        carried: dict[str, dict[str, str]] = {"force_include": {}}
        made = hook(str(repository), {"models": CARRIED}, None, None, "dist", "wheel")
        made.initialize(version, carried)
        assert len(carried["force_include"]) == many


def test_packaged_weights_are_found(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from movieplotgpt.engine import places

    monkeypatch.delenv(places.WEIGHTS_FOLDER, raising=False)
    assert places.weights_folder() == repository / "weights"
    installed = tmp_path / "site-packages" / "movieplotgpt"
    (installed / "weights").mkdir(parents=True)
    monkeypatch.setattr(places, "__file__", str(installed / "engine" / "places.py"))
    assert places.weights_folder() == installed / "weights"


def test_one_version_everywhere(repository: Path) -> None:
    citation = (repository / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {movieplotgpt.__version__}\n" in citation
