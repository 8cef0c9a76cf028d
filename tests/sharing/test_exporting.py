"""An export is kept only if what runs it writes the model's own text from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch

from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import CheckpointError, ConfigError, MissingExtraError
from movieplotgpt.generation.decoding import write
from movieplotgpt.generation.prompts import PromptForm
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import Writing
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from movieplotgpt.sharing import exporting
from movieplotgpt.sharing.exporting import TITLE, TYPES, chosen_types, export, gaps, prompt_ids
from movieplotgpt.sharing.modelfile import modelfile
from movieplotgpt.sharing.runners import Runner, Written

Make: TypeAlias = Callable[..., Checkpoint]
EVERY = [(target, weights) for target, types in TYPES.items() for weights in types]
HOSTILE = ["", " ", "a  b\r\n\n\tc", "it's 1999's", "Zoë, 漢字 🎬\x00\u200d \ufeff\u2028", "END_OF_PLOTx END_OF_PLO"]
SAYS = "import json, sys; asked = json.load(sys.stdin); print('loaded'); print(json.dumps({0}))"


def program_that_writes(tokens: object, *, ended: bool = False) -> str:
    """A program that writes ``tokens``, an expression of Python."""
    answer = f"{{'written': {tokens}, 'ended': {ended}, 'ids': []}}"
    return SAYS.format(answer)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """``use(program)``: what verifies a Hugging Face folder; it is installed if ``package`` is."""
    path = tmp_path_factory.mktemp("programs") / "parrot.py"

    def use(program: str, package: str = "json") -> None:
        path.write_text(program, encoding="utf-8")
        monkeypatch.setattr(exporting, "RUNNERS", {"hf-bf16": Runner("the parrot", package, path)})

    return use


def greedy(checkpoint: Checkpoint, tokens: int = 64) -> list[int]:
    """What generation writes for the title of the comparison, the likeliest token each time."""
    form = PromptForm(checkpoint)
    prompt = form.from_title(TITLE if checkpoint.format.header else "")
    config = SamplingConfig(temperature=0, max_tokens=tokens, guidance=1)
    one = Writing(prompt, checkpoint.tokenizer, checkpoint.config.context_length, config, seed=0)
    engine = Engine(checkpoint, precision="float32")
    list(write(engine, [one], checkpoint.tokenizer.vocab_size, room=1))
    return one.body


def end_soon(checkpoint: Checkpoint) -> list[int]:
    """Exchange the rows of the end marker and of a token that is likely now and then; the text that comes of it."""
    rows = checkpoint.model.model.embed_tokens.weight.data
    for frequent, _ in Counter(greedy(checkpoint)).most_common():
        rows[[0, frequent]] = rows[[frequent, 0]]
        if len(text := greedy(checkpoint)) < 64:
            return text
        rows[[0, frequent]] = rows[[frequent, 0]]
    raise AssertionError("no text ends")


@pytest.mark.slow
@pytest.mark.parametrize(("target", "weights"), EVERY)
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_every_target_is_verified_by_what_runs_it(
    tiny_checkpoint: Make, tmp_path: Path, kind: str, target: Any, weights: Any
) -> None:
    if not exporting.RUNNERS[target].installed:
        pytest.skip(f"{exporting.RUNNERS[target].name} is not installed")
    try:
        done = export(tiny_checkpoint(kind, context_length=160), target, weights, tmp_path)
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert done.tokens and done.agreeing is not None
    assert done.agreeing == done.tokens or weights != "f32"
    assert done.agreeing > 0.8 * done.tokens
    assert done.path.exists() and done.path.is_relative_to(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", TYPES)
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_every_runner_reads_our_ids_and_stops_at_the_end_marker(
    tiny_checkpoint: Make, tmp_path: Path, kind: str, target: Any
) -> None:
    runner = exporting.RUNNERS[target]
    if not runner.installed:
        pytest.skip(f"{runner.name} is not installed")
    checkpoint = tiny_checkpoint(kind, context_length=160)
    expected = end_soon(checkpoint)
    try:
        done = export(checkpoint, target, TYPES[target][0] if target == "hf-bf16" else "f32", tmp_path)
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert done.agreeing == done.tokens == len(expected) + 1 or target == "hf-bf16"  # which rounds these weights
    written = runner.write(done.path, prompt_ids(checkpoint), 64, texts=HOSTILE)
    assert written.ids == [checkpoint.tokenizer.encode(text).tolist() for text in HOSTILE]
    assert written.ended and (written.tokens == expected or target == "hf-bf16")


def test_the_text_that_is_compared_is_the_one_generation_writes(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("char", context_length=160)
    prompt, tokens = prompt_ids(checkpoint), greedy(checkpoint, 30)
    found = gaps(checkpoint, prompt, Written(tokens, False, []))
    assert found == [0.0] * len(tokens)
    other = Written([*tokens[:10], (tokens[10] + 1) % 300, *tokens[11:]], False, [])
    assert [gap > 0 for gap in gaps(checkpoint, prompt, other)][:11] == [False] * 10 + [True]


def test_a_bfloat16_folder_is_the_model_in_half_the_room(
    tiny_checkpoint: Make, tmp_path: Path, use: Callable[..., None]
) -> None:
    checkpoint = tiny_checkpoint()
    use("", package="no_such_package")
    done = export(checkpoint, "hf-bf16", "bf16", tmp_path)
    assert done.path == tmp_path / "hf-bf16" and done.tokens is None and done.agreeing is None
    assert done.size == sum(path.stat().st_size for path in done.path.iterdir())
    for name, weight in load_checkpoint(done.path).model.state_dict().items():
        assert torch.equal(weight, checkpoint.model.state_dict()[name].bfloat16().float())


def test_a_text_that_is_not_the_model_s_is_not_kept(
    tiny_checkpoint: Make, tmp_path: Path, use: Callable[..., None]
) -> None:
    checkpoint = tiny_checkpoint(context_length=160)
    use(program_that_writes("[5] * asked['tokens']"))
    said = r"the parrot writes another text from \S+ than the model: its token 1 is [\d.]+ nats less likely than the "
    with pytest.raises(CheckpointError, match=f"{said}model's; nothing was kept, try another type"):
        export(checkpoint, "hf-bf16", "bf16", tmp_path)
    use(program_that_writes([]))
    said = r"the parrot wrote 0 tokens from \S+ in place of 64; nothing was kept, try another version of json"
    with pytest.raises(CheckpointError, match=said):
        export(checkpoint, "hf-bf16", "bf16", tmp_path)
    use("raise SystemExit('no such bird')")
    said = r"the parrot cannot run \S+ \(no such bird\); try another version of json"
    with pytest.raises(CheckpointError, match=said):
        export(checkpoint, "hf-bf16", "bf16", tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_the_model_s_own_text_is_kept_and_counted(
    tiny_checkpoint: Make, tmp_path: Path, use: Callable[..., None]
) -> None:
    checkpoint = tiny_checkpoint(context_length=160)
    tokens = greedy(checkpoint)
    use(program_that_writes(tokens, ended=len(tokens) < 64))
    done = export(checkpoint, "hf-bf16", "bf16", tmp_path)
    assert done.agreeing == done.tokens == min(64, len(tokens) + 1)


def test_what_is_there_stays(tiny_checkpoint: Make, tmp_path: Path) -> None:
    (tmp_path / "hf-bf16").mkdir()
    (tmp_path / "hf-bf16" / "mine").touch()
    with pytest.raises(
        ConfigError, match=r"hf-bf16 is there already; remove it, or name another folder with out=FOLDER"
    ):
        export(tiny_checkpoint(), "hf-bf16", "bf16", tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["hf-bf16", "mine"]


def test_types_are_those_of_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda _: object())
    assert chosen_types("gguf") == {"gguf": "bf16"}
    assert chosen_types("onnx", "q8_0") == {"onnx": "q8_0"}
    assert chosen_types("all", "f16") == {"gguf": "f16", "onnx": "f16", "hf-bf16": "bf16", "int8": "int8"}
    with pytest.raises(ConfigError, match="hf-bf16 has no weights of type f16; take one of bf16"):
        chosen_types("hf-bf16", "f16")
    monkeypatch.setattr(exporting, "find_spec", lambda _: None)
    assert chosen_types("hf-bf16") == {"hf-bf16": "bf16"}
    said = r"this needs gguf, which is not installed; pip install 'movieplotgpt\[gguf\]'"
    with pytest.raises(MissingExtraError, match=said):
        chosen_types("gguf")


@pytest.mark.parametrize(("folder", "name"), [("runs/films/best", "films"), ("films", "films")])
def test_files_have_the_model_s_name(tiny_checkpoint: Make, tmp_path: Path, folder: str, name: str) -> None:
    save_checkpoint(tmp_path / folder, tiny_checkpoint())
    assert exporting.model_name(load_checkpoint(tmp_path / folder)) == name
    assert exporting.model_name(tiny_checkpoint()) == "movieplotgpt"


def test_a_title_is_all_ollama_is_told(tiny_checkpoint: Make) -> None:
    assert modelfile(tiny_checkpoint(), "films-q8_0.gguf") == (
        "FROM ./films-q8_0.gguf\n"
        'TEMPLATE """The plot summary of the movie named \'{{ .Prompt }}\' is:\n'
        '"""\n'
        "PARAMETER stop END_OF_PLOT\n"
        "PARAMETER num_ctx 64\n"
        "PARAMETER temperature 1\n"
        "PARAMETER min_p 0.02\n"
        "PARAMETER top_k 0\n"
        "PARAMETER top_p 1\n"
        "PARAMETER repeat_penalty 1\n"
    )


