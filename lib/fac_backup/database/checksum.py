# ruff: noqa: S608 - names reach statements only through names.quoted()
"""Compares a restored database with the backup's own bytes, row by row, without regard to order.

A table's checksum is the sum of its rows' hashes (of their COPY text): the same in whatever order they stand. What a
backup should give is computed from its pieces, what a restore gave from the database.
"""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database import settings
from fac_backup.database.connection import Database, failure
from fac_backup.database.contents import Head, plain_environment
from fac_backup.database.feed import fetched_ahead
from fac_backup.database.names import qualified, quoted
from fac_backup.database.ranges import codec_of
from fac_backup.database.statements import tokens
from fac_backup.plain import manifest
from fac_backup.plain.errors import FacBackupError, IntegrityError
from fac_backup.plain.protocols import PieceSource

_MODULUS = 1 << 128
_READ = 1 << 20
_LONGEST_STATEMENT = 16 * 1024 * 1024


@dataclass
class Sum:
    """Rows and the sum of their hashes."""

    rows: int = 0
    total: int = 0

    def add_text(self, lines: Iterable[bytes]) -> None:
        """Count rows, each without its line feed."""
        count = 0
        total = 0
        for line in lines:
            count += 1
            total += int.from_bytes(hashlib.blake2b(line, digest_size=16).digest(), "little")
        self.rows += count
        self.total = (self.total + total) % _MODULUS

    def add(self, other: Sum) -> None:
        """Add another part of the same table."""
        self.rows += other.rows
        self.total = (self.total + other.total) % _MODULUS


@dataclass(frozen=True)
class TableKey:
    """A table and the columns that its COPY text has, in order."""

    schema: str
    table: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """A table that is not what the backup says; names are as they are."""

    schema: str
    table: str
    expected_rows: int
    found_rows: int | None
    """None: the table is not there."""

    @property
    def only_content(self) -> bool:
        """Whether the number of rows agrees, and only what is in them does not."""
        return self.expected_rows == self.found_rows


class _Lines:
    """Cuts chunks into lines, whatever the chunks' ends are."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, chunk: bytes) -> list[bytes]:
        """The lines that are complete now."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        return lines

    def end(self) -> None:
        """Raise IntegrityError if the last line never ended."""
        if self._rest:
            raise IntegrityError("A piece of a table's data ends in the middle of a row")


def expected(part: manifest.Database, pieces: PieceSource, head: Head, *, downloads: int = 4) -> dict[TableKey, Sum]:
    """The checksums of all tables, from the backup's pieces alone. Raises IntegrityError if they are damaged."""
    with ThreadPoolExecutor(downloads, thread_name_prefix="download") as pool:
        sums = _of_archive(part, fetched_ahead(part.archive.pieces, pieces, pool), head)
        for table in part.tables:
            one = Sum()
            lines = _Lines()
            for chunk in fetched_ahead((piece for run in table.ranges for piece in run), pieces, pool):
                one.add_text(lines.of(chunk))
            lines.end()
            sums[TableKey(table.schema_name, table.table, table.columns)] = one
    return sums


def _of_archive(part: manifest.Database, chunks: Iterator[bytes], head: Head) -> dict[TableKey, Sum]:
    """Let pg_restore write the tables' data as text, and add up its COPY blocks while it does."""
    entries = head.of("TABLE DATA")
    if not entries:
        return {}
    chosen = head.write_list(head.file.parent / "tables-data", entries)
    command = (head.client.program("pg_restore"), "--data-only", f"--use-list={chosen}", "--file=-")
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=plain_environment(),
        bufsize=0,
    )  # fmt: skip
    broken: list[FacBackupError] = []

    def feed() -> None:
        assert process.stdin is not None  # noqa: S101 - it was asked for
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[process.stdin.write(view) or 0 :]
        except BrokenPipeError:
            pass
        except FacBackupError as error:
            broken.append(error)
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()

    feeder = threading.Thread(target=feed, name="feed", daemon=True)
    feeder.start()
    assert process.stdout is not None  # noqa: S101 - it was asked for
    try:
        return copy_blocks(iter(lambda: process.stdout.read(_READ), b""), codec_of(part.encoding) or "utf-8")  # type: ignore[union-attr]
    finally:
        process.stdout.close()
        feeder.join()
        status = process.wait()
        if broken:
            raise broken[0]
        if status != 0:
            raise IntegrityError("pg_restore cannot read the data in the archive")


def copy_blocks(chunks: Iterable[bytes], codec: str) -> dict[TableKey, Sum]:
    """The checksums of the COPY blocks in a script of pg_restore; blocks of one table are added up."""
    sums: dict[TableKey, Sum] = {}
    lines = _Lines()
    statement = b""
    current: Sum | None = None
    for chunk in chunks:
        found = lines.of(chunk)
        start = 0
        while start < len(found):
            if current is not None:
                try:
                    end = found.index(b"\\.", start)
                except ValueError:
                    end = len(found)
                current.add_text(found[start:end])
                start = end
                if end < len(found):
                    current, start = None, end + 1
                continue
            line = found[start]
            start += 1
            # Names may hold line feeds, so a COPY may stand on several lines.
            if statement or line.startswith(b"COPY "):
                statement += (b"\n" if statement else b"") + line
                if len(statement) > _LONGEST_STATEMENT:
                    raise IntegrityError("A statement in the archive never ends")
                key = _copy_target(statement.decode(codec, "surrogateescape")) if line.endswith(b";") else None
                if key is not None:
                    current = sums.setdefault(key, Sum())
                    statement = b""
    if current is not None or statement:
        raise IntegrityError("The data in the archive ends in the middle of a table")
    return sums


