"""Builds a database beside the target and swaps it in: two renames in one transaction.

Until that transaction commits, the old database serves; from then on the new one does. There is no moment in between,
and no state that a kill could leave half way.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import Any, Literal

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database import marker, scratch, sessions
from fac_backup.database.connection import Database, failure, kind_of
from fac_backup.database.names import quoted
from fac_backup.database.scratch import Scratch, scratch_name
from fac_backup.plain import manifest
from fac_backup.plain.errors import FailedError, RefusedError
from fac_backup.plain.text import one_line

__all__ = ["Scratch", "State", "Swapped", "carry_over", "create_beside", "scratch_name", "state", "swap"]

log = logging.getLogger(__name__)

State = Literal["before", "after", "neither"]


@dataclass(frozen=True)
class Properties:
    """What belongs to a database itself, not to its contents."""

    owner: str
    tablespace: str
    collate: str
    ctype: str
    provider: str
    locale: str | None
    connection_limit: int
    comment: str | None


@dataclass(frozen=True)
class Swapped:
    """How a swap went."""

    kept: str
    """The old database's name now."""
    seconds: float
    """From the first try to the commit: for at most this long nobody could connect."""
    attempts: int
    detached: tuple[str, ...] = ()
    """Subscriptions of the old database, parted from their slots, which stay at the publisher."""


def properties(session: Connection, name: str) -> Properties:
    """Those of the database ``name``. Raises FailedError if there is none."""
    version = session.info.server_version
    provider = "d.datlocprovider::text" if version >= 150000 else "'c'"
    locale = "d.datlocale" if version >= 170000 else "d.daticulocale" if version >= 150000 else "NULL"
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_get_userbyid(d.datdba), t.spcname, d.datcollate, d.datctype,"  # noqa: S608
            f" {provider}, {locale}, d.datconnlimit, pg_catalog.shobj_description(d.oid, 'pg_database')"
            " FROM pg_catalog.pg_database AS d JOIN pg_catalog.pg_tablespace AS t ON t.oid = d.dattablespace"
            " WHERE d.datname = %s",
            (name,),
        )
        row = cursor.fetchone()
    if row is None:
        raise FailedError("The server has no database of this name")
    return Properties(*row)


def create_beside(
    database: Database, name: str, part: manifest.Database, *, leftover_unless_locked: bool = False
) -> tuple[str, ...]:
    """Create the empty database ``name`` for a restore of ``part``; what could not be as in the source, in sentences.

    Its owner and tablespace are those of ``database``, its encoding and locale the source's; where the server does not
    know that locale, the target's own. It is marked as in use (``scratch.lease``), so that no restore into ``database``
    takes it for a leftover; ``leftover_unless_locked``: it is a restore's own, whose lock of the space says as much.
    ``name`` comes from :func:`scratch_name` and marks the new database as ours.
    Raises FailedError.
    """
    token = scratch.token_of(name, "new")
    if not leftover_unless_locked:
        scratch.lease(database, name)
    notes: tuple[str, ...] = ()
    session = sessions.elsewhere(database)
    try:
        target = properties(session, database.name)
        wanted = _locale(part.collate, part.ctype, part.locale_provider, part.locale)
        try:
            _create(session, name, target, part.encoding, wanted)
        except psycopg2.Error as error:
            if error.pgcode is None or error.pgcode[:2] not in ("22", "42", "0A") or error.pgcode == "42501":
                raise
            if error.pgcode == "42P04":
                raise
            own = _locale(target.collate, target.ctype, target.provider, target.locale)
            _create(session, name, target, part.encoding, own)
            notes = ("The source's locale is not known here: text sorts by the target's locale.",)
        with session.cursor() as cursor:
            more = {} if leftover_unless_locked else {"leased": "yes"}
            text = scratch.comment(database.name, "new", token, more)
            cursor.execute(f"COMMENT ON DATABASE {quoted(name)} IS %s", (text,))
    except psycopg2.errors.InsufficientPrivilege:
        raise FailedError(
            f"The role of {database.called} may not create databases",
            next_step="Grant it CREATEDB; a rehearsal may have another server (FAC_BACKUP_SCRATCH_DATABASE_URL).",
        ) from None
    except psycopg2.Error as error:
        raise failure(error, f"A database beside {database.called} could not be created") from None
    finally:
        session.close()
    return notes


def _locale(collate: str, ctype: str, provider: str, locale: str | None) -> tuple[tuple[str, str], ...]:
    pairs = [("LC_COLLATE", collate), ("LC_CTYPE", ctype)]
    if provider == "i" and locale:
        pairs += [("LOCALE_PROVIDER", "icu"), ("ICU_LOCALE", locale)]
    elif provider == "b" and locale:
        pairs += [("LOCALE_PROVIDER", "builtin"), ("BUILTIN_LOCALE", locale)]
    return tuple(pairs)