def test_a_model_without_titles_goes_on_with_a_text(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    without = replace(checkpoint, format=checkpoint.format.model_copy(update={"header": ""}))
    assert 'TEMPLATE """{{ .Prompt }}"""\n' in modelfile(without, "office.gguf")
    assert prompt_ids(without) == [0]


def test_an_onnx_folder_holds_what_reads_a_prompt(tiny_checkpoint: Make, tmp_path: Path) -> None:
    done = export(tiny_checkpoint("byte"), "onnx", "q8_0", tmp_path)
    assert done.path == tmp_path / "onnx-q8_0" / "onnx" / "model.onnx" and done.size == done.path.stat().st_size
    folder = done.path.parent.parent
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "onnx/model.onnx",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "movieplotgpt.json",
    }
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 0


def test_a_gguf_has_its_modelfile(tiny_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setattr(exporting, "RUNNERS", {"gguf": Runner("nobody", "no_such_package", Path())})
    done = export(tiny_checkpoint(), "gguf", "q8_0", tmp_path)
    assert done.path == tmp_path / "gguf-q8_0" / "movieplotgpt-q8_0.gguf"
    assert {path.name for path in done.path.parent.iterdir()} == {"Modelfile", "movieplotgpt-q8_0.gguf"}
    assert "FROM ./movieplotgpt-q8_0.gguf\n" in (done.path.parent / "Modelfile").read_text(encoding="utf-8")
