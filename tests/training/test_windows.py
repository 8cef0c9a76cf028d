"""Windows: every token is learnt from, behind its own header, in an order that only the seed decides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.config import build_settings
from movieplotgpt.errors import ConfigError
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.pieces import overlap_for
from movieplotgpt.text.prepare import PrepareSettings, prepare
from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit
from movieplotgpt.training.windows import (
    CUT_IN,
    NO_TARGET,
    Batch,
    Ids,
    TrainingWindows,
    WindowSettings,
    pack,
    share_with_title,
    too_small,
)

END, EMPTY = 0, (1, 2)  # ids of the end token and of the sentence with an empty title
HINT, SENTENCE, BODY = 0, 100, 500  # where the ids of each segment of a document begin
PER_DOCUMENT = 10_000
ALL_SHOWN = WindowSettings(no_title=0, no_hints=0, keep_hint=1)
CONTEXT = 64


def telling_split(shapes: list[tuple[list[int], int, int]]) -> PreparedSplit:
    """A split of documents (lengths of hints, of sentence, of body) in which every id says whose it is and where."""
    lengths = np.array([[*hints, sentence, body] for hints, sentence, body in shapes])
    ends = lengths.cumsum().reshape(lengths.shape)
    tokens = []
    for i, (hints, sentence, body) in enumerate(shapes):
        starts = [HINT + 10 * k for k in range(len(hints))] + [SENTENCE, BODY]
        for start, length in zip(starts, [*hints, sentence, body], strict=True):
            tokens.append((i + 1) * PER_DOCUMENT + start + np.arange(length))
    offsets = np.concatenate([ends[:, :1] - lengths[:, :1], ends], axis=1)
    names = tuple(f"Hint{k}" for k in range(len(shapes[0][0])))
    return PreparedSplit(np.concatenate(tokens).astype(np.uint32), offsets, names, Path("nowhere"))


def windows_of(
    split: PreparedSplit, settings: WindowSettings = ALL_SHOWN, *, context: int = CONTEXT, seed: int = 0
) -> TrainingWindows:
    return TrainingWindows(
        split, empty_sentence=np.array(EMPTY), end_id=END, context_length=context, settings=settings, seed=seed
    )


@dataclass(frozen=True)
class Seen:
    """A piece as it lies in a window: its header and body without the end, which of both are targets."""

    document: int
    header: list[int]
    body: list[int]  # places in the document's body; -1 for the end token
    header_learnt: list[bool]
    body_learnt: list[bool]


def pieces_in(ids: Ids, targets: Ids) -> Iterator[Seen]:
    """Read a window of a telling split back, token by token."""
    last = targets[-1] if targets[-1] != NO_TARGET else END
    row, learnt = [*ids[1:].tolist(), int(last)], targets != NO_TARGET
    assert ids[0] == END
    assert all(target in (NO_TARGET, token) for target, token in zip(targets.tolist(), row, strict=True))
    at = 0
    while at < len(row) and row[at] != END:
        start = at
        while row[at] in EMPTY or row[at] % PER_DOCUMENT < BODY:
            at += 1
        begin = at
        document = row[at] // PER_DOCUMENT - 1
        while at < len(row) and row[at] // PER_DOCUMENT - 1 == document and row[at] % PER_DOCUMENT >= BODY:
            at += 1
        body = [token % PER_DOCUMENT - BODY for token in row[begin:at]]
        if at < len(row) and row[at] == END and learnt[at]:
            body.append(-1)
            at += 1
        yield Seen(document, row[start:begin], body, learnt[start:begin].tolist(), learnt[begin:at].tolist())
    assert not learnt[at:].any(), "padding is no target"


def pieces_of(batch: Batch) -> list[Seen]:
    return [seen for row in zip(batch.ids_BT, batch.targets_BT, strict=True) for seen in pieces_in(*row)]


def epoch_of(windows: TrainingWindows, **options: Any) -> Batch:
    """The whole first epoch as one batch."""
    return windows.batch(0, windows.rows_in_epoch(0), **options)


shapes_of = st.lists(
    st.tuples(st.lists(st.integers(0, 8), min_size=2, max_size=2), st.integers(1, 40), st.integers(1, 200)),
    min_size=1,
    max_size=12,
)


@given(shapes_of, st.sampled_from([32, 48, 64]), st.booleans())
def test_every_token_is_learnt_behind_its_own_header(
    shapes: list[tuple[list[int], int, int]], context: int, plain: bool
) -> None:
    split = telling_split(shapes)
    runs: dict[int, list[tuple[int, int]]] = {i: [] for i in range(len(shapes))}  # of each document: (stop, start)
    headers_learnt: Counter[int] = Counter()
    for seen in pieces_of(epoch_of(windows_of(split, context=context), plain=plain)):
        whole = split.sentence(seen.document) if plain else split.header(seen.document)
        assert seen.header == whole.tolist()[-(context // 2) :]
        opens = seen.body[0] in (0, -1)
        cut_in = 0 if opens else min(CUT_IN, overlap_for(context))
        assert len(set(seen.header_learnt)) == 1
        assert seen.body_learnt == [i >= cut_in for i in range(len(seen.body))], "all but what nothing leads to"
        headers_learnt[seen.document] += seen.header_learnt[0]
        places = [len(split.body(seen.document)) if place < 0 else place for place in seen.body]
        assert places == list(range(places[0], places[0] + len(places))), "a piece is one run of its body"
        runs[seen.document].append((places[-1] + 1, places[0]))
    for document, pieces in runs.items():
        assert headers_learnt[document] == 1, "once, where the document opens"
        stops, starts = zip(*sorted(pieces), strict=True)
        assert stops[-1] == shapes[document][2] + 1, "to the end token"
        assert list(starts) == [0, *(max(0, stop - overlap_for(context)) for stop in stops[:-1])]


@given(shapes_of, st.integers(1, 5), st.integers(0, 9), st.sampled_from([2, 3]))
def test_a_batch_is_a_function_of_its_step_and_ranks_share_it(
    shapes: list[tuple[list[int], int, int]], batch_size: int, step: int, world_size: int
) -> None:
    settings = WindowSettings(no_title=0.3)
    one, other = (windows_of(telling_split(shapes), settings) for _ in range(2))
    for earlier in range(step):
        other.batch(earlier, batch_size)
    whole = one.batch(step, batch_size)
    again = other.batch(step, batch_size)
    assert whole.ids_BT.shape == whole.targets_BT.shape == (batch_size, CONTEXT)
    assert (whole.ids_BT.tolist(), whole.targets_BT.tolist()) == (again.ids_BT.tolist(), again.targets_BT.tolist())
    for rank in range(world_size):
        share = one.batch(step, batch_size, rank=rank, world_size=world_size)
        assert share.ids_BT.tolist() == whole.ids_BT[rank::world_size].tolist()
        assert share.targets_BT.tolist() == whole.targets_BT[rank::world_size].tolist()


@pytest.mark.parametrize("separate", [True, False])
def test_each_token_knows_where_its_document_starts(separate: bool) -> None:
    split = telling_split([([], 3, length) for length in (5, 9, 20, 90, 7)])
    windows = windows_of(split, ALL_SHOWN.model_copy(update={"separate": separate}))
    batch = windows.batch(0, windows.rows_in_epoch(0))
    assert batch.starts_BT.dtype == np.int32 and batch.starts_BT.shape == batch.ids_BT.shape
    for ids_T, starts_T in zip(batch.ids_BT.tolist(), batch.starts_BT.tolist(), strict=True):
        begins = [i for i, id_ in enumerate(ids_T) if id_ == END]
        expected = [max(begin for begin in begins if begin <= i) for i in range(CONTEXT)]
        assert starts_T == (expected if separate else [0] * CONTEXT)


def test_every_epoch_has_all_documents_in_an_order_of_its_own() -> None:
    split = telling_split([([3, 3], 5, 20 + i) for i in range(40)])
    windows, same, other = windows_of(split), windows_of(split), windows_of(split, seed=1)
    rows = windows.rows_in_epoch(0)
    assert windows.rows_in_epoch(1) == rows  # every header is shown whole here, so both are packed alike
    first, second = (windows.batch(step, rows).ids_BT.tolist() for step in (0, 1))
    assert first != second and sorted(first) == sorted(second)
    assert first == same.batch(0, rows).ids_BT.tolist() != other.batch(0, rows).ids_BT.tolist()
    assert [windows.epoch_of(row) for row in (0, rows - 1, rows, 2 * rows)] == [(0, 0), (0, rows - 1), (1, 0), (2, 0)]


def test_window_numbers_continue_across_epochs() -> None:
    split = telling_split([([8, 8], 10, 40) for _ in range(30)])
    windows = windows_of(split, WindowSettings())
    sizes = [windows.rows_in_epoch(epoch) for epoch in range(6)]
    assert len(set(sizes)) > 1
    expected = [(epoch, row) for epoch, size in enumerate(sizes) for row in range(size)]
    assert [windows.epoch_of(row) for row in range(sum(sizes))] == expected


def shown(windows: TrainingWindows, **options: Any) -> list[Seen]:
    """Each document of an epoch once, by the piece that opens it."""
    pieces = [seen for seen in pieces_of(epoch_of(windows, **options)) if seen.header_learnt[0]]
    return sorted(pieces, key=lambda seen: seen.document)


def hints_in(seen: Seen) -> tuple[int, ...]:
    return tuple(
        dict.fromkeys(
            (token % PER_DOCUMENT) // 10
            for token in seen.header
            if token not in EMPTY and token % PER_DOCUMENT < SENTENCE
        )
    )


def test_titles_and_hints_are_left_out_as_often_as_asked() -> None:
    n, no_title, no_hints, keep = 4000, 0.1, 0.5, 0.7
    split = telling_split([([2, 2, 2], 4, 5)] * n)
    pieces = shown(windows_of(split, WindowSettings(no_title=no_title, no_hints=no_hints, keep_hint=keep)))
    assert [seen.document for seen in pieces] == list(range(n))
    untitled = [tuple(seen.header[-2:]) == EMPTY for seen in pieces]
    bare = [not hints_in(seen) for seen in pieces]
    expected_bare = no_hints + (1 - no_hints) * (1 - keep) ** 3
    near = 5 * (0.25 / n) ** 0.5
    assert np.mean(untitled) == pytest.approx(no_title, abs=near)
    assert np.mean(bare) == pytest.approx(expected_bare, abs=near)
    for hint in range(3):
        assert np.mean([hint in hints_in(seen) for seen in pieces]) == pytest.approx((1 - no_hints) * keep, abs=near)
    together = np.mean([u and b for u, b in zip(untitled, bare, strict=True)])
    assert together == pytest.approx(no_title * expected_bare, abs=near), "the two are drawn apart"


def test_hints_stand_in_the_order_of_the_format_before_the_sentence() -> None:
    split = telling_split([([2, 2, 2], 4, 5)] * 300)
    pieces = shown(windows_of(split, WindowSettings(no_hints=0.2)))
    assert len({hints_in(seen) for seen in pieces}) == 2**3
    for seen in pieces:
        lines = [split.segment(seen.document, k) for k in hints_in(seen)]
        titled = tuple(seen.header[-2:]) != EMPTY
        sentence = split.sentence(seen.document) if titled else np.array(EMPTY)
        assert seen.header == np.concatenate([*lines, sentence]).tolist()


def test_a_hint_that_is_not_known_is_not_shown() -> None:
    pieces = shown(windows_of(telling_split([([2, 0, 2], 4, 5), ([0, 0, 0], 4, 5)])))
    assert [hints_in(seen) for seen in pieces] == [(0, 2), ()]


@pytest.mark.parametrize(("share", "expected"), [(0.0, False), (1.0, True)])
def test_never_and_always_are_meant(share: float, expected: bool) -> None:
    split = telling_split([([2, 2], 4, 5)] * 50)
    untitled = shown(windows_of(split, WindowSettings(no_title=share, no_hints=0, keep_hint=1)))
    assert {tuple(seen.header[-2:]) == EMPTY for seen in untitled} == {expected}
    bare = shown(windows_of(split, WindowSettings(no_title=0, no_hints=share, keep_hint=1)))
    assert {hints_in(seen) == () for seen in bare} == {expected}
    bare = shown(windows_of(split, WindowSettings(no_title=0, no_hints=0, keep_hint=1 - share)))
    assert {hints_in(seen) == () for seen in bare} == {expected}


def test_the_plain_form_only_leaves_the_hints_out() -> None:
    split = telling_split([([3, 3], 5, length) for length in range(5, 120, 5)])
    windows = windows_of(split, WindowSettings(no_title=0.3, no_hints=0, keep_hint=1))
    with_hints, plain = (pieces_of(epoch_of(windows, plain=plain)) for plain in (False, True))
    assert any(hints_in(seen) for seen in with_hints) and not any(hints_in(seen) for seen in plain)
    for rich, poor in zip(with_hints, plain, strict=True):
        assert (rich.document, rich.body, rich.body_learnt) == (poor.document, poor.body, poor.body_learnt)
        assert rich.header[6:] == poor.header


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(40, 64))
def test_packing_keeps_every_item_once_in_rows_that_hold_it(lengths: list[int], capacity: int) -> None:
    rows = pack(lengths, capacity)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    filled = [sum(lengths[item] for item in row) for row in rows]
    assert all(rows) and all(0 < total <= capacity for total in filled)
    shortest = sorted(filled)[:2]
    assert len(rows) < 2 or sum(shortest) > capacity, "no two rows fit into one"


def test_packing_takes_the_tightest_place() -> None:
    assert pack([5, 9, 1, 2, 8], 10) == [[1, 2], [4, 3], [0]]


@given(shapes_of, st.sampled_from([32, 64]))
def test_the_share_with_title_is_what_a_reader_of_the_windows_counts(
    shapes: list[tuple[list[int], int, int]], context: int
) -> None:
    split = telling_split(shapes)
    seen = total = 0
    for piece in pieces_of(epoch_of(windows_of(split, context=context))):
        sentence = split.sentence(piece.document).tolist()
        total += len(piece.body)
        seen += len(piece.body) * (piece.header[-len(sentence) :] == sentence)
    assert share_with_title(split, context) == pytest.approx(seen / total)


def test_without_titles_none_is_in_view() -> None:
    assert share_with_title(telling_split([([], 0, 50)] * 3), 32) == 0


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_an_epoch_of_a_prepared_corpus_is_its_text(tmp_path: Path, plots_csv: Path, kind: str) -> None:
    values = {
        "corpus": {
            "kind": "table",
            "text": "Plot",
            "hints": {"Decade": {"kind": "decade", "column": "Release Year"}},
        },
        "format": {"header": "The plot summary of the movie named '{Title}' is:", "hints": ["Decade"]},
        "split": {"kind": "group", "validation": 0.1, "test": 0.1},
        "tokenizer": {"kind": kind, **({"vocab_size": 400} if kind == "bpe" else {})},
    }
    prepare(build_settings(PrepareSettings, values), plots_csv, tmp_path / "data")
    corpus = PreparedCorpus.load(tmp_path / "data")
    split, tokenizer = corpus.split("train"), corpus.tokenizer
    windows = TrainingWindows(
        split,
        empty_sentence=tokenizer.encode(corpus.format.sentence()),
        end_id=tokenizer.end_id,
        context_length=192,
        settings=WindowSettings(no_title=0, no_hints=0, keep_hint=1),
        seed=3,
    )
    batch = epoch_of(windows)
    documents = [(split.header(i), split.body(i)) for i in range(split.n_documents)]
    learnt = Counter(batch.targets_BT[batch.targets_BT != NO_TARGET].tolist())
    expected = Counter(token for header, body in documents for token in [*header.tolist(), *body.tolist()])
    expected[tokenizer.end_id] = split.n_documents
    assert learnt >= expected and set(learnt) == set(expected), "overlaps are learnt again, nothing else is"
    assert batch.ids_BT.shape[0] > split.n_documents / 3
    assert (batch.ids_BT[:, 0] == tokenizer.end_id).all()
    for row in batch.ids_BT:
        assert tokenizer.decode(row[1:]).startswith("Decade: ")


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_plans_precede_the_sentence_or_follow_it_as_a_document(tmp_path: Path, plots_csv: Path, kind: str) -> None:
    values = {
        "corpus": {"kind": "table", "text": "Plot", "hints": {"Decade": {"kind": "decade", "column": "Release Year"}}},
        "format": {"header": "The plot of '{Title}' is:", "hints": ["Decade", PLAN]},
        "split": {"kind": "group", "validation": 0.1, "test": 0.1},
        "tokenizer": {"kind": kind, **({"vocab_size": 400} if kind == "bpe" else {})},
    }
    prepare(build_settings(PrepareSettings, values), plots_csv, tmp_path / "data")
    corpus = PreparedCorpus.load(tmp_path / "data")
    layout, split = corpus.format, corpus.split("train")
    settings = WindowSettings(no_title=0, no_hints=1, plan=1, plan_alone=1)
    for plain in (False, True):  # the plain end of training keeps plans
        batch = epoch_of(TrainingWindows.of(corpus, 512, settings, seed=0), plain=plain)
        documents = "".join(corpus.tokenizer.decode(row) for row in batch.ids_BT).split(layout.end)
        for title, hints in zip(split.titles, split.hints, strict=True):
            plan = hints[PLAN]
            assert f"{layout.plan_request(title)} {plan}" in documents, "the plan is the text of a document of its own"
            assert any(each.startswith(f"{PLAN}: {plan}\n{layout.sentence(title)}") for each in documents)
    assert "Decade" not in "".join(documents)


def test_plans_are_shown_as_often_as_asked_whether_hints_are_or_not(tmp_path: Path, plots_csv: Path) -> None:
    values = {
        "corpus": {"kind": "table", "text": "Plot"},
        "format": {"header": "The plot of '{Title}' is:", "hints": [PLAN]},
        "split": {"kind": "group", "validation": 0.1, "test": 0.1},
        "tokenizer": {"kind": "bpe", "vocab_size": 400},
    }
    prepare(build_settings(PrepareSettings, values), plots_csv, tmp_path / "data")
    corpus = PreparedCorpus.load(tmp_path / "data")
    windows = TrainingWindows.of(corpus, 512, WindowSettings(no_hints=1, plan=0.75, plan_alone=0.25), seed=0)
    parts = [part for epoch in range(40) for row in windows._make_rows(epoch) for part in row]
    bodies = [part for part in parts if not part.of_plan and part.piece.start == 0]
    assert np.mean([bool(part.hints) for part in bodies]) == pytest.approx(0.75, abs=0.05)
    assert (len(parts) - len(bodies)) / len(bodies) == pytest.approx(0.25, abs=0.05)


@pytest.fixture
def people_corpus(tmp_path: Path) -> PreparedCorpus:
    return films_of_women(tmp_path, {"kind": "bpe", "vocab_size": 400})  # every name is one token


def films_of_women(tmp_path: Path, tokenizer: dict[str, Any]) -> PreparedCorpus:
    """Films of 24 women, three of each; her name is in the title, her daughter's is not."""
    women = "Ada Bea Cleo Dora Edna Fay Gwen Hope Iris Joan Kate Lena Maud Nell Olga Prue Ruth Sue Tess Una Vera Wilma Xenia Yda"
    names = women.split()
    rows = ["Title,Plot"]
    for part in range(3):
        for name, other in zip(names, [*names[1:], names[0]], strict=True):
            text = (
                f"And here comes {name}, and she looks for {other}, and she finds {other}, and she hugs {other} again. "
            )
            rows.append(f'Film {part} of {name},"{text * 3}"')
    (tmp_path / "films.csv").write_text("\n".join(rows), encoding="utf-8")
    values = {
        "corpus": {"kind": "table", "text": "Plot"},
        "format": {"header": "The plot of '{Title}' is:", "hints": [PLAN]},
        "split": {"kind": "group", "validation": 0.1, "test": 0.1},
        "tokenizer": tokenizer,
    }
    prepare(build_settings(PrepareSettings, values), tmp_path / "films.csv", tmp_path / "data")
    return PreparedCorpus.load(tmp_path / "data")


