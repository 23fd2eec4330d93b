"""Pieces on their way to the store: many at a time, and never more bytes of them in memory than agreed."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from fac_backup.plain.manifest import Piece
from fac_backup.plain.protocols import PieceSink


class Uploads:
    """Gives pieces to a sink in ``threads`` threads; :meth:`put` waits while ``room`` bytes are on their way.

    The first failure of the sink is raised by every later :meth:`put`, and by ``result()`` of the piece's future.
    Threads are many because they mostly wait for the store; what they hold is bounded by ``room`` alone.
    """

    def __init__(self, sink: PieceSink, *, threads: int, room: int) -> None:
        self._sink = sink
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="upload")
        self._room = room
        self._used = 0
        self._changed = threading.Condition()
        self._failure: BaseException | None = None

    def put(self, data: bytes) -> Future[Piece]:
        """Hand over ``data``; the future gives its piece. A piece larger than all room goes alone."""
        with self._changed:
            while self._failure is None and self._used and self._used + len(data) > self._room:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure
            self._used += len(data)
        return self._pool.submit(self._add, data)

    def _add(self, data: bytes) -> Piece:
        try:
            if self._failure is not None:
                raise self._failure
            return self._sink.add(data)
        except BaseException as error:
            self.stop(error)
            raise
        finally:
            with self._changed:
                self._used -= len(data)
                self._changed.notify_all()

    def stop(self, error: BaseException) -> None:
        """Let everything that has not begun fail with ``error``, and wake up who waits for room."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def __enter__(self) -> Uploads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.stop(error)
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
