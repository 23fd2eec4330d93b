"""Pieces on their way to the store: many at a time, and never more bytes of them in memory than agreed."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from fac_backup.plain.manifest import Piece
from fac_backup.plain.protocols import Packed, PieceSink


class Uploads:
    """Gives pieces to a sink in ``threads`` threads; :meth:`put` waits while ``room`` bytes are on their way.

    The first failure of the sink is raised by every later :meth:`put`, and by ``result()`` of the piece's future.
    Threads are many because they mostly wait for the store; what they hold is bounded by ``room`` alone. What is
    compressed counts as much as it then is, so that the waiting for the store takes little room.
    """

    def __init__(self, sink: PieceSink, *, threads: int, room: int) -> None:
        self._sink = sink
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="upload")
        self._room = room
        self._used = 0
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._waiting: set[Packed] = set()
        """For a thread that sends them."""

    def put(self, data: bytes) -> Future[Piece]:
        """Hand over ``data``, to be hashed and compressed by one of the threads; the future gives its piece."""
        self._take(len(data))
        return self._pool.submit(self._pack_and_send, [data], len(data))

    def put_now(self, data: memoryview) -> Future[Piece]:
        """Hash and compress ``data`` in this thread, and hand over what is to be sent. ``data`` is not kept."""
        self._take(len(data))
        packed = self._packed(data, len(data), wait=True)
        if packed.held:
            self._waiting.add(packed)
            return self._pool.submit(self._send, packed)
        done: Future[Piece] = Future()
        done.set_result(packed.send())
        return done

    def _take(self, size: int) -> None:
        """Wait for room. Who is larger than all room goes alone."""
        with self._changed:
            while self._failure is None and self._used and self._used + size > self._room:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure
            self._used += size

    def _free(self, size: int) -> None:
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def _pack_and_send(self, box: list[bytes], size: int) -> Piece:
        # Out of the box, so that nobody refers to the bytes once they are packed. A thread of the pool must not wait
        # for somebody who may be waiting for a thread of the pool.
        return self._send(self._packed(box.pop(), size, wait=False))

    def _packed(self, data: bytes | memoryview, size: int, *, wait: bool) -> Packed:
        held = 0
        try:
            if self._failure is not None:
                raise self._failure
            packed = self._sink.pack(data, wait=wait)
            held = packed.held
            return packed
        except BaseException as error:
            self.stop(error)
            raise
        finally:
            self._free(size - held)

    def _send(self, packed: Packed) -> Piece:
        self._waiting.discard(packed)
        try:
            return packed.send()
        except BaseException as error:
            self.stop(error)
            raise
        finally:
            self._free(packed.held)

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
        # Else another attempt of the same dump would wait for ever for what nobody sends.
        for packed in self._waiting:
            packed.drop()
