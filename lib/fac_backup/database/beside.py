"""A restored database that is not swapped in but given to whoever asked for it, to look at."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg2

from fac_backup.database import scratch, sessions
from fac_backup.database.connection import Database, failure
from fac_backup.database.names import qualified, quoted
from fac_backup.plain.errors import UsageError
from fac_backup.plain.text import one_line


def require_free(database: Database, name: str) -> None:
    """Raise UsageError unless ``name`` can name a new database and none is called so."""
    if not name or len(name.encode()) > 63 or name in ("postgres", "template0", "template1", database.name):
        raise UsageError("That name cannot be given to the database beside", next_step="Give another one to --beside.")
    session = database.connect(autocommit=True)
    try:
        if scratch.exists(session, name):
            raise UsageError(
                "There is already a database of the name given to --beside",
                next_step="Give another name, or drop that one if nobody needs it.",
            )
    finally:
        session.close()


def give_away(database: Database, made: str, name: str) -> None:
    """Rename the scratch database ``made`` to ``name`` and take our comment off: it is nobody's leftover any more."""
    scratch.release(database, made)
    session = sessions.elsewhere(database, avoid=(made,))
    try:
        with session.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {quoted(made)} RENAME TO {quoted(name)}")
            cursor.execute(f"COMMENT ON DATABASE {quoted(name)} IS NULL")
    except psycopg2.Error as error:
        raise failure(error, "The database beside could not be renamed") from None
    finally:
        session.close()


def keep_only(database: Database, made: str, tables: Iterable[str]) -> None:
    """Drop every table of the scratch database but ``tables`` (``schema.table``), with what depends on the others.

    Raises UsageError if one of ``tables`` is not there.
    """
    wanted = {tuple(table.split(".", 1)) if "." in table else ("public", table) for table in tables}
    session = database.connect(made)
    try:
        with session.cursor() as cursor:
            cursor.execute(
                "SELECT n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
                " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition"
                " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
            )
            there = {(schema, table) for schema, table, _ in cursor.fetchall()}
            missing = sorted(".".join(one) for one in wanted - there)
            if missing:
                raise UsageError(
                    f"The backup has no table {one_line(missing[0], 130)}", next_step="Write --only as schema.table."
                )
            for schema, table in sorted(there - wanted):
                cursor.execute(f"DROP TABLE IF EXISTS {qualified(schema, table)} CASCADE")
        session.commit()
    except psycopg2.Error as error:
        raise failure(error, "The tables that are not wanted could not be dropped") from None
    finally:
        session.close()
