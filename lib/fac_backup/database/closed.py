"""A database that is wiped and filled in place is read-only for everybody else: what an application wrote into a half
filled table would make the restore fail, and what has been wiped be lost.

Ending sessions is not enough: one that connects, writes and leaves is gone before anybody looks. What they read
meanwhile is half a database, so their sessions are ended too (:class:`~fac_backup.database.sessions.KeptOut`).

This is a setting of the database, because there is nothing else that an owner may set: a kill leaves it behind, and the
journal then says that the database was wiped. Whoever goes on with that restore takes it back.
"""

from __future__ import annotations

import psycopg2

from fac_backup.database.connection import Database, failure
from fac_backup.database.names import quoted

_SETTING = "default_transaction_read_only"


def own_value(database: Database) -> str:
    """What the database itself sets, ``off`` or empty: what :func:`reopen` wants. Raises FailedError."""
    session = database.connect(autocommit=True)
    try:
        with session.cursor() as cursor:
            cursor.execute(
                "SELECT pg_catalog.split_part(one, '=', 2) FROM pg_catalog.pg_db_role_setting AS s"
                " CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS one WHERE s.setrole = 0 AND s.setdatabase ="
                " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
                " AND pg_catalog.split_part(one, '=', 1) = %s",
                (_SETTING,),
            )
            row = cursor.fetchone()
    except psycopg2.Error as error:
        raise failure(error, f"The settings of {database.called} could not be read") from None
    finally:
        session.close()
    return "off" if row is not None and row[0] == "off" else ""


def close(database: Database) -> None:
    """From now on new sessions of others only read; ours write. Raises FailedError."""
    database.write_anyway()
    _alter(database, f"SET {_SETTING} TO on")


def reopen(database: Database, own: str) -> None:
    """Take that back. ``own`` is what :func:`own_value` has said before. Raises FailedError."""
    database.write_anyway()
    _alter(database, f"SET {_SETTING} TO off" if own == "off" else f"RESET {_SETTING}")


def _alter(database: Database, what: str) -> None:
    session = database.connect(autocommit=True)
    try:
        with session.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {quoted(database.name)} {what}")
    except psycopg2.Error as error:
        raise failure(error, f"{database.called} could not be closed, or opened again, for what others write") from None
    finally:
        session.close()
