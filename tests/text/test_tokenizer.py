"""Laws of the tokenizers: nothing fails, nothing is lost, and transformers reads the same ids."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.text import tokenizer as module
from movieplotgpt.text.formatting import END_OF_PLOT, DocumentFormat
from movieplotgpt.text.tokenizer import (
    PAD,
    BpeSettings,
    BpeTokenizer,
    ByteSettings,
    ByteTokenizer,
    CharSettings,
    CharTokenizer,
    Tokenizer,
)
from movieplotgpt.text.tokenizer_json import load_tokenizer

TEXTS = [
    "A lighthouse keeper's daughter finds a map, and she's sure that it's the sea that drew it.\n\nShe'll go.",
    "The sheriff of a dry town reads old letters. He doesn't know who wrote them — “a friend”, they say.",
    "Café Zoë: the détective, née Łucja, can’t pay 1,200 zł.\r\n\tThe end?",
]
NOISE = "".join(
    random.Random(0).choices("ab.'\u00e9\u65e5s \n\t\r\x1c", k=20_000)
)  # so that BPE merges what stands beside white space
CHAR, BYTE = CharSettings().train(TEXTS, END_OF_PLOT), ByteSettings().train(TEXTS, END_OF_PLOT)
BPE = BpeSettings(vocab_size=600).train([*TEXTS, NOISE], END_OF_PLOT)
each_kind = pytest.mark.parametrize("tokenizer", [CHAR, BYTE, BPE], ids=lambda tokenizer: tokenizer.kind)

HOSTILE = [
    "",
    " ",
    "  two  spaces,   three",
    "\r\nlines\r\n\r\nend\n\n\n here\t\tand \t there \n",
    "a\x00b\x1c\x1d c\u0085d\u2028 e\u00a0f\u3000g\ufeff",
    "👩‍👩‍👧‍👦 🏴‍☠️ ok 😀",
    "映画のあらすじ。灯台 keeper",
    "e\u0301 Z\u0353\u0300alg\u0489o \u0301",
    f"{END_OF_PLOT}The sea{END_OF_PLOT}{END_OF_PLOT} END_OF_ PLOT xEND_OF_PLOTx END_OF_PLO",
    "<0x0A><0xC3>é<0xff> <unk> </s> <|endoftext|> Ġthe Ċ â",
    f"L'Haÿ <0xFF> ÿ{PAD}{PAD}x {PAD}{END_OF_PLOT} <|pad <|pad|<|pad|>|>",
    "'s 're 'LL I'Ve don't ''s",
    "١٢٣ ½ ² 1234567890 \U0010ffff\uffff\ufffd",
]
any_text = st.lists(st.text() | st.sampled_from([*HOSTILE, *TEXTS]), max_size=4).map("".join)


@each_kind
@given(text=any_text)
def test_decoding_gives_back_every_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids.dtype == tokenizer.dtype == np.uint16
    assert ids.ndim == 1
    assert tokenizer.decode(ids) == text


@each_kind
@given(texts=st.lists(any_text, max_size=4))
def test_a_batch_is_each_text_encoded(tokenizer: Tokenizer, texts: list[str]) -> None:
    together = [ids.tolist() for ids in tokenizer.encode_batch(texts)]
    assert together == [tokenizer.encode(text).tolist() for text in texts]


@each_kind
@given(text=any_text)
def test_ids_are_those_of_the_saved_pipeline(tokenizer: Tokenizer, text: str) -> None:
    saved = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    assert tokenizer.encode(text).tolist() == saved.encode(text, add_special_tokens=False).ids
    assert saved.encode(text).ids == [tokenizer.end_id, *tokenizer.encode(text)]


@each_kind
@given(original=st.text(st.characters() | st.characters(categories=["Cs"])))
@example("half \ud83d of \ude00 a pair \ud83d\ude00")
def test_lone_surrogates_become_the_replacement_character(tokenizer: Tokenizer, original: str) -> None:
    text = original
    replaced = tokenizer.replaced(text)
    assert set(replaced) == {character for character in text if "\ud800" <= character <= "\udfff"}
    for surrogate, instead in replaced.items():
        text = text.replace(surrogate, instead)
    assert tokenizer.replaced(text) == {}
    assert tokenizer.decode(tokenizer.encode(original)) == text
    assert tokenizer.decode(tokenizer.encode_batch([original])[0]) == text


@each_kind
@given(ids=st.lists(st.integers(0, 610), max_size=40))
def test_streaming_joins_to_the_whole(tokenizer: Tokenizer, ids: list[int]) -> None:
    decoder = tokenizer.decoder()
    assert "".join([*map(decoder.push, ids), decoder.finish()]) == tokenizer.decode(ids)


@each_kind
def test_streaming_never_yields_half_a_character(tokenizer: Tokenizer) -> None:
    decoder = tokenizer.decoder()
    pushed = [decoder.push(token_id) for token_id in tokenizer.encode("語😀")]
    assert [text for text in pushed if text] == ["語", "😀"]
    assert decoder.finish() == ""
    assert decoder.push(int(tokenizer.encode("語")[0])) == ""
    assert decoder.finish() == "\ufffd"


@each_kind
def test_order_of_the_vocabulary(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes(tokenizer.end_id) == END_OF_PLOT.encode()
    assert [tokenizer.token_bytes(1 + byte) for byte in range(255)] == [bytes([byte]) for byte in range(255)]
    assert (tokenizer.pad, tokenizer.pad_id, tokenizer.token_bytes(256)) == (PAD, 256, PAD.encode())
    assert tokenizer.encode(f"a{PAD}").tolist()[-1] == tokenizer.pad_id
    assert tokenizer.encode(f"a{END_OF_PLOT}").tolist()[-1] == tokenizer.end_id
    assert tokenizer.token_bytes(tokenizer.vocab_size) == b""


def test_every_character_of_the_training_text_is_one_token() -> None:
    characters = sorted(set("".join(TEXTS)))
    assert CHAR.vocab_size == 257 + len(characters)
    assert CHAR.encode("".join(characters)).tolist() == list(range(257, CHAR.vocab_size))
    assert CHAR.encode("日").tolist() == [1 + byte for byte in "日".encode()]


def test_the_end_marker_in_a_training_text_teaches_nothing() -> None:
    text = f"ab{END_OF_PLOT}{PAD}" * 3
    assert CharSettings().train([text], END_OF_PLOT).vocab_size == 257 + 2
    assert BpeSettings().train([text], END_OF_PLOT).vocab_size == 257 + 1


def test_bpe_has_as_many_tokens_as_asked_for_or_as_there_are_pairs() -> None:
    assert BPE.vocab_size == 600
    assert BpeSettings().train(["once"], END_OF_PLOT).vocab_size == 257
    assert BpeSettings(vocab_size=257).train(TEXTS, END_OF_PLOT).vocab_size == 257
    assert BpeSettings(vocab_size=5000).train(["aaab"] * 2, END_OF_PLOT).vocab_size < 265
    with pytest.raises(ValidationError, match="greater than or equal to 257"):
        BpeSettings(vocab_size=256)


def test_a_large_vocabulary_takes_four_bytes_an_id() -> None:
    characters = "".join(map(chr, range(0x10000, 0x20000)))
    tokenizer = CharSettings().train([characters], END_OF_PLOT)
    assert tokenizer.encode(characters).dtype == np.uint32
    assert tokenizer.decode(tokenizer.encode(characters)) == characters


@each_kind
def test_training_twice_gives_one_tokenizer(tokenizer: Tokenizer) -> None:
    by_kind: dict[str, CharSettings | ByteSettings | BpeSettings] = {
        "char": CharSettings(),
        "byte": ByteSettings(),
        "bpe": BpeSettings(vocab_size=600),
    }
    texts = [*TEXTS, NOISE] if tokenizer is BPE else TEXTS
    assert by_kind[tokenizer.kind].train(iter(texts), END_OF_PLOT).to_json() == tokenizer.to_json()


@pytest.mark.parametrize("end", ["", "two words", "line\n", "a:b", "$A", "\ud800"])
def test_an_end_marker_that_cannot_be_told_apart_is_refused(end: str) -> None:
    for settings in (CharSettings(), ByteSettings(), BpeSettings()):
        with pytest.raises(ConfigError, match="end marker"):
            settings.train(TEXTS, end)


def test_an_end_marker_that_is_written_as_a_byte_is_refused() -> None:
    for settings, end in (
        (CharSettings(), "<0x41>"),
        (ByteSettings(), "é"),
        (ByteSettings(), "A"),
        (BpeSettings(), "éé"),
    ):
        with pytest.raises(ConfigError, match="end marker"):
            settings.train(TEXTS, end)
    assert CharSettings().train(["終"], "終").decode([0]) == "終"


@given(st.lists(st.text(st.sampled_from("ab .\n\t\r\x1c'é日😀s"), max_size=30) | st.sampled_from(HOSTILE)).map("".join))
@example(NOISE)
def test_cutting_a_long_text_changes_no_id(text: str) -> None:
    whole = tokenizers.Tokenizer.from_str(BPE.to_json()).encode(text, add_special_tokens=False).ids
    assert BPE.encode(text).tolist() == whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PIECE", 1)
        patch.setattr(module, "_BATCH", 2)
        assert BPE.encode(text).tolist() == whole


@pytest.mark.parametrize("tokenizer", [CHAR, BYTE], ids=lambda tokenizer: tokenizer.kind)
def test_looking_up_in_chunks_changes_no_id(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [tokenizer.encode(text).tolist() for text in HOSTILE]
    monkeypatch.setattr(module, "_CHUNK", 2)
    assert [tokenizer.encode(text).tolist() for text in HOSTILE] == whole


@each_kind
@given(title=any_text, decade=any_text, body=any_text.map(str.lstrip))
def test_header_and_body_tokenize_alike_alone_and_together(
    tokenizer: Tokenizer, title: str, decade: str, body: str
) -> None:
    layout = DocumentFormat(header="The plot summary of the movie named '{Title}' is:", hints=("Decade",))
    lines = layout.header_lines(title, {"Decade": decade})
    alone = np.concatenate(tokenizer.encode_batch([*lines, body]))
    assert alone.tolist() == tokenizer.encode("".join(lines) + body).tolist()


def _of_an_older_version(tokenizer: Tokenizer) -> dict[str, Any]:
    """What was saved when the id 256 was the byte 0xFF, and no token a pad."""
    spec = _spec(tokenizer)
    byte = "<0xFF>" if tokenizer.kind == "char" else "ÿ"
    vocabulary = {byte if token == PAD else token: token_id for token, token_id in spec["model"]["vocab"].items()}
    return spec | {"added_tokens": spec["added_tokens"][:1], "model": spec["model"] | {"vocab": vocabulary}}


@each_kind
def test_a_file_of_an_older_version_gets_the_pad_token(tokenizer: Tokenizer, tmp_path: Path) -> None:
    old = _of_an_older_version(tokenizer)
    (tmp_path / "tokenizer.json").write_text(json.dumps(old), encoding="utf-8")
    assert load_tokenizer(tmp_path).to_json() == tokenizer.to_json()
    theirs = tokenizers.Tokenizer.from_str(json.dumps(old))
    for text in (text.replace(PAD, "") for text in [*HOSTILE, *TEXTS]):
        assert tokenizer.encode(text).tolist() == theirs.encode(text, add_special_tokens=False).ids
    (tmp_path / "tokenizer.json").write_text(_with(old, normalizer={"type": "Lowercase"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="is not a tokenizer of movieplotgpt"):
        load_tokenizer(tmp_path)


@each_kind
def test_loading_gives_the_tokenizer_that_was_saved(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "model", model_max_length=64)
    loaded = load_tokenizer(tmp_path / "model")
    assert type(loaded) is type(tokenizer)
    assert loaded.to_json() == tokenizer.to_json()
    assert (loaded.kind, loaded.end, loaded.vocab_size) == (tokenizer.kind, END_OF_PLOT, tokenizer.vocab_size)
    assert json.loads((tmp_path / "model" / "tokenizer_config.json").read_text()) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_PLOT,
        "eos_token": END_OF_PLOT,
        "pad_token": PAD,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 64,
    }


def test_bpe_without_merges_is_bytes(tmp_path: Path) -> None:
    tokenizer = BpeSettings(vocab_size=257).train(TEXTS, END_OF_PLOT)
    assert type(tokenizer) is ByteTokenizer
    tokenizer.save(tmp_path, model_max_length=64)
    assert type(load_tokenizer(tmp_path)) is ByteTokenizer


def _spec(tokenizer: Tokenizer) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(tokenizer.to_json())
    return spec


def _with(spec: dict[str, Any], **parts: Any) -> str:
    return json.dumps(spec | parts)


def _model(spec: dict[str, Any], **parts: Any) -> str:
    return _with(spec, model=spec["model"] | parts)


FOREIGN = {
    "no JSON": "{",
    "not UTF-8": b"\xff\xfe",
    "another thing": "[]",
    "cut short": BPE.to_json()[:-200],
    "a normalizer": _with(_spec(CHAR), normalizer={"type": "Lowercase"}),
    "no BOS token": _with(_spec(BPE), post_processor=None),
    "no special token": _with(_spec(BPE), added_tokens=[]),
    "another pre-tokenizer": _with(_spec(BPE), pre_tokenizer={"type": "Whitespace"}),
    "another model": _with(
        _spec(BPE), model={"type": "WordLevel", "vocab": {END_OF_PLOT: 0}, "unk_token": END_OF_PLOT}
    ),
    "a prefix that aborts the library": _model(_spec(BPE), continuing_subword_prefix="x"),
    "a merge of unknown tokens": _model(_spec(BPE), merges=[["語", "a"]]),
    "merges in an old form": _model(_spec(BPE), merges=["t h"]),
    "nesting without end": "[" * 100_000,
    "no vocabulary": _model(_spec(BPE), vocab=None),
    "half a character": _model(_spec(CHAR), vocab=_spec(CHAR)["model"]["vocab"] | {"\ud800": CHAR.vocab_size}),
    "dropout": _model(_spec(BPE), dropout=0.5),
    "a byte missing": _model(_spec(BYTE), vocab={END_OF_PLOT: 0, "a": 1}),
    "an empty vocabulary": _model(_spec(BYTE), vocab={}),
    "a hole in the ids": _model(_spec(CHAR), vocab=_spec(CHAR)["model"]["vocab"] | {"語": 9999}),
    "a long character": _model(_spec(CHAR), vocab=_spec(CHAR)["model"]["vocab"] | {"語語": CHAR.vocab_size}),
    "a symbol that is no byte": _model(_spec(BYTE), vocab=_spec(BYTE)["model"]["vocab"] | {"語": 257}),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_damaged_or_foreign_file_is_one_sentence(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match="copy or download") as raised:
        load_tokenizer(tmp_path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
            load_tokenizer(folder)
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tokenizer(tmp_path)


@pytest.mark.slow
def test_no_damage_of_a_file_escapes_as_another_error(tmp_path: Path) -> None:
    draw = random.Random(0)
    for tokenizer in (CHAR, BYTE, BPE):
        whole = tokenizer.to_json().encode()
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(draw.randint(1, 4)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            (tmp_path / "tokenizer.json").write_bytes(data)
            try:
                loaded = load_tokenizer(tmp_path)
            except CheckpointError:
                continue
            assert all(loaded.decode(loaded.encode(text)) == text for text in HOSTILE)


@pytest.mark.slow
@each_kind
@pytest.mark.parametrize("model_type", [None, "qwen3", "gpt2", "llama"])
def test_transformers_encodes_and_decodes_alike(tokenizer: Tokenizer, model_type: str | None, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path, model_max_length=64)
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.bos_token_id == theirs.eos_token_id == tokenizer.end_id
    assert (theirs.pad_token, theirs.pad_token_id, theirs.padding_side) == (PAD, tokenizer.pad_id, "left")
    assert len(theirs) == tokenizer.vocab_size
    draw = random.Random(1)
    mixed = ["".join(draw.choices([*HOSTILE, *TEXTS, *"ab \n'é日😀"], k=5)) for _ in range(200)]
    for text in [*HOSTILE, *TEXTS, *mixed]:
        ids = [tokenizer.end_id, *tokenizer.encode(text).tolist()]
        assert theirs(text, verbose=False)["input_ids"] == ids
        assert theirs.decode(ids) == tokenizer.decode(ids) == END_OF_PLOT + text
        assert theirs.decode(ids, skip_special_tokens=True) == re.sub(rf"{END_OF_PLOT}|{re.escape(PAD)}", "", text)


@pytest.mark.slow
def test_a_folder_saved_again_by_transformers_still_loads(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for tokenizer in (CHAR, BYTE, BPE):
        folder = tmp_path / tokenizer.kind
        tokenizer.save(folder, model_max_length=64)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        theirs(TEXTS, padding=True, truncation=True, max_length=8)
        theirs.save_pretrained(folder)
        assert load_tokenizer(folder).to_json() == tokenizer.to_json()


@pytest.mark.slow
def test_the_real_plots_come_back_whole(shared_data: Path) -> None:
    polars = pytest.importorskip("polars")
    plots = polars.read_csv(shared_data / "wiki_movie_plots_deduped.csv.gz")["Plot"].to_list()[::10]
    for settings in (CharSettings(), ByteSettings(), BpeSettings(vocab_size=1024)):
        tokenizer = settings.train(plots[:500], END_OF_PLOT)
        assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(plots)] == plots


def test_the_kinds_are_told_apart_by_class() -> None:
    assert [type(tokenizer) for tokenizer in (CHAR, BYTE, BPE)] == [CharTokenizer, ByteTokenizer, BpeTokenizer]
