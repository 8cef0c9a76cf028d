"""A batch is made while the step before it is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class StepAhead(Generic[P, T]):
    """``make``, called by a thread of its own: for what is wanted, and already for what will be wanted next.

    All calls come from that one thread, so that ``make`` need not be safe to call from several.
    """

    def __init__(self, make: Callable[P, T]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._next: tuple[object, Future[T]] | None = None

    def __call__(self, *arguments: P.args, **options: P.kwargs) -> T:
        """Return ``make(*arguments)``, or raise its error."""
        if self._next is None or self._next[0] != (arguments, options):
            self.start(*arguments, **options)
        assert self._next is not None
        return self._next[1].result()

    def start(self, *arguments: P.args, **options: P.kwargs) -> None:
        """Begin with what will be wanted next."""
        self._next = (arguments, options), self._thread.submit(self._make, *arguments, **options)