def test_people_have_other_names_each_epoch_in_text_and_plan_alike(people_corpus: PreparedCorpus) -> None:
    corpus, split = people_corpus, people_corpus.split("train")
    settings = WindowSettings(no_title=0, no_hints=1, plan=1, plan_alone=0, rename=1)
    seen = []
    for epoch in (0, 1):
        windows = TrainingWindows.of(corpus, 512, settings, seed=0)
        first = sum(windows.rows_in_epoch(each) for each in range(epoch))
        batch = windows.batch(0, first + windows.rows_in_epoch(epoch))
        text = "".join(corpus.tokenizer.decode(row) for row in batch.ids_BT[first:])
        documents = [each for each in text.split(corpus.format.end) if each.startswith(PLAN)]
        assert len(documents) == split.n_documents
        people = {}
        for document in documents:
            plan, sentence, body = document.split("\n", 2)
            woman, other = re.findall(r"comes (\w+), and she looks for (\w+),", body)[0]
            assert f"of {woman}'" in sentence, "the name in the title stays"
            assert plan.startswith(f"{PLAN}: names: {woman}, {other}")
            assert body.count(other) == 9
            people[sentence] = other
        seen.append(people)
    own = {corpus.format.sentence(split.titles[i])[:-1]: split.hints[i][PLAN] for i in range(split.n_documents)}
    changed = [people[sentence] not in own[sentence] for people in seen for sentence in people]
    assert np.mean(changed) > 0.9
    assert seen[0] != seen[1]


