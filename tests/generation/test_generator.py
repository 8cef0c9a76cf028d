from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from movieplotgpt.engine.model_config import Precision
from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import ConfigError, DataError, PromptError
from movieplotgpt.generation.decoding import write
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.rules import Endings
from movieplotgpt.generation.sampling import Chosen, History, choose
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import MAX_TOKENS, Seed, Writing
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.text.pieces import cut_pieces, overlap_for

Make = Callable[..., Checkpoint]
TITLES = ["Mars, Texas", "The Long Way to the Lighthouse", "", "Ada"]


@pytest.fixture
def checkpoint(tiny_checkpoint: Make) -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture
def generator(checkpoint: Checkpoint) -> PlotGenerator:
    return PlotGenerator(checkpoint)


def exact(checkpoint: Checkpoint) -> Engine:
    """An engine whose logits are those of the network, to rounding."""
    return Engine(checkpoint, precision="float32")


def never_ending(checkpoint: Checkpoint) -> Checkpoint:
    """The same model, whose end token is never the likeliest: its embedding is the head's row."""
    with torch.no_grad():
        checkpoint.model.model.embed_tokens.weight[checkpoint.tokenizer.end_id] = 0
    return checkpoint


def recomputed(checkpoint: Checkpoint, prompt: Prompt, config: SamplingConfig, seed: Seed, tokens: int) -> list[int]:
    """The oracle: no cache, the window fed anew for each token."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    context_length = model.config.context_length
    header, body = tokenizer.encode(prompt.header).tolist(), tokenizer.encode(prompt.begun).tolist()
    random, start = np.random.default_rng(seed), 0
    for _ in range(tokens):
        while 1 + len(header) + len(body) - start > context_length:
            start += context_length - len(header) - context_length // 4
        window = [tokenizer.end_id, *header, *body[start:]]
        with torch.no_grad():
            logits_V = model(torch.tensor([window]))[0, -1, : tokenizer.vocab_size].numpy()
        token_id = choose(logits_V, config, random, History(forbidden={tokenizer.pad_id})).id
        if token_id == tokenizer.end_id:
            break
        body.append(token_id)
    return list(body)


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_the_pad_token_is_never_written(tiny_checkpoint: Make, kind: str) -> None:
    checkpoint = never_ending(tiny_checkpoint(kind))
    pad = checkpoint.tokenizer.pad_id
    rows = checkpoint.model.model.embed_tokens.weight.data
    [request] = PlotGenerator(checkpoint).requests("", temperature=0, max_tokens=40, distinct_names=False)
    likeliest = recomputed(checkpoint, request.prompt, request.config, 0, 1)[0]
    rows[[pad, likeliest]] = rows[[likeliest, pad]]
    writing = PlotGenerator(checkpoint).writing(request)
    list(write(exact(checkpoint), [writing], checkpoint.tokenizer.vocab_size, room=1))
    assert writing.tokens == 40 and pad not in writing.body


@pytest.mark.parametrize("n_kv_head", [1, 2])
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 1.2, "top_k": 30}, {}])
def test_cached_generation_equals_recomputation(
    tiny_checkpoint: Make, n_kv_head: int, settings: dict[str, Any]
) -> None:
    checkpoint = never_ending(tiny_checkpoint(n_kv_head=n_kv_head))
    generator = PlotGenerator(checkpoint, precision="float32")
    config = SamplingConfig(seed=3, max_tokens=200, distinct_names=False, **settings)  # three contexts of 64
    [request] = generator.requests("Mars, Texas", sampling=config)
    writing = generator.writing(request)
    for _ in write(exact(checkpoint), [writing], checkpoint.tokenizer.vocab_size, room=2):
        pass
    expected = recomputed(checkpoint, request.prompt, config, request.drawn_by, 200)
    assert writing.body == expected
    assert len(expected) > 128
    text = generator.plot("Mars, Texas", sampling=config).text  # without half a character at the limit
    assert text.rstrip("\ufffd") == checkpoint.tokenizer.decode(expected).rstrip("\ufffd")


def test_long_beginning_uses_continuation_window(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("char", context_length=128)
    begun = "the baker hides a letter in the mill. " * 8
    writing = Writing(Prompt("Title\n", begun), checkpoint.tokenizer, 128, SamplingConfig(), seed=0)
    piece = cut_pieces(6, len(begun) + 1, 128, overlap_for(128))[-1]
    assert 0 < piece.start <= piece.new < len(begun) + 1 == piece.stop
    assert writing.window() == [0, *writing.headers[0], *writing.body[piece.start :]]
    assert len(writing.window()) <= 128


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_texts_written_together_are_those_written_alone(checkpoint: Checkpoint, precision: Precision) -> None:
    generator = PlotGenerator(never_ending(checkpoint), precision=precision)
    together = generator.plots(TITLES, n=2, seed=7, max_tokens=150)
    titles = [title for title in TITLES for _ in range(2)]
    alone = [generator.plot(title, seed=7 + i, max_tokens=150) for i, title in enumerate(titles)]
    assert together == alone
    assert len({plot.text for plot in together}) == len(together)


def test_texts_that_end_early_leave_the_others_as_they_are(generator: PlotGenerator) -> None:
    together = generator.plots("Ada", n=12, seed=0, max_tokens=80, stop=["e", "."])
    assert together == [generator.plot("Ada", seed=i, max_tokens=80, stop=["e", "."]) for i in range(12)]
    assert len({plot.tokens for plot in together}) > 3, "they all end at once: nothing was tested"


def test_more_texts_than_fit_at_once(generator: PlotGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generator.plots("Ada", n=5, seed=0, max_tokens=5)
    monkeypatch.setattr("movieplotgpt.generation.generator.TEXTS_AT_ONCE", 2)
    assert generator.plots("Ada", n=5, seed=0, max_tokens=5) == expected


def test_progress_counts_every_text_once(generator: PlotGenerator) -> None:
    told: list[tuple[int, int]] = []
    generator.plots(TITLES, n=2, seed=0, max_tokens=30, progress=lambda done, total: told.append((done, total)))
    assert told == [(i + 1, 2 * len(TITLES)) for i in range(2 * len(TITLES))]


def test_two_greedy_generations_are_identical(generator: PlotGenerator) -> None:
    first, second = (generator.plot("Mars", temperature=0, max_tokens=40) for _ in range(2))
    assert first.text == second.text
    assert first.seed != second.seed


def test_dropout_is_off_while_a_model_in_training_samples(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(dropout=0.5)
    expected = PlotGenerator(tiny_checkpoint()).plot("Mars", seed=1, max_tokens=40)
    checkpoint.model.train()
    assert PlotGenerator(checkpoint).plot("Mars", seed=1, max_tokens=40) == expected
    assert checkpoint.model.training


def test_no_gradients_are_kept(generator: PlotGenerator, checkpoint: Checkpoint) -> None:
    generator.plot("Mars", seed=1, max_tokens=3)
    assert torch.is_grad_enabled()
    assert all(weight.grad is None for weight in checkpoint.model.parameters())


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_stream_is_the_plot_in_pieces(tiny_checkpoint: Make, kind: str) -> None:
    generator = PlotGenerator(tiny_checkpoint(kind, context_length=128))
    for seed in range(5):
        stream = generator.stream("Mars", seed=seed, max_tokens=60)
        pieces = list(stream)
        assert all(pieces)
        assert stream.plot == generator.plot("Mars", seed=seed, max_tokens=60)
        assert "".join(pieces) == stream.plot.text


def test_the_plot_of_a_stream_reads_it_to_its_end(generator: PlotGenerator) -> None:
    stream = generator.stream("Mars", seed=1, max_tokens=20)
    next(stream)
    assert stream.plot == generator.plot("Mars", seed=1, max_tokens=20)


def test_what_the_prompt_had_begun_is_part_of_the_text(generator: PlotGenerator) -> None:
    sentence = generator.builder.form.format.sentence("Mars")
    stream = generator.stream(prompt=sentence + "A baker", seed=1, max_tokens=5)
    pieces = list(stream)
    assert pieces[0] == "A baker"
    assert stream.plot.prompt == sentence + "A baker"
    assert stream.plot.text.startswith("A baker")
    assert stream.plot.tokens == 5


def test_a_free_prompt_of_the_sentence_is_the_title(generator: PlotGenerator) -> None:
    prompt = "The plot summary of the movie named 'Mars, Texas' is: "
    assert generator.plot(prompt=prompt, seed=2, max_tokens=9) == generator.plot("Mars, Texas", seed=2, max_tokens=9)


def scripted(
    generator: PlotGenerator, text: str, *, stop: tuple[str, ...] = (), max_tokens: int = 10_000
) -> tuple[list[str], Writing]:
    """The pieces shown while ``text`` is written token by token, and the end token."""
    tokenizer = generator.checkpoint.tokenizer
    writing = Writing(Prompt(""), tokenizer, 64, SamplingConfig(max_tokens=max_tokens, stop=stop), seed=0)
    pieces = []
    for token_id in [*tokenizer.encode(text).tolist(), tokenizer.end_id]:
        if writing.finish_reason is None:
            pieces.append(writing.take(Chosen(token_id))[0])
    return pieces, writing


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@given(text=st.text("ab é", max_size=30), stop=st.lists(st.text("ab é", min_size=1, max_size=4), max_size=3).map(tuple))
@settings(max_examples=60)
def test_a_stop_string_is_found_across_tokens_and_never_begun(kind: str, text: str, stop: tuple[str, ...]) -> None:
    pieces, writing = scripted(GENERATORS(kind), text, stop=stop)
    first = min((end for end in (text.find(s) + len(s) for s in stop if s in text)), default=None)
    found = [text.find(s) for s in stop if s in text[:first]] if first is not None else []
    expected = text[: min(found)] if found else text
    assert "".join(pieces) == expected
    assert writing.finish_reason == "stop"
    for shown in itertools.accumulate(pieces):
        assert expected.startswith(shown)


def test_an_end_marker_spelled_letter_by_letter_ends_the_text() -> None:
    pieces, writing = scripted(GENERATORS("char"), "the end.")
    assert "".join(pieces) == "the end."
    tokenizer = GENERATORS("byte").checkpoint.tokenizer
    writing = Writing(Prompt(""), tokenizer, 64, SamplingConfig(), seed=0)
    spelled = b"Fin.\nEND_OF_PLOT more"
    shown = [writing.take(Chosen(byte + 1))[0] for byte in spelled if writing.finish_reason is None]
    assert "".join(shown) == "Fin.\n"
    assert writing.finish_reason == "stop"


def test_half_a_character_is_never_shown() -> None:
    pieces, writing = scripted(GENERATORS("byte"), "aé😀b")
    assert [piece for piece in pieces if piece] == ["a", "é", "😀", "b"]
    pieces, writing = scripted(GENERATORS("byte"), "aé😀b", max_tokens=5)  # in the middle of the emoji
    assert "".join(pieces) == "aé"
    assert writing.finish_reason == "length"


@pytest.mark.parametrize(
    ("text", "stop", "size"), [("abca", "abcd", 1), ("abc", "abcd", 3), ("x", "abcd", 0), ("", "a", 0)]
)
def test_what_may_be_the_begin_of_a_stop_string_is_held_back(text: str, stop: str, size: int) -> None:
    assert Endings((stop,)).begun(text) == size


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_what_is_banned_is_never_written_nor_begun_in_the_stream(tiny_checkpoint: Make, kind: str) -> None:
    generator = PlotGenerator(never_ending(tiny_checkpoint(kind, context_length=128)))
    free = [generator.plot("Mars", seed=seed, max_tokens=120).text for seed in range(4)]
    ascii_ = ["".join(filter(str.isascii, text)) for text in free]  # what a model that folds can be asked for
    banned = ["e", ascii_[0][10:13], ascii_[1][20:22]]
    for seed in range(4):
        stream = generator.stream("Mars", seed=seed, max_tokens=120, banned=banned)
        shown = list(itertools.accumulate(stream))
        assert not any(text in stream.plot.text for text in banned)
        assert all(stream.plot.text.startswith(text) for text in shown)
        assert stream.plot.tokens == 120 or stream.plot.finish_reason == "stop"
    assert generator.plots("Mars", n=4, seed=0, max_tokens=120, banned=banned) == [
        generator.plot("Mars", seed=seed, max_tokens=120, banned=banned) for seed in range(4)
    ]


def test_what_was_taken_back_leaves_no_trace_in_the_cache(tiny_checkpoint: Make) -> None:
    """Whatever was forbidden on the way, each token is the likeliest allowed one of a fresh computation."""
    checkpoint = never_ending(tiny_checkpoint(context_length=64))
    tokenizer, config = checkpoint.tokenizer, SamplingConfig(temperature=0, max_tokens=150)
    prompt = PlotGenerator(checkpoint).builder.form.from_title("Mars, Texas")
    random = np.random.default_rng(0)

    def wavering(chosen: Sequence[Chosen]) -> int:
        """Now and then up to nine tokens are taken back."""
        return int(random.integers(1, min(9, len(chosen)) + 1)) if random.random() < 0.1 else 0

    writing = Writing(prompt, tokenizer, 64, config, seed=0)
    writing.second_thoughts.tokens_to_take_back = wavering  # type: ignore[method-assign]
    for _ in write(exact(checkpoint), [writing], tokenizer.vocab_size, room=2):
        pass
    assert len(writing.body) == writing.tokens == 150 and writing.second_thoughts.count > 10
    again = Writing(prompt, tokenizer, 64, config, seed=0)
    for place, token_id in enumerate(writing.body):
        window = again.window()
        with torch.no_grad():
            logits_V = checkpoint.model(torch.tensor([window]))[0, -1, : tokenizer.vocab_size]
        order = logits_V.argsort(descending=True).tolist()
        forbidden = writing.second_thoughts.forbidden(place)
        assert token_id == next(i for i in order if i not in forbidden), place
        again.body.append(token_id)


class Memory:
    """An index that remembers one text, and finds it by searching."""

    def __init__(self, text: str) -> None:
        self.text = text

    def reaching_into(self, text: str, new: int) -> int:
        ends = range(len(text), len(text) - new, -1)
        return max((size for end in ends for size in range(end) if text[end - size : end] in self.text), default=0)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_copy_is_left_before_it_is_too_long(tiny_checkpoint: Make, kind: str) -> None:
    checkpoint = never_ending(tiny_checkpoint(kind, context_length=128))
    generator = PlotGenerator(checkpoint)
    free = generator.plot("Mars", temperature=0, max_tokens=200).text
    memory = Memory(free)
    generator.__dict__["copies"] = memory
    stream = generator.stream("Mars", temperature=0, max_tokens=200, avoid_copies=40)
    shown = list(itertools.accumulate(stream))
    text = stream.plot.text
    assert stream.plot.tokens == 200 and text != free
    assert memory.reaching_into(text, len(text)) < 40
    assert all(text.startswith(part) for part in shown)
    assert all(len(part) <= len(text) - 40 for part in shown[:-1])
    assert text[:4] == free[:4], "it is left where it gets long, not avoided from the start"


def test_an_index_is_needed_to_avoid_copies(generator: PlotGenerator) -> None:
    with pytest.raises(
        DataError, match="no copy index of the text this model was trained on is installed; name the corpus"
    ):
        generator.plot("Mars", avoid_copies=60)


def test_a_text_does_not_end_before_its_least_length(generator: PlotGenerator) -> None:
    soon = SamplingConfig(logit_bias={generator.checkpoint.tokenizer.end_id: 3.0}, min_p=None, max_tokens=40)
    lengths = [plot.tokens for plot in generator.plots("Mars", n=12, seed=0, sampling=soon)]
    at_least = [plot.tokens for plot in generator.plots("Mars", n=12, seed=0, sampling=soon, min_tokens=20)]
    assert min(lengths) < 20 <= min(at_least) < 40


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("One is here. Two is Dr. No and he. is there. Three comes.", "One is here. Two is Dr. No and he. is there."),
        ("One is here. They owe 3.5 million. Three comes.", "One is here. They owe 3.5 million."),
        ('One is here. He said "Go home." Three comes.', 'One is here. He said "Go home."'),
    ],
)
def test_a_text_ends_with_a_sentence_near_its_target(text: str, ended: str) -> None:
    tokenizer = GENERATORS("bpe").checkpoint.tokenizer
    writing = Writing(Prompt(""), tokenizer, 64, SamplingConfig(target_characters=20), seed=0)
    shown: list[str] = []
    for token_id in tokenizer.encode(text).tolist():
        assert (tokenizer.end_id in writing.history().forbidden) == (len("".join(shown)) < 10)
        if writing.finish_reason is None:
            shown.append(writing.take(Chosen(token_id))[0])
    assert ("".join(shown), writing.finish_reason) == (ended, "stop")
    assert tokenizer.decode([chosen.id for chosen in writing.chosen]) == ended


def test_a_target_has_the_tokens_it_needs(generator: PlotGenerator) -> None:
    assert generator.plot("Mars", seed=1, target_characters=3_000, stop="e").max_tokens == 1_500
    assert generator.plot("Mars", seed=1, target_characters=300, stop="e").max_tokens == MAX_TOKENS["bpe"]


@pytest.mark.parametrize("asked", ["stop", "banned"])
def test_nothing_is_told_that_may_yet_be_taken_back(asked: str) -> None:
    """While copies are avoided, also what stands early is found: a stop string, a banned text."""
    tokenizer = GENERATORS("byte").checkpoint.tokenizer
    config = SamplingConfig(avoid_copies=60, **{asked: "STOPHERE"})
    writing = Writing(Prompt(""), tokenizer, 64, config, seed=0, copies=Memory("no"))  # type: ignore[arg-type]
    shown, taken_back = "", 0
    for token_id in tokenizer.encode("x" * 50 + "STOPHERE" + "y" * 100).tolist():
        if writing.finish_reason is None:
            piece, back = writing.take(Chosen(token_id))
            shown, taken_back = shown + piece, taken_back + back
            assert len(shown) <= max(0, writing.tokens - 60) or writing.finish_reason
    assert (shown == "x" * 50 and writing.finish_reason == "stop") if asked == "stop" else taken_back == 1


def test_a_banned_text_is_found_across_the_border_of_what_was_begun() -> None:
    tokenizer = GENERATORS("char").checkpoint.tokenizer
    writing = Writing(Prompt("", "A th"), tokenizer, 64, SamplingConfig(banned="thief"), seed=0)
    assert [writing.take(Chosen(int(i)))[1] for i in tokenizer.encode("ief")] == [0, 0, 1]


def test_a_begin_that_is_copied_does_not_hinder_what_follows() -> None:
    tokenizer = GENERATORS("byte").checkpoint.tokenizer
    source = "The harbour keeper finds a letter in the mill and hides it. " * 3
    config = SamplingConfig(avoid_copies=60)
    writing = Writing(Prompt("", source[:100]), tokenizer, 64, config, seed=0, copies=Memory(source))  # type: ignore[arg-type]
    taken = [writing.take(Chosen(int(i)))[1] for i in tokenizer.encode(source[100:150] + "#!" * 40)]
    assert not any(taken)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_what_must_be_mentioned_comes_up(tiny_checkpoint: Make, kind: str) -> None:
    generator = PlotGenerator(tiny_checkpoint(kind, context_length=128))
    wishes = "Quentin, harbour"
    blanks = {int(generator.checkpoint.tokenizer.encode(" ")[0]): 3.0}  # who has learnt nothing writes few words
    for seed in range(3):
        stream = generator.stream("Mars", seed=seed, max_tokens=900, must_mention=wishes, logit_bias=blanks)
        assert "".join(stream) == stream.plot.text
        assert "quentin" in stream.plot.text.casefold() and "harbour" in stream.plot.text.casefold()
        assert stream.plot.finish_reason != "unmet"
    assert generator.plot("Mars", seed=1, max_tokens=4, must_mention=wishes).finish_reason == "unmet"
    begun = generator.plot("Mars", begin="Quentin loves the Harbour.", seed=1, max_tokens=30, must_mention=wishes)
    assert begun.text == generator.plot("Mars", begin="Quentin loves the Harbour.", seed=1, max_tokens=30).text


@pytest.mark.parametrize(
    ("text", "wish", "met"),
    [
        ("Ben Party", "art", False),
        ("The Art, he says", "art", True),
        ("detectives", "detective", True),
        ("Partha", "part", False),
    ],
)
def test_a_wish_is_a_word(text: str, wish: str, met: bool) -> None:
    tokenizer = GENERATORS("char").checkpoint.tokenizer
    writing = Writing(Prompt("", text), tokenizer, 64, SamplingConfig(must_mention=wish), seed=0)
    assert writing.unmentioned() == ([] if met else [wish])


def test_a_wish_behind_the_stop_string_is_not_met() -> None:
    tokenizer = GENERATORS("char").checkpoint.tokenizer
    config = SamplingConfig(must_mention="Paris", stop="#")
    writing = Writing(Prompt(""), tokenizer, 64, config, seed=0)
    for token_id in tokenizer.encode("Ada sleeps#"):
        writing.take(Chosen(int(token_id)))
    assert writing.finish_reason == "unmet"


def test_a_wish_is_spelled_as_the_model_spells(tiny_checkpoint: Make) -> None:
    generator = PlotGenerator(tiny_checkpoint("char"))  # it folds
    blanks = {int(generator.checkpoint.tokenizer.encode(" ")[0]): 3.0}
    plot = generator.plot("Mars", seed=0, max_tokens=900, must_mention=["h\u00e4ven"], logit_bias=blanks)
    assert "haven" in plot.text
    unfolded = PlotGenerator(tiny_checkpoint("char", fold=False))
    with pytest.raises(
        PromptError, match="this model has no letters for '\u6f22', which must be mentioned; leave it out"
    ):
        unfolded.plot("Mars", must_mention="\u6f22")
    assert SamplingConfig(must_mention=", a,,b ,").must_mention == ("a", "b")


def test_each_token_is_told_with_its_probability(checkpoint: Checkpoint) -> None:
    generator = PlotGenerator(checkpoint, precision="float32")
    plot = generator.plot("Mars", seed=1, max_tokens=30, logprobs=2)
    assert "".join(token.text for token in plot.probabilities) == plot.text
    assert len(plot.probabilities) == plot.tokens
    prompt = generator.builder.form.from_title("Mars")
    ids = checkpoint.tokenizer.encode(prompt.header).tolist()
    with torch.no_grad():
        first_V = checkpoint.model(torch.tensor([[0, *ids]]))[0, -1, : checkpoint.tokenizer.vocab_size].log_softmax(-1)
    assert [value for _, value in plot.probabilities[0].others] == pytest.approx(
        first_V.topk(2).values.tolist(), abs=1e-5
    )
    assert generator.plot("Mars", seed=1, max_tokens=30).text == plot.text


def test_padding_ids_are_never_drawn(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("byte")
    vocab_size = checkpoint.tokenizer.vocab_size
    assert checkpoint.config.vocab_size > vocab_size
    with torch.no_grad():
        checkpoint.model.model.embed_tokens.weight[vocab_size:] = 100 * checkpoint.model.model.embed_tokens.weight[:1]
    config = SamplingConfig(temperature=5, min_p=None, max_tokens=60)
    writing = Writing(Prompt("a\n"), checkpoint.tokenizer, 64, config, seed=0)
    for _ in write(exact(checkpoint), [writing], vocab_size, room=2):
        pass
    assert max(writing.body) < vocab_size


def test_reason_tokens_and_limit_agree(tiny_checkpoint: Make) -> None:
    checkpoint = never_ending(tiny_checkpoint())
    generator = PlotGenerator(checkpoint)
    cut = generator.plot("Mars", seed=0, max_tokens=7)
    assert (cut.finish_reason, cut.tokens, cut.max_tokens) == ("length", 7, 7)
    with torch.no_grad():
        checkpoint.model.model.norm.weight.zero_()  # all logits tie, and greedy takes the end token
    ended = generator.plot("Mars", temperature=0)
    assert (ended.finish_reason, ended.tokens, ended.text, ended.max_tokens) == ("stop", 0, "", MAX_TOKENS["bpe"])


def test_a_plot_prints_as_its_text(generator: PlotGenerator) -> None:
    plot = generator.plot("Mars", seed=0, max_tokens=5)
    assert str(plot) == plot.text


def test_an_empty_prompt_starts_from_the_begin_token(tiny_checkpoint: Make) -> None:
    generator = PlotGenerator(tiny_checkpoint(header=""))
    assert generator.plot(seed=0, max_tokens=5).prompt == ""
    assert generator.plot(prompt="", seed=0, max_tokens=5) == generator.plot(seed=0, max_tokens=5)


def test_fields_by_name_replace_those_of_the_config(generator: PlotGenerator) -> None:
    config = SamplingConfig(seed=1, max_tokens=4)
    assert generator.plot("Mars", sampling=config, max_tokens=9).max_tokens == 9
    assert generator.plot("Mars", sampling=config) == generator.plot("Mars", seed=1, max_tokens=4)
    assert config.max_tokens == 4


def test_wrong_requests_say_what_is_right(generator: PlotGenerator) -> None:
    with pytest.raises(ConfigError, match="did you mean temperature"):
        generator.plot("Mars", temprature=1)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="top_k"):
        generator.stream("Mars", top_k=0)
    with pytest.raises(PromptError, match=r"plots\(\[title\], n=3\)"):
        generator.plot("Mars", n=3)
    with pytest.raises(PromptError, match="a free prompt is whole, and title cannot be added"):
        generator.plot("Mars", prompt="Once")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@given(text=st.text(st.characters(), max_size=200), seed=st.integers(0, 9))
@settings(max_examples=60)
def test_no_prompt_fails(kind: str, text: str, seed: int) -> None:
    generator = GENERATORS(kind)
    for plot in (
        generator.plot(text, seed=seed, max_tokens=4),
        generator.plot(prompt=text, seed=seed, max_tokens=4),
        generator.plot(prompt="The plot summary of the movie named 'A' is:\n" + text, seed=seed, max_tokens=4),
    ):
        plot.text.encode()
        assert "END_OF_PLOT" not in plot.text


def test_a_title_of_10_000_characters_and_an_emoji(generator: PlotGenerator) -> None:
    assert generator.plot("x" * 10_000, seed=0, max_tokens=3).tokens <= 3
    assert generator.plot("😀", seed=0, max_tokens=3).changes[0] == "😀→:grinning:"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize("n_kv_head", [1, 2])
def test_transformers_writes_the_same_greedy_text(
    tiny_checkpoint: Make, tmp_path: Any, kind: str, n_kv_head: int
) -> None:
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path / "model", tiny_checkpoint(kind, n_kv_head=n_kv_head, context_length=256))
    generator = PlotGenerator.load(tmp_path / "model", precision="float32")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for title in TITLES:
        prompt = generator.builder.form.from_title(title)
        greedy = SamplingConfig(temperature=0, max_tokens=60)
        ours = Writing(prompt, generator.checkpoint.tokenizer, 256, greedy, seed=0)
        for _ in write(generator.engine(), [ours], generator.checkpoint.tokenizer.vocab_size, room=2):
            pass
        inputs = tokenizer(prompt.header, return_tensors="pt")
        output_BT = model.generate(inputs.input_ids, do_sample=False, max_new_tokens=60)
        theirs = output_BT[0, inputs.input_ids.shape[1] :].tolist()
        assert theirs[: len(ours.body)] == ours.body  # ids: of bytes that are no UTF-8 each makes its own text
        assert len(ours.body) == 60 or theirs[len(ours.body)] == tokenizer.eos_token_id


class _Generators(dict[str, PlotGenerator]):
    """One generator per kind, made when it is first needed: what hypothesis draws for needs no fixture."""

    def __call__(self, kind: str) -> PlotGenerator:
        return self[kind]


GENERATORS = _Generators()


@pytest.fixture(autouse=True)
def _make_generators(tiny_checkpoint: Make) -> None:
    for kind in ("char", "byte", "bpe"):
        if kind not in GENERATORS:
            GENERATORS[kind] = PlotGenerator(tiny_checkpoint(kind, fold=False, context_length=128))


def test_a_wish_that_has_come_up_is_not_made_another_word() -> None:
    tokenizer = GENERATORS("char").checkpoint.tokenizer

    def forbidden(text: str) -> set[str]:
        writing = Writing(Prompt("", text), tokenizer, 64, SamplingConfig(must_mention="Paris, art"), seed=0)
        return {letter for letter in "is' ,." if int(tokenizer.encode(letter)[0]) in writing.history().forbidden}

    assert forbidden("In Paris") == {"i"}, "the plural may follow"
    assert forbidden("In Pariss") == {"i", "s"}
    assert forbidden("The art") == {"i"}
    assert forbidden("In Par") == forbidden("The part") == forbidden("Paris, and Paris") == set()


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_what_is_banned_takes_no_second_thoughts(tiny_checkpoint: Make, kind: str) -> None:
    """Also where what would complete it is all that may come: in a text of words, a blank behind a comma."""
    generator = PlotGenerator(never_ending(tiny_checkpoint(kind, context_length=128)))
    [request] = generator.requests("Mars", seed=1, max_tokens=300, banned=[" t", "s ", "er", "and"])
    writing = generator.writing(request)
    for _ in generator.write([writing]):
        pass
    assert (writing.second_thoughts.count, writing.unmet) == (0, ()) and writing.tokens == 300
    assert not any(text in writing.told for text in request.config.banned)


def test_what_second_thoughts_do_not_mend_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("movieplotgpt.generation.second_thoughts.MOST", 3)
    tokenizer = GENERATORS("byte").checkpoint.tokenizer
    source = "The harbour keeper finds a letter in the mill and hides it. " * 3
    config = SamplingConfig(avoid_copies=60, max_tokens=140)
    writing = Writing(Prompt(""), tokenizer, 64, config, seed=0, copies=Memory(source))  # type: ignore[arg-type]
    while writing.finish_reason is None:  # whatever is taken back comes again
        writing.take(Chosen(int(tokenizer.encode(source)[writing.tokens])))
    assert writing.finish_reason == "unmet"
    assert writing.unmet == ("shares 60 characters in a row with the training text",)


def test_what_is_asked_for_is_spelled_as_the_model_spells_and_said(tiny_checkpoint: Make) -> None:
    generator = PlotGenerator(tiny_checkpoint(context_length=128))
    [request] = generator.requests("Mars", stop="\u2019s", banned=["caf\u00e9", "END_OF_PLOT"], must_mention="Zo\u00eb")
    assert (request.config.stop, request.config.banned, request.config.must_mention) == (("'s",), ("cafe",), ("Zoe",))
    assert {"\u2019→'", "\u00e9→e", "\u00eb→e"} <= set(request.prompt.changes)
    with pytest.raises(PromptError, match="'Paris' must be mentioned, but 'ari' is banned"):
        generator.requests("Mars", must_mention="Paris", banned="ari")


def test_a_models_own_usual_settings_are_those_of_its_toml(tiny_checkpoint: Make) -> None:
    """Such as film plots without parentheses; who asks for something has it."""
    plain = tiny_checkpoint()
    own = replace(plain, info={**plain.info, "settings": {"sampling": {"cast": False, "end_bias": 0.5}}})
    generator = PlotGenerator(own)
    assert (generator.builder.settled().cast, generator.builder.settled().end_bias) == (False, 0.5)
    assert generator.builder.settled(settings={"cast": True, "end_bias": 0}).cast
    assert PlotGenerator(plain).builder.settled().cast
    [parenthesis] = plain.tokenizer.encode("(")
    asked: dict[str, Any] = {"n": 4, "seed": 1, "max_tokens": 60, "logit_bias": {int(parenthesis): 5.0}}
    with_cast, without = ([plot.text for plot in generator.plots("Mars", **asked, cast=cast)] for cast in (True, None))
    assert all("(" in text for text in with_cast)
    assert not any("(" in text for text in without)
    assert without == [plot.text for plot in generator.plots("Mars", **asked, cast=True, banned="(")]


def test_a_models_usual_settings_are_checked(tiny_checkpoint: Make) -> None:
    wrong = replace(tiny_checkpoint(), info={"settings": {"sampling": {"guidance": "much"}}})
    with pytest.raises(ConfigError, match="guidance"):
        PlotGenerator(wrong)
    unset = replace(tiny_checkpoint(), info={"settings": {"sampling": {"cast": None, "end_bias": 0.5}}})
    assert (PlotGenerator(unset).builder.settled().cast, PlotGenerator(unset).builder.settled().end_bias) == (True, 0.5)