def _create(
    session: Connection, name: str, target: Properties, encoding: str, locale: tuple[tuple[str, str], ...]
) -> None:
    options = "".join(f" {key} %s" for key, _ in locale)
    if session.info.server_version >= 150000 and not any(key == "LOCALE_PROVIDER" for key, _ in locale):
        options += " LOCALE_PROVIDER libc"
    # Even the default tablespace must be granted to whoever names it.
    if target.tablespace != properties(session, "template0").tablespace:
        options += f" TABLESPACE {quoted(target.tablespace)}"
    with session.cursor() as cursor:
        cursor.execute(
            f"CREATE DATABASE {quoted(name)} OWNER {quoted(target.owner)} TEMPLATE template0 ENCODING %s{options}",
            (encoding, *(value for _, value in locale)),
        )


def carry_over(database: Database, name: str) -> tuple[str, ...]:
    """Give database ``name`` the settings and grants of ``database``; what could not be kept, in sentences.

    Its comment and connection limit are carried over by :func:`swap` itself: the comment marks it as ours till then.
    """
    lost: list[str] = []
    session = sessions.elsewhere(database)
    try:
        with session.cursor() as cursor:
            cursor.execute(
                "SELECT r.rolname, pg_catalog.unnest(s.setconfig) FROM pg_catalog.pg_db_role_setting AS s"
                " JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase"
                " LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole WHERE d.datname = %s",
                (database.name,),
            )
            for role, setting in cursor.fetchall():
                key, _, value = setting.partition("=")
                whose = (
                    f"DATABASE {quoted(name)}" if role is None else f"ROLE {quoted(role)} IN DATABASE {quoted(name)}"
                )
                _try(session, f"ALTER {whose} SET {_setting(key)} TO {_value(session, key, value)}", key, lost)
            _carry_grants(session, database.name, name, lost)
    except psycopg2.Error as error:
        raise failure(error, f"The settings of {database.called} could not be carried over") from None
    finally:
        session.close()
    return tuple(lost)


# GUC_LIST_QUOTE parameters: their stored value is a list already, quoted where need be (pg_dump's dumputils.c,
# variable_is_guc_list_quote).
_LISTS = frozenset(
    {"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
     "temp_tablespaces", "unix_socket_directories"}
)  # fmt: skip


def _setting(key: str) -> str:
    """A parameter's name, whose parts (``my.setting``) are identifiers."""
    return ".".join(quoted(part) for part in key.split("."))


def _value(session: Connection, key: str, value: str) -> str:
    def literal(text: str) -> str:
        return sql.Literal(text).as_string(session)

    if key.lower() not in _LISTS:
        return literal(value)
    return ", ".join(literal(item) for item in split_list(value)) or "''"


def split_list(value: str) -> list[str]:
    """The items of a stored list of identifiers: ``"$user", public`` are ``$user`` and ``public``.

    >>> split_list('"$user", public, "a,""b"')
    ['$user', 'public', 'a,"b']
    """
    found = re.findall(r'\s*("(?:[^"]|"")*"|[^,]*)\s*(?:,|$)', value)
    items = [item.strip() for item in found]
    return [item[1:-1].replace('""', '"') if item.startswith('"') else item for item in items if item]


def _carry_grants(session: Connection, old: str, new: str, lost: list[str]) -> None:
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT r.rolname, a.privilege_type, a.is_grantable FROM pg_catalog.pg_database AS d"
            " CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) AS a"
            " LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee WHERE d.datname = %s",
            (old,),
        )
        grants = cursor.fetchall()
        cursor.execute("SELECT datacl IS NOT NULL FROM pg_catalog.pg_database WHERE datname = %s", (old,))
        row: Any = cursor.fetchone()
        if not row[0]:
            return  # the defaults
        owner = properties(session, new).owner
        _try(session, f"REVOKE ALL ON DATABASE {quoted(new)} FROM PUBLIC, {quoted(owner)}", "grants", lost)
        for role, privilege, grantable in grants:
            grantee = "PUBLIC" if role is None else quoted(role)
            option = " WITH GRANT OPTION" if grantable and role is not None and role != owner else ""
            _try(session, f"GRANT {privilege} ON DATABASE {quoted(new)} TO {grantee}{option}", f"to {grantee}", lost)


def _try(session: Connection, statement: str, what: str, lost: list[str]) -> None:
    try:
        with session.cursor() as cursor:
            cursor.execute(statement)
    except psycopg2.Error as error:
        if error.pgcode is None:
            raise
        lost.append(f"{one_line(what, 100)}: {kind_of(error)}")


