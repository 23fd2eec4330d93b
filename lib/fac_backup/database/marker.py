"""The marker: a small table in each database that says which space it is.

It is never part of a backup, never compared, and spared when a database is wiped: a database says what it is by its
own marker, whatever was restored into it. A table and not a setting of the database, because an owner who is no
superuser may not set a parameter of his own making.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database.connection import failure
from fac_backup.database.inventory import MARKER_SCHEMA
from fac_backup.database.names import quoted
from fac_backup.plain.backup_id import is_name
from fac_backup.plain.errors import FailedError, RefusedError
from fac_backup.plain.text import one_line


@dataclass(frozen=True)
class Marker:
    """Which space a database is, since when, and by whom (a public name, as GitHub shows it) it was adopted."""

    space: str
    adopted_at: datetime
    adopted_by: str
    restored: str = ""
    """What was restored into it last, as the operation that did it calls itself. Empty: nothing yet."""


def read(session: Connection) -> Marker | None:
    """The marker of the session's database; None if it has none.

    Raises RefusedError if there is something in its place that is no marker, and FailedError if it cannot be read.
    """
    try:
        with session.cursor() as cursor:
            cursor.execute(
                "SELECT c.relkind = 'r' FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
                " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = 'marker'",
                (MARKER_SCHEMA,),
            )
            kind = cursor.fetchone()
            if kind is None:
                return None
            if not kind[0]:
                raise _no_marker()
            cursor.execute("SELECT space, adopted_at, adopted_by, restored FROM fac_backup.marker LIMIT 2")
            rows = cursor.fetchall()
    except psycopg2.errors.UndefinedColumn:
        raise _no_marker() from None
    except psycopg2.Error as error:
        raise failure(error, "The marker of the database could not be read") from None
    if not rows:
        return None
    if len(rows) > 1 or not is_name(str(rows[0][0])):
        raise _no_marker()
    space, adopted_at, adopted_by, restored = rows[0]
    return Marker(str(space), adopted_at, str(adopted_by), str(restored))


def write(session: Connection, marker: Marker) -> None:
    """Make the marker anew in the session's transaction (or at once, in autocommit). Others may not change it.

    Raises FailedError if the role may not.
    """
    try:
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.to_regclass('fac_backup.marker') IS NULL")
            if (cursor.fetchone() or (True,))[0]:
                cursor.execute("CREATE SCHEMA IF NOT EXISTS fac_backup")
                cursor.execute(
                    "CREATE TABLE fac_backup.marker ("
                    " only_one pg_catalog.bool PRIMARY KEY DEFAULT true CHECK (only_one),"
                    " space pg_catalog.text NOT NULL, adopted_at pg_catalog.timestamptz NOT NULL,"
                    " adopted_by pg_catalog.text NOT NULL, restored pg_catalog.text NOT NULL)"
                )
                cursor.execute(
                    "COMMENT ON SCHEMA fac_backup IS 'Says which space this database is. Not part of any backup.'"
                )
                _withdraw_default_grants(session)
            cursor.execute(
                "INSERT INTO fac_backup.marker (space, adopted_at, adopted_by, restored) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (only_one) DO UPDATE SET space = excluded.space, adopted_at = excluded.adopted_at,"
                " adopted_by = excluded.adopted_by, restored = excluded.restored",
                (marker.space, marker.adopted_at, one_line(marker.adopted_by), marker.restored),
            )
    except psycopg2.Error as error:
        raise failure(
            error,
            "The marker of the database could not be written",
            next_step="The role needs CREATE on the database, as its owner has.",
        ) from None


def _withdraw_default_grants(session: Connection) -> None:
    """Default privileges may have given others rights on what we have just made."""
    with session.cursor() as cursor:
        for kind, table, column, name in (
            ("SCHEMA", "pg_namespace", "nspacl", "fac_backup"),
            ("TABLE", "pg_class", "relacl", "fac_backup.marker"),
        ):
            where = "x.nspname = 'fac_backup'" if kind == "SCHEMA" else "x.oid = 'fac_backup.marker'::regclass"
            owner = "nspowner" if kind == "SCHEMA" else "relowner"
            cursor.execute(
                f"SELECT DISTINCT r.rolname FROM pg_catalog.{table} AS x"  # noqa: S608 - constants above
                f" CROSS JOIN LATERAL pg_catalog.aclexplode(x.{column}) AS acl"
                f" LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = acl.grantee WHERE {where} AND acl.grantee <> x.{owner}"
            )
            for (role,) in cursor.fetchall():
                cursor.execute(f"REVOKE ALL ON {kind} {name} FROM {'PUBLIC' if role is None else quoted(role)}")


def require(session: Connection, space: str, called: str) -> Marker:
    """The marker, which says ``space``. Raises RefusedError if there is none or it says another space."""
    marker = read(session)
    if marker is None:
        raise RefusedError(
            f"{_capital(called)} bears no marker, so nothing says that it is {space}",
            next_step=f"If it is, mark it once with `fac-backup adopt --space {space}`.",
        )
    if marker.space != space:
        raise RefusedError(
            f"{_capital(called)} is marked as {marker.space}, not as {space}",
            next_step="Check which database the address or the binding leads to.",
        )
    return marker


def adopt(session: Connection, space: str, by: str, moment: datetime, called: str = "the database") -> Marker:
    """Mark the session's database as ``space`` and return the marker; one that says so already stays as it is.

    Raises RefusedError if another space has marked it.
    """
    if not is_name(space):
        raise FailedError(f"{one_line(space, 60)!r} cannot name a space")
    marker = read(session)
    if marker is not None and marker.space != space:
        raise RefusedError(
            f"{_capital(called)} is marked as {marker.space} already",
            next_step="Check the address. If it has changed hands, its owner drops the schema fac_backup first.",
        )
    if marker is None:
        marker = Marker(space, moment, by)
        write(session, marker)
    return marker


def _no_marker() -> RefusedError:
    return RefusedError(
        "What stands at fac_backup.marker in the database is no marker",
        next_step="Look at it; if nobody needs it, its owner drops the schema fac_backup and adopts anew.",
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
