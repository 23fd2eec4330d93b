"""The fast lane for big tables: page ranges, read as COPY text by several sessions of one snapshot.

An unchanged page range gives the same text the next day, so the store has its piece already, and nothing is compressed
or uploaded. What may be read this way, and under which locks and settings, is described in docs/format.md.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database import inventory, settings
from fac_backup.database.connection import Database
from fac_backup.database.inventory import Table
from fac_backup.database.names import codec_of as codec_of  # noqa: PLC0414 - loading finds it here too
from fac_backup.database.names import quoted
from fac_backup.database.snapshot import join, one, passing_or_final
from fac_backup.database.uploads import Uploads
from fac_backup.plain.manifest import Piece, RangedTable, TableRows

OLDEST_SERVER = 14
"""TID range scans came with PostgreSQL 14."""

PIECE_BYTES = 8 * 1024 * 1024
"""A range whose text is longer is cut at this size."""

_MOST_PATTERN_BYTES = 512 * 1024
"""Tables leave the archive by an argument each; Linux takes about 2 MB of them."""


@dataclass(frozen=True)
class PageRange:
    """Pages ``first`` up to, not including, ``end``; ``end`` None means to the end of the table, however long it is."""

    first: int
    end: int | None


def page_ranges(pages: int, step: int) -> Iterator[PageRange]:
    """Cut ``pages`` pages into ranges of ``step``, the last one open.

    >>> list(page_ranges(5, 4))
    [PageRange(first=0, end=4), PageRange(first=4, end=None)]
    """
    last = max(pages - 1, 0) // step * step
    for first in range(0, last, step):
        yield PageRange(first, first + step)
    yield PageRange(last, None)


def copy_statement(table: Table, pages: PageRange) -> str:
    """COPY of one page range as text; of this table only, not of those that inherit from it."""
    columns = ", ".join(quoted(column) for column in table.columns)
    condition = f"ctid >= '({pages.first},0)'::pg_catalog.tid"
    if pages.end is not None:
        condition += f" AND ctid < '({pages.end},0)'::pg_catalog.tid"
    return f"COPY (SELECT {columns} FROM ONLY {table.sql} WHERE {condition}) TO STDOUT"  # noqa: S608 - quoted


def choose(
    tables: Sequence[Table], *, threshold: int, without_data: Sequence[Table], server_version: int
) -> list[Table]:
    """Which tables leave the archive, largest first: of the right kind, at least ``threshold`` bytes, PostgreSQL 14 or
    newer.
    """
    if server_version < OLDEST_SERVER * 10000:
        return []
    skip = {table.oid for table in without_data}
    fitting = sorted(
        (t for t in tables if t.rangeable and t.readable and t.size >= threshold and t.oid not in skip),
        key=lambda table: (-table.size, table.schema, table.name),
    )
    chosen: list[Table] = []
    room = _MOST_PATTERN_BYTES
    for table in fitting:
        room -= len(table.sql.encode()) + 40
        if room < 0:
            break
        chosen.append(table)
    return chosen


class _Collector(io.RawIOBase):
    """Where COPY text of one session goes, range after range: hands it over in pieces of at most ``PIECE_BYTES``.

    A usual range stands whole in the buffer before it, and is hashed and compressed where it stands.
    """

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._held = bytearray()
        self._pieces: list[Future[Piece]] = []
        self._ends = False
        self.buffer = io.BufferedWriter(self, PIECE_BYTES)

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        length = len(view)
        while view:
            part = view[: PIECE_BYTES - len(self._held)]
            view = view[len(part) :]
            if self._held or (len(part) < PIECE_BYTES and not self._ends):
                self._held += part
                if len(self._held) == PIECE_BYTES:
                    self._hand_over_held()
            else:
                self._pieces.append(self._uploads.put_now(part))
        return length

    def _hand_over_held(self) -> None:
        if self._held:
            held, self._held = self._held, bytearray()
            self._pieces.append(self._uploads.put_now(memoryview(held)))

    def end_of_range(self) -> list[Future[Piece]]:
        """The pieces since the last range."""
        self._ends = True
        self.buffer.flush()
        self._hand_over_held()
        self._ends = False
        pieces, self._pieces = self._pieces, []
        return pieces


@dataclass
class _Reading:
    """A ranged table while it is read: what came of each range."""

    table: Table
    ranges: dict[int, tuple[Piece, ...]] = field(default_factory=dict)
    rows: int = 0


class Reader:
    """Several sessions on one snapshot that read page ranges and count rows, each in a thread of its own.

    A context manager: the sessions join the snapshot and lock all chosen tables before anything is read; leaving it
    ends them, whatever they do.
    """

    def __init__(
        self,
        database: Database,
        snapshot_id: str,
        chosen: Sequence[Table],
        to_count: Sequence[Table],
        *,
        sessions: int,
        uploads: Uploads,
        step: int,
    ) -> None:
        self._database = database
        self._chosen = chosen
        self._uploads = uploads
        self._step = step
        self._readings = [_Reading(table) for table in chosen]
        ranged = {table.oid for table in chosen}
        self._to_count = [table for table in to_count if table.oid not in ranged]
        self._counts: dict[int, TableRows] = {}
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._ranges = self._all_ranges()
        self._codec = "utf-8"
        self._sessions: list[Connection] = []
        try:
            for number in range(sessions):
                name = f"fac-backup reader {number + 1}"
                # The first session counts, so it must not have to wait for a lock on what it counts either.
                locked = chosen if number else [*chosen, *self._to_count]
                self._sessions.append(join(database, snapshot_id, locked, settings.BY_RANGES, name))
            self._speak_the_servers_encoding()
        except BaseException:
            self._close()
            raise

    def _speak_the_servers_encoding(self) -> None:
        """No conversion: the text is the table's own bytes, also where the encoding is SQL_ASCII."""
        for session in self._sessions:
            encoding = str(one(session, "SHOW server_encoding"))
            codec = codec_of(encoding)
            if codec is not None:
                self._codec = codec
                with session.cursor() as cursor:
                    cursor.execute("SELECT pg_catalog.set_config('client_encoding', %s, false)", (encoding,))

    def start(self, on_failure: Callable[[], None]) -> None:
        """Begin to read, largest table first, and then to count rows. ``on_failure`` is called once if a thread
        fails.
        """
        for session in self._sessions:
            thread = threading.Thread(target=self._work, args=(session, on_failure), name="reader", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _all_ranges(self) -> Iterator[tuple[_Reading, PageRange]]:
        for reading in self._readings:
            for pages in page_ranges(reading.table.pages, self._step):
                yield reading, pages

    def _work(self, session: Connection, on_failure: Callable[[], None]) -> None:
        collector = _Collector(self._uploads)
        sent: deque[tuple[_Reading, PageRange, list[Future[Piece]]]] = deque()
        try:
            while self._failure is None:
                with self._lock:
                    task = next(self._ranges, None)
                if task is None:
                    break
                sent.append((*task, self._read(session, *task, collector)))
                self._note(sent, wait=False)
            self._note(sent, wait=True)
            if session is self._sessions[0]:
                self._count(session)
        except BaseException as error:
            with self._lock:
                first = self._failure is None
                self._failure = self._failure or error
            if first:
                self._uploads.stop(error)
                self._cancel()
                on_failure()

    def _note(self, sent: deque[tuple[_Reading, PageRange, list[Future[Piece]]]], *, wait: bool) -> None:
        """Keep the pieces of what has arrived: a future takes three times the room."""
        while sent and (wait or all(future.done() for future in sent[0][2])):
            reading, pages, futures = sent.popleft()
            pieces = tuple(future.result() for future in futures)
            with self._lock:
                reading.ranges[pages.first] = pieces

    def _read(
        self, session: Connection, reading: _Reading, pages: PageRange, collector: _Collector
    ) -> list[Future[Piece]]:
        with session.cursor() as cursor:
            cursor.copy_expert(copy_statement(reading.table, pages).encode(self._codec), collector.buffer)
            rows = cursor.rowcount
        pieces = collector.end_of_range()
        with self._lock:
            reading.rows += rows
        return pieces

    def _count(self, session: Connection) -> None:
        with session.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = on")
        for table in self._to_count:
            if self._failure is not None:
                return
            rows = inventory.count_rows(session, table, self._codec)
            self._counts[table.oid] = TableRows(schema_name=table.schema, table=table.name, rows=rows)

    def raise_failure(self) -> None:
        """Raise what made a thread fail, if one did: StartOverError, FailedError, or the sink's own error."""
        error = self._failure
        if isinstance(error, psycopg2.Error):
            raise passing_or_final(error, f"Reading {self._database.called} by page ranges failed") from None
        if error is not None:
            raise error

    def finish(self) -> tuple[tuple[RangedTable, ...], tuple[TableRows, ...]]:
        """Wait for all threads. The ranged tables, and the rows of all tables that were read or counted."""
        for thread in self._threads:
            thread.join()
        self.raise_failure()
        ranged = tuple(
            RangedTable(
                schema_name=reading.table.schema,
                table=reading.table.name,
                columns=reading.table.columns,
                rows=reading.rows,
                ranges=tuple(reading.ranges[first] for first in sorted(reading.ranges) if reading.ranges[first]),
            )
            for reading in sorted(self._readings, key=lambda reading: (reading.table.schema, reading.table.name))
        )
        rows = [TableRows(schema_name=t.schema_name, table=t.table, rows=t.rows) for t in ranged]
        rows += self._counts.values()
        return ranged, tuple(sorted(rows, key=lambda row: (row.schema_name, row.table)))

    def _cancel(self) -> None:
        for session in self._sessions:
            with suppress(psycopg2.Error):
                session.cancel()

    def _close(self) -> None:
        for session in self._sessions:
            with suppress(psycopg2.Error):
                session.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._failure = self._failure or error
            self._uploads.stop(error)
            self._cancel()
        for thread in self._threads:
            thread.join()
        self._close()
