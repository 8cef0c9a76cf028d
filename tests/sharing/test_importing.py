"""A Qwen3 that transformers saved becomes ours: the same logits, the same ids, and it can be trained on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tests.conftest import invented_text
from tests.sharing.conftest import Site
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from movieplotgpt.cli import main
from movieplotgpt.engine.model_config import ModelConfig, parameters
from movieplotgpt.engine.places import DOWNLOADED_FOLDER
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from movieplotgpt.model.sizes import training_bytes
from movieplotgpt.sharing.importing import CONTEXT, import_model
from movieplotgpt.text.pretrained import PATTERNS, PretrainedTokenizer

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore:::transformers")
END, HEADER = "<|endoftext|>", "The plot of '{Title}' is:"
TEXTS = [
    "",
    " ",
    "Ada hides the letter.\n\nIn 1984, don't they'll I'M WE'VE 12345?!\n",
    f"{END}The sea{END}{END}x<|im_start|> <think>so</think>",
    "Amélie e\u0301 電影情節 кино 👩\u200d👩\u200d👧 \u00a0\u2028 \ufb01 \x00",
    "  two  spaces,\r\n\ttabs \n here  ",
    "ab" * 2_000,
]


def qwen_tokenizer(**changes: Any) -> tokenizers.Tokenizer:
    """As Qwen's is built, but small: its pattern, NFC, added tokens behind the vocabulary."""
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(Regex(changes.get("pattern", PATTERNS[0])), "isolated", invert=False)
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([invented_text(4_000)], trainer)
    made.add_special_tokens([AddedToken(token, normalized=False) for token in (END, "<|im_start|>", "<|im_end|>")])
    made.add_tokens([AddedToken(token, normalized=False) for token in ("<think>", "</think>")])
    return made


def save_theirs(folder: Path, *, dtype: torch.dtype = torch.float32, shard: str = "1GB", **changes: Any) -> Path:
    """A small Qwen3 with random weights: grouped queries, tied embeddings, a head size of its own."""
    torch.manual_seed(3)
    tokenizer = qwen_tokenizer()
    dimensions = {
        "vocab_size": 576,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.2,
        **changes,
    }
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**dimensions)).to(dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder, max_shard_size=shard)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token=END)
    theirs.save_pretrained(folder)
    return folder


def rewrite(folder: Path, name: str = "config.json", **changes: Any) -> None:
    """Change keys of a JSON file; ... takes one out."""
    path = folder / name
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}), encoding="utf-8")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return save_theirs(tmp_path / "theirs")


