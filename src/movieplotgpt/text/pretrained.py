"""A byte-level BPE tokenizer that others trained, such as Qwen's, kept as it is but for the end marker in front.

The tokenizers library aborts the process on some damaged files and may take for ever over a stranger's pattern, so only
what is understood here is built anew: vocabulary, merges, added tokens, NFC, and known ways of cutting words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from movieplotgpt.text.tokenizer import (
    BYTES_BY_SYMBOL,
    BpeTokenizer,
    Ids,
    agrees,
    check_end,
    well_formed,
)

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
NO_UTF_8 = {"\u00ff"}  # how a vocabulary writes the byte 0xFF, which no text contains
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = (  # how words are cut; all of them take a time that grows with the text and no faster
    _CONTRACTIONS + r"\p{N}" + _REST,  # Qwen 2 and 3
    _CONTRACTIONS + r"\p{N}{1,3}" + _REST,  # Llama 3, GPT-4
)


class PretrainedTokenizer(BpeTokenizer):
    """Built from a tokenizer.json's contents; ``end`` is the one of its added tokens that begins and ends a text."""

    def __init__(self, spec: dict[str, Any], end: str) -> None:
        check_end(end)
        self.end = end
        self._pipeline = _built(spec, end)
        ids = self._pipeline.get_vocab(with_added_tokens=True)
        self.end_id = ids[end]
        special = [token["content"] for token in spec["added_tokens"] if token["special"]]
        self.pad = next((token for token in special if "pad" in token.lower()), end)
        self.pad_id = ids[self.pad]
        spelled = [b""] * (max(ids.values()) + 1)
        for token, token_id in ids.items():
            spelled[token_id] = self._token_bytes(token)
        self._bytes = tuple(spelled)

    def encode(self, text: str) -> Ids:
        """The ids of ``text``, with no BOS token; an added token in it becomes its one id."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """``encode`` of each text."""
        found = self._pipeline.encode_batch_fast([*map(well_formed, texts)], add_special_tokens=False)
        return [np.array(encoding.ids, self.dtype) for encoding in found]

    def characters(self, text: str, ids: Ids) -> int:
        """Return how many characters of ``text`` its ``ids`` keep: NFC joins letters and marks, and what is gone is not predicted."""
        return len(self.decode(ids))

    @staticmethod
    def _token_bytes(token: str) -> bytes:
        """Words are written in symbols of bytes; what an added token holds besides is text."""
        if BYTES_BY_SYMBOL.keys() >= set(token):
            return b"".join(map(BYTES_BY_SYMBOL.__getitem__, token))
        return token.encode()


def read_own(spec: Any) -> PretrainedTokenizer:
    """Read what ``PretrainedTokenizer.to_json`` wrote; raise ValueError for anything else."""
    try:
        [end] = spec["post_processor"]["special_tokens"]
        tokenizer = PretrainedTokenizer(spec, end)
        if agrees(spec, json.loads(tokenizer.to_json())):
            return tokenizer
    except Exception:
        pass
    raise ValueError("is not a tokenizer of movieplotgpt")


def _built(spec: dict[str, Any], end: str) -> tokenizers.Tokenizer:
    """The same tokenizer, made of what is understood; raise ValueError with what is not, worded to follow the file's name."""
    model = spec["model"]
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback") or model.get("dropout"):
        raise ValueError("is not a byte-level BPE tokenizer")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ValueError("marks parts of words with a prefix or suffix, which byte-level BPE does not")
    vocabulary = model["vocab"]
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
    merges = [(first, second) for first, second in pairs]
    if not vocabulary.keys() >= BYTES_BY_SYMBOL.keys() - NO_UTF_8:
        raise ValueError("lacks tokens for some bytes, so that some texts would fail")
    if not vocabulary.keys() >= {part for a, b in merges for part in (a, b, a + b)}:
        raise ValueError("merges what is not in its vocabulary")
    added = {token["content"] for token in spec["added_tokens"]}
    if not all(BYTES_BY_SYMBOL.keys() >= set(token) for token in vocabulary.keys() - added):
        raise ValueError("has tokens that are spelled in no bytes")
    ids = set(vocabulary.values())
    if len(ids) < len(vocabulary) or not all(isinstance(i, int) and 0 <= i < 2 * len(ids) for i in ids):
        raise ValueError("numbers its tokens in no order")
    pipeline = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=bool(model.get("ignore_merges"))))
    if spec.get("normalizer") is not None:
        if spec["normalizer"] != {"type": "NFC"}:
            raise ValueError("normalises text in another way than NFC")
        pipeline.normalizer = normalizers.NFC()
    pipeline.pre_tokenizer = _words(spec["pre_tokenizer"])
    if spec["decoder"].get("type") != "ByteLevel":
        raise ValueError("is not a byte-level BPE tokenizer")
    pipeline.decoder = decoders.ByteLevel()
    for token in sorted(spec["added_tokens"], key=lambda token: token["id"]):
        flags = {flag: bool(token[flag]) for flag in _FLAGS}
        pipeline.add_tokens([AddedToken(token["content"], **flags)])
        if pipeline.token_to_id(token["content"]) != token["id"]:
            raise ValueError(f"gives its added token {token['content']!r} an id out of order")
    if end not in added:
        raise ValueError(f"has no special token {end!r} to end a text with")
    pipeline.post_processor = processors.TemplateProcessing(
        single=[end, "$A"], pair=[end, "$A", end, "$B:1"], special_tokens=[(end, pipeline.token_to_id(end))]
    )
    return pipeline


def _words(spec: Any) -> pre_tokenizers.PreTokenizer:
    """Return how words are cut, if that is known here."""
    steps = spec["pretokenizers"] if spec["type"] == "Sequence" else [spec]
    made: list[pre_tokenizers.PreTokenizer] = []
    for step in steps:
        isolated = step["type"] == "Split" and (step["behavior"], step["invert"]) == ("Isolated", False)
        if isolated and step["pattern"].get("Regex") in PATTERNS:
            made.append(pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), "isolated", invert=False))
        elif step["type"] == "Digits":
            made.append(pre_tokenizers.Digits(individual_digits=bool(step["individual_digits"])))
        elif step["type"] == "ByteLevel" and not step["add_prefix_space"]:
            trim, cut = bool(step.get("trim_offsets", True)), bool(step.get("use_regex", True))
            made.append(pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim, use_regex=cut))
        else:
            break
    if len(made) < len(steps) or not steps or steps[-1]["type"] != "ByteLevel":
        raise ValueError("cuts words in a way that is not known here")
    return made[0] if spec["type"] != "Sequence" else pre_tokenizers.Sequence(made)
