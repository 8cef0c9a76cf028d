"""The head looks at the token before each, whatever the tokens are, and changes nothing else yet."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.model.gpt import GPT, Block, Places, rotate
from movieplotgpt.model.previous_token_head import add_previous_token_head

VOCABULARY, LENGTH = 200, 48
BASE = {"vocab_size": VOCABULARY, "context_length": LENGTH, "n_layer": 2, "n_embd": 128, "n_ff": 48}


def a_model(**dimensions: Any) -> GPT:
    model = GPT(ModelConfig(**{**BASE, "n_head": 2, "n_kv_head": 2, "head_dim": 64, **dimensions}))
    model.initialize(3)
    return model.eval()


def looks(model: GPT, head: int) -> torch.Tensor:
    """What share each position gives to each, by the first block's head, on tokens drawn: weights_TT."""
    block = model.model.layers[0]
    assert isinstance(block, Block)
    attention = block.self_attn
    ids_BT = torch.randint(VOCABULARY, (1, LENGTH), generator=torch.Generator().manual_seed(1))
    x_BTC = block.input_layernorm(model.model.embed_tokens(ids_BT))
    places = Places(model.cos_TD, model.sin_TD, None)
    q_BHTD = rotate(attention.q_norm(attention._heads(attention.q_proj(x_BTC)).transpose(1, 2)), places)
    k_BKTD = rotate(attention.k_norm(attention._heads(attention.k_proj(x_BTC)).transpose(1, 2)), places)
    scores_TT = (q_BHTD[0, head] @ k_BKTD[0, head // attention.group].mT) / model.config.head_dim**0.5
    return scores_TT.masked_fill(~torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril(), -torch.inf).softmax(-1)


@torch.no_grad()
@pytest.mark.parametrize(
    "dimensions", [{}, {"head_dim": 128, "n_head": 1, "n_kv_head": 1}, {"n_kv_head": 1}, {"rope_theta": 1e6}]
)
def test_the_first_head_looks_at_the_token_before(dimensions: dict[str, Any]) -> None:
    model = a_model(**dimensions)
    before = looks(model, 0)
    add_previous_token_head(model)
    weights_TT = looks(model, 0)
    previous = weights_TT.diagonal(-1)
    assert (weights_TT[1:].argmax(-1) == torch.arange(LENGTH - 1)).all()
    assert previous.mean() > 0.4 > 3 * before.diagonal(-1).mean()


@torch.no_grad()
def test_its_values_tell_tokens_apart_and_do_not_see_what_all_share() -> None:
    model = a_model()
    add_previous_token_head(model)
    block = model.model.layers[0]
    assert isinstance(block, Block)
    values_VD = block.self_attn.v_proj(block.input_layernorm(model.model.embed_tokens.weight))
    first_VD, second_VD = values_VD.split(64, dim=1)
    assert first_VD.mean(0).norm() < 0.2 * first_VD.norm(dim=1).mean()
    assert second_VD.mean(0).norm() > 0.5 * second_VD.norm(dim=1).mean()


@torch.no_grad()
def test_other_heads_and_blocks_are_as_they_were() -> None:
    plain, model = a_model(), a_model()
    add_previous_token_head(model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, plain.state_dict()[name])}
    first = "model.layers.0.self_attn"
    tied = {"model.embed_tokens.weight", "lm_head.weight"}
    assert changed == {*(f"{first}.{letter}_proj.weight" for letter in "qkv"), *tied}
    for projection in ("q_proj", "k_proj", "v_proj"):
        name = f"{first}.{projection}.weight"
        assert torch.equal(model.state_dict()[name][64:], plain.state_dict()[name][64:])
    ids_BT = torch.randint(VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model.hidden(ids_BT), model.model.norm(model.model.embed_tokens(ids_BT)))
