"""One snapshot for everything: the coordinating session that holds the locks and exports what all others read.

The locks come first. A snapshot does not protect from TRUNCATE, from ALTER TABLE that rewrites, from VACUUM FULL and
CLUSTER: a table that is rewritten between the snapshot and its reading shows no rows, in silence. ``LOCK TABLE`` takes
no snapshot under REPEATABLE READ, so what is locked first and seen in the snapshot afterwards stays what it is until
the end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import psycopg2
from psycopg2 import errorcodes
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database import settings
from fac_backup.database.connection import Database, failure
from fac_backup.database.inventory import Table, tables
from fac_backup.database.names import qualified

log = logging.getLogger(__name__)

BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

PASSING = frozenset(
    {
        errorcodes.LOCK_NOT_AVAILABLE,
        errorcodes.DEADLOCK_DETECTED,
        errorcodes.UNDEFINED_TABLE,
        errorcodes.UNDEFINED_OBJECT,
        errorcodes.INVALID_SCHEMA_NAME,
        errorcodes.QUERY_CANCELED,
    }
)
"""What other sessions' work causes, and starting over may cure: locks that are held, tables that were just dropped."""


class StartOverError(Exception):
    """Somebody else's work came between: release everything and begin again. Says why, in words without data."""


class Snapshot:
    """A coordinating session with an exported snapshot; a context manager that ends it.

    ``tables`` are those of the snapshot; ``locked`` the oids of those that nobody can rewrite or drop until the end.
    """

    def __init__(self, database: Database, *, lock_wait: float) -> None:
        """Lock, then export. ``lock_wait`` in seconds. Raises StartOverError, or FailedError if it never can work."""
        self.session = database.connect()
        try:
            settings.apply_in_autocommit(self.session, settings.READING)
            set_lock_timeout(self.session, lock_wait)
            readable = [table for table in tables(self.session, sizes=False) if table.readable]
            self.locked: frozenset[int] = frozenset()
            self._begin_locked(readable, database)
            self.id = str(one(self.session, "SELECT pg_catalog.pg_export_snapshot()"))
            self.locked = frozenset(self._locked_oids())
            self.tables: tuple[Table, ...] = tables(self.session, sizes=False)
        except psycopg2.Error as error:
            self.session.close()
            raise passing_or_final(error, f"The snapshot of {database.called} could not be taken") from None
        except BaseException:
            self.session.close()
            raise

    def _begin_locked(self, readable: Iterable[Table], database: Database) -> None:
        names = ", ".join(f"ONLY {table.sql}" for table in readable)
        with self.session.cursor() as cursor:
            cursor.execute(BEGIN)
            if not names:
                return
            try:
                cursor.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
            except psycopg2.Error as error:
                if error.pgcode != errorcodes.OUT_OF_MEMORY:
                    raise
                # More tables than max_locks_per_transaction allows for two sessions: then only pg_dump holds locks.
                log.warning("%s has too many tables to lock them beforehand", database.called)
                cursor.execute("ROLLBACK")
                cursor.execute(BEGIN)

    def _locked_oids(self) -> list[int]:
        with self.session.cursor() as cursor:
            cursor.execute(
                "SELECT l.relation::pg_catalog.int8 FROM pg_catalog.pg_locks AS l"
                " WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted"
                " AND l.mode = 'AccessShareLock' AND l.database ="
                " (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())"
            )
            return [row[0] for row in cursor.fetchall()]

    @property
    def holds_all(self) -> bool:
        """Whether all tables that can be read are locked."""
        return {table.oid for table in self.tables if table.readable} <= self.locked

    def sized_tables(self) -> tuple[Table, ...]:
        """The tables with sizes and pages; only where all of them are locked, so that asking waits for nobody."""
        if not self.holds_all:
            return ()
        return tuple(table for table in tables(self.session, sizes=True) if table.oid in self.locked)

    def changed_under_us(self, read: Iterable[Table]) -> list[Table]:
        """Of the tables that were read, those that were rewritten, or whose name came to mean another table."""
        wanted = {table.oid: table for table in read}
        if not wanted:
            return []
        with self.session.cursor() as cursor:
            cursor.execute(
                "SELECT w.oid FROM unnest(%s::pg_catalog.int8[], %s::pg_catalog.text[]) AS w(oid, name)"
                " LEFT JOIN pg_catalog.pg_class AS c ON c.oid = w.oid::pg_catalog.oid"
                " WHERE c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)"
                " OR pg_catalog.to_regclass(w.name)::pg_catalog.oid IS DISTINCT FROM c.oid",
                (list(wanted), [qualified(table.schema, table.name) for table in wanted.values()]),
            )
            return [wanted[row[0]] for row in cursor.fetchall()]

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()


def join(
    database: Database, snapshot_id: str, chosen: Iterable[Table], session_settings: Mapping[str, str], name: str
) -> Connection:
    """A further session on an exported snapshot, holding locks on ``chosen`` (with partitions) itself.

    The locks are taken at once or not at all: an ALTER TABLE that waits for the coordinator makes every later ACCESS
    SHARE wait for it, which would be a deadlock that no server detects. Raises StartOverError then.
    """
    session = database.connect(application_name=name)
    try:
        settings.apply_in_autocommit(session, session_settings)
        names = ", ".join(table.sql if table.kind == "p" else f"ONLY {table.sql}" for table in chosen)
        with session.cursor() as cursor:
            cursor.execute(BEGIN)
            cursor.execute("SET TRANSACTION SNAPSHOT %s", (snapshot_id,))
            if names:
                cursor.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE NOWAIT")
    except psycopg2.Error as error:
        session.close()
        raise passing_or_final(error, f"The snapshot of {database.called} could not be shared") from None
    except BaseException:
        session.close()
        raise
    return session


def set_lock_timeout(session: Connection, seconds: float) -> None:
    """How long a lock is waited for in this session."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.set_config('lock_timeout', %s, false)", (f"{max(1, round(seconds * 1000))}ms",)
        )


def passing_or_final(error: psycopg2.Error, what: str) -> Exception:
    """StartOverError for what other sessions' work causes, FailedError for the rest."""
    if error.pgcode in PASSING:
        if error.pgcode in (errorcodes.LOCK_NOT_AVAILABLE, errorcodes.DEADLOCK_DETECTED):
            return StartOverError("somebody holds an exclusive lock on a table (ALTER, TRUNCATE, VACUUM FULL, …)")
        if error.pgcode == errorcodes.QUERY_CANCELED:
            return StartOverError("the server cancelled a query")
        return StartOverError("a table was dropped or renamed at that moment")
    return failure(error, what)


def one(session: Connection, query: str) -> Any:
    """The one value that ``query`` answers."""
    with session.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    return row[0] if row else None
