# ruff: noqa: S608 - names reach statements only through names.quoted(), identities are the server's own, quoted by it
"""Empties a database without dropping it, for roles that may not create one or where there is no room beside.

What stays: the marker's schema, what belongs to the system, and extensions that an administrator made (with what is
in them), because this role could not bring them back. The schema ``public`` stays too, with the rights that it was
born with. While this goes on others must not write (``database.closed``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database import scratch
from fac_backup.database.connection import Database, failure, kind_of, require_writable
from fac_backup.database.names import quoted
from fac_backup.plain.errors import FailedError
from fac_backup.plain.text import one_line, plural, verb

log = logging.getLogger(__name__)

_OURS = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'fac_backup')"

# Catalogs of objects that live in a schema: name, column of the schema, column of the owner.
_IN_SCHEMAS: tuple[tuple[str, str, str | None], ...] = (
    ("pg_class", "relnamespace", "relowner"),
    ("pg_proc", "pronamespace", "proowner"),
    ("pg_type", "typnamespace", "typowner"),
    ("pg_operator", "oprnamespace", "oprowner"),
    ("pg_opclass", "opcnamespace", "opcowner"),
    ("pg_opfamily", "opfnamespace", "opfowner"),
    ("pg_collation", "collnamespace", "collowner"),
    ("pg_conversion", "connamespace", "conowner"),
    ("pg_ts_config", "cfgnamespace", "cfgowner"),
    ("pg_ts_dict", "dictnamespace", "dictowner"),
    ("pg_ts_parser", "prsnamespace", None),
    ("pg_ts_template", "tmplnamespace", None),
    ("pg_statistic_ext", "stxnamespace", "stxowner"),
)

# Catalogs of objects that live in no schema; extensions and subscriptions are treated apart.
_IN_NO_SCHEMA: tuple[tuple[str, str | None], ...] = (
    ("pg_event_trigger", "evtowner"),
    ("pg_publication", "pubowner"),
    ("pg_foreign_server", "srvowner"),
    ("pg_foreign_data_wrapper", "fdwowner"),
    ("pg_transform", None),
    ("pg_cast", None),
    ("pg_language", "lanowner"),
    ("pg_am", None),
)

_FIRST_OID = 16384
"""Objects below this were there when the cluster was made (access/transam.h, FirstNormalObjectId)."""


@dataclass(frozen=True)
class Thing:
    """One object to drop."""

    statement: str
    shown: str
    """For people."""
    ours: bool
    """Whether this role may drop it: it owns it, or the schema that it is in."""


def things(session: Connection) -> tuple[Thing, ...]:
    """All that a wipe drops, in an order in which it can be dropped. Types of tables and the like go with them."""
    wanted = [
        *(_query(catalog, None, owner) for catalog, owner in _IN_NO_SCHEMA[:2]),
        *(_query(catalog, schema, owner) for catalog, schema, owner in _IN_SCHEMAS),
        *(_query(catalog, None, owner) for catalog, owner in _IN_NO_SCHEMA[2:]),
    ]
    found = list(_extensions(session))
    with session.cursor() as cursor:
        for query in wanted:
            cursor.execute(query)
            for kind, identity, ours in cursor.fetchall():
                sql_kind = _KINDS.get(kind, kind.upper())
                found.append(Thing(f"DROP {sql_kind} IF EXISTS {identity} CASCADE", f"{kind} {identity}", ours))
    return (*found, *_schemas(session))


# What pg_identify_object calls otherwise than DROP does.
_KINDS = {
    "statistics object": "STATISTICS", "server": "SERVER", "foreign-data wrapper": "FOREIGN DATA WRAPPER",
    "text search configuration": "TEXT SEARCH CONFIGURATION", "text search dictionary": "TEXT SEARCH DICTIONARY",
}  # fmt: skip


def _query(catalog: str, schema: str | None, owner: str | None) -> str:
    """Objects of one catalog: kind and identity as DROP takes them, and whether we may drop them.

    Left out: what an extension brought (it goes with it, or stays with it), and what is an inner part of another
    object (types of tables, arrays, sequences of identity columns).
    """
    me = "pg_catalog.pg_has_role(current_user, {}, 'USAGE')"
    mine = (
        me.format(f"x.{owner}") if owner else "(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"
    )
    if catalog == "pg_cast":
        mine = "true"
    join, where = "", f"x.oid >= {_FIRST_OID}"
    if schema is not None:
        join = f" JOIN pg_catalog.pg_namespace AS n ON n.oid = x.{schema}"
        where += f" AND {_OURS}"
        mine = f"{mine} OR {me.format('n.nspowner')}"
    if catalog == "pg_class":
        where += " AND x.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT x.relispartition"
    if catalog == "pg_type":
        where += " AND (x.typrelid = 0 OR (SELECT relkind FROM pg_catalog.pg_class WHERE oid = x.typrelid) = 'c')"
    return (
        f"SELECT o.type, o.identity, {mine} FROM pg_catalog.{catalog} AS x{join}"
        f" CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.{catalog}'::pg_catalog.regclass, x.oid, 0)"
        f" AS o(type, schema, name, identity) WHERE {where} AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d"
        f" WHERE d.classid = 'pg_catalog.{catalog}'::pg_catalog.regclass AND d.objid = x.oid AND d.objsubid = 0"
        " AND d.deptype IN ('e', 'i')) ORDER BY x.oid"
    )


def _extensions(session: Connection) -> Sequence[Thing]:
    """Those that this role owns. The others stay, and are no obstacle: CREATE EXTENSION IF NOT EXISTS finds them."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT e.extname FROM pg_catalog.pg_extension AS e"
            f" WHERE e.oid >= {_FIRST_OID} AND pg_catalog.pg_has_role(current_user, e.extowner, 'USAGE') ORDER BY e.oid"
        )
        names = [name for (name,) in cursor.fetchall()]
    return [Thing(f"DROP EXTENSION IF EXISTS {quoted(name)} CASCADE", f"extension {name}", True) for name in names]


