"""Char, byte and BPE tokenizers with one interface, saved as a tokenizer.json that transformers loads as it is.

Every one of them holds all bytes of UTF-8, so that no text can fail, and two special tokens: the end marker, which is end
and beginning of sequence at once, and a pad token, which only other programs use. The ids:

    0           the end marker
    1 + b       the byte b, up to 0xFE
    256         the pad token <|pad|>, in place of the byte 0xFF, which UTF-8 never contains
    257 ..      char: the characters of the training text, by code point; bpe: what was merged, in the order learned

Either special token, spelled out in a text, is encoded as its one id, and decoded as it was spelled.

A tokenizer is its tokens and its merges; what the tokenizers library needs besides is fixed for each kind, so that a
tokenizer.json is one of ours if what is built anew from the two agrees with it.
"""

from __future__ import annotations

import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import tokenizers
from pydantic import Field
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from movieplotgpt import atomic
from movieplotgpt.config import Settings
from movieplotgpt.errors import ConfigError
from movieplotgpt.text.stream_decoder import StreamDecoder

Ids: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
Kind: TypeAlias = Literal["char", "byte", "bpe"]

PAD, PAD_ID = "<|pad|>", 256

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SURROGATES = re.compile("[\ud800-\udfff]")
_CHUNK = 1 << 16  # characters looked up at a time: their code points stay in the cache
_PIECE = 1 << 14  # characters of a long text that BPE takes as one
_BATCH = 256  # pieces in which BPE looks for new words at a time
_BAD_END = "the end marker {!r} cannot be distinguished from ordinary text; use one word such as 'END_OF_PLOT'"
_CUT = re.compile(r"\S(?=[ \n])")  # where GPT-2's pattern always starts a new word, whatever the context
_WORDS = re.compile(r"\s*\S+(?:[^\S \n]\s*\S*)*|\s+")  # a text cut at every such place


def _visible_bytes() -> Iterator[str]:
    """Yield GPT-2's character for each byte: itself where Latin-1 can show it, else the next one from U+0100 on."""
    stand_ins = itertools.count(0x100)
    for byte in range(256):
        shown = 0x21 <= byte <= 0x7E or (0xA1 <= byte <= 0xFF and byte != 0xAD)
        yield chr(byte if shown else next(stand_ins))


class CharSettings(Settings):
    """Every character of the training text is a token, and every other character is spelled in bytes."""

    kind: Literal["char"] = "char"

    def train(self, texts: Iterable[str], end: str) -> Tokenizer:
        """Take the characters of ``texts``, without those that only special tokens hold.

        Raises:
            ConfigError: ``end`` cannot be distinguished from ordinary text.
        """
        seen = np.zeros(0x110000, bool)
        for text in texts:
            for part in _ordinary(text, end):
                for points in _code_points(part):
                    seen[points] = True
        characters = [chr(point) for point in np.flatnonzero(seen)]
        return CharTokenizer([end, *CharTokenizer.byte_tokens, *characters])


class ByteSettings(Settings):
    """Every byte of the UTF-8 text is a token: the smallest vocabulary, the same for each corpus."""

    kind: Literal["byte"] = "byte"

    def train(self, texts: Iterable[str], end: str) -> Tokenizer:
        """Nothing is learned from ``texts``.

        Raises:
            ConfigError: ``end`` cannot be distinguished from ordinary text.
        """
        return ByteTokenizer([end, *ByteTokenizer.byte_tokens])


