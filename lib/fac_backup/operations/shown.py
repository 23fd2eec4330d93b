"""Pieces that go by, as progress: bytes before compression, of as many as there will be (or were the last time)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.manifest import Manifest, Piece
from fac_backup.plain.protocols import Packed, PieceSink, PieceSource
from fac_backup.report.progress import Task
from fac_backup.store.catalog import Entry


class _Counted:
    """What is added or read counts; where it becomes more than was foreseen, so much was to do."""

    def __init__(self, task: Task, total: int | None) -> None:
        self._task, self._total, self._done = task, total, 0

    def count(self, amount: int) -> None:
        self._done += amount
        if self._total is not None and self._done > self._total:
            self._task.set_total(self._done)
        self._task.advance(amount)


class _Sink(_Counted):
    def __init__(self, sink: PieceSink, task: Task, total: int | None) -> None:
        super().__init__(task, total)
        self._sink = sink

    def pack(self, data: bytes | memoryview, *, wait: bool) -> Packed:
        packed = self._sink.pack(data, wait=wait)
        self.count(len(data))
        return packed


class _Source(_Counted):
    def __init__(self, source: PieceSource, task: Task, total: int | None) -> None:
        super().__init__(task, total)
        self._source = source

    def read(self, piece: Piece) -> bytes:
        data = self._source.read(piece)
        self.count(len(data))
        return data


@contextmanager
def dumping(sink: PieceSink, around: Surroundings, last: Entry | None) -> Iterator[PieceSink]:
    """``sink``, and a bar of what a dump gives it; ``last`` is a backup that tells about how much that will be."""
    total = last.pieces_size if last else None
    with around.progress().task("Database", total) as task:
        yield _Sink(sink, task, total)


@contextmanager
def loading(source: PieceSource, around: Surroundings, manifest: Manifest, words: str) -> Iterator[PieceSource]:
    """``source``, and a bar called ``words`` of what is read of the pieces of ``manifest``."""
    total = sum(piece.size for piece in manifest.pieces())
    with around.progress().task(words, total) as task:
        yield _Source(source, task, total)
