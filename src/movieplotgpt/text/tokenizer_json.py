"""Read a tokenizer.json of ours: find its class, and check that it is what that class would write.

Files of older versions have the byte 0xFF at the id of the pad token, and are read as if they had the pad token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.text.pretrained import read_own
from movieplotgpt.text.tokenizer import (
    PAD,
    PAD_ID,
    BpeTokenizer,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    agrees,
    tokens_and_merges,
)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer.json of a model folder.

    Raises:
        CheckpointError: it is missing, damaged, or was made by another program.
    """
    path = folder / "tokenizer.json"
    try:
        return _read_tokenizer(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{folder} has no tokenizer.json; name the folder of a model") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); name the folder of a model") from None
    except ValueError as error:
        raise CheckpointError(f"{path} {error}; copy or download the model again") from None


def _read_tokenizer(data: bytes) -> Tokenizer:
    """Read tokenizer.json; raise ValueError with what is wrong, worded to follow the name of the file.

    The tokenizers library aborts the whole process on some damaged files, so one is built from the vocabulary and compared.
    """
    try:
        spec = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is damaged ({error})") from None
    try:
        padded = _with_pad(spec)
        tokens, merges = tokens_and_merges(padded["model"])
        cls = BpeTokenizer if merges else CharTokenizer if tokens[1] == "<0x00>" else ByteTokenizer
        known = {*tokens}.issuperset(part for a, b in merges for part in (a, b, a + b))
        if known and tuple(tokens[1:257]) == cls.byte_tokens:
            tokenizer = cls(tokens, merges)
            whole = tokenizer.to_json()
            if whole.encode() == data or agrees(
                padded, json.loads(whole)
            ):  # as saved, or saved again by another library
                return tokenizer
    except (ConfigError, LookupError, TypeError, AttributeError, ValueError):
        pass  # of a form that none of ours has
    return read_own(spec)


def _with_pad(spec: dict[str, Any]) -> dict[str, Any]:
    """Return ``spec`` with the pad token where a file of an older version has the byte 0xFF."""
    vocabulary = spec["model"]["vocab"]
    old = next((symbol for symbol in ("<0xFF>", "\u00ff") if vocabulary.get(symbol) == PAD_ID), None)
    if old is None:
        return spec
    renamed = {PAD if token == old else token: token_id for token, token_id in vocabulary.items()}
    pad = {**spec["added_tokens"][0], "id": PAD_ID, "content": PAD}
    return {**spec, "added_tokens": [*spec["added_tokens"], pad], "model": {**spec["model"], "vocab": renamed}}
