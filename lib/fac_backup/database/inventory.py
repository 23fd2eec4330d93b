# ruff: noqa: S608 - names reach statements only through names.quoted()
"""What a database consists of, as far as a backup must know it beside what pg_dump writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database.names import qualified
from fac_backup.plain.errors import UsageError
from fac_backup.plain.manifest import SequenceValue

MARKER_SCHEMA = "fac_backup"
"""Holds the marker of a database. Never dumped, never compared."""

_OWN_SCHEMAS = f"(n.nspname ~ '^pg_' OR n.nspname IN ('information_schema', '{MARKER_SCHEMA}'))"

_BATCH = 200


@dataclass(frozen=True)
class Table:
    """A table, or the root of a partitioned one, in the snapshot."""

    oid: int
    schema: str
    name: str
    kind: str
    """``r`` table, ``p`` partitioned table (holds no rows itself)."""
    loaded_through_root: bool
    """A leaf below a hash partitioning on an enum column: its rows may go to another leaf when they are restored."""
    root_of_such: bool
    """The topmost table above such leaves."""
    readable: bool
    """By this role, and all of its rows; pg_dump says what is wrong with those that are not."""
    rangeable: bool
    """Of the kind that may be read by page ranges (docs/format.md, "Tables by ranges"), whatever its size."""
    columns: tuple[str, ...]
    """Neither dropped nor generated, in order."""
    size: int
    """Bytes of its heap and TOAST; 0 if not asked for."""
    pages: int
    """Pages of its heap; 0 if not asked for."""

    @property
    def sql(self) -> str:
        """Its name for a statement or a pattern."""
        return qualified(self.schema, self.name)


def tables(session: Connection, *, sizes: bool) -> tuple[Table, ...]:
    """All ordinary and partitioned tables that pg_dump would dump, members of extensions left out.

    ``sizes`` asks the file system too, which waits for whoever holds an exclusive lock: only for tables that are
    locked.
    """
    version = session.info.server_version
    not_generated = "a.attgenerated = ''" if version >= 120000 else "true"
    heap = (
        "EXISTS (SELECT FROM pg_catalog.pg_am AS m WHERE m.oid = c.relam"
        " AND m.amhandler = 'pg_catalog.heap_tableam_handler'::pg_catalog.regproc)"
        if version >= 120000
        else "true"
    )
    size, pages = ("pg_catalog.pg_table_size(c.oid)", "pg_catalog.pg_relation_size(c.oid)") if sizes else ("0", "0")
    query = f"""
        WITH RECURSIVE unsafe(oid) AS (
            SELECT p.partrelid FROM pg_catalog.pg_partitioned_table AS p
            WHERE p.partstrat = 'h' AND EXISTS (
                SELECT FROM pg_catalog.pg_opclass AS o
                WHERE o.oid = ANY (p.partclass) AND o.opcintype = 'pg_catalog.anyenum'::pg_catalog.regtype)
            UNION
            SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN unsafe AS u ON i.inhparent = u.oid
        ), above(oid) AS (
            SELECT u.oid FROM unsafe AS u
            UNION
            SELECT i.inhparent FROM pg_catalog.pg_inherits AS i JOIN above AS a ON i.inhrelid = a.oid
        ), kept AS (
            SELECT c.*, n.nspname,
                c.relkind = 'r' AND c.relpersistence IN ('p', 'u') AND {heap}
                AND c.oid NOT IN (SELECT u.oid FROM unsafe AS u) AS plain,
                ARRAY(
                    SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS a
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND {not_generated}
                    ORDER BY a.attnum) AS columns
            FROM {_class_columns(version)} AS c
            JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT {_OWN_SCHEMAS}
                AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
                AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_depend AS d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype =
                    'e')
        )
        SELECT c.oid::pg_catalog.int8, c.nspname, c.relname, c.relkind::pg_catalog.text,
            c.oid IN (SELECT u.oid FROM unsafe AS u) AND c.relkind = 'r',
            c.oid IN (SELECT a.oid FROM above AS a) AND NOT c.relispartition,
            pg_catalog.has_table_privilege(c.oid, 'SELECT') AND NOT pg_catalog.row_security_active(c.oid),
            c.plain AND pg_catalog.cardinality(c.columns) > 0, c.columns,
            CASE WHEN c.plain THEN {size} ELSE 0 END,
            CASE WHEN c.plain THEN {pages} / pg_catalog.current_setting('block_size')::pg_catalog.int4 ELSE 0 END
        FROM kept AS c ORDER BY c.nspname, c.relname
    """
    with session.cursor() as cursor:
        cursor.execute(query)
        return tuple(
            Table(
                oid=row[0], schema=row[1], name=row[2], kind=row[3], loaded_through_root=row[4], root_of_such=row[5],
                readable=row[6], rangeable=row[7], columns=tuple(row[8]), size=row[9] or 0, pages=row[10] or 0,
            )
            for row in cursor.fetchall()
        )  # fmt: skip


def _class_columns(version: int) -> str:
    columns = "oid, relname, relnamespace, relkind, relpersistence, relispartition"
    return f"(SELECT {columns}{', relam' if version >= 120000 else ''} FROM pg_catalog.pg_class)"


def excluded(entries: Sequence[str], known: Sequence[Table], session: Connection) -> tuple[Table, ...]:
    """The tables whose rows are left out: ``entries`` name them as ``schema.table`` (or ``table`` in ``public``).

    A partitioned table stands for all its partitions. Raises UsageError for an entry that names no table, or two.
    """
    by_name: dict[str, list[Table]] = {}
    for table in known:
        by_name.setdefault(f"{table.schema}.{table.name}", []).append(table)
        if table.schema == "public":
            by_name.setdefault(table.name, []).append(table)
    chosen: dict[int, Table] = {}
    for entry in entries:
        found = by_name.get(entry, [])
        if len(found) != 1:
            how = "does not exist in the database" if not found else "means more than one table"
            raise UsageError(
                f"The table {entry!r}, whose data is to be left out, {how}",
                next_step="Correct the list of tables without data in action-matrix.yml.",
            )
        chosen[found[0].oid] = found[0]
    with session.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE below(oid) AS (SELECT pg_catalog.unnest(%s::pg_catalog.int8[])::pg_catalog.oid UNION"
            " SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN below AS b ON i.inhparent = b.oid"
            " JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relispartition)"
            " SELECT oid::pg_catalog.int8 FROM below",
            (list(chosen),),
        )
        all_oids = {row[0] for row in cursor.fetchall()}
    return tuple(table for table in known if table.oid in all_oids)


def sequence_values(session: Connection) -> tuple[SequenceValue, ...]:
    """Where the sequences stand now (sequences know no snapshots); those that cannot be read are left out."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c"
            " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
            f" WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND NOT {_OWN_SCHEMAS}"
            " AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())"
            # The order of conditions is the planner's: the function fails on what is no sequence.
            " AND CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT') END"
            " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d"
            " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')"
            " ORDER BY 1, 2"
        )
        names: list[tuple[str, str]] = cursor.fetchall()
        values: list[SequenceValue] = []
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            cursor.execute(
                " UNION ALL ".join(
                    f"SELECT {index}, last_value, is_called FROM {qualified(*name)}" for index, name in enumerate(batch)
                )
            )
            for index, last_value, is_called in cursor.fetchall():
                schema, sequence = batch[index]
                values.append(
                    SequenceValue(schema_name=schema, sequence=sequence, last_value=last_value, is_called=is_called)
                )
    return tuple(values)