def _schemas(session: Connection) -> Sequence[Thing]:
    """All but ``public`` and those that an extension that stays has made or lives in."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT n.nspname, pg_catalog.pg_has_role(current_user, n.nspowner, 'USAGE') FROM pg_catalog.pg_namespace"
            f" AS n WHERE {_OURS} AND n.nspname <> 'public' AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension AS e"
            " WHERE NOT pg_catalog.pg_has_role(current_user, e.extowner, 'USAGE') AND (e.extnamespace = n.oid"
            " OR EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.deptype = 'e' AND d.refobjid = e.oid"
            " AND d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.objid = n.oid)))"
            " ORDER BY n.oid"
        )
        rows = cursor.fetchall()
    return [Thing(f"DROP SCHEMA IF EXISTS {quoted(name)} CASCADE", f"schema {name}", ours) for name, ours in rows]


def obstacles(session: Connection) -> tuple[str, ...]:
    """What this role may not drop or set, for people. A restore in place is refused while there is any.

    The database itself is among it: only its owner may close it for what others write, and give it what is restored.
    """
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_has_role(current_user, datdba, 'USAGE') FROM pg_catalog.pg_database"
            " WHERE datname = pg_catalog.current_database()"
        )
        row: Any = cursor.fetchone()
    itself = () if row[0] else ("the database itself",)
    return itself + tuple(one_line(thing.shown, 140) for thing in things(session) if not thing.ours)


def wipe(database: Database) -> None:
    """Drop everything in ``database`` that a backup could bring back; the marker stays.

    In one transaction where the server's lock table holds it; else in several, and a failure may leave it half empty.
    Raises FailedError with nothing changed if this role may not drop something.
    """
    session = database.connect()
    session.autocommit = False
    try:
        require_writable(session, database.called)
        todo = things(session)
        stuck = [thing for thing in todo if not thing.ours]
        if stuck:
            raise FailedError(
                f"{plural(len(stuck), 'object')} in {database.called} "
                f"{verb(len(stuck), 'belongs', 'belong')} to others, so it cannot be emptied"
                f" (the first: {one_line(stuck[0].shown, 140)})",
                next_step="Let their owner give them to the owner of the database, or drop them.",
            )
        scratch.detach_subscriptions(database, database.name)
        at_once = _locks_needed(session) < _locks_there_are(session) // 2
        if not at_once:
            log.info("Too many objects for one transaction: emptying %s in several", database.called)
        _drop(session, [thing.statement for thing in todo], at_once=at_once)
        _unlink_large_objects(session, at_once=at_once)
        _reset_default_privileges(session)
        _reset_public(session)
        session.commit()
    except psycopg2.Error as error:
        raise failure(error, f"{database.called} could not be emptied") from None
    finally:
        session.close()


def _drop(session: Connection, statements: Sequence[str], *, at_once: bool) -> None:
    with session.cursor() as cursor:
        for number, statement in enumerate(statements, 1):
            try:
                cursor.execute("SAVEPOINT one" if at_once else "SELECT 1")
                cursor.execute(statement)
                if at_once:
                    cursor.execute("RELEASE SAVEPOINT one")
                elif number % 50 == 0:
                    session.commit()
            except (
                psycopg2.errors.UndefinedObject,
                psycopg2.errors.UndefinedFunction,
                psycopg2.errors.UndefinedTable,
                psycopg2.errors.InvalidSchemaName,
            ) as error:
                # Gone with something else: IF EXISTS does not cover the types in its signature in all versions.
                if not at_once:
                    raise
                log.debug("Gone already: %s", kind_of(error))
                cursor.execute("ROLLBACK TO SAVEPOINT one")
    if not at_once:
        session.commit()


def _locks_needed(session: Connection) -> int:
    """About how many locks a wipe takes: one for each relation, index, TOAST table, routine and large object."""
    with session.cursor() as cursor:
        cursor.execute(
            f"SELECT (SELECT count(*) FROM pg_catalog.pg_class WHERE oid >= {_FIRST_OID})"
            f" + (SELECT count(*) FROM pg_catalog.pg_proc WHERE oid >= {_FIRST_OID})"
            f" + (SELECT count(*) FROM pg_catalog.pg_type WHERE oid >= {_FIRST_OID}) / 2"
            f" + (SELECT count(*) FROM pg_catalog.pg_constraint WHERE oid >= {_FIRST_OID})"
            " + (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)"
        )
        row: Any = cursor.fetchone()
    return int(row[0])


def _locks_there_are(session: Connection) -> int:
    """The size of the shared lock table
    (https://www.postgresql.org/docs/current/runtime-config-locks.html, max_locks_per_transaction).
    """
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.current_setting('max_locks_per_transaction')::int8"
            " * (pg_catalog.current_setting('max_connections')::int8"
            " + pg_catalog.current_setting('max_prepared_transactions')::int8)"
        )
        row: Any = cursor.fetchone()
    return int(row[0])


def _unlink_large_objects(session: Connection, *, at_once: bool) -> None:
    with session.cursor() as cursor:
        while True:
            cursor.execute(
                "SELECT count(pg_catalog.lo_unlink(l.oid))"
                " FROM (SELECT oid FROM pg_catalog.pg_largeobject_metadata LIMIT 1000) AS l"
            )
            row: Any = cursor.fetchone()
            if not at_once:
                session.commit()
            if row[0] == 0:
                return


_DEFAULTS_FOR = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}


def _reset_default_privileges(session: Connection) -> None:
    """Take back what was granted and grant back what was taken, for roles that we may speak for."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_get_userbyid(d.defaclrole), n.nspname, d.defaclobjtype,"
            " ARRAY(SELECT DISTINCT coalesce(r.rolname::text, '') FROM pg_catalog.aclexplode(d.defaclacl) AS a"
            " LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee),"
            " CASE WHEN d.defaclnamespace = 0 THEN ARRAY(SELECT a.privilege_type || ' ' ||"
            " coalesce(r.rolname::text, '') FROM pg_catalog.aclexplode(pg_catalog.acldefault("
            " CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)) AS a"
            " LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee) ELSE '{}' END"
            " FROM pg_catalog.pg_default_acl AS d LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = d.defaclnamespace"
            " WHERE pg_catalog.pg_has_role(current_user, d.defaclrole, 'USAGE')"
        )
        for role, schema, kind, grantees, defaults in cursor.fetchall():
            where = f" IN SCHEMA {quoted(schema)}" if schema is not None else ""
            begin = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(role)}{where}"
            for grantee in {*grantees, *((role,) if schema is None else ())}:
                cursor.execute(f"{begin} REVOKE ALL ON {_DEFAULTS_FOR[kind]} FROM {_grantee(grantee)}")
            for grant in defaults:
                privilege, _, grantee = grant.partition(" ")
                cursor.execute(f"{begin} GRANT {privilege} ON {_DEFAULTS_FOR[kind]} TO {_grantee(grantee)}")


