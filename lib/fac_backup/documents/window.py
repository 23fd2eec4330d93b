"""Work on several threads, results in the order of the tasks, a bounded number of them in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from fac_backup.documents.pace import Pace

T = TypeVar("T")

AHEAD = 8
"""Tasks handed out per thread before the oldest must be done."""

MOST = 8
"""How many times as many tasks as at first may run at a time where the endpoint takes them."""

_WAITING = 20_000
"""Finished results that may wait behind a slow one."""


class Task(Generic[T]):
    """Something to do on a thread, among results that are there already."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[], T]) -> None:
        self.run = run


def in_order(steps: Iterable[T | Task[T]], jobs: int, slowed: Callable[[], int] | None = None) -> Generator[T]:
    """Yield the steps in order, each ``Task`` replaced by what it returns.

    ``jobs`` tasks run at a time; with ``slowed`` (how often the endpoint has asked for less) that many at first, and
    then as many as pays (``Pace``). At most ``AHEAD`` times as many are handed out. The first exception ends it: what
    has not begun never begins, and what has is waited for, so that nothing writes any more when the caller sees the
    error.
    """
    waiting: deque[T | Future[T]] = deque()
    flying = 0
    pool: ThreadPoolExecutor | None = None
    pace = Pace(jobs, jobs * MOST, slowed) if slowed else None
    threads = jobs * MOST if pace else jobs

    def at_its_pace(run: Callable[[], T]) -> T:
        assert pace is not None  # noqa: S101 - used where there is one
        with pace:
            return run()

    try:
        for step in steps:
            if isinstance(step, Task):
                pool = pool or ThreadPoolExecutor(threads, thread_name_prefix="documents")
                waiting.append(pool.submit(at_its_pace, step.run) if pace else pool.submit(step.run))
                flying += 1
            elif not waiting:
                yield step
                continue
            else:
                waiting.append(step)
            while waiting:
                first = waiting[0]
                if isinstance(first, Future):
                    if flying < AHEAD * threads and len(waiting) < _WAITING and not first.done():
                        break
                    flying -= 1
                    yield first.result()
                else:
                    yield first
                waiting.popleft()
        while waiting:
            first = waiting.popleft()
            yield first.result() if isinstance(first, Future) else first
    finally:
        if pace is not None:
            pace.stop()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


_PAGE = 1000
_PAGES = 8


class Ahead(Generic[T]):
    """The same items, some thousands of them fetched on a thread before they are asked for, beginning at once."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._pages = deque(self._pool.submit(self._page) for _ in range(_PAGES))

    def __iter__(self) -> Iterator[T]:
        while page := self._pages.popleft().result():
            self._pages.append(self._pool.submit(self._page))
            yield from page

    def close(self) -> None:
        """Stop fetching, once the request that is under way has ended."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _page(self) -> list[T]:
        return list(islice(self._items, _PAGE))
