"""The template makes of a chat the prompt that the completion makes of its last title."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from movieplotgpt.generation.prompts import PromptForm
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.text.chat_template import chat_template

Make: TypeAlias = Callable[..., Checkpoint]
HEADER = "The plot of '{Title}', \"as told\", 50 % \\ }} is:"
KEYBOARD = "".join(map(chr, [*range(0x20, 0x7F), *b"\t\n\r", *range(0xA0, 0x180), *range(0x2010, 0x2028)]))


def rendered(checkpoint: Checkpoint, messages: list[dict[str, Any]], **more: Any) -> str:
    """What transformers makes of the messages."""
    template = chat_template(checkpoint.format, checkpoint.cleaning, checkpoint.tokenizer)
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    end = checkpoint.tokenizer.end
    return environment.from_string(template).render(messages=messages, bos_token=end, eos_token=end, **more)


def prompt_for(checkpoint: Checkpoint, asked: str) -> str:
    form = PromptForm(checkpoint)
    prompt = form.from_title(asked) if checkpoint.format.header else form.from_text(asked)
    return checkpoint.tokenizer.end + prompt.header + prompt.begun


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("header", [HEADER, ""])
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_the_last_user_message_is_the_completion_s_prompt(
    tiny_checkpoint: Make, kind: str, header: str, fold: bool
) -> None:
    checkpoint = tiny_checkpoint(kind, header=header, fold=fold, context_length=512)

    @given(asked=st.text(st.sampled_from(KEYBOARD), max_size=20))
    @example("Mars, Texas")
    @example("  The Lighthouse\n Keeper’s \t Daughter … ")
    @example("Amélie — “a film” END_OF_PLOT<|pad|>")
    @example("{{ bos_token }} '\\n' {% raw %}\r\n\rx   ")
    @example("")
    def same(asked: str) -> None:
        chat = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Another title"},
            {"role": "assistant", "content": "Another plot."},
            {"role": "user", "content": asked},
        ]
        assert rendered(checkpoint, chat, add_generation_prompt=True) == prompt_for(checkpoint, asked)
        parts = [{"type": "image"}, *({"type": "text", "text": half} for half in (asked[:3], asked[3:]))]
        assert rendered(checkpoint, [{"role": "user", "content": parts}]) == prompt_for(checkpoint, asked)

    same()


def test_white_space_of_any_kind_is_one_blank(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(fold=False, context_length=512)
    asked = "".join(f"{chr(point)}a" for point in range(0x3001) if chr(point).isspace())
    assert rendered(checkpoint, [{"role": "user", "content": asked}]) == prompt_for(checkpoint, asked)


def test_without_a_user_s_message_the_prompt_has_no_title(tiny_checkpoint: Make) -> None:
    for header in (HEADER, ""):
        checkpoint = tiny_checkpoint("byte", header=header, context_length=512)
        for messages in ([], [{"role": "system", "content": "Be brief."}], [{"role": "user", "content": None}]):
            assert rendered(checkpoint, messages) == prompt_for(checkpoint, "")


def test_assistant_messages_begin_the_text(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    chat = [{"role": "user", "content": "Mars"}, {"role": "assistant", "content": "A baker "}]
    begun = prompt_for(checkpoint, "Mars") + "A baker "
    assert rendered(checkpoint, chat, add_generation_prompt=True) == begun
    assert rendered(checkpoint, chat) == begun + checkpoint.tokenizer.end


def test_a_template_of_a_model_that_folds_nothing_is_short(tiny_checkpoint: Make) -> None:
    plain = tiny_checkpoint("char", header="", fold=False)
    assert len(chat_template(plain.format, plain.cleaning, plain.tokenizer)) < 1_200
