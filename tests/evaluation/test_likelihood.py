"""Bits per character: the same number by brute force, whatever the tokenizer; and a lift only where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from movieplotgpt.evaluation.held_out import draw_documents
from movieplotgpt.evaluation.intervals import bits_per_character
from movieplotgpt.evaluation.likelihood import LikelihoodReport, evaluate, score_split
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.text.token_files import PreparedCorpus

CorpusOf = Callable[..., PreparedCorpus]
UntrainedOn = Callable[..., Checkpoint]


@torch.no_grad()
def nats_by_hand(checkpoint: Checkpoint, title: str, body: str) -> float:
    """Body and end token, one window and one token at a time, from the text."""
    tokenizer, context = checkpoint.tokenizer, checkpoint.config.context_length
    header = tokenizer.encode(checkpoint.format.sentence(title)).tolist()[-(context // 2) :]
    text = [*tokenizer.encode(body).tolist(), tokenizer.end_id]
    nats: list[float] = []
    while len(nats) < len(text):
        start = max(0, len(nats) - context // 4) if nats else 0
        window = [tokenizer.end_id, *header, *text[start : start + context - len(header)]]
        log_p = torch.log_softmax(checkpoint.model(torch.tensor([window[:-1]]))[0].double(), -1)
        each = [-log_p[at, token].item() for at, token in enumerate(window[1:])]
        nats += each[len(header) + len(nats) - start :]
    return sum(nats)


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_bits_per_character_by_brute_force(corpus_of: CorpusOf, untrained_on: UntrainedOn, kind: str) -> None:
    corpus = corpus_of(kind, folded=False)
    checkpoint, part = untrained_on(corpus), corpus.split("test")
    bodies = [corpus.tokenizer.decode(part.body(i)) for i in range(part.n_documents)]
    nats = np.array([nats_by_hand(checkpoint, title, body) for title, body in zip(part.titles, bodies, strict=True)])
    characters = np.array([len(body) for body in bodies])
    report = evaluate(checkpoint, corpus, others=0)
    assert report.bits_per_character == pytest.approx(nats.sum() / math.log(2) / characters.sum(), rel=1e-5)
    assert report.macro == pytest.approx(float((nats / math.log(2) / characters).mean()), rel=1e-5)
    assert report.interval and report.interval[0] < report.bits_per_character < report.interval[1]
    assert (report.documents, report.characters) == (len(bodies), characters.sum())
    assert report.title_lift is None and report.notes == ()
    assert LikelihoodReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.slow
@torch.no_grad()
def test_transformers_finds_the_same_nats(corpus_of: CorpusOf, untrained_on: UntrainedOn, tmp_path: Path) -> None:
    """Another implementation of the network, with its own tokenizer, on documents that fit into one context."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    corpus = corpus_of("bpe", folded=False)
    checkpoint, part = untrained_on(corpus), corpus.split("test")
    wide = checkpoint.config.model_copy(update={"context_length": 1024})
    model = GPT(wide).eval()
    model.load_state_dict(checkpoint.model.state_dict())
    checkpoint = replace(checkpoint, model=model)
    save_checkpoint(tmp_path / "m", checkpoint)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    nats = []
    for i, title in enumerate(part.titles):
        header = checkpoint.format.sentence(title)
        n_header = len(tokenizer(header)["input_ids"])  # the BOS token is one of them
        ids = tokenizer(header + corpus.tokenizer.decode(part.body(i)))["input_ids"] + [tokenizer.eos_token_id]
        assert len(ids) <= 1025
        log_p = torch.log_softmax(theirs(torch.tensor([ids[:-1]])).logits[0].double(), -1)
        each = -log_p.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        nats.append(float(each[n_header - 1 :].sum()))
    report = evaluate(checkpoint, corpus, others=0)
    assert report.document_bits == pytest.approx([each / math.log(2) for each in nats], abs=0.02)  # kept to 0.01


