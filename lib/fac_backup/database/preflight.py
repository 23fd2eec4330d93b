"""What is known before a restore touches anything: the plan's facts, and what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database import inplace, privileges, sessions
from fac_backup.database.connection import Database, failure, is_standby, version_text
from fac_backup.database.contents import Head
from fac_backup.database.ranges import codec_of
from fac_backup.database.sessions import Connected
from fac_backup.plain import manifest
from fac_backup.plain.errors import FailedError
from fac_backup.plain.text import one_line
from fac_backup.plain.text import size as size_text

Replace = Literal["beside", "in-place"]

# Entries that only a superuser can restore, whoever owns the database. Publications for all tables are one more.
_SUPERUSERS = ("EVENT TRIGGER", "ACCESS METHOD", "FOREIGN DATA WRAPPER", "SUBSCRIPTION")


@dataclass(frozen=True)
class Facts:
    """The target as it is, against the backup as it is. Names in it are as they are: make them safe before showing."""

    source_version: int
    target_version: int
    size_now: int
    """Bytes of the target's database."""
    used: int
    """Bytes of all databases of the server that this role may look at."""
    size_needed: int
    """Bytes of the source's database when it was backed up."""
    encoding_now: str
    may_create: bool
    """Whether the role may create a database beside."""
    superuser: bool
    standby: bool
    connected: tuple[Connected, ...]
    prepared_transactions: int
    missing_roles: tuple[str, ...]
    missing_extensions: tuple[str, ...]
    """Extensions of the source that the target's server does not have."""
    refused_extensions: tuple[str, ...]
    """Extensions that the server has and this role may not create."""
    needs_superuser: tuple[str, ...]
    """Entries of the archive that only a superuser could restore."""
    subscriptions: int
    belongs_to_others: tuple[str, ...]
    """What stands in the way of emptying the target in place."""


def look(database: Database, part: manifest.Database, head: Head) -> Facts:
    """Read the facts; changes nothing. Raises FailedError if the database cannot be reached."""
    session = database.connect(autocommit=True)
    try:
        return _look(session, database, part, head)
    except psycopg2.Error as error:
        raise failure(error, f"{database.called} could not be examined") from None
    finally:
        session.close()


def _look(session: Connection, database: Database, part: manifest.Database, head: Head) -> Facts:
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_database_size(d.oid), pg_catalog.pg_encoding_to_char(d.encoding),"
            " r.rolcreatedb OR r.rolsuper, r.rolsuper, pg_catalog.pg_get_userbyid(d.datdba),"
            " (SELECT count(*)::int4 FROM pg_catalog.pg_prepared_xacts AS x WHERE x.database = d.datname),"
            " (SELECT count(*)::int4 FROM pg_catalog.pg_subscription AS s WHERE s.subdbid = d.oid),"
            " (SELECT sum(CASE WHEN pg_catalog.has_database_privilege(o.oid, 'CONNECT')"
            " THEN pg_catalog.pg_database_size(o.oid) ELSE 0 END)::int8 FROM pg_catalog.pg_database AS o)"
            " FROM pg_catalog.pg_database AS d CROSS JOIN pg_catalog.pg_roles AS r"
            " WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user"
        )
        row: Any = cursor.fetchone()
    size_now, encoding, may_create, superuser, owner, prepared, subscriptions, used = row
    missing_extensions, refused_extensions = _extensions(session, part, superuser=superuser)
    return Facts(
        source_version=part.server_version,
        target_version=session.info.server_version,
        size_now=size_now,
        used=used,
        size_needed=part.size,
        encoding_now=encoding,
        may_create=may_create,
        superuser=superuser,
        standby=is_standby(session),
        connected=sessions.connected(session, database.name),
        prepared_transactions=prepared,
        missing_roles=_missing_roles(session, part, head, owner),
        missing_extensions=missing_extensions,
        refused_extensions=refused_extensions,
        needs_superuser=() if superuser else tuple(entry.shown for entry in head.of(*_SUPERUSERS)),
        subscriptions=subscriptions,
        belongs_to_others=inplace.obstacles(session),
    )


