"""The models in ``weights/``: every byte as published, and the same model to transformers as to us."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from movieplotgpt.engine.model_config import parameters
from movieplotgpt.engine.places import DEFAULT_MODEL, WEIGHTS_FOLDER
from movieplotgpt.engine.session import Engine
from movieplotgpt.generation.decoding import write
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import Writing
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint
from movieplotgpt.sharing.model_card import card_for
from movieplotgpt.sharing.published import read_manifest, verify
from movieplotgpt.sharing.publishing import LARGEST, weights_readme

WEIGHTS = Path(__file__).parent.parent / "weights"
NAMES = sorted(json.loads((WEIGHTS / "manifest.json").read_text(encoding="utf-8"))["models"])

HOSTILE = [
    "",
    " ",
    "\n",
    "a  b   c     d",
    "  in front and behind  ",
    "one\r\ntwo\rthree\n\n\nfour\ttab",
    "😀 👩‍👩‍👧 🇩🇪",
    "電影情節 영화 кино فيلم",
    "Amélie – “naïve” … don’t",
    "e\u0301 \u00a0 \u200b \ufeff \u2028 \ufffd",
    "END_OF_PLOT",
    "before END_OF_PLOT after",
    "xEND_OF_PLOTy END_OF_PLO END_OF_PLOTEND_OF_PLOT",
    "\x00\x01\x7f",
    "<0x41> <|endoftext|> [UNK] <s>",
    "1234567890 don't we'll I'M",
    "ab" * 3_000,
]
pytestmark = pytest.mark.filterwarnings("ignore:::transformers")


@pytest.fixture(autouse=True)
def _weights_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS_FOLDER, raising=False)


def test_every_published_file_is_what_the_manifest_says() -> None:
    assert verify(WEIGHTS) == NAMES
    assert DEFAULT_MODEL in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_published_folder_is_small_and_holds_nothing_that_runs(name: str) -> None:
    files = [path for path in (WEIGHTS / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) == read_manifest(WEIGHTS).models[name].size <= LARGEST
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}
    assert max(path.stat().st_size for path in files) <= 30_000_000


def test_the_table_of_models_is_that_of_the_manifest() -> None:
    assert (WEIGHTS / "README.md").read_text(encoding="utf-8") == weights_readme(read_manifest(WEIGHTS))


@pytest.mark.parametrize("name", NAMES)
def test_manifest_card_and_checkpoint_tell_the_same(name: str) -> None:
    entry, card = read_manifest(WEIGHTS).models[name], card_for(name, WEIGHTS / "cards.toml")
    checkpoint = load_checkpoint(name)
    assert checkpoint.folder == WEIGHTS / name
    assert entry.parameters == parameters(checkpoint.config)
    assert (entry.summary, entry.licence) == (card.summary, card.licence_name or card.licence)
    assert entry.corpus_hash == checkpoint.info["corpus"]["hash"]
    text = (WEIGHTS / name / "README.md").read_text(encoding="utf-8")
    assert f"license: {card.licence}\n" in text and card.data.strip() in text and card.limits.strip() in text
    if entry.bits_per_character is not None:
        assert entry.bits_per_character == checkpoint.info["evaluation"]["bits_per_character"]
        assert f"**{entry.bits_per_character:.3f}**" in text


def test_the_default_model_writes_the_same_plot_for_the_same_seed() -> None:
    generator = PlotGenerator.load(DEFAULT_MODEL)
    first, second = (generator.plot("The Last Tram", seed=7, max_tokens=100) for _ in range(2))
    assert first == second
    assert first.finish_reason == ("length" if first.tokens == 100 else "stop")
    assert first.text.strip() and "END_OF_PLOT" not in first.text
    assert generator.plot("The Last Tram", seed=8, max_tokens=100).text != first.text


def theirs(name: str) -> tuple[Any, Any]:
    """Model and tokenizer as transformers loads them."""
    transformers = pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_pretrained(WEIGHTS / name, dtype=torch.float32)
        return model.eval(), transformers.AutoTokenizer.from_pretrained(WEIGHTS / name)


def prompts_for(name: str, checkpoint: Checkpoint) -> list[Prompt]:
    """The card's example, another one, and none at all."""
    form, example = PlotGenerator(checkpoint).builder.form, card_for(name, WEIGHTS / "cards.toml").example
    if checkpoint.format.header:
        hints = dict.fromkeys(checkpoint.format.hints[:1], "1970s")
        return [form.from_title(example), form.from_title("Mars, Texas", hints), form.from_title("")]
    return [form.from_text(example), form.from_text("A: All right.\nB:"), form.from_text("")]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_transformers_reads_every_text_as_the_same_tokens(name: str) -> None:
    checkpoint = load_checkpoint(name)
    ours, (_, tokenizer) = checkpoint.tokenizer, theirs(name)
    headers = [prompt.header + prompt.begun for prompt in prompts_for(name, checkpoint)]
    for text in [*headers, *HOSTILE, *(header + text for header in headers for text in HOSTILE)]:
        assert tokenizer(text).input_ids == [ours.end_id, *ours.encode(text).tolist()], repr(text)[:80]
        assert tokenizer(text, add_special_tokens=False).input_ids == ours.encode(text).tolist()
    assert tokenizer.bos_token == tokenizer.eos_token == "END_OF_PLOT"
    assert (tokenizer.pad_token, tokenizer.pad_token_id, tokenizer.padding_side) == ("<|pad|>", 256, "left")
    for prompt in prompts_for(name, checkpoint)[:: len(checkpoint.format.hints) + 1]:
        chat = [{"role": "user", "content": prompt.title if checkpoint.format.header else prompt.begun}]
        asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        assert asked == [ours.end_id, *ours.encode(prompt.header + prompt.begun).tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_transformers_writes_the_same_60_greedy_tokens(name: str) -> None:
    checkpoint = load_checkpoint(name)
    ours, (model, tokenizer) = checkpoint.tokenizer, theirs(name)
    assert next(model.parameters()).dtype == torch.float32
    engine = Engine(checkpoint, precision="float32")
    context_length, total = checkpoint.config.context_length, 0
    for prompt in prompts_for(name, checkpoint):
        writing = Writing(prompt, ours, context_length, SamplingConfig(temperature=0, max_tokens=60), seed=0)
        begun = len(writing.body)
        for _ in write(engine, [writing], ours.vocab_size, room=2):
            pass
        ids_BT = tokenizer(prompt.header + prompt.begun, return_tensors="pt").input_ids
        output_BT = model.generate(ids_BT, do_sample=False, max_new_tokens=60)
        written = output_BT[0, ids_BT.shape[1] :].tolist()
        if written[-1] == ours.end_id:
            written.pop()
        assert writing.body[begun:] == written, prompt.header + prompt.begun
        total += len(written)
    assert total > 30, "they end at once: nothing was tested"


def test_the_readme_shows_the_numbers_of_the_published_models(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    manifest = json.loads((repository / "weights" / "manifest.json").read_text(encoding="utf-8"))
    for name, entry in manifest["models"].items():
        assert entry["bits_per_character"], f"{name} is published without its number"
        row = next(line for line in readme.splitlines() if line.startswith(f"| [{name}]"))
        assert f"| **{entry['bits_per_character']:.3f}** |" in row
        assert f"| {entry['parameters'] / 1e6:.1f} M | {entry['size'] / 1e6:.1f} MB |" in row


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("plots-")])
def test_a_plot_begins_where_a_sentence_does(name: str) -> None:
    """Windows that go on in mid-sentence once taught models to begin in one: a small letter in half of all plots."""
    checkpoint = load_checkpoint(name)
    form, tokenizer = PlotGenerator(checkpoint).builder.form, checkpoint.tokenizer
    small = [i for i in range(tokenizer.vocab_size) if tokenizer.decode([i]).strip()[:1].islower()]
    for title in ("Mars, Texas", "The Last Tram", "Harbour Lights", "The Clockmaker's Debt"):
        ids = [tokenizer.end_id, *tokenizer.encode(form.from_title(title).header).tolist()]
        with torch.no_grad():
            share = checkpoint.model(torch.tensor([ids]))[0, -1].softmax(-1)[small].sum().item()
        assert share < 0.15, f"{title}: {share:.2f}"
