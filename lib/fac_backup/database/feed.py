"""Pieces on their way into the database: fetched ahead, in order, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from fac_backup.plain.manifest import Piece
from fac_backup.plain.protocols import PieceSource

AHEAD_BYTES = 3 * 1024 * 1024
"""How much one consumer has fetched ahead; one piece is, however large it may be."""


def fetched_ahead(
    pieces: Iterable[Piece], source: PieceSource, pool: ThreadPoolExecutor, *, room: int = AHEAD_BYTES
) -> Iterator[bytes]:
    """The bytes of ``pieces``, in order, each verified by ``source``; the next ones download meanwhile.

    While the caller is busy with a piece, at most ``room`` bytes are held besides, or one piece. Raises what
    ``source.read`` raises.
    """
    coming = iter(pieces)
    waiting: deque[tuple[int, Future[bytes]]] = deque()
    held = 0
    upcoming = next(coming, None)
    try:
        while waiting or upcoming is not None:
            while upcoming is not None and (len(waiting) < 2 or held + upcoming.size <= room):
                waiting.append((upcoming.size, pool.submit(source.read, upcoming)))
                held += upcoming.size
                upcoming = next(coming, None)
            size, future = waiting.popleft()
            data = future.result()
            held -= size
            yield data
            del data, future  # while the next one is waited for, nobody needs this one any more
    finally:
        for _, future in waiting:
            future.cancel()


class Reading:
    """Chunks as a file that psycopg2's COPY reads from."""

    def __init__(self, chunks: Iterator[bytes], stopped: Callable[[], bool] = lambda: False) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._stopped = stopped
        self.error: BaseException | None = None
        """What made a read fail: psycopg2 turns it into an error of its own and forgets it."""

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; none at the end. Raises InterruptedError once it is told to stop."""
        try:
            while not self._rest:
                if self._stopped():
                    raise InterruptedError("stopped")
                chunk = next(self._chunks, None)
                if chunk is None:
                    return b""
                if chunk and (size < 0 or len(chunk) <= size):
                    return chunk
                self._rest = memoryview(chunk)
        except BaseException as error:
            self.error = error
            raise
        taken = self._rest[:size] if size >= 0 else self._rest
        self._rest = self._rest[len(taken) :]
        return bytes(taken)

    def readline(self, size: int = -1) -> bytes:
        """Not used by COPY; part of what psycopg2's types ask for."""
        return self.read(size)
