"""Databases that a restore makes beside its target, and the old ones that it keeps: how they are named, marked, found
again after a kill, and dropped.

Each carries a comment that says what it is and whose: only what bears it is ever dropped.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database import sessions
from fac_backup.database.connection import Database, failure
from fac_backup.database.names import quoted
from fac_backup.plain.errors import FailedError, RefusedError

Role = Literal["new", "old"]

_PREFIX = "fac-backup scratch database: "
_NAME = re.compile(r".*_fac_(new|old)_([0-9a-z]{1,16})", re.DOTALL)
_MOST_BYTES = 63
_LEASES = 4012
"""The first key of the advisory locks that say that a scratch database is in use."""


@dataclass(frozen=True)
class Scratch:
    """A database that we made: not yet swapped in (``new``), or swapped out (``old``)."""

    name: str
    role: Role
    token: str
    """Of the operation that made it."""
    marked: bool
    """Whether it bears our comment. One that was killed between its creation and its comment does not."""
    in_use: bool = False
    """Whether whoever made it is still there (:func:`lease`): then it is nobody's leftover."""
    leased: bool = False
    """Whether it was made under such a lease: not by a restore, whose lock says whether it is in use."""
    undo: str = ""
    """Of an old one: the pre-restore backup that was taken of it."""
    as_left: str = ""
    """Of an old one: what tells whether anybody has written to it since (``database.kept``)."""


def scratch_name(database: str, role: Role, token: str) -> str:
    """The name of a database beside ``database``: at most 63 bytes, whatever its name.

    >>> scratch_name("gsa", "new", "a1b2c3")
    'gsa_fac_new_a1b2c3'
    """
    if not re.fullmatch(r"[0-9a-z]{1,16}", token):
        raise ValueError("a token consists of at most 16 small letters and digits")
    ending = f"_fac_{role}_{token}"
    room = _MOST_BYTES - len(ending)
    return database.encode()[:room].decode(errors="ignore") + ending


