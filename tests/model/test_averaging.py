"""The average is the elementwise mean, says what it is the mean of, and refuses what has no mean."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from movieplotgpt.engine.model_folder import FORMAT_VERSION
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.model import averaging
from movieplotgpt.model.averaging import average_checkpoints
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.text.tokenizer import BpeTokenizer

Make = Callable[..., Checkpoint]
REMEDY = "give models of the same dimensions, tokenizer and format"


def weights_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return checkpoint.model.state_dict()


def mean_of(checkpoints: Sequence[Checkpoint], weights: Sequence[float]) -> dict[str, Tensor]:
    """The oracle: every tensor stacked, multiplied and divided, in float64."""
    shares = torch.tensor(weights, dtype=torch.float64)
    stacked = {
        name: torch.stack([weights_of(each)[name].double() for each in checkpoints])
        for name in weights_of(checkpoints[0])
    }
    return {name: (torch.tensordot(shares, values, dims=1) / shares.sum()).float() for name, values in stacked.items()}


def assert_weights(checkpoint: Checkpoint, expected: dict[str, Tensor], *, rtol: float = 1e-6) -> None:
    assert weights_of(checkpoint).keys() == expected.keys()
    for name, value in weights_of(checkpoint).items():
        assert value.dtype == torch.float32, name
        torch.testing.assert_close(value, expected[name], rtol=rtol, atol=rtol / 100)


def changed(checkpoint: Checkpoint, **dimensions: Any) -> Checkpoint:
    """The same with other dimensions and fresh weights."""
    model = GPT(checkpoint.config.model_copy(update=dimensions)).eval()
    model.initialize(seed=1)
    return replace(checkpoint, model=model)


@pytest.mark.parametrize("weights", [None, [1, 1, 1], [0.1, 0.2, 0.7]])
def test_the_average_of_a_model_with_itself_is_that_model_to_the_bit(
    tiny_checkpoint: Make, weights: list[float] | None
) -> None:
    checkpoint = tiny_checkpoint("byte")
    average = average_checkpoints([checkpoint] * len(weights or "ab"), weights)
    assert_weights(average, weights_of(checkpoint), rtol=0)
    ids_BT = torch.arange(60)[None]
    with torch.no_grad():
        assert torch.equal(average.model(ids_BT), checkpoint.model(ids_BT))
    assert average.tokenizer.to_json() == checkpoint.tokenizer.to_json()
    assert (average.format, average.cleaning) == (checkpoint.format, checkpoint.cleaning)
    assert (average.model.config, average.model.training) == (checkpoint.config, False)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0], [1.0, 2.0, 1.0], [0.0, 5.0, 0.5], [2.0, -0.5, 0.25]])
def test_the_average_is_the_elementwise_mean(tiny_checkpoint: Make, weights: list[float] | None, tied: bool) -> None:
    checkpoints = [tiny_checkpoint("byte", seed=seed, n_kv_head=2) for seed in range(3)]
    if not tied:
        for seed, checkpoint in enumerate(checkpoints):
            checkpoints[seed] = changed(checkpoint, tie_embeddings=False)
            checkpoints[seed].model.initialize(seed)
    before = [{name: value.clone() for name, value in weights_of(each).items()} for each in checkpoints]
    average = average_checkpoints(checkpoints, weights)
    assert_weights(average, mean_of(checkpoints, weights or [1.0] * 3))
    assert (average.model.lm_head.weight is average.model.model.embed_tokens.weight) == tied
    for checkpoint, values in zip(checkpoints, before, strict=True):
        assert all(torch.equal(value, values[name]) for name, value in weights_of(checkpoint).items())
    assert all(weight.requires_grad and weight.is_leaf for weight in average.model.parameters())


def test_scaling_the_weights_changes_nothing(tiny_checkpoint: Make) -> None:
    checkpoints = [tiny_checkpoint("byte", seed=seed) for seed in range(2)]
    expected = weights_of(average_checkpoints(checkpoints, [1, 3]))
    for scale in (1e-300, 0.3, 1e300):
        assert_weights(average_checkpoints(checkpoints, [scale, 3 * scale]), expected)


def test_weights_in_half_precision_are_summed_in_full(tmp_path: Path, tiny_checkpoint: Make) -> None:
    checkpoints = [tiny_checkpoint("byte", seed=seed) for seed in range(2)]
    for number, checkpoint in enumerate(checkpoints):
        save_checkpoint(tmp_path / str(number), checkpoint, dtype=torch.bfloat16)
        checkpoint.model.bfloat16()
    assert_weights(average_checkpoints([tmp_path / "0", tmp_path / "1"]), mean_of(checkpoints, [1, 1]), rtol=0)
    assert_weights(average_checkpoints(checkpoints), mean_of(checkpoints, [1, 1]), rtol=0)


def test_one_model_at_a_time_is_loaded(tmp_path: Path, tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "model", tiny_checkpoint("byte"))
    loaded: list[weakref.ref[GPT]] = []

    def load(name: Path) -> Checkpoint:
        assert [model() for model in loaded if model() is not None] == [], "the one before is still in memory"
        checkpoint = load_checkpoint(name)
        loaded.append(weakref.ref(checkpoint.model))
        return checkpoint

    monkeypatch.setattr(averaging, "load_checkpoint", load)
    average_checkpoints([tmp_path / "model"] * 4)
    assert len(loaded) == 4


# what the average says of itself


def trained(checkpoint: Checkpoint, bits: float, **info: Any) -> Checkpoint:
    training: dict[str, Any] = {"step": 10, "tokens": 640, "validation_bits_per_character": bits, "seconds": 1.5}
    training |= {"device": "cpu", "precision": "float32", "threads": 1}
    about = {"corpus": {"hash": "abc"}, "settings": {"seed": 1}, "training": training, "evaluation": {"split": "test"}}
    return replace(checkpoint, info={**about, **info})


def test_average_records_its_members(tmp_path: Path, tiny_checkpoint: Make) -> None:
    for number, bits in enumerate((2.5, 2.25)):
        save_checkpoint(tmp_path / str(number), trained(tiny_checkpoint("byte", seed=number), bits))
    average = average_checkpoints([tmp_path / "0", str(tmp_path / "1")], [1, 3])
    assert average.info == {
        "corpus": {"hash": "abc"},
        "settings": {"seed": 1},
        "average": [
            {"name": str(tmp_path / "0"), "weight": 1, "step": 10, "validation_bits_per_character": 2.5},
            {"name": str(tmp_path / "1"), "weight": 3, "step": 10, "validation_bits_per_character": 2.25},
        ],
    }
    assert average.folder is None


def test_it_keeps_only_what_all_its_models_say(tiny_checkpoint: Make) -> None:
    one, other = trained(tiny_checkpoint("byte"), 2.5), trained(tiny_checkpoint("byte"), 2.5, settings={"seed": 2})
    assert average_checkpoints([one, other]).info.keys() == {"corpus", "average"}
    elsewhere = trained(tiny_checkpoint("byte"), 2.5, corpus={"hash": "def"})
    assert average_checkpoints([one, elsewhere]).info.keys() == {"settings", "average"}
    silent = replace(one, info={})
    for pair in ([one, silent], [silent, one]):
        assert average_checkpoints(pair).info.keys() == {"average"}


def test_an_average_can_be_averaged_and_then_names_its_own_parts(tmp_path: Path, tiny_checkpoint: Make) -> None:
    parts = [trained(tiny_checkpoint("byte", seed=seed), 2.0) for seed in range(3)]
    save_checkpoint(tmp_path / "two", average_checkpoints(parts[:2]))
    three = average_checkpoints([tmp_path / "two", parts[2]], [2, 1])
    assert_weights(three, mean_of(parts, [1, 1, 1]), rtol=1e-5)
    assert [member["name"] for member in three.info["average"]] == [str(tmp_path / "two"), "a model"]
    assert "validation_bits_per_character" not in three.info["average"][0]


def test_it_comes_back_as_it_was_saved(tmp_path: Path, tiny_checkpoint: Make) -> None:
    average = average_checkpoints([trained(tiny_checkpoint(seed=seed), 2.0) for seed in range(2)])
    save_checkpoint(tmp_path / "mean", average)
    loaded = load_checkpoint(tmp_path / "mean")
    assert_weights(loaded, weights_of(average), rtol=0)
    assert loaded.info == {**average.info, "format_version": FORMAT_VERSION}


# what has no mean


@pytest.mark.parametrize(
    ("models", "weights", "said"),
    [
        (0, None, "an average needs two models or more, not 0; name them one after the other"),
        (1, None, "an average needs two models or more, not 1; name them one after the other"),
        (1, [1], "an average needs two models or more, not 1; name them one after the other"),
        (2, [1], "2 models need 2 weights, not 1; give one for each, in their order"),
        (2, [1, 2, 1], "2 models need 2 weights, not 3; give one for each, in their order"),
        (2, [], "2 models need 2 weights, not 0; give one for each, in their order"),
        (2, [0, 0], "the weights 0, 0 sum to 0; their sum has to be a positive number"),
        (2, [1, -1.5], "the weights 1, -1.5 sum to -0.5; their sum has to be a positive number"),
        (2, [1, math.nan], "the weights 1, nan sum to nan; their sum has to be a positive number"),
        (2, [1, math.inf], "the weights 1, inf sum to inf; their sum has to be a positive number"),
    ],
)
def test_wrong_arguments_fail_before_loading(models: int, weights: list[float] | None, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        average_checkpoints(["nowhere"] * models, weights)
    assert str(caught.value) == said


def test_a_model_that_is_none_is_said(tmp_path: Path, tiny_checkpoint: Make) -> None:
    save_checkpoint(tmp_path / "model", tiny_checkpoint("byte"))
    with pytest.raises(CheckpointError, match=r"^there is no model 'nowhere'; "):
        average_checkpoints([tmp_path / "model", "nowhere"])


def with_other_merges(checkpoint: Checkpoint) -> Checkpoint:
    """The same tokens, the last two merges in the other order."""
    model = json.loads(checkpoint.tokenizer.to_json())["model"]
    *merges, first, second = [(a, b) for a, b in model["merges"]]
    return replace(checkpoint, tokenizer=BpeTokenizer(list(model["vocab"]), [*merges, second, first]))


UNLIKE: dict[str, tuple[str, Callable[[Checkpoint], Checkpoint], str]] = {
    "layers": ("byte", lambda plain: changed(plain, n_layer=3), "model.n_layer is 2 in the first and 3 in the second"),
    "width": ("byte", lambda plain: changed(plain, n_embd=48), "model.n_embd is 32 in the first and 48 in the second"),
    "context": (
        "byte",
        lambda plain: changed(plain, context_length=128),
        "model.context_length is 64 in the first and 128 in the second",
    ),
    "head": (
        "byte",
        lambda plain: changed(plain, tie_embeddings=False),
        "model.tie_embeddings is True in the first and False in the second",
    ),
    "no shape": (
        "byte",
        lambda plain: changed(plain, rope_theta=777.0),
        "model.rope_theta is 10000.0 in the first and 777.0 in the second",
    ),
    "format": (
        "byte",
        lambda plain: replace(plain, format=plain.format.model_copy(update={"hints": ("Genre",)})),
        "format.hints is () in the first and ('Genre',) in the second",
    ),
    "cleaning": (
        "byte",
        lambda plain: replace(plain, cleaning=plain.cleaning.model_copy(update={"ascii": False})),
        "cleaning.ascii is True in the first and False in the second",
    ),
    "merges": ("bpe", with_other_merges, "merge 141 is "),
}


@pytest.mark.parametrize(("kind", "change", "said"), UNLIKE.values(), ids=UNLIKE.keys())
def test_two_unlike_models_are_named_with_what_differs_first(
    tmp_path: Path, tiny_checkpoint: Make, kind: str, change: Callable[[Checkpoint], Checkpoint], said: str
) -> None:
    plain = tiny_checkpoint(kind)
    save_checkpoint(tmp_path / "a", plain)
    save_checkpoint(tmp_path / "b", change(plain))
    with pytest.raises(CheckpointError) as caught:
        average_checkpoints([tmp_path / "a", tmp_path / "a", tmp_path / "b"])
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'a'} and {tmp_path / 'b'} cannot be averaged: {said}")
    assert told.endswith(f"in the second; {REMEDY}") and "\n" not in told


def test_unlike_tokenizers_are_told_by_kind_size_and_first_token(tiny_checkpoint: Make) -> None:
    def words(one: Checkpoint, other: Checkpoint) -> str:
        with pytest.raises(CheckpointError) as caught:
            average_checkpoints([replace(one, folder=Path("a")), replace(other, folder=Path("b"))])
        return str(caught.value)

    char, bpe = tiny_checkpoint("char"), tiny_checkpoint("bpe")
    begin = "a and b cannot be averaged: "
    both = "in the first and {} in the second; " + REMEDY
    assert words(char, bpe) == f"{begin}tokenizer.kind is 'char' {both.format(repr('bpe'))}"
    tokens = [char.tokenizer.token_bytes(token_id).decode() for token_id in range(257, char.tokenizer.vocab_size)]
    tokenizer = type(char.tokenizer)
    head = [char.tokenizer.end, *char.tokenizer.byte_tokens]
    longer = replace(char, tokenizer=tokenizer([*head, *tokens, "é"]))
    ids = char.tokenizer.vocab_size
    assert words(char, longer) == f"{begin}tokenizer.vocab_size is {ids} {both.format(ids + 1)}"
    renamed = replace(char, tokenizer=tokenizer([*head, *tokens[:-1], "é"]))
    ours, theirs = repr(tokens[-1].encode()), repr("é".encode())
    assert words(char, renamed) == f"{begin}token {ids - 1} is {ours} {both.format(theirs)}"
    other_end = replace(char, tokenizer=tokenizer(["THE_END", *head[1:], *tokens]))
    end, the_end = repr(b"END_OF_PLOT"), repr(b"THE_END")
    assert words(char, other_end) == f"{begin}token 0 is {end} {both.format(the_end)}"


# the oracle


@pytest.mark.slow
def test_transformers_loads_the_average(tmp_path: Path, tiny_checkpoint: Make) -> None:
    transformers = pytest.importorskip("transformers")
    for number in range(2):
        save_checkpoint(tmp_path / str(number), tiny_checkpoint(seed=number))
    save_checkpoint(tmp_path / "mean", average_checkpoints([tmp_path / "0", tmp_path / "1"]))
    load = transformers.AutoModelForCausalLM.from_pretrained
    one, other, mean = (load(tmp_path / name, dtype=torch.float32).state_dict() for name in ("0", "1", "mean"))
    assert one.keys() == other.keys() == mean.keys() and len(mean) > 20
    for name, value in mean.items():
        torch.testing.assert_close(value, (one[name] + other[name]) / 2, rtol=1e-6, atol=1e-8)
    ours = load_checkpoint(tmp_path / "mean")
    ids_BT = torch.arange(60)[None]
    with torch.no_grad():
        logits = load(tmp_path / "mean", dtype=torch.float32)(ids_BT).logits
        torch.testing.assert_close(logits, ours.model(ids_BT), rtol=0, atol=1e-4)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "mean")("Ada").input_ids == [
        ours.tokenizer.end_id,
        *ours.tokenizer.encode("Ada"),
    ]