class BpeSettings(Settings):
    """Byte-level byte-pair encoding within GPT-2's words."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: int = Field(4096, ge=257, description="All tokens: bytes, two special ones, and what is merged.")

    def train(self, texts: Iterable[str], end: str) -> Tokenizer:
        """Merge the most frequent pairs of ``texts``; a short text has too few for the whole ``vocab_size``.

        Where there is nothing to merge, bytes are all it is: a ByteTokenizer.

        Raises:
            ConfigError: ``end`` cannot be distinguished from ordinary text.
        """
        check_end(end)
        learner = tokenizers.Tokenizer(models.BPE())
        learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - 1,
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        learner.train_from_iterator((part for text in texts for part in _ordinary(text, end)), trainer)
        tokens, merges = tokens_and_merges(json.loads(learner.to_str())["model"])
        tokenizer = BpeTokenizer if merges else ByteTokenizer
        return tokenizer([end, *tokenizer.byte_tokens, *tokens[256:]], merges)


TokenizerSettings = Annotated[CharSettings | ByteSettings | BpeSettings, Field(discriminator="kind")]


class Tokenizer(ABC):
    """Text to ids and back; immutable. ``decode(encode(s)) == s`` without lone surrogates, unless others' tokenizers normalise."""

    kind: ClassVar[Kind]
    byte_tokens: ClassVar[tuple[str, ...]]  # how the vocabulary writes each byte, and the pad token in place of 0xFF
    end: str  # the end marker
    end_id = 0  # end and start of sequence
    pad = PAD  # what other programs fill a batch with
    pad_id = PAD_ID

    def __init__(self, tokens: Sequence[str], merges: Sequence[tuple[str, str]] = ()) -> None:
        self.end, *others = tokens
        check_end(self.end, others)
        every_byte = (bytes([byte]) for byte in range(255))
        self._bytes = (self.end.encode(), *every_byte, PAD.encode(), *map(self._token_bytes, others[256:]))
        self._special = _special_tokens(self.end)
        self._pipeline = _pipeline(tokens, merges, by_characters=self.kind == "char")

    def save(self, folder: Path, *, model_max_length: int, chat_template: str | None = None) -> None:
        """Write tokenizer.json and tokenizer_config.json, from which transformers' AutoTokenizer loads it.

        ``chat_template`` is the Jinja template by which other programs turn messages into a prompt.

        Raises:
            StorageError: the disk refuses.
        """
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",  # without it transformers 5 silently takes a wrong class
            "bos_token": self.end,
            "eos_token": self.end,
            "pad_token": self.pad,
            "padding_side": "left",  # a text is continued at its right end
            "clean_up_tokenization_spaces": False,
            "model_max_length": model_max_length,
            **({"chat_template": chat_template} if chat_template else {}),
        }
        atomic.write_text(folder / "tokenizer.json", self.to_json())
        atomic.write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")

    def to_json(self) -> str:
        """The text of tokenizer.json; equal tokenizers have equal texts."""
        return self._pipeline.to_str(pretty=True)

    @property
    def vocab_size(self) -> int:
        """The number of ids; the largest is one less."""
        return len(self._bytes)

    @cached_property
    def longest_token(self) -> int:
        """The number of bytes in the longest token: n tokens spell at most n times as many characters."""
        return max(map(len, self._bytes))

    @property
    def dtype(self) -> type[np.uint16 | np.uint32]:
        """The smallest of uint16 and uint32 that holds each id."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def encode(self, text: str) -> Ids:
        """The ids of ``text``, with no BOS token; a special token in it becomes its one id."""
        text = well_formed(text)
        if self.end not in text and PAD not in text:
            return self._encode_part(text)
        special = {self.end: self.end_id, PAD: PAD_ID}
        parts = self._special.split(text)
        return np.concatenate(
            [np.array([special[part]], self.dtype) if part in special else self._encode_part(part) for part in parts]
        )

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """``encode`` of each text; bpe is several times faster here than text by text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of ``ids``, special tokens included; bytes that are not UTF-8 become U+FFFD.

        Ids without a token, which a padded embedding may draw, decode to nothing (as in transformers).
        """
        array = np.asarray(ids, np.int64)
        chunks = (array[start : start + _CHUNK].tolist() for start in range(0, len(array), _CHUNK))
        return b"".join(b"".join(map(self.token_bytes, chunk)) for chunk in chunks).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that ``token_id`` adds to a text, which may be part of a character."""
        assert token_id >= 0, f"{token_id} is not a token id"
        return self._bytes[token_id] if token_id < len(self._bytes) else b""

    def characters(self, text: str, ids: Ids) -> int:
        """Return how many characters of ``text`` its ``ids`` keep: all of them, but where others' tokenizers normalise it."""
        return len(text)

    def decoder(self) -> StreamDecoder:
        """A decoder for ids that come one by one."""
        return StreamDecoder(self.token_bytes)

    @staticmethod
    def replaced(text: str) -> dict[str, str]:
        """Return what ``encode`` replaces in ``text``: lone surrogates, which UTF-8 cannot hold, by U+FFFD."""
        return dict.fromkeys(_SURROGATES.findall(text), _REPLACEMENT)

    @abstractmethod
    def _encode_part(self, part: str) -> Ids:
        """The ids of a well-formed text without special tokens."""

    @staticmethod
    @abstractmethod
    def _token_bytes(token: str) -> bytes:
        """Return the bytes of a token after the 256 single bytes; raise KeyError if it is of another kind."""