def _copy_target(statement: str) -> TableKey | None:
    """What ``COPY schema.table (columns) FROM stdin;`` copies into; None while the statement is not complete."""
    try:
        parts = list(tokens(statement))
    except IntegrityError:
        return None
    names = [token.identifier for token in parts if token.kind in ("name", "word")]
    if not (len(parts) > 5 and parts[-1].kind == "end" and parts[-2].is_word("STDIN") and parts[-3].is_word("FROM")):
        return None
    columns = tuple(name for name in names[3:-2] if name is not None)
    return TableKey(names[1] or "", names[2] or "", columns)


@dataclass
class _Summing:
    """What psycopg2's COPY TO writes into; a chunk is one row or several, never part of one."""

    sum: Sum = field(default_factory=Sum)

    def write(self, data: bytes) -> int:
        self.sum.add_text(data.removesuffix(b"\n").split(b"\n"))
        return len(data)


def found(database: Database, keys: Sequence[TableKey], *, encoding: str, jobs: int = 2) -> dict[TableKey, Sum | None]:
    """The checksums of the same tables in ``database``; None for a table that is not there. Raises FailedError.

    A partitioned table counts without those of its leaves that are among ``keys`` themselves.
    """
    todo = list(keys)
    sums: dict[TableKey, Sum | None] = {}
    failed: list[BaseException] = []
    lock = threading.Lock()

    def work() -> None:
        try:
            session = database.connect(autocommit=True)
            try:
                settings.apply_in_autocommit(session, settings.READING)
                while not failed:
                    with lock:
                        if not todo:
                            return
                        key = todo.pop()
                    one = _sum_of(session, key, keys, encoding)
                    with lock:
                        sums[key] = one
            finally:
                session.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, name="checksum", daemon=True) for _ in range(max(1, jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        if isinstance(failed[0], psycopg2.Error):
            raise failure(failed[0], f"The rows of {database.called} could not be read") from None
        raise failed[0]
    return sums


def _sum_of(session: Connection, key: TableKey, keys: Sequence[TableKey], encoding: str) -> Sum | None:
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT c.relkind, c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
            " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
            (key.schema, key.table),
        )
        row: Any = cursor.fetchone()
        if row is None or row[0] not in ("r", "p"):
            return None
        columns = ", ".join(quoted(column) for column in key.columns)
        if row[0] == "r":
            query = f"SELECT {columns} FROM ONLY {qualified(key.schema, key.table)}"
        else:
            cursor.execute(
                "SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
                " JOIN ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) AS k(schema, name)"
                " ON k.schema = n.nspname AND k.name = c.relname WHERE c.relkind = 'r'",
                ([other.schema for other in keys], [other.table for other in keys]),
            )
            leaves = ", ".join(str(int(oid)) for (oid,) in cursor.fetchall()) or "0"
            query = f"SELECT {columns} FROM {qualified(key.schema, key.table)} WHERE tableoid NOT IN ({leaves})"
        sink = _Summing()
        cursor.execute("SHOW client_encoding")
        ours = (cursor.fetchone() or ("UTF8",))[0]
        statement = f"COPY ({query}) TO STDOUT".encode(codec_of(encoding) or "utf-8", "surrogateescape")
        # The rows' own encoding; psycopg2 does not learn of it, so only for a statement that is bytes already.
        cursor.execute("SELECT pg_catalog.set_config('client_encoding', %s, false)", (encoding,))
        cursor.copy_expert(statement, sink, size=_READ)
        cursor.execute("SELECT pg_catalog.set_config('client_encoding', %s, false)", (ours,))
    return sink.sum


def compare(expected_sums: dict[TableKey, Sum], found_sums: dict[TableKey, Sum | None]) -> tuple[Difference, ...]:
    """The tables that are not as they should be, by name."""
    wrong = []
    for key, should in expected_sums.items():
        have = found_sums.get(key)
        if have != should:
            wrong.append(Difference(key.schema, key.table, should.rows, None if have is None else have.rows))
    return tuple(sorted(wrong, key=lambda one: (one.schema, one.table)))


def rehearse(
    database: Database, part: manifest.Database, pieces: PieceSource, head: Head, *, jobs: int = 2
) -> tuple[Difference, ...]:
    """Compare ``database``, into which ``part`` was just restored, with the pieces themselves: what differs, if
    anything.
    """
    should = expected(part, pieces, head)
    return compare(should, found(database, tuple(should), encoding=part.encoding, jobs=jobs))


def compare_live(session: Connection, part: manifest.Database) -> tuple[Difference, ...]:
    """Tables whose number of rows is now another than in the backup: news, no error, for the database has moved on."""
    differences = []
    with session.cursor() as cursor:
        for row in part.rows:
            cursor.execute(
                "SELECT c.relkind FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
                " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')",
                (row.schema_name, row.table),
            )
            kind = cursor.fetchone()
            have: int | None = None
            if kind is not None:
                only = "" if kind[0] == "p" else "ONLY "
                cursor.execute(f"SELECT count(*) FROM {only}{qualified(row.schema_name, row.table)}")
                have = int((cursor.fetchone() or (0,))[0])
            if have != row.rows:
                differences.append(Difference(row.schema_name, row.table, row.rows, have))
    return tuple(differences)
