# ruff: noqa: S608 - names reach statements only through names.quoted()
"""Sessions that load: their settings, and COPY of ranged tables into a restored schema."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database import settings
from fac_backup.database.connection import Database, failure
from fac_backup.database.crew import Crew
from fac_backup.database.feed import Reading, fetched_ahead
from fac_backup.database.names import qualified, quoted
from fac_backup.database.ranges import codec_of
from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import Piece, RangedTable
from fac_backup.plain.protocols import PieceSource
from fac_backup.plain.text import one_line

LOADING: Mapping[str, str] = MappingProxyType(
    {
        "datestyle": "ISO",
        "intervalstyle": "postgres",
        "xmloption": "content",
        "row_security": "off",
        "check_function_bodies": "off",
        "array_nulls": "on",
        "default_transaction_read_only": "off",
        # What is loaded counts only once the swap, or the marker of an in-place restore, is committed synchronously.
        "synchronous_commit": "off",
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
    }
)

_SINCE = MappingProxyType({"idle_session_timeout": 140000, "transaction_timeout": 170000})

BATCH_BYTES = 8 * 1024 * 1024
"""Consecutive ranges of one table go into one COPY up to this size."""

_BUFFER = 8 * 1024 * 1024
"""What COPY asks for at a time: a usual piece, which then is handed over as it is."""


def settings_for(server_version: int, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The settings of a session that loads, as far as a server of that version knows them."""
    known = {name: "0" for name, since in _SINCE.items() if server_version >= since}
    return {**LOADING, **known, **(more or {})}


def open_session(database: Database, into: str, *, role: str | None) -> Connection:
    """A session in autocommit that loads, as ``role`` if that is not its own."""
    session = database.connect(into, autocommit=True)
    try:
        settings.apply_in_autocommit(session, settings_for(session.info.server_version))
        with session.cursor() as cursor:
            if role is not None:
                cursor.execute(f"SET ROLE {quoted(role)}")
    except psycopg2.Error as error:
        session.close()
        raise failure(error, f"A session that loads {database.called} could not be prepared") from None
    return session


def check_ranged(session: Connection, tables: Sequence[RangedTable]) -> None:
    """Every ranged table is an ordinary table of the restored schema, with exactly the manifest's columns.

    Raises IntegrityError otherwise: a manifest must not lead rows to where the archive does not.
    """
    with session.cursor() as cursor:
        generated = "a.attgenerated = ''" if session.info.server_version >= 120000 else "true"
        cursor.execute(
            "SELECT n.nspname, c.relname, c.relkind, ARRAY(SELECT a.attname::pg_catalog.text"
            " FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            f" AND {generated}) FROM pg_catalog.pg_class AS c"
            " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
            " JOIN ROWS FROM (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[]))"
            " AS wanted(schema, name) ON n.nspname = wanted.schema AND c.relname = wanted.name",
            ([table.schema_name for table in tables], [table.table for table in tables]),
        )
        found = {(row[0], row[1]): (row[2], sorted(row[3])) for row in cursor.fetchall()}
    seen = set()
    for table in tables:
        name = (table.schema_name, table.table)
        if name in seen or found.get(name) != ("r", sorted(table.columns)):
            raise IntegrityError(
                f"The manifest has rows for {one_line('.'.join(name), 140)}, which is not such a table in the archive",
                next_step="Choose another backup (`fac-backup list`), and keep this bucket as it is for the analysis.",
            )
        seen.add(name)


@dataclass(frozen=True)
class Batch:
    """Consecutive ranges of one table, for one COPY."""

    table: RangedTable
    pieces: tuple[Piece, ...]


def batches(tables: Sequence[RangedTable]) -> Iterator[Batch]:
    """Cut the tables into batches of whole ranges, at most :data:`BATCH_BYTES` each where ranges are smaller."""
    for table in tables:
        held: list[Piece] = []
        size = 0
        for run in table.ranges:
            run_size = sum(piece.size for piece in run)
            if held and size + run_size > BATCH_BYTES:
                yield Batch(table, tuple(held))
                held, size = [], 0
            held += run
            size += run_size
        if held:
            yield Batch(table, tuple(held))


class Copier:
    """Loads batches by COPY in several threads of a crew, and counts rows."""

    def __init__(
        self, tables: Sequence[RangedTable], pieces: PieceSource, pool: ThreadPoolExecutor, crew: Crew, encoding: str
    ) -> None:
        self._tables = tables
        self._pieces = pieces
        self._pool = pool
        self._crew = crew
        self._encoding = encoding
        self._codec = codec_of(encoding) or "utf-8"
        self._todo = deque(batches(tables))
        self._rows = dict.fromkeys(((t.schema_name, t.table) for t in tables), 0)
        self._lock = threading.Lock()

    @property
    def batches_left(self) -> int:
        """How many batches nobody has begun."""
        return len(self._todo)

    def work(self, session: Connection) -> None:
        """Load batches until none is left or somebody fails."""
        self._crew.on_stop(session.cancel)
        with session.cursor() as cursor:
            # From here on statements are bytes in the data's own encoding: psycopg2 does not learn of the change.
            cursor.execute("SELECT pg_catalog.set_config('client_encoding', %s, false)", (self._encoding,))
        while not self._crew.stopped():
            try:
                batch = self._todo.popleft()
            except IndexError:
                return
            self._copy(session, batch)

    def _copy(self, session: Connection, batch: Batch) -> None:
        table = batch.table
        columns = ", ".join(quoted(column) for column in table.columns)
        statement = f"COPY {qualified(table.schema_name, table.table)} ({columns}) FROM STDIN"
        source = Reading(fetched_ahead(batch.pieces, self._pieces, self._pool), self._crew.stopped)
        with session.cursor() as cursor:
            try:
                cursor.copy_expert(statement.encode(self._codec, "surrogateescape"), source, size=_BUFFER)
            except psycopg2.Error:
                if source.error is not None:
                    raise source.error from None
                raise
            with self._lock:
                self._rows[(table.schema_name, table.table)] += cursor.rowcount

    def check(self) -> None:
        """Raise IntegrityError unless every table got as many rows as the manifest says."""
        for table in self._tables:
            require_rows(table.schema_name, table.table, table.rows, self._rows[(table.schema_name, table.table)])


def require_rows(schema: str, table: str, wanted: int, have: int) -> None:
    """Raise IntegrityError if a table has other than the wanted number of rows."""
    if wanted != have:
        raise IntegrityError(
            f"{one_line(f'{schema}.{table}', 140)} has {have} rows after the restore, the manifest says {wanted}",
            next_step="Choose another backup (`fac-backup list`), and verify this one (`fac-backup verify`).",
        )