def test_uniform_model_costs_log_vocabulary(corpus_of: CorpusOf, untrained_on: UntrainedOn) -> None:
    corpus = corpus_of("char")
    checkpoint = untrained_on(corpus, spread=0.0)
    report = evaluate(checkpoint, corpus)
    each = math.log2(checkpoint.config.vocab_size)
    n, headers = report.documents, [len(corpus.split("test").sentence(i)) for i in range(report.documents)]
    assert report.tokens == report.characters + n
    assert report.bits_per_character == pytest.approx(each * report.tokens / report.characters, rel=1e-5)
    assert report.body_bits_per_character == pytest.approx(each, rel=1e-5)
    assert report.end_bits == pytest.approx(each, rel=1e-5)
    context = checkpoint.config.context_length
    assert report.header_bits == pytest.approx(each * np.mean([min(h, context // 2) for h in headers]), rel=1e-5)
    lift = report.title_lift
    assert lift and (lift.bits_per_character, lift.against_empty) == pytest.approx((0, 0), abs=1e-5)


@pytest.mark.parametrize("prepared_with", ["bpe", "byte"])
def test_a_corpus_of_another_tokenizer_gives_the_same_number(
    corpus_of: CorpusOf, untrained_on: UntrainedOn, prepared_with: str
) -> None:
    own = corpus_of("char", folded=False)
    checkpoint = untrained_on(own)
    expected, found = (evaluate(checkpoint, corpus) for corpus in (own, corpus_of(prepared_with, folded=False)))
    timed = {"seconds", "title_lift"}
    assert found.model_dump(exclude=timed) == expected.model_dump(exclude=timed)
    assert found.title_lift and expected.title_lift
    assert found.title_lift.bits_per_character == expected.title_lift.bits_per_character


def test_while_training_the_same_number_is_seen(corpus_of: CorpusOf, untrained_on: UntrainedOn) -> None:
    corpus = corpus_of("bpe")
    checkpoint, part = untrained_on(corpus), corpus.split("validation")
    scores = score_split(checkpoint.model, part, corpus.tokenizer.end_id)
    report = evaluate(checkpoint, corpus, split="validation", others=0)
    assert bits_per_character(scores.body, part.n_characters) == report.bits_per_character


def test_a_text_without_titles_has_no_lift(corpus_of: CorpusOf, untrained_on: UntrainedOn) -> None:
    corpus = corpus_of("byte", header="")
    report = evaluate(untrained_on(corpus), corpus)
    assert report.title_lift is None and report.header_bits is None
    assert report.prompt.startswith("none")


def test_other_rules_and_another_corpus_are_said(corpus_of: CorpusOf, untrained_on: UntrainedOn) -> None:
    checkpoint = untrained_on(corpus_of("char"))
    cleaning, corpus = evaluate(checkpoint, corpus_of("char", folded=False), others=0, documents=2).notes
    assert "other rules" in cleaning and "not comparable" in cleaning
    assert "another corpus or split" in corpus


def test_some_documents_are_drawn_by_the_seed(corpus_of: CorpusOf, untrained_on: UntrainedOn) -> None:
    corpus = corpus_of("byte")
    part, checkpoint = corpus.split("test"), untrained_on(corpus)
    rows = draw_documents(part, 4, seed=5)
    assert len(set(rows.tolist())) == 4 and rows.tolist() == sorted(rows.tolist())
    assert rows.tolist() != draw_documents(part, 4, seed=6).tolist()
    assert len(draw_documents(part, 10**6, seed=0)) == part.n_documents
    report = evaluate(checkpoint, corpus, documents=4, seed=5, others=0)
    assert report.characters == part.n_characters[rows].sum()


def test_progress_names_its_stages(corpus_of: CorpusOf, untrained_on: UntrainedOn) -> None:
    corpus = corpus_of("byte")
    told: dict[str, tuple[int, int]] = {}
    evaluate(untrained_on(corpus), corpus, others=2, progress=lambda stage, *done: told.update({stage: done}))
    assert list(told) == ["bits per character", "other titles 1", "other titles 2", "empty title"]
    assert all(done == total for done, total in told.values())
