"""The characters of a text while its tokens come and are taken back."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from movieplotgpt.text.tokenizer import Tokenizer


class WrittenText:
    """What was written so far, of which the first ``told`` characters are certain.

    Attributes:
        begun: What the prompt has begun: it comes before ``text`` and is not part of it.
        text: All that was written, what is held back included.
        told: How many characters of it are certain, and may be streamed.
        lengths: The length of ``text`` before each token.
    """

    def __init__(self, tokenizer: Tokenizer, begun: str) -> None:
        self.begun, self.text, self.told, self.lengths = begun, "", 0, list[int]()
        self._tokenizer, self._decoder = tokenizer, tokenizer.decoder()

    def push(self, id_: int) -> None:
        """Add a token."""
        self.lengths.append(len(self.text))
        self.text += self._decoder.push(id_)

    def finish(self) -> None:
        """Add what was held back of a last character that is not whole."""
        self.text += self._decoder.finish()

    def cut(self, place: int, kept: Sequence[int]) -> None:
        """Take back the tokens from the ``place``-th on; ``kept`` are those before it."""
        length = self.lengths[place]
        whole = bisect_left(self.lengths, length)  # the token before it is the last one that has completed a character
        del self.lengths[place:]
        self._decoder = self._tokenizer.decoder()
        for id_ in kept[max(0, whole - 1) :]:
            self._decoder.push(id_)
        self.text = self.text[:length]

    def tell(self, stop: int) -> str:
        """Make the text up to ``stop`` certain; return what is new of it."""
        new = self.text[self.told : stop]
        self.told += len(new)
        return new

    def end(self, size: int) -> str:
        """Return the last ``size`` characters, of ``begun`` as well if there are fewer."""
        if len(self.text) >= size:
            return self.text[len(self.text) - size :]
        return (self.begun + self.text)[-size:]

    @property
    def whole(self) -> str:
        """What the prompt has begun and what was written."""
        return self.begun + self.text

    @property
    def new(self) -> int:
        """The number of characters that the last token added."""
        return len(self.text) - self.lengths[-1]

    @property
    def certain_tokens(self) -> int:
        """The number of tokens that make the certain text: of half a character nothing is certain."""
        whole = bisect_right(self.lengths, self.told) - (len(self.text) > self.told)
        return min(whole, bisect_left(self.lengths, self.told))
