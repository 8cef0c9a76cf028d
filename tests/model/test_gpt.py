"""The network is Qwen3's, and sees no future."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from movieplotgpt.engine.huggingface import huggingface_config
from movieplotgpt.model import gpt as module
from movieplotgpt.model.gpt import GPT, RMSNorm

Make: TypeAlias = Callable[..., GPT]
SomeIds: TypeAlias = Callable[..., torch.Tensor]
CONTEXT, VOCABULARY = 32, 50  # of tiny_model


def test_logits_are_those_of_transformers(dimensions: dict[str, Any], tiny_model: Make, some_ids: SomeIds) -> None:
    transformers = pytest.importorskip("transformers")
    model = tiny_model(**dimensions)
    theirs = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**huggingface_config(model.config, "float32")))
    theirs.load_state_dict(model.state_dict())
    ids_BT = some_ids(3, CONTEXT)
    with torch.no_grad():
        ours_BTV, theirs_BTV = model(ids_BT), theirs.eval()(ids_BT).logits
    torch.testing.assert_close(ours_BTV, theirs_BTV, rtol=0, atol=1e-4)
    assert ours_BTV.std() > 0.5


@torch.no_grad()
def test_attention_is_causal(dimensions: dict[str, Any], tiny_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = tiny_model(**dimensions), some_ids(1, CONTEXT)
    before_TV = model(ids_BT)[0]
    for place in (0, 1, 17, CONTEXT - 1):
        changed_BT = ids_BT.clone()
        changed_BT[0, place] = (changed_BT[0, place] + 1) % VOCABULARY
        moved_T = (model(changed_BT)[0] - before_TV).abs().amax(-1)
        assert (moved_T[:place] < 1e-6).all()
        assert (moved_T[place:] > 1e-4).all()


def test_no_gradient_reaches_back_from_the_future(tiny_model: Make) -> None:
    model, ids_BT = tiny_model(tie_embeddings=False), torch.arange(CONTEXT)[None]  # each token once: a row each
    for place in (0, 9, CONTEXT - 1):
        model.zero_grad()
        model(ids_BT)[0, place].square().sum().backward()
        gradient = model.model.embed_tokens.weight.grad
        assert gradient is not None
        reached_T = gradient[:CONTEXT].abs().sum(-1) > 0
        assert reached_T.tolist() == [at <= place for at in range(CONTEXT)]


@torch.no_grad()
def test_texts_of_a_batch_do_not_see_each_other(tiny_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = tiny_model(n_head=4), some_ids(4, CONTEXT)
    together = model(ids_BT)
    for row in range(4):
        torch.testing.assert_close(model(ids_BT[row : row + 1])[0], together[row], rtol=0, atol=1e-5)


def test_order_matters(tiny_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = tiny_model(), some_ids(1, 6)
    swapped_BT = ids_BT[:, [1, 0, 2, 3, 4, 5]]
    with torch.no_grad():
        assert (model(ids_BT)[0, -1] - model(swapped_BT)[0, -1]).abs().max() > 1e-3


def test_more_tokens_than_the_context_are_a_mistake_of_ours(tiny_model: Make, some_ids: SomeIds) -> None:
    model = tiny_model()
    with pytest.raises(AssertionError, match="33 tokens in a context of 32"):
        model(some_ids(1, CONTEXT + 1))


@torch.no_grad()
def test_dropout_is_off_in_evaluation_and_on_in_training(tiny_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = tiny_model(dropout=0.5), some_ids(2, CONTEXT)
    without = tiny_model()(ids_BT)
    assert torch.equal(model(ids_BT), without)
    model.train()
    torch.manual_seed(0)
    first, second = model(ids_BT), model(ids_BT)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(model(ids_BT), first)
    model.dropout = 0.0
    assert torch.equal(model(ids_BT), without)


@torch.no_grad()
def test_dropout_falls_on_what_each_block_adds(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Make, some_ids: SomeIds
) -> None:
    dropped: list[tuple[float, bool]] = []

    def spy(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
        dropped.append((p, training))
        return torch.zeros_like(x) if len(dropped) > 1 else x  # all that the blocks add, and not the embedding

    monkeypatch.setattr(F, "dropout", spy)
    model, ids_BT = tiny_model(dropout=0.25).train(), some_ids(1, 5)
    hidden = model.hidden(ids_BT)
    assert dropped == [(0.25, True)] * (1 + 2 * model.config.n_layer)
    torch.testing.assert_close(hidden, model.model.norm(model.model.embed_tokens(ids_BT)))


@torch.no_grad()
def test_a_document_in_a_shared_window_is_read_as_alone(tiny_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = tiny_model(), some_ids(2, CONTEXT)
    starts_BT = torch.zeros(2, CONTEXT, dtype=torch.int32)
    for place in (3, CONTEXT // 2):
        starts_BT[0, place:] = place
    packed = model.hidden(ids_BT, starts_BT)
    for start, stop in ((0, 3), (3, CONTEXT // 2), (CONTEXT // 2, CONTEXT)):
        alone = model.hidden(ids_BT[:1, start:stop])
        torch.testing.assert_close(packed[:1, start:stop], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed[1:], model.hidden(ids_BT[1:]), rtol=1e-4, atol=1e-5)
    others = ids_BT.clone()
    others[0, 3 : CONTEXT // 2] = 1
    assert torch.equal(model.hidden(others, starts_BT)[0, CONTEXT // 2 :], packed[0, CONTEXT // 2 :])


@pytest.mark.parametrize("tied", [True, False])
def test_initial_weights_are_a_function_of_the_seed(tied: bool, tiny_model: Make) -> None:
    first, again, other = (tiny_model(seed=draw, tie_embeddings=tied) for draw in (1, 2, 3))
    first.initialize(seed=7)
    torch.rand(5)  # the global generator has no part in it
    again.initialize(seed=7)
    other.initialize(seed=8)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    drawn = {name for name, value in first.state_dict().items() if not torch.equal(value, other.state_dict()[name])}
    constant = ("norm.weight", "o_proj.weight", "down_proj.weight")
    assert drawn == {name for name in first.state_dict() if not name.endswith(("layernorm.weight", *constant))}


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Memory that nobody has written to is NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("tied", [True, False])
def test_a_new_model_has_the_weights_of_its_seed(tied: bool, tiny_model: Make) -> None:
    config = tiny_model(tie_embeddings=tied).config
    for seed, model in ((0, GPT(config)), (5, GPT(config, seed=5))):
        drawn = GPT(config, seed=9)
        drawn.initialize(seed)
        assert all(torch.equal(value, drawn.state_dict()[name]) for name, value in model.state_dict().items())
        assert not any(value.isnan().any() for value in (*model.parameters(), *model.buffers()))


@torch.no_grad()
def test_initial_blocks_are_the_identity(tiny_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = tiny_model(n_layer=3), some_ids(2, CONTEXT)
    model.initialize(seed=1)
    x_BTC = model.model.embed_tokens(ids_BT)
    expected = x_BTC * torch.rsqrt(x_BTC.square().mean(-1, keepdim=True) + model.config.norm_eps)
    torch.testing.assert_close(model.hidden(ids_BT), expected)


def test_initial_scales(tiny_model: Make) -> None:
    model = tiny_model(vocab_size=512, n_embd=128, n_ff=400, tie_embeddings=False)
    model.initialize(seed=1)
    spread = {name: weight.std().item() for name, weight in model.matrices()}
    assert model.model.embed_tokens.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for matrix in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"):
        assert spread[f"0.{matrix}.weight"] == pytest.approx(128**-0.5, rel=0.05)


def test_the_initial_loss_is_that_of_knowing_nothing(tiny_model: Make, some_ids: SomeIds) -> None:
    model = tiny_model()
    model.initialize(seed=1)
    loss = model.loss(some_ids(4, CONTEXT), some_ids(4, CONTEXT, seed=1))
    assert loss.item() == pytest.approx(math.log(VOCABULARY), abs=0.1)


@given(counted=st.lists(st.booleans(), min_size=2 * CONTEXT, max_size=2 * CONTEXT).filter(any))
@settings(max_examples=20)
def test_loss_is_the_mean_over_the_targets_that_count(counted: list[bool], tiny_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = tiny_model(), some_ids(2, CONTEXT)
    targets_BT = some_ids(2, CONTEXT, seed=1)
    counts_BT = torch.tensor(counted).view(2, CONTEXT)
    with torch.no_grad():
        loss = model.loss(ids_BT, targets_BT.masked_fill(~counts_BT, -100))
        log_p_BTV = model(ids_BT).double().log_softmax(-1)
    nats_BT = -log_p_BTV.gather(-1, targets_BT[..., None])[..., 0]
    assert loss.item() == pytest.approx(nats_BT[counts_BT].mean().item(), rel=1e-5)


def test_a_target_that_does_not_count_has_no_gradient(tiny_model: Make) -> None:
    model, ids_BT = tiny_model(tie_embeddings=False), torch.arange(8)[None]
    targets_BT = torch.full((1, 8), -100)
    targets_BT[0, 2] = 5
    model.loss(ids_BT, targets_BT).backward()
    gradient = model.model.embed_tokens.weight.grad
    assert gradient is not None
    assert (gradient[:VOCABULARY].abs().sum(-1) > 0).tolist() == [at <= 2 for at in range(VOCABULARY)]


def test_products_in_bfloat16_stay_near_float32(tiny_model: Make, some_ids: SomeIds) -> None:
    ids_BT, targets_BT = some_ids(4, CONTEXT), some_ids(4, CONTEXT, seed=1)
    exact, rounded = tiny_model(n_kv_head=1), tiny_model(n_kv_head=1)
    rounded.compute_dtype = torch.bfloat16
    difference = rounded(ids_BT) - exact(ids_BT)
    assert 0 < difference.norm() < 0.03 * exact(ids_BT).norm()
    assert rounded(ids_BT).dtype == torch.float32
    assert rounded.hidden(ids_BT).dtype == torch.bfloat16
    losses = [model.loss(ids_BT, targets_BT) for model in (exact, rounded)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.01)
    for loss in losses:
        loss.backward()
    for ours, theirs in zip(rounded.parameters(), exact.parameters(), strict=True):
        assert ours.dtype == torch.float32
        assert ours.grad is not None and theirs.grad is not None
        assert ours.grad.dtype == torch.float32
        assert F.cosine_similarity(ours.grad.flatten(), theirs.grad.flatten(), 0) > 0.98


@torch.no_grad()
def test_a_norm_is_taken_in_float32_whatever_comes_in() -> None:
    norm, x_BTC = RMSNorm(32, 1e-6), torch.randn(50, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    norm.weight.add_(0.3)
    assert norm(x_BTC).dtype == torch.bfloat16
    assert torch.equal(norm(x_BTC), norm(x_BTC.float()).bfloat16())


def test_impossible_heads_are_refused(tiny_model: Make) -> None:
    with pytest.raises(ValueError, match="n_head 3 must be a multiple of n_kv_head 2"):
        tiny_model(n_head=3, n_kv_head=2)
    with pytest.raises(ValueError, match="head_dim 15 must be even"):
        tiny_model(head_dim=15)


def test_matrices_joined_in_one_product_are_each_alone(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Make, some_ids: SomeIds
) -> None:
    """As a GPU trains them: the same logits, the same gradients."""
    found = []
    for devices in ((), ("cpu",)):
        monkeypatch.setattr(module, "ONE_PRODUCT_ON", devices)
        model = tiny_model(n_kv_head=1)
        ids_BT = some_ids(2, 12)
        loss = model.loss(ids_BT, ids_BT)
        loss.backward()
        found.append([loss, *(weight.grad for weight in model.parameters())])
    for alone, joined in zip(*found, strict=True):
        torch.testing.assert_close(alone, joined, rtol=1e-4, atol=1e-6)