def _reset_public(session: Connection) -> None:
    """Give the schema ``public`` the rights and the comment that it had when the database was made."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT n.oid, pg_catalog.pg_has_role(current_user, n.nspowner, 'USAGE'),"
            " coalesce((SELECT i.initprivs FROM pg_catalog.pg_init_privs AS i WHERE i.objoid = n.oid"
            " AND i.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass), n.nspacl)::text,"
            " n.nspacl::text, pg_catalog.obj_description(n.oid, 'pg_namespace')"
            " FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'public'"
        )
        row = cursor.fetchone()
        if row is None:
            cursor.execute("CREATE SCHEMA public")
            return
        _, ours, born_with, has, comment = row
        if not ours:
            return
        if born_with != has:
            cursor.execute(
                "SELECT DISTINCT coalesce(r.rolname::text, '')"
                " FROM pg_catalog.aclexplode(%s::pg_catalog.aclitem[]) AS a"
                " LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee",
                (has,),
            )
            for (grantee,) in cursor.fetchall():
                cursor.execute(f"REVOKE ALL ON SCHEMA public FROM {_grantee(grantee)}")
            cursor.execute(
                "SELECT a.privilege_type, coalesce(r.rolname::text, '')"
                " FROM pg_catalog.aclexplode(%s::pg_catalog.aclitem[]) AS a"
                " LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee",
                (born_with,),
            )
            for privilege, grantee in cursor.fetchall():
                cursor.execute(f"GRANT {privilege} ON SCHEMA public TO {_grantee(grantee)}")
        if comment != "standard public schema":
            cursor.execute("COMMENT ON SCHEMA public IS 'standard public schema'")


def _grantee(name: str) -> str:
    return "PUBLIC" if name == "" else quoted(name)
