"""How many small faults do the tests notice? cosmic-ray makes mutants of the core modules, and the nearest tests run on each.

    make mutants                                # in an environment of its own: .venv-mutants
    make mutants ARGS="--only text/splits.py --sample 40"
    .venv-mutants/bin/python benchmarks/mutants.py --python .venv/bin/python --out results/benchmarks/mutants-seed-0.json

A mutant is the code with one change: ``<`` in place of ``<=``, a number one larger, a loop that never runs. It is killed
if a test fails, or if the tests take so much longer that it must loop. Places in the code are drawn by a seed, with one
mutant for each, which is written into a copy of the checkout.

Changes that no test could notice are not made: in annotations and assertions, of ``frozen``, ``slots`` and caches. Mutants
that were read and found equivalent to the code are listed with the reason in ``equivalent_mutants.toml``, and not tried.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import importlib.metadata
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src/movieplotgpt")
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
MODULES: dict[str, tuple[str, ...]] = {  # and test files beside the one of the same name
    "atomic.py": (),
    "engine/kv_cache.py": (),
    "generation/guidance.py": (),
    "generation/sampling.py": ("generation/test_guidance.py",),
    "generation/writing.py": ("generation/test_generator.py", "generation/test_guidance.py"),
    "generation/written_text.py": ("generation/test_writing.py", "generation/test_generator.py"),
    "generation/mentions.py": ("generation/test_rules.py", "generation/test_generator.py"),
    "generation/second_thoughts.py": ("generation/test_writing.py", "generation/test_generator.py"),
    "serving/scheduler.py": (),
    "serving/shares.py": ("serving/test_scheduler.py",),
    "sharing/downloading.py": (),
    "text/delimited.py": (),
    "fetching.py": (),
    "text/formatting.py": (),
    "text/pieces.py": (),
    "text/splits.py": (),
    "text/tokenizer.py": (),
    "training/windows.py": (),
}
SLOWER, SECONDS_MORE = 4, 60  # tests are stopped after so many times their usual time, and so many seconds

Place: TypeAlias = tuple[int, int]  # line and column
Fate: TypeAlias = Literal["killed", "looped", "survived"]


@dataclass(frozen=True)
class Mutable:
    """A place in a module, and the changes that can be made there: an operator of cosmic-ray, and which of its places."""

    module: str
    place: Place
    changes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Mutant:
    """A module with one change: what the changed line was and is, and the whole text."""

    module: str
    line: int
    before: str
    after: str
    text: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} `{self.before}` -> `{self.after}`"


def main() -> None:
    """Draw, try, report, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=100, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other mutants")
    parser.add_argument("--minutes", type=float, default=90, help="no mutant is tried after this time")
    parser.add_argument("--only", nargs="+", default=[*MODULES], choices=[*MODULES], metavar="MODULE")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="the interpreter that runs the tests")
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    mutables = [mutable for module in arguments.only for mutable in mutables_of(module)]
    sample, equivalent = draw(mutables, arguments.sample, arguments.seed)
    print(f"{len(sample)} mutants, of {len(mutables):,} places in {len(arguments.only)} modules", flush=True)
    fates: Counter[Fate] = Counter()
    survivors = []
    for mutant, fate in attempts(sample, arguments.python.absolute(), arguments.minutes):
        fates[fate] += 1
        survivors += [str(mutant)] if fate == "survived" else []
    tried = fates.total()
    print(f"{tried - len(survivors)} of {tried} killed, {equivalent} equivalent ones left out")
    if arguments.out:
        found = {
            "settings": {name: getattr(arguments, name) for name in ("sample", "seed", "minutes", "only")},
            "cosmic-ray": importlib.metadata.version("cosmic-ray"),
            "python": platform.python_version(),
            "places": len(mutables),
            "equivalent": equivalent,
            "tried": tried,
            "killed": tried - len(survivors),
            "of them looped": fates["looped"],
            "survivors": survivors,
        }
        arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


# which mutants there are


def mutables_of(module: str) -> list[Mutable]:
    """The places of a module where cosmic-ray can make a change that a test could notice."""
    plugins, trees = (importlib.import_module(f"cosmic_ray.{name}") for name in ("plugins", "ast"))
    text = (ROOT / PACKAGE / module).read_text(encoding="utf-8")
    nodes, unseen = list(trees.ast_nodes(trees.get_ast(text))), list(unnoticed(text))
    changes: dict[Place, list[tuple[str, int]]] = {}
    for name in sorted(plugins.operator_names()):
        if plugins.get_operator(name).arguments():
            continue
        operator = plugins.get_operator(name)()
        places = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, place in enumerate(places):
            if not any(start <= place < stop for start, stop in unseen):
                changes.setdefault(place, []).append((name, occurrence))
    return [Mutable(module, place, tuple(changes[place])) for place in sorted(changes)]


