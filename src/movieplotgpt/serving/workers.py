"""Work that grows with a request runs here, in a thread: small requests do not wait for large ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
SMALL = 4_000  # characters, or what takes as long
_SMALL, _LARGE = (ThreadPoolExecutor(1, f"{name} requests") for name in ("small", "large"))


async def in_worker(weight: float, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Return ``work(*arguments, **named)``; ``weight`` is about how many characters it reads or writes."""
    executor = _SMALL if weight < SMALL else _LARGE
    return await asyncio.get_running_loop().run_in_executor(executor, partial(work, *arguments, **named))
