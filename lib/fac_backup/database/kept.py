"""The database that a restore replaced and that is kept: the undo of which restore it is, and whether it is still as it
was left.

Its comment says both. Nothing is written into it: what a table counts as inserted, updated and deleted, the catalogs'
row versions and the sequences' positions together tell whether anybody else has.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2

from fac_backup.database import marker, scratch, sessions
from fac_backup.database.connection import Database, failure
from fac_backup.database.names import quoted
from fac_backup.plain.errors import FacBackupError

# ANALYZE and VACUUM change none of these; TRUNCATE, VACUUM FULL and REINDEX do, and so does a crash of the server,
# which forgets the counters: whatever differs makes the undo an ordinary one. They are whole once a session has ended.
_AS_LEFT = """
SELECT CASE WHEN pg_catalog.current_setting('track_counts') = 'on' THEN pg_catalog.md5(pg_catalog.concat_ws('/',
    (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_catalog.pg_stat_all_tables
        WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema'
        OR relname IN ('pg_largeobject', 'pg_largeobject_metadata')),
    (SELECT pg_catalog.string_agg(oid || ' ' || xmin || ' ' || relfilenode, ',' ORDER BY oid)
        FROM pg_catalog.pg_class WHERE oid >= 16384 AND relkind <> 't'),
    (SELECT pg_catalog.string_agg(attrelid || ' ' || attnum || ' ' || xmin, ',' ORDER BY attrelid, attnum)
        FROM pg_catalog.pg_attribute WHERE attrelid >= 16384),
    (SELECT pg_catalog.string_agg(oid || ' ' || xmin, ',' ORDER BY oid) FROM pg_catalog.pg_proc WHERE oid >= 16384),
    (SELECT pg_catalog.string_agg(oid || ' ' || xmin, ',' ORDER BY oid)
        FROM pg_catalog.pg_constraint WHERE oid >= 16384),
    (SELECT pg_catalog.string_agg(schemaname || ' ' || sequencename || ' ' || last_value, ',' ORDER BY 1, 2)
        FROM (SELECT schemaname, sequencename, coalesce(last_value, -1) AS last_value
            FROM pg_catalog.pg_sequences ORDER BY 1, 2) AS s)
)) ELSE '' END
"""


@dataclass(frozen=True)
class Kept:
    """What became of the search for a kept database."""

    name: str
    """Of the database; empty where none can be swapped back."""
    reason: str = ""
    """Why none can, in half a sentence."""


def note(database: Database, name: str, undo_id: str) -> None:
    """Write into the comment of the kept database ``name`` that it is what ``undo_id`` holds, and how it was left.

    Raises FailedError.
    """
    found = {one.name: one for one in scratch.find(database)}.get(name)
    if found is None or not undo_id:
        return
    more = {"undo": undo_id, "as_left": _as_left(database, name)}
    session = sessions.elsewhere(database, avoid=(name,))
    try:
        with session.cursor() as cursor:
            text = scratch.comment(database.name, "old", found.token, more)
            cursor.execute(f"COMMENT ON DATABASE {quoted(name)} IS %s", (text,))
    except psycopg2.Error as error:
        raise failure(error, "It could not be noted what the kept database is") from None
    finally:
        session.close()


def find(database: Database, space: str, undo_id: str) -> Kept:
    """The kept database that ``undo_id`` is the backup of, if it is whole, marked as ``space``'s and as it was left."""
    found = next((one for one in scratch.find(database) if one.role == "old" and one.undo == undo_id), None)
    if found is None:
        return Kept("", "no database of it is kept")
    try:
        session = database.connect(found.name, autocommit=True)
        try:
            marked = marker.read(session)
            others = sessions.connected(session, found.name)
        finally:
            session.close()
        as_left = _as_left(database, found.name)
    except FacBackupError:
        return Kept("", "the kept database cannot be reached")
    except psycopg2.Error:
        return Kept("", "the kept database cannot be looked at")
    if marked is None or marked.space != space:
        return Kept("", f"the kept database is not marked as {space}'s")
    if others:
        return Kept("", "somebody is connected to the kept database")
    if not as_left or as_left != found.as_left:
        return Kept("", "the kept database has been written to, or its server forgot whether it was")
    return Kept(found.name)


def _as_left(database: Database, name: str) -> str:
    session = database.connect(name, autocommit=True)
    try:
        with session.cursor() as cursor:
            cursor.execute(_AS_LEFT)
            row = cursor.fetchone()
    except psycopg2.Error as error:
        raise failure(error, "The kept database could not be looked at") from None
    finally:
        session.close()
    return str(row[0]) if row else ""