def unnoticed(text: str) -> Iterator[tuple[Place, Place]]:
    """Where in a module a change does no harm: the (start, stop) of each such part."""
    for node in ast.walk(ast.parse(text)):
        parts: Sequence[ast.AST | None] = ()
        match node:
            case ast.Assert() | ast.If(test=ast.Name("TYPE_CHECKING")) | ast.keyword("frozen" | "slots"):
                parts = [node]
            case ast.AnnAssign(annotation=ast.Name("TypeAlias")):
                parts = [node]
            case ast.arg(annotation=annotation) | ast.AnnAssign(annotation=annotation):
                parts = [annotation]
            case ast.FunctionDef(returns=returns, decorator_list=decorators):
                parts = [returns, *(each for each in decorators if "cache" in ast.unparse(each))]
        for part in parts:
            if isinstance(part, ast.expr | ast.stmt | ast.keyword):
                start = part.col_offset - (part in getattr(node, "decorator_list", ()))  # a decorator's place is its @
                yield (part.lineno, start), (part.end_lineno or 0, part.end_col_offset or 0)


def draw(mutables: Sequence[Mutable], count: int, seed: int) -> tuple[list[Mutant], int]:
    """Draw ``count`` mutants at different places, module by module; also return how many known equivalents were left out."""
    listed = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["mutant"]
    known = {(each["module"], each["before"], each["after"]) for each in listed}
    chance, sample, equivalent = random.Random(seed), list[Mutant](), 0
    for mutable in chance.sample(mutables, len(mutables)):
        mutant = mutant_of(mutable, *chance.choice(mutable.changes))
        if mutant is None:
            continue
        if (mutant.module, mutant.before, mutant.after) in known:
            equivalent += 1
        elif len(sample) < count:
            sample.append(mutant)
        else:
            break
    return sample, equivalent


def mutant_of(mutable: Mutable, operator: str, occurrence: int) -> Mutant | None:
    """Make one of the changes; None for what cosmic-ray 8.7 cannot change, such as ``except (urllib.error.URLError, OSError)``."""
    plugins, mutating = (importlib.import_module(f"cosmic_ray.{name}") for name in ("plugins", "mutating"))
    text = (ROOT / PACKAGE / mutable.module).read_text(encoding="utf-8")
    try:
        mutated = str(mutating.mutate_code(text, plugins.get_operator(operator)(), occurrence))
    except AttributeError:
        return None
    lines = [line for line in difflib.ndiff(text.splitlines(), mutated.splitlines()) if line[0] in "-+"]
    before, after = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return Mutant(mutable.module, mutable.place[0], before, after, mutated)


# what the tests make of them


def attempts(sample: Sequence[Mutant], python: Path, minutes: float) -> Iterator[tuple[Mutant, Fate]]:
    """Run the tests on each mutant until the time is up; print what becomes of it."""
    began, usual = time.monotonic(), dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = copy_of_checkout(Path(folder))
        for done, mutant in enumerate(sample):
            if (passed := time.monotonic() - began) > 60 * minutes:
                print(f"time is up: {len(sample) - done} mutants are not tried")
                return
            if mutant.module not in usual:
                usual[mutant.module] = time_of_tests(copy, mutant.module, python)
            left = f", {passed / done * (len(sample) - done) / 60:.0f} min left" if done else ""
            fate = try_one(copy, mutant, python, SLOWER * usual[mutant.module] + SECONDS_MORE)
            print(f"[{done + 1}/{len(sample)}{left}] {fate} {mutant}", flush=True)
            yield mutant, fate


def copy_of_checkout(folder: Path) -> Path:
    """Copy what the tests may change or look at from inside; link the rest."""
    for path in ROOT.iterdir():
        if path.name in ("src", "tests", "benchmarks"):
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file():
            shutil.copy(path, folder / path.name)
        elif not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    return folder


def time_of_tests(copy: Path, module: str, python: Path) -> float:
    """Seconds that the tests of a module take without a mutant; they must pass."""
    began = time.monotonic()
    if run_tests(copy, module, python, None) != "survived":
        sys.exit(f"the tests of {module} fail without any mutant; run them with pytest")
    return time.monotonic() - began


def try_one(copy: Path, mutant: Mutant, python: Path, most_seconds: float) -> Fate:
    """Write a mutant, run the tests, and write the code back."""
    path = copy / PACKAGE / mutant.module
    text = path.read_text(encoding="utf-8")
    try:
        rewrite(path, mutant.text)
        return run_tests(copy, mutant.module, python, most_seconds)
    finally:
        rewrite(path, text)


def rewrite(path: Path, text: str) -> None:
    """Write a module, without the bytecode of a text of the same length and second."""
    path.write_text(text, encoding="utf-8")
    for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        cached.unlink()


def tests_of(module: str) -> list[str]:
    """The test files nearest to a module."""
    own = Path(module).with_name(f"test_{Path(module).name}").as_posix()
    return [f"tests/{name}" for name in (own, *MODULES[module])]


def run_tests(copy: Path, module: str, python: Path, most_seconds: float | None) -> Fate:
    """Run the quick tests nearest to a module, until the first fails."""
    command = [str(python), "-P", "-m", "pytest", "-x", "-p", "no:cacheprovider", "-m", "not slow and not browser"]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, *tests_of(module)],
        cwd=copy,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return "killed" if process.wait(most_seconds) else "survived"
    except subprocess.TimeoutExpired:
        return "looped"
    finally:
        with suppress(ProcessLookupError):  # also what a test has started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    main()
