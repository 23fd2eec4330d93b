"""Several threads at one task: the first failure stops all, and is the one that is raised."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType


class Crew:
    """Runs functions in threads of their own; a context manager that joins them, and raises the first failure.

    What takes long registers how it is stopped (:meth:`on_stop`), so that nobody waits for work that is lost.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._threads: list[threading.Thread] = []
        self._stops: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._stopping = threading.Event()

    def start(self, work: Callable[[], object]) -> None:
        """Run ``work`` in a thread."""
        thread = threading.Thread(target=self._run, args=(work,), name=self._name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stopped(self) -> bool:
        """Whether somebody has failed."""
        return self._stopping.is_set()

    def on_stop(self, stop: Callable[[], object]) -> None:
        """Call ``stop`` once somebody fails, from that thread; at once if that has happened."""
        with self._lock:
            if not self._stopping.is_set():
                self._stops.append(stop)
                return
        _quietly(stop)

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Stop everybody because of ``error``; only the first one counts."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = error
            self._stopping.set()
            stops = list(self._stops)
        for stop in stops:
            _quietly(stop)

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(error)
        for thread in self._threads:
            thread.join()
        if self._failure is not None and self._failure is not error:
            raise self._failure


def _quietly(stop: Callable[[], object]) -> None:
    with suppress(Exception):
        stop()