def test_renamed_batches_are_a_function_of_their_step(people_corpus: PreparedCorpus) -> None:
    settings = WindowSettings(rename=0.5)
    one, other = (TrainingWindows.of(people_corpus, 256, settings, seed=3) for _ in range(2))
    late = other.batch(7, 4).ids_BT  # as after a resumption
    assert [one.batch(step, 4).ids_BT for step in range(8)][7].tolist() == late.tolist()
    assert one.batch(7, 4, rank=1, world_size=2).ids_BT.tolist() == late[1::2].tolist()


def test_noise_disturbs_inputs_and_never_targets() -> None:
    split = telling_split([([], 5, 40 + i) for i in range(30)])
    clear, noisy = (windows_of(split, WindowSettings(no_title=0, noise=noise)) for noise in (0.0, 0.2))
    one, other = clear.batch(0, 12), noisy.batch(0, 12)
    assert (one.targets_BT == other.targets_BT).all()
    assert (one.starts_BT == other.starts_BT).all()
    changed = one.ids_BT != other.ids_BT
    assert 0.1 < changed.mean() < 0.25
    assert (other.ids_BT[one.ids_BT == END] == END).all()
    assert (other.ids_BT[one.ids_BT != END] != END).all()
    assert (noisy.batch(0, 12, rank=1, world_size=2).ids_BT == other.ids_BT[1::2]).all()
    assert (noisy.batch(0, 12, plain=True).ids_BT == clear.batch(0, 12, plain=True).ids_BT).all()


