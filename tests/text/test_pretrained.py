"""A tokenizer of others: what it normalises is not counted as text."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from tokenizers import normalizers

from movieplotgpt.config import build_settings
from movieplotgpt.text.prepare import PrepareSettings, prepare
from movieplotgpt.text.pretrained import PretrainedTokenizer
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.text.tokenizer import BpeSettings, Tokenizer

DECOMPOSED = unicodedata.normalize("NFD", "\u00c9lo\u00efse d\u00e9j\u00e0 vu: \u00e5ngstr\u00f6m, \uac01. ")
END = "END_OF_PLOT"


def normalising(normalizer: normalizers.Normalizer) -> PretrainedTokenizer:
    """A byte-level BPE of the tokenizers library that normalises what it reads."""
    made = tokenizers.Tokenizer.from_str(BpeSettings(vocab_size=300).train([DECOMPOSED * 5], END).to_json())
    made.normalizer = normalizer
    return PretrainedTokenizer(json.loads(made.to_str()), END)


def test_the_characters_that_are_kept_are_counted() -> None:
    tokenizer = normalising(normalizers.NFC())
    ids = tokenizer.encode(DECOMPOSED)
    kept = tokenizer.decode(ids)
    assert kept == unicodedata.normalize("NFC", DECOMPOSED) != DECOMPOSED
    assert tokenizer.characters(DECOMPOSED, ids) == len(kept) < len(DECOMPOSED)
    assert tokenizer.encode(kept).tolist() == ids.tolist()
    plain = BpeSettings(vocab_size=300).train([DECOMPOSED * 5], END)
    assert plain.characters(DECOMPOSED, plain.encode(DECOMPOSED)) == len(DECOMPOSED)


@pytest.mark.parametrize(
    "normalizer",
    [
        *(normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(), normalizers.Strip()),
        *(normalizers.Replace("a", "b"), normalizers.Sequence([normalizers.NFC(), normalizers.StripAccents()])),
    ],
    ids=str,
)
def test_other_normalisers_are_refused(normalizer: normalizers.Normalizer) -> None:
    with pytest.raises(ValueError, match="normalises text in another way than NFC"):
        normalising(normalizer)


def test_a_corpus_counts_what_its_tokens_keep(tmp_path: Path) -> None:
    settings = build_settings(PrepareSettings, {"corpus": {"kind": "plain"}})
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"{i} {DECOMPOSED * 8}" for i in range(60)), encoding="utf-8")
    counts = {}
    tokenizer: Tokenizer | None
    for name, tokenizer in (("own", None), ("others", normalising(normalizers.NFC()))):
        prepare(settings, text, tmp_path / name, tokenizer=tokenizer)
        corpus = PreparedCorpus.load(tmp_path / name)
        for split, known in corpus.manifest.splits.items():
            part = corpus.split(split)
            lengths = [len(corpus.tokenizer.decode(part.body(i))) for i in range(part.n_documents)]
            assert part.n_characters.tolist() == lengths and known.characters == sum(lengths)
        counts[name] = corpus.manifest.splits["train"].characters
    assert counts["others"] < 0.95 * counts["own"]
