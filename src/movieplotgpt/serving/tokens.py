"""Tokens as clients send and read them: prompts of token ids, kept as they are, and the bytes that each token stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from movieplotgpt.generation.plots import TokenProbability
from movieplotgpt.generation.prompts import Prompt, PromptForm
from movieplotgpt.generation.sampling import Chosen
from movieplotgpt.text.pieces import longest_header
from movieplotgpt.text.tokenizer import Tokenizer

BYTES = "bytes:"  # opens a token in a completion that is only a part of a character, as OpenAI has it


@dataclass(frozen=True)
class TokenPrompt(Prompt):
    """A prompt that was sent as ids: ``begun_ids`` are those of ``begun``, which other ids may spell as well.

    ``marker`` is the BOS token's text if the client sent that token, too.
    """

    begun_ids: tuple[int, ...] = ()
    marker: str = ""


def token_prompt(form: PromptForm, ids: Sequence[int]) -> TokenPrompt:
    """Return the prompt of ``ids``; a header is recognised where its ids are those of the training text."""
    tokenizer = form.tokenizer
    marked = bool(ids) and ids[0] == tokenizer.end_id
    own = [*ids[1:]] if marked else [*ids]
    header, _ = form.format.split_prompt(tokenizer.decode(own))
    header_ids = tokenizer.encode(header).tolist()
    if own[: len(header_ids)] != header_ids or len(header_ids) > longest_header(form.context_length):
        header, header_ids = "", []
    begun_ids = own[len(header_ids) :]
    return TokenPrompt(
        header,
        tokenizer.decode(begun_ids),
        form.format.title_in(header) if header else "",
        begun_ids=tuple(begun_ids),
        marker=tokenizer.end if marked else "",
    )


def prompt_ids(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """Return the ids of a prompt, without the BOS token."""
    begun = prompt.begun_ids if isinstance(prompt, TokenPrompt) else tokenizer.encode(prompt.begun).tolist()
    return [*tokenizer.encode(prompt.header).tolist(), *begun]


@dataclass(frozen=True)
class SpelledToken(TokenProbability):
    """A token with its own ``spelling`` in bytes, perhaps a part of a character, and those of ``others``."""

    spelling: bytes = b""
    other_spellings: tuple[bytes, ...] = ()


def spelled(
    tokenizer: Tokenizer, tokens: Sequence[TokenProbability], chosen: Sequence[Chosen]
) -> tuple[SpelledToken, ...]:
    """Return ``tokens``, made of ``chosen``, with their bytes."""
    return tuple(
        SpelledToken(
            token.text,
            token.logprob,
            token.others,
            tokenizer.token_bytes(each.id),
            tuple(tokenizer.token_bytes(id_) for id_, _ in each.others),
        )
        for token, each in zip(tokens, chosen, strict=True)
    )


def spellings(token: TokenProbability) -> list[bytes]:
    """Return the bytes of a token, then of the others in its place; of another server's tokens only the text is known."""
    if isinstance(token, SpelledToken):
        return [token.spelling, *token.other_spellings]
    return [text.encode() for text in (token.text, *(text for text, _ in token.others))]


def shown(spelling: bytes, prefix: str = "") -> str:
    """Return the text of a token's bytes; where they are not UTF-8, ``prefix`` and their hexadecimal escapes."""
    try:
        return spelling.decode()
    except UnicodeDecodeError:
        return prefix + "".join(f"\\x{byte:02x}" for byte in spelling)


def read_shown(text: str) -> bytes:
    """Return the bytes of a token that ``shown`` laid out with the prefix of completions."""
    if re.fullmatch(rf"{BYTES}(\\x[0-9a-f]{{2}})+", text):
        return bytes.fromhex(text.removeprefix(BYTES).replace("\\x", ""))
    return text.encode()