def _missing_roles(session: Connection, part: manifest.Database, head: Head, owner: str) -> tuple[str, ...]:
    with TemporaryDirectory(prefix="fac-backup-") as folder:
        found = privileges.extract(
            head, Path(folder), source_owner=part.owner, target_owner=owner, codec=codec_of(part.encoding) or "utf-8"
        )
    return tuple(sorted(privileges.lacking(session, privileges.roles_of(found))))


def _extensions(
    session: Connection, part: manifest.Database, *, superuser: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Extensions that the server lacks, and those that this role may not create (and that are not there already)."""
    trusted = "v.trusted" if session.info.server_version >= 130000 else "false"
    with session.cursor() as cursor:
        cursor.execute(
            f"SELECT v.name, bool_or(NOT v.superuser OR {trusted}) FROM"  # noqa: S608 - one of two constants
            " pg_catalog.pg_available_extension_versions AS v"
            " JOIN pg_catalog.pg_available_extensions AS e ON e.name = v.name AND e.default_version = v.version"
            " GROUP BY v.name"
        )
        known = dict(cursor.fetchall())
        cursor.execute("SELECT extname FROM pg_catalog.pg_extension")
        there = {name for (name,) in cursor.fetchall()}
    missing = [name for name in part.extensions if name not in known and name not in there]
    # Hosted servers let their own administrators' roles create more than this table says, so: a warning, no obstacle.
    refused = [] if superuser else [name for name in part.extensions if not known.get(name, True) and name not in there]
    return tuple(missing), tuple(refused)


def problems(facts: Facts, *, replace: Replace, free_bytes: int | None = None) -> tuple[str, ...]:
    """What makes this restore impossible, each a sentence for people; none if it may begin.

    ``free_bytes``: room on the server, where somebody knows it (PostgreSQL does not say).
    """
    found = []
    if facts.source_version // 10000 > facts.target_version // 10000:
        found.append(
            f"The backup is of PostgreSQL {version_text(facts.source_version)}, the target is"
            f" {version_text(facts.target_version)}: a restore into an older major version is not possible."
        )
    if facts.standby:
        found.append("The target's server is a read-only standby.")
    if facts.missing_extensions:
        found.append(f"The target's server lacks these extensions: {_names(facts.missing_extensions)}.")
    if facts.needs_superuser:
        found.append(f"Only a superuser can restore: {_names(facts.needs_superuser)}.")
    if replace == "beside":
        if not facts.may_create:
            found.append("The role may not create databases (CREATEDB); `replace: in-place` does without.")
        if facts.prepared_transactions:
            found.append(f"{facts.prepared_transactions} prepared transactions hold the target.")
        stuck = sum(one.count for one in facts.connected if not one.endable)
        if stuck:
            found.append(f"{stuck} sessions of other roles are connected, and this role may not end them.")
    elif facts.belongs_to_others:
        found.append(f"The target holds objects that belong to others: {_names(facts.belongs_to_others)}.")
    needed = facts.size_needed if replace == "beside" else max(0, facts.size_needed - facts.size_now)
    if free_bytes is not None and needed > free_bytes:
        found.append(f"The restore needs {size_text(needed)}, the server has {size_text(free_bytes)} left.")
    return tuple(found)


def require(facts: Facts, *, replace: Replace, free_bytes: int | None = None) -> None:
    """Raise FailedError, with all :func:`problems` in one line, if there are any."""
    found = problems(facts, replace=replace, free_bytes=free_bytes)
    if found:
        raise FailedError(" ".join(found), next_step="Solve this, then start the restore again.")


def _names(names: tuple[str, ...], most: int = 5) -> str:
    shown = ", ".join(one_line(name, 80) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