class CharTokenizer(Tokenizer):
    """Characters by a look-up table over code points; those it lacks are spelled in bytes."""

    kind = "char"
    byte_tokens = (*(f"<0x{byte:02X}>" for byte in range(255)), PAD)

    def __init__(self, tokens: Sequence[str], merges: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(tokens, merges)
        self._id_of_point = np.zeros(0x110000, self.dtype)  # 0, the end marker's id, where the vocabulary has none
        self._id_of_point[[ord(token) for token in tokens[257:]]] = np.arange(257, len(tokens))

    def _encode_part(self, part: str) -> Ids:
        ids = np.empty(len(part), self.dtype)
        for start, points in enumerate(_code_points(part)):
            chunk = ids[start * _CHUNK : (start + 1) * _CHUNK]
            self._id_of_point.take(points, out=chunk, mode="clip")  # clip: straight into out, no buffer between
            if not chunk.all():
                return np.concatenate([*map(self._spell_missing, _code_points(part))])
        return ids

    def _spell_missing(self, points: npt.NDArray[np.uint32]) -> Ids:
        ids = self._id_of_point.take(points)
        missing = ids == 0
        n_bytes = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
        spelled = points[missing].tobytes().decode("utf-32-le").encode()
        ids = np.repeat(ids, np.where(missing, n_bytes, 1))
        ids[ids == 0] = _byte_ids(spelled)
        return ids

    @staticmethod
    def _token_bytes(token: str) -> bytes:
        return token.encode()


class ByteTokenizer(Tokenizer):
    """Bytes of UTF-8, which the vocabulary writes as GPT-2 does: each as one visible character."""

    kind: ClassVar[Kind] = "byte"
    byte_tokens = (*itertools.islice(_visible_bytes(), 255), PAD)

    def _encode_part(self, part: str) -> Ids:
        return _byte_ids(part.encode())

    @staticmethod
    def _token_bytes(token: str) -> bytes:
        return b"".join(map(BYTES_BY_SYMBOL.__getitem__, token))


class BpeTokenizer(ByteTokenizer):
    """Byte-pair encoding by the tokenizers library, which is given each different word once."""

    kind: ClassVar[Kind] = "bpe"

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """``encode`` of each text; the more in one call, the fewer words are new."""
        ids_of_word: dict[str, bytes] = {}
        pieces_of = [_pieces(well_formed(text)) for text in texts]
        pieces = list(itertools.chain.from_iterable(pieces_of))
        batches = (pieces[start : start + _BATCH] for start in range(0, len(pieces), _BATCH))
        runs = itertools.chain.from_iterable(self._encode_pieces(batch, ids_of_word) for batch in batches)
        return [np.concatenate(list(itertools.islice(runs, len(own)))) for own in pieces_of]

    def _encode_part(self, part: str) -> Ids:
        return self.encode_batch([part])[0]

    def _encode_pieces(self, pieces: list[str], ids_of_word: dict[str, bytes]) -> list[Ids]:
        words_of = [_WORDS.findall(piece) for piece in pieces]
        new = list(set(itertools.chain.from_iterable(words_of)) - ids_of_word.keys())
        for word, encoding in zip(new, self._pipeline.encode_batch_fast(new, add_special_tokens=False), strict=True):
            ids_of_word[word] = np.array(encoding.ids, self.dtype).tobytes()
        return [np.frombuffer(b"".join(map(ids_of_word.__getitem__, words)), self.dtype) for words in words_of]


BYTES_BY_SYMBOL = {symbol: bytes([byte]) for byte, symbol in enumerate(_visible_bytes())}


def agrees(theirs: Any, ours: Any) -> bool:
    """Return whether every setting in ``theirs`` also holds in ``ours``, ignoring the padding transformers last used."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return bool(theirs == ours)
    return all(
        key in ("padding", "truncation") or (key in ours and agrees(value, ours[key])) for key, value in theirs.items()
    )


def _pipeline(tokens: Sequence[str], merges: Sequence[tuple[str, str]], *, by_characters: bool) -> tokenizers.Tokenizer:
    """Build the same tokenizer in the tokenizers library: what is saved, and what BPE encodes with."""
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    pipeline = tokenizers.Tokenizer(models.BPE(ids, list(merges), byte_fallback=by_characters))
    if by_characters:
        pipeline.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    else:
        pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        pipeline.decoder = decoders.ByteLevel()
    end = tokens[0]
    special = [tokenizers.AddedToken(token, special=True, normalized=False) for token in (end, PAD)]
    pipeline.add_special_tokens(special)
    pipeline.post_processor = processors.TemplateProcessing(
        single=[end, "$A"], pair=[end, "$A", end, "$B:1"], special_tokens=[(end, 0)]
    )
    if pipeline.decode([0], skip_special_tokens=False) != end:
        raise ConfigError(_BAD_END.format(end))
    return pipeline


def check_end(end: str, others: Sequence[str] = ()) -> None:
    """No white space, which headers and pieces of text rely on; no colon or dollar, which the post-processor reads."""
    if not re.fullmatch("[^\\s:$\ud800-\udfff]+", end) or end in others:
        raise ConfigError(_BAD_END.format(end))


def tokens_and_merges(model: dict[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the vocabulary in the order of its ids, and the merges in the order learned."""
    ids = model["vocab"]
    return sorted(ids, key=ids.__getitem__), [(first, second) for first, second in model["merges"]]


def _special_tokens(end: str) -> re.Pattern[str]:
    """Return the pattern of the special tokens, the longer one first, as in the tokenizers library."""
    return re.compile(f"({'|'.join(map(re.escape, sorted((end, PAD), key=len, reverse=True)))})")


def _ordinary(text: str, end: str) -> list[str]:
    """The parts of ``text`` between special tokens."""
    return _special_tokens(end).split(well_formed(text))[::2]


def well_formed(text: str) -> str:
    """``text`` without lone surrogates, which no UTF-8 can hold."""
    return text if text.isascii() else _SURROGATES.sub(_REPLACEMENT, text)


def _code_points(text: str) -> Iterator[npt.NDArray[np.uint32]]:
    for start in range(0, len(text), _CHUNK):
        yield np.frombuffer(text[start : start + _CHUNK].encode("utf-32-le"), "<u4")


def _byte_ids(data: bytes) -> npt.NDArray[np.uint16]:
    return np.frombuffer(data, np.uint8).astype(np.uint16) + np.uint16(1)


def _pieces(text: str) -> list[str]:
    """Cut a long text in pieces whose ids, one after the other, are its ids."""
    cuts = [0]
    while found := _CUT.search(text, cuts[-1] + _PIECE):
        cuts.append(found.end())
    return [text[start:stop] for start, stop in itertools.pairwise([*cuts, len(text)])]
