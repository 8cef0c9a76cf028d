"""The characters of tokens that come and are taken back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.generation.written_text import WrittenText
from movieplotgpt.text.tokenizer import ByteSettings

BYTES = ByteSettings().train([], "END")
WHOLE = "Zoë sees 漢字 and 🎬"


@given(st.lists(st.one_of(st.sampled_from([*WHOLE.encode()]), st.integers(-9, -1)), max_size=80))
def test_what_is_left_is_as_if_nothing_had_been_taken_back(steps: list[int]) -> None:
    """A negative step takes so many tokens back."""
    written, ids = WrittenText(BYTES, "Begun "), list[int]()
    for step in steps:
        if step >= 0:
            ids.append(step + 1)
            written.push(step + 1)
        elif ids:
            del ids[max(0, len(ids) + step) :]
            written.cut(len(ids), ids)
    again = WrittenText(BYTES, "Begun ")
    for id_ in ids:
        again.push(id_)
    assert (written.text, written.lengths) == (again.text, again.lengths)
    written.finish()
    again.finish()
    assert written.text == again.text == BYTES.decode(ids)
    assert written.whole == "Begun " + written.text


def test_the_end_reaches_into_what_was_begun() -> None:
    written = WrittenText(BYTES, "Begun ")
    for byte in b"here":
        written.push(byte + 1)
    assert [written.end(size) for size in (2, 4, 6, 99)] == ["re", "here", "n here", "Begun here"]
    assert written.new == 1


def test_of_half_a_character_nothing_is_certain() -> None:
    written, certain = WrittenText(BYTES, ""), []
    for byte in "aë!".encode():
        written.push(byte + 1)
        assert written.tell(len(written.text)) == written.text[len(written.text) - written.new :]
        certain.append(written.certain_tokens)
    assert certain == [1, 1, 3, 4] and written.told == 3
    assert written.tell(1) == "" and written.told == 3