def constraints(session: Connection) -> tuple[int, tuple[str, ...]]:
    """How many constraints tables and domains have, and which of them are not valid, as ``schema.table.constraint``."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT k.convalidated, n.nspname || '.' || coalesce(c.relname, t.typname, '') || '.' || k.conname"
            " FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_namespace AS n ON n.oid = k.connamespace"
            " LEFT JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid"
            " LEFT JOIN pg_catalog.pg_type AS t ON t.oid = k.contypid"
            f" WHERE NOT {_OWN_SCHEMAS} ORDER BY 2"
        )
        rows = cursor.fetchall()
    return len(rows), tuple(name for valid, name in rows if not valid)


def unmoved(before: Iterable[SequenceValue], after: Iterable[SequenceValue]) -> tuple[SequenceValue, ...]:
    """Those that stood still while the dump was made: only for these it is known what the archive says."""
    still = set(after)
    return tuple(value for value in before if value in still)


@dataclass(frozen=True)
class DatabaseFacts:
    """What the manifest says of the database as a whole."""

    encoding: str
    collate: str
    ctype: str
    locale_provider: Literal["c", "i", "b"]
    locale: str | None
    owner: str
    size: int
    extensions: tuple[str, ...] = ()


def facts(session: Connection) -> DatabaseFacts:
    """Encoding, locale, owner, size in bytes, extensions."""
    version = session.info.server_version
    if version >= 170000:
        provider, locale = "d.datlocprovider::pg_catalog.text", "d.datlocale"
    elif version >= 150000:
        provider, locale = "d.datlocprovider::pg_catalog.text", "d.daticulocale"
    else:
        provider, locale = "'c'", "NULL"
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,"
            f" {provider}, {locale}, pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_database_size(d.oid)"
            " FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()"
        )
        row: Any = cursor.fetchone()
        cursor.execute("SELECT e.extname FROM pg_catalog.pg_extension AS e ORDER BY 1")
        extensions = tuple(name for (name,) in cursor.fetchall())
    return replace(DatabaseFacts(*row), extensions=extensions)


def count_rows(session: Connection, table: Table, codec: str = "utf-8") -> int:
    """Rows of ``table`` in the session's snapshot; of a partitioned table those of all its partitions.

    ``codec`` is that of the session's ``client_encoding``.
    """
    only = "" if table.kind == "p" else "ONLY "
    with session.cursor() as cursor:
        cursor.execute(f"SELECT pg_catalog.count(*) FROM {only}{table.sql}".encode(codec))
        row: Any = cursor.fetchone()
    return int(row[0])


def to_count(known: Iterable[Table], left_out: Iterable[Table]) -> tuple[Table, ...]:
    """Which tables' rows are counted: all that hold rows, and roots in place of leaves whose rows may change places."""
    skip = {table.oid for table in left_out}
    return tuple(
        table
        for table in known
        if table.oid not in skip and ((table.kind == "r" and not table.loaded_through_root) or table.root_of_such)
    )