def swap(database: Database, new: str, kept: str, *, patience: float = 60.0) -> Swapped:
    """Put the database ``new`` in the place of ``database``, which is called ``kept`` from then on.

    Sessions of both are ended, again and again, until the two renames are committed. Raises FailedError if that does
    not work within ``patience`` seconds; then everything is as before. RefusedError if ``new`` is no scratch database,
    or bears another marker than the one in whose place it comes.
    """
    _require_ready(database, new)
    started = time.monotonic()
    attempts = 0
    session = sessions.elsewhere(database)
    try:
        session.autocommit = False
        with sessions.KeptOut(database, [database.name, new], ours=True, every=0.01) as kept_out:
            while True:
                attempts += 1
                try:
                    _rename_both(session, database.name, new, kept)
                    break
                except psycopg2.Error as error:
                    if session.closed:
                        return _after_lost_connection(database, new, kept, started, attempts)
                    session.rollback()
                    if time.monotonic() - started > patience or not _others_in_the_way(error):
                        raise _not_swapped(database, error, kept_out.refused) from None
    except psycopg2.Error as error:
        raise failure(error, f"{database.called} could not be swapped") from None
    finally:
        session.close()
    seconds = time.monotonic() - started
    log.info("Swapped within %.3f s", seconds)
    return Swapped(kept, seconds, attempts, _detach(database, kept))


def _detach(database: Database, kept: str) -> tuple[str, ...]:
    """The old database must not go on receiving. The swap is done, so a failure here is told and changes nothing."""
    try:
        return scratch.detach_subscriptions(database, kept)
    except FailedError as error:
        log.warning("%s", error.line())
        return ()


def _rename_both(session: Connection, name: str, new: str, kept: str) -> None:
    token = scratch.token_of(kept, "old")
    before = properties(session, name)
    with session.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {quoted(name)} RENAME TO {quoted(kept)}")
        cursor.execute(f"ALTER DATABASE {quoted(new)} RENAME TO {quoted(name)}")
        cursor.execute(f"COMMENT ON DATABASE {quoted(name)} IS %s", (before.comment,))
        cursor.execute(f"COMMENT ON DATABASE {quoted(kept)} IS %s", (scratch.comment(name, "old", token),))
        if before.connection_limit != -1:
            cursor.execute(f"ALTER DATABASE {quoted(name)} CONNECTION LIMIT {int(before.connection_limit)}")
        # What was loaded with synchronous_commit off is on disk once this commit is.
        cursor.execute("SET LOCAL synchronous_commit = on")
    session.commit()


def _others_in_the_way(error: psycopg2.Error) -> bool:
    return isinstance(
        error, psycopg2.errors.ObjectInUse | psycopg2.errors.DeadlockDetected | psycopg2.errors.LockNotAvailable
    )


def _not_swapped(database: Database, error: psycopg2.Error, refused: int) -> FailedError:
    if _others_in_the_way(error):
        return FailedError(
            f"{database.called} could not be swapped: others stayed connected to it"
            + (f" ({refused} sessions that this role may not end)" if refused else ""),
            next_step="End them, or grant this role pg_signal_backend; a prepared transaction holds a database too.",
        )
    return failure(error, f"{database.called} could not be swapped")


def _after_lost_connection(database: Database, new: str, kept: str, started: float, attempts: int) -> Swapped:
    """The connection broke at the commit: look which of the two came true."""
    if state(database, new, kept) == "after":
        return Swapped(kept, time.monotonic() - started, attempts)
    raise FailedError(
        f"The connection was lost while {database.called} was swapped", next_step="Run the restore again."
    )


def _require_ready(database: Database, new: str) -> None:
    found = {one.name: one for one in scratch.find(database)}
    if new not in found or not found[new].marked:
        raise RefusedError("The database that is to be swapped in is not one that this program has made")
    old_marker, new_marker = _marker_of(database, None), _marker_of(database, new)
    if old_marker is None or new_marker is None or old_marker.space != new_marker.space:
        raise RefusedError(f"The new database does not bear the marker of {database.called}, so it is not swapped in")


def _marker_of(database: Database, name: str | None) -> marker.Marker | None:
    session = database.connect(name)
    try:
        return marker.read(session)
    finally:
        session.close()


def state(database: Database, new: str, kept: str) -> State:
    """Whether the swap of ``new`` has happened: ``new`` is there (before), or only ``kept`` is (after), or neither.

    For a journal that is read again after a kill; ``neither`` is before the first or after the last step, and the
    marker's ``restored`` tells which.
    """
    session = database.connect("postgres" if database.name != "postgres" else "template1", autocommit=True)
    try:
        if scratch.exists(session, new):
            return "before"
        return "after" if scratch.exists(session, kept) else "neither"
    except psycopg2.Error as error:
        raise failure(error, "Looking at the server's databases failed") from None
    finally:
        session.close()