def token_of(name: str, role: Role) -> str:
    """The token in a name that :func:`scratch_name` made. Raises ValueError for another name."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] != role:
        raise ValueError("not a name of scratch_name()")
    return match[2]


def is_old(name: str) -> bool:
    """Whether ``name`` is that of a database which a restore has replaced."""
    match = _NAME.fullmatch(name)
    return match is not None and match[1] == "old"


def comment(database: str, role: Role, token: str, more: Mapping[str, str] | None = None) -> str:
    """The comment that marks a scratch database of ``database``; ``more`` is what else it says (``database.kept``)."""
    return _PREFIX + json.dumps({"of": database, "role": role, "token": token, **(more or {})}, sort_keys=True)


def find(database: Database, session: Connection | None = None) -> tuple[Scratch, ...]:
    """All scratch databases of ``database``, by name. Unmarked ones count only if their name says so to the letter."""
    own = session is None
    session = session or database.connect(autocommit=True)
    try:
        with session.cursor() as cursor:
            cursor.execute(
                "SELECT d.datname, pg_catalog.shobj_description(d.oid, 'pg_database') FROM pg_catalog.pg_database AS d"
                " WHERE d.datname LIKE '%\\_fac\\_%' AND pg_catalog.pg_has_role(current_user, d.datdba, 'MEMBER')"
                " ORDER BY 1"
            )
            rows = cursor.fetchall()
            cursor.execute(
                "SELECT objid::pg_catalog.int8 FROM pg_catalog.pg_locks"
                " WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND granted",
                (_LEASES,),
            )
            leased = {number for (number,) in cursor.fetchall()}
    except psycopg2.Error as error:
        raise failure(error, "Looking for leftover databases failed") from None
    finally:
        if own:
            session.close()
    recognized = (_recognized(database.name, name, text) for name, text in rows)
    return tuple(replace(found, in_use=_number(found.name) in leased) for found in recognized if found is not None)


def lease(database: Database, name: str) -> None:
    """Say that the scratch database ``name`` is in use until :func:`release`, or until this process ends.

    A session beside it holds an advisory lock, which every session of the server can see. Raises FailedError.
    """
    session = sessions.elsewhere(database, avoid=(name,))
    number = _number(name)
    signed = number - (1 << 32) if number >= 1 << 31 else number
    try:
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.pg_advisory_lock_shared(%s, %s)", (_LEASES, signed))
    except psycopg2.Error as error:
        session.close()
        raise failure(error, "A scratch database could not be marked as in use") from None
    database.leases[name] = session


def release(database: Database, name: str) -> None:
    """It is not in use any more; nothing happens if it was not."""
    session = database.leases.pop(name, None)
    if session is not None:
        with suppress(psycopg2.Error):
            session.close()


def _number(name: str) -> int:
    """The second key of its advisory lock, as ``pg_locks`` shows it."""
    return zlib.crc32(name.encode())


def _recognized(of: str, name: str, text: str | None) -> Scratch | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    role: Role = "new" if match[1] == "new" else "old"
    if text is None:
        ours = role == "new" and name == scratch_name(of, role, match[2])
        return Scratch(name, role, match[2], marked=False) if ours else None
    told = _told(text)
    if told is None or (told.get("of"), told.get("role"), told.get("token")) != (of, role, match[2]):
        return None
    undo, as_left = str(told.get("undo") or ""), str(told.get("as_left") or "")
    return Scratch(name, role, match[2], marked=True, leased="leased" in told, undo=undo, as_left=as_left)


def _told(text: str) -> dict[str, Any] | None:
    """What a comment of ours says; None if it is not ours."""
    if not text.startswith(_PREFIX):
        return None
    try:
        found = json.loads(text.removeprefix(_PREFIX))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def drop_abandoned(database: Database) -> None:
    """Drop what rehearsals, or others who take a lease, have left beside ``database``. Raises FailedError."""
    for left in find(database):
        if left.role == "new" and left.leased and not left.in_use:
            drop(database, left.name)


def drop(database: Database, name: str) -> None:
    """Drop a scratch database of ``database`` if it is there. Raises RefusedError if it is none, FailedError.

    An unmarked one is dropped only while nothing has been made in it. Subscriptions in it are detached first: a
    database that has one cannot be dropped, and its publisher may be out of reach.
    """
    release(database, name)
    session = sessions.elsewhere(database, avoid=(name,))
    try:
        found = {scratch.name: scratch for scratch in find(database, session)}
        if name not in found:
            if exists(session, name):
                raise RefusedError(f"A database that is to be dropped beside {database.called} is not ours to drop")
            return
        if not found[name].marked:
            _require_empty(database, name)
        detach_subscriptions(database, name)
        with session.cursor() as cursor:
            # WITH (FORCE) came with PostgreSQL 13; a session that we may not end keeps the database, and says so.
            force = " WITH (FORCE)" if session.info.server_version >= 130000 else ""
            sessions.end_sessions(session, [name], ours=True)
            try:
                cursor.execute(f"DROP DATABASE IF EXISTS {quoted(name)}{force}")
            except psycopg2.errors.InsufficientPrivilege:
                # FORCE wants the right to end all who are there, a worker of autovacuum too. Without it the server ends
                # that one by itself, and waits some seconds for the others.
                cursor.execute(f"DROP DATABASE IF EXISTS {quoted(name)}")
    except psycopg2.Error as error:
        raise failure(
            error,
            f"A scratch database beside {database.called} could not be dropped",
            next_step="The next run tries again; or drop it by hand (its name has _fac_ in it).",
        ) from None
    finally:
        session.close()


def exists(session: Connection, name: str) -> bool:
    """Whether the server has a database of this name."""
    with session.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)", (name,))
        row: Any = cursor.fetchone()
    return bool(row[0])


def _require_empty(database: Database, name: str) -> None:
    session = database.connect(name, autocommit=True)
    try:
        with session.cursor() as cursor:
            cursor.execute(
                "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
                " ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
            )
            row: Any = cursor.fetchone()
    finally:
        session.close()
    if row[0]:
        raise RefusedError(
            f"A database beside {database.called} is named like one of ours, but does not say that it is",
            next_step="Look at it; whoever owns it may drop or rename it.",
        )


def detach_subscriptions(database: Database, name: str) -> tuple[str, ...]:
    """Disable the subscriptions of database ``name`` and part them from their slots; their names.

    The slots stay at the publisher: somebody must drop them there, or the restored subscription takes them up.
    """
    session = database.connect(name, autocommit=True)
    try:
        with session.cursor() as cursor:
            cursor.execute(
                "SELECT subname, subenabled FROM pg_catalog.pg_subscription WHERE subdbid = (SELECT oid"
                " FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) ORDER BY 1"
            )
            rows = cursor.fetchall()
            for subscription, enabled in rows:
                if enabled:
                    cursor.execute(f"ALTER SUBSCRIPTION {quoted(subscription)} DISABLE")
                cursor.execute(f"ALTER SUBSCRIPTION {quoted(subscription)} SET (slot_name = NONE)")
                cursor.execute(f"DROP SUBSCRIPTION {quoted(subscription)}")
    except psycopg2.errors.InsufficientPrivilege:
        raise FailedError(
            f"{database.called} has subscriptions, which this role may neither see nor detach",
            next_step="Let their owner drop them (ALTER SUBSCRIPTION … SET (slot_name = NONE), DROP SUBSCRIPTION).",
        ) from None
    except psycopg2.Error as error:
        raise failure(error, "Detaching the subscriptions failed") from None
    finally:
        session.close()
    return tuple(str(subscription) for subscription, _ in rows)