def test_shares_lie_between_nought_and_one() -> None:
    assert WindowSettings.model_validate(WindowSettings().model_dump()) == WindowSettings(), "defaults do, too"
    ends = dict.fromkeys(WindowSettings.model_fields.keys() - {"separate", "noise"}, (0, 1)) | {"noise": (0, 0.99)}
    for name, (least, most) in ends.items():
        for value in (least, most):
            assert getattr(build_settings(WindowSettings, {name: value}), name) == value
        for value in (least - 0.01, most + 0.01):
            with pytest.raises(ConfigError, match=name):
                build_settings(WindowSettings, {name: value})


def test_a_renamed_document_is_read_to_its_end(tmp_path: Path) -> None:
    corpus = films_of_women(tmp_path, {"kind": "char"})
    settings, split = WindowSettings(plan=0, plan_alone=0, rename=1), corpus.split("train")
    windows = TrainingWindows.of(corpus, 128, settings, seed=0)
    stops, lengths = dict[int, int](), dict[int, int]()
    for part in (part for row in windows._make_rows(0) for part in row):
        stops[part.document] = max(stops.get(part.document, 0), part.piece.stop)
        lengths[part.document] = 1 + len(part.renamed.body if part.renamed else split.body(part.document))
    assert stops == lengths
    assert any(length != 1 + len(split.body(document)) for document, length in lengths.items())


def test_a_text_is_too_small_for_a_longer_window(people_corpus: PreparedCorpus) -> None:
    counts = people_corpus.manifest.splits["train"]
    tokens = counts.body_tokens + counts.header_tokens
    assert too_small(people_corpus, tokens) is None and too_small(people_corpus, tokens - 1) is None
    said = f"the training text has {tokens:,} tokens and a window {tokens + 1:,}; give more text or a shorter"
    assert (too_small(people_corpus, tokens + 1) or "").startswith(said)