@pytest.fixture
def imported(tmp_path: Path, theirs: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert (
        main(["import", str(theirs), "-o", str(tmp_path / "ours"), "--header", HEADER, "--context-length", "64"]) == 0
    )
    capsys.readouterr()
    return tmp_path / "ours"


def logits(folder: Path, ids: list[int]) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        made: torch.Tensor = model(torch.tensor([ids])).logits
    return made


LAYOUTS: dict[str, dict[str, Any]] = {
    "tied, grouped queries": {},
    "bfloat16": {"dtype": torch.bfloat16},
    "several files": {"shard": "60KB"},
    "untied": {"tie_word_embeddings": False},
    "untied in several files": {"tie_word_embeddings": False, "shard": "60KB"},
    "as many heads for all": {"num_key_value_heads": 4},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_logits_are_those_of_transformers_before_and_after(tmp_path: Path, layout: dict[str, Any]) -> None:
    theirs = save_theirs(tmp_path / "theirs", **layout)
    checkpoint, dtype = import_model(theirs, context_length=64)
    save_checkpoint(tmp_path / "ours", checkpoint, dtype=dtype)
    ids = [checkpoint.tokenizer.end_id, *checkpoint.tokenizer.encode(TEXTS[2]).tolist()][:64]
    expected = logits(theirs, ids)
    assert expected.std() > 0.5, "they say nothing"
    loaded = load_checkpoint(tmp_path / "ours")
    with torch.no_grad():
        for model in (checkpoint.model, loaded.model):
            torch.testing.assert_close(model(torch.tensor([ids])), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(logits(tmp_path / "ours", ids), expected, rtol=0, atol=0)
    stored = json.loads((tmp_path / "ours" / "config.json").read_text(encoding="utf-8"))["torch_dtype"]
    assert stored == str(layout.get("dtype", torch.float32)).removeprefix("torch.")


def test_the_ids_are_those_of_its_tokenizer_behind_the_end_marker(imported: Path, theirs: Path) -> None:
    ours = load_checkpoint(imported).tokenizer
    before = tokenizers.Tokenizer.from_file(str(theirs / "tokenizer.json"))
    after = transformers.AutoTokenizer.from_pretrained(imported)
    assert (ours.kind, ours.end, ours.end_id) == ("bpe", END, before.token_to_id(END))
    assert ours.vocab_size == before.get_vocab_size()
    assert (after.bos_token, after.eos_token, after.pad_token) == (END, END, END)
    for text in TEXTS:
        ids = ours.encode(text).tolist()
        assert ids == before.encode(text, add_special_tokens=False).ids, text
        assert after(text).input_ids == [ours.end_id, *ids], text
        assert ours.decode(ids) == before.decode(ids, skip_special_tokens=False)
    assert [ids.tolist() for ids in ours.encode_batch(TEXTS)] == [ours.encode(text).tolist() for text in TEXTS]


def test_tokenizer_saved_by_qwen_class_is_imported(theirs: Path) -> None:
    spec = json.loads((theirs / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [tuple(pair) for pair in spec["merges"]]
    qwen = transformers.Qwen2Tokenizer(vocab=spec["vocab"], merges=merges)
    qwen.save_pretrained(theirs)
    assert len(qwen) > 500
    ours = import_model(theirs)[0].tokenizer
    assert (ours.end, ours.end_id) == (END, qwen.convert_tokens_to_ids(END))
    for text in TEXTS:
        assert ours.encode(text).tolist() == qwen(text, add_special_tokens=False).input_ids, text


def test_no_prompt_fails_and_what_is_written_streams_as_whole_text(imported: Path) -> None:
    generator = PlotGenerator.load(imported)
    assert generator.checkpoint.format.sentence("Mars") == "The plot of 'Mars' is:\n"
    for text in (*TEXTS, "\ud800", "{Title}"):
        plot = generator.plot(text[:200], seed=1, max_tokens=20)
        assert END not in plot.text
        assert "".join(generator.stream(text[:200], seed=1, max_tokens=20)) == plot.text


def test_it_comes_back_as_it_was_saved(imported: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(imported)
    assert isinstance(loaded.tokenizer, PretrainedTokenizer)
    save_checkpoint(tmp_path / "again", loaded)
    for path in imported.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    assert loaded.info["imported"] == {"from": str(imported.parent / "theirs"), "model_type": "qwen3"}


def test_training_goes_on_from_it_and_keeps_what_it_is(
    imported: Path, tmp_path: Path, plots_csv: Path, films_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["training.tokens_per_step=256", "training.compile=off", "training.evaluations=1", "windows.no_title=0"]
    command = ["train", str(films_toml), *settings, "--source", str(plots_csv), "--from", str(imported), "--out", "run"]
    assert main([*command, "--steps", "2"]) == 0
    before, after = load_checkpoint(imported), load_checkpoint("run")
    assert after.tokenizer.to_json() == before.tokenizer.to_json()
    assert after.model.config == before.model.config and after.format.end == END
    assert not torch.equal(after.model.model.norm.weight, before.model.model.norm.weight)
    ids = [after.tokenizer.end_id, *after.tokenizer.encode(TEXTS[2]).tolist()][:64]
    with torch.no_grad():
        torch.testing.assert_close(
            logits(tmp_path / "run" / "best", ids), after.model(torch.tensor([ids])), rtol=0, atol=1e-4
        )
    assert main(["generate", "--model", "run", "--title", "Mars", "--max-tokens", "5", "--seed", "1"]) == 0


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_model_of_ours_that_transformers_saved_comes_back(
    tiny_checkpoint: Callable[..., Checkpoint], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tiny_checkpoint(kind, header=HEADER, hints=("Decade",))
    save_checkpoint(tmp_path / "ours", ours)
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    theirs(["a batch", "of texts"], padding=True, truncation=True, max_length=4)
    theirs.save_pretrained(tmp_path / "theirs")
    assert not (tmp_path / "theirs" / "movieplotgpt.json").exists()
    capsys.readouterr()
    assert main(["generate", "--model", str(tmp_path / "theirs"), "--title", "Mars"]) == 1
    said = capsys.readouterr().err
    assert said == (
        f"movieplotgpt: {tmp_path}/theirs was saved by another program: it has no movieplotgpt.json; make it a model of "
        f"movieplotgpt: movieplotgpt import {tmp_path}/theirs -o FOLDER\n"
    )
    assert main(["import", str(tmp_path / "theirs"), "-o", str(tmp_path / "back")]) == 0
    back = load_checkpoint(tmp_path / "back")
    assert type(back.tokenizer) is type(ours.tokenizer) and back.tokenizer.to_json() == ours.tokenizer.to_json()
    assert (back.config, back.format, back.cleaning) == (ours.config, ours.format, ours.cleaning)
    for name, weight in ours.model.state_dict().items():
        assert torch.equal(back.model.state_dict()[name], weight)
    other, _ = import_model(tmp_path / "theirs", header="A recipe for '{Dish}':")
    assert (other.format.header, other.format.hints) == ("A recipe for '{Dish}':", ("Decade",))
    assert import_model(tmp_path / "theirs", header="")[0].format.header == ""
    with pytest.raises(ConfigError, match=r"has no special token '</s>'; it has END_OF_PLOT, <\|pad\|>$"):
        import_model(tmp_path / "theirs", end="</s>")
    rewrite(tmp_path / "theirs", movieplotgpt={"document_format": {"header": "no title"}})
    with pytest.raises(
        CheckpointError, match=r"config\.json is damaged \(movieplotgpt\); copy the model again, or take"
    ):
        import_model(tmp_path / "theirs")


# how others write a config


@pytest.mark.parametrize(
    "changes",
    [
        {"head_dim": ...},
        {"rope_theta": 1_000_000.0, "rope_parameters": ...},
        {"tie_word_embeddings": ...},
        {"torch_dtype": ..., "dtype": ...},
        {"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28},
        {"rope_scaling": None},
    ],
)
def test_what_a_config_leaves_out_or_writes_elsewhere_is_understood(theirs: Path, changes: dict[str, Any]) -> None:
    expected = import_model(theirs)[0].model.config
    rewrite(theirs, **changes)
    assert import_model(theirs)[0].model.config == expected
    assert expected.model_dump() == {
        "vocab_size": 576,
        "context_length": CONTEXT,
        "n_layer": 3,
        "n_embd": 48,
        "n_head": 4,
        "n_kv_head": 2,
        "head_dim": 16,
        "n_ff": 80,
        "rope_theta": 1_000_000.0,
        "norm_eps": 1e-5,
        "tie_embeddings": True,
    }


def test_the_context_is_at_most_the_model_s(theirs: Path) -> None:
    rewrite(theirs, max_position_embeddings=256)
    assert import_model(theirs)[0].model.config.context_length == 256
    with pytest.raises(ConfigError, match="reads 256 tokens at once; give context_length=256 or less"):
        import_model(theirs, context_length=257)


EXACTLY = ", which this network cannot say exactly; import a plain Qwen3"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "llama"}, "is a Llama, whose attention has no norms on queries and keys"),
        ({"model_type": "qwen2"}, "is a Qwen2, whose attention has biases"),
        ({"model_type": "gpt2"}, "is a gpt2 model"),
        ({"model_type": ...}, "is a None model"),
        ({"attention_bias": True}, "has biases in its attention (attention_bias)"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "scales its rotary positions (rope_scaling)"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, "scales its rotary positions (rope_scaling)"),
        ({"use_sliding_window": True, "sliding_window": 128}, "attends through a sliding window"),
        (
            {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
            "attends through a sliding window",
        ),
        ({"hidden_act": "gelu"}, "has the activation gelu"),
        ({"quantization_config": {"quant_method": "awq"}}, "has quantised weights"),
    ],
)
def test_another_network_is_refused_with_its_reason(theirs: Path, changes: dict[str, Any], said: str) -> None:
    rewrite(theirs, **changes)
    with pytest.raises(CheckpointError) as caught:
        import_model(theirs)
    assert str(caught.value) == f"{theirs} {said}{EXACTLY}"


# how others build a tokenizer


def change_tokenizer(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text(encoding="utf-8"))
    change(spec)
    path.write_text(json.dumps(spec), encoding="utf-8")


UNKNOWN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "pattern": (
        lambda spec: spec["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": "(a+)+$"}),
        "cuts words in a way that is not known here",
    ),
    "no words": (lambda spec: spec.update(pre_tokenizer={"type": "Whitespace"}), "cuts words in a way that is not kn"),
    "normalizer": (
        lambda spec: spec.update(normalizer={"type": "Lowercase"}),
        "normalises text in another way than NFC",
    ),
    "no BPE": (lambda spec: spec["model"].update(type="Unigram"), "is not a byte-level BPE tokenizer"),
    "suffix": (
        lambda spec: spec["model"].update(end_of_word_suffix="</w>"),
        "marks parts of words with a prefix or suf",
    ),
    "decoder": (lambda spec: spec.update(decoder={"type": "WordPiece"}), "is not a byte-level BPE tokenizer"),
    "a byte less": (
        lambda spec: spec["model"]["vocab"].pop("Ġ"),
        "lacks tokens for some bytes, so that some texts wou",
    ),
    "merges": (lambda spec: spec["model"]["merges"].append(["q", "q"]), "merges what is not in its vocabulary"),
    "same ids": (lambda spec: spec["model"]["vocab"].update(a=0), "numbers its tokens in no order"),
    "a gap": (
        lambda spec: spec["added_tokens"][-1].update(id=560),
        "gives its added token '</think>' an id out of order",
    ),
    "nothing": (lambda spec: spec.pop("model"), "is damaged ('model'); copy or download the model again"),
}


@pytest.mark.parametrize(("change", "said"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_a_tokenizer_of_another_kind_is_refused_with_its_reason(
    theirs: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    change_tokenizer(theirs, change)
    with pytest.raises(CheckpointError, match=rf"^{theirs}/tokenizer\.json {re.escape(said)}") as caught:
        import_model(theirs)
    assert "\n" not in str(caught.value)


def test_a_saved_tokenizer_that_was_changed_is_refused(imported: Path) -> None:
    whole = (imported / "tokenizer.json").read_text(encoding="utf-8")
    for change, _ in UNKNOWN.values():
        (imported / "tokenizer.json").write_text(whole, encoding="utf-8")
        change_tokenizer(imported, change)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json is not a tokenizer of movieplotgpt"):
            load_checkpoint(imported)


def test_merges_may_be_written_as_words(theirs: Path) -> None:
    expected = import_model(theirs)[0].tokenizer.to_json()
    change_tokenizer(theirs, lambda spec: spec["model"].update(merges=[" ".join(m) for m in spec["model"]["merges"]]))
    assert import_model(theirs)[0].tokenizer.to_json() == expected


def test_end_marker_can_be_named(theirs: Path) -> None:
    assert import_model(theirs, end="<|im_end|>")[0].tokenizer.end == "<|im_end|>"
    with pytest.raises(ConfigError) as caught:
        import_model(theirs, end="</s>")
    assert str(caught.value).endswith(
        "tokenizer.json has no special token '</s>'; it has <|endoftext|>, <|im_start|>, <|im_end|>, <think>, </think>"
    )
    change_tokenizer(theirs, lambda spec: spec["added_tokens"][0].update(content="<|text|>"))
    assert import_model(theirs)[0].tokenizer.end == "<|im_end|>", "the token that ends a sequence"
    (theirs / "tokenizer_config.json").unlink()
    with pytest.raises(
        ConfigError, match="names no token that ends a text; name one of its special tokens with end=TOKEN"
    ):
        import_model(theirs)


# the command


def test_the_command_says_what_it_made_and_how_to_go_on(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", "theirs", "-o", "ours"]) == 0
    assert capsys.readouterr() == (
        "ours: 0.1 M parameters, 1,024 tokens at once; fine-tuning takes about 0.0 GB: movieplotgpt train TEXT --from "
        "ours\n",
        "",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["theirs", "-o", "theirs"], "theirs exists already; name a new folder with --out"),
        (["theirs", "-o", "new", "--revision", "v1"], "--revision v1 is for hf:owner/repo; leave it out for theirs"),
        (["theirs", "-o", "new", "--header", "The plot is:"], "--header 'The plot is:' cannot be used: a header needs"),
        (["nowhere", "-o", "new"], "nowhere has no config.json; copy or download the model again"),
        (["hf:nobody", "-o", "new"], "hf:nobody names no repository; write hf:owner/repo"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_leaves_nothing(
    theirs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", *arguments]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith(f"movieplotgpt: {said}")
    assert not Path("new").exists()


def test_a_repository_of_the_hub_is_fetched_once(
    theirs: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(theirs, site.folder / "qwen" / "small")
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv(DOWNLOADED_FOLDER, str(tmp_path / "cache"))
    assert main(["import", "hf:qwen/small", "-o", str(tmp_path / "ours")]) == 0
    assert load_checkpoint(tmp_path / "ours").info["imported"]["from"] == "hf:qwen/small"
    site.asked.clear()
    assert main(["import", "hf:qwen/small", "-o", str(tmp_path / "again")]) == 0
    assert site.asked == []


# the memory of a real one

QWEN3_0_6B = ModelConfig(  # Qwen/Qwen3-0.6B, config.json
    vocab_size=151_936,
    context_length=CONTEXT,
    n_layer=28,
    n_embd=1024,
    n_head=16,
    n_kv_head=8,
    head_dim=128,
    n_ff=3072,
    rope_theta=1_000_000.0,
)


def test_memory_stated_for_qwen3(repository: Path) -> None:
    count = parameters(QWEN3_0_6B)
    assert count == 596_049_920, "what its model card counts"
    guide = (repository / "docs" / "weights.md").read_text(encoding="utf-8")
    for context in (256, CONTEXT):
        taken = training_bytes(QWEN3_0_6B, tokens_per_step=context)
        assert f"| {context:,} | {taken / 1e9:.1f} GB |" in guide
    assert f"{count / 1e6:.0f} M parameters take {16 * count / 1e9:.1f} GB" in guide
