"""Token ids to text, one id at a time, never half a character."""

from __future__ import annotations

import codecs
from collections.abc import Callable


class StreamDecoder:
    """Decodes ids one by one; everything that ``push`` and ``finish`` return, joined, is ``decode`` of all ids."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Return the characters that ``token_id`` completes, which may be none."""
        return self._utf8.decode(self._token_bytes(token_id))

    def finish(self) -> str:
        """Return U+FFFD if a character is incomplete, or nothing."""
        return self._utf8.decode(b"", final=True)
