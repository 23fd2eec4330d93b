"""Loading on real servers: what comes back, what is refused, what a forged backup can do."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from fac_backup.database import checksum, preflight, scratch, swap
from fac_backup.database.clients import Client
from fac_backup.database.connection import Database
from fac_backup.database.dump import DumpOptions, dump
from fac_backup.database.load import LoadOptions, LoadReport, load, opened_head
from fac_backup.plain import manifest
from fac_backup.plain.errors import FailedError, IntegrityError
from fac_backup.plain.manifest import Piece
from tests.support.pieces import MemoryPieces
from tests.support.postgres import PostgresServer, bin_dir
from tests.support.zoo import zoo

RANGES = DumpOptions(range_threshold=0, range_pages=4, jobs=2)
JOBS = LoadOptions(jobs=2)


@contextmanager
def made(server: PostgresServer, *statements: str, superuser: bool = False) -> Iterator[Database]:
    """A database with the statements' objects, owned by a role that is no superuser."""
    name = f"l{secrets.token_hex(4)}"
    url = server.create_database(name)
    try:
        run(Database(url), *statements)
        yield Database(server.url(name) if superuser else url)
    finally:
        for other in scratch.find(Database(server.url(name))):
            scratch.drop(Database(server.url(name)), other.name)
        server.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def run(database: Database, *statements: str) -> None:
    session = database.connect(autocommit=True)
    try:
        with session.cursor() as cursor:
            for statement in ("SET search_path = public", *statements):
                cursor.execute(statement)
    finally:
        session.close()


def one(database: Database, query: str) -> Any:
    session = database.connect(autocommit=True)
    try:
        with session.cursor() as cursor:
            cursor.execute(query)
            return (cursor.fetchone() or (None,))[0]
    finally:
        session.close()


def beside(database: Database, part: manifest.Database) -> Database:
    name = swap.scratch_name(database.name, "new", secrets.token_hex(4))
    swap.create_beside(database, name, part)
    return database.with_name(name)


def load_beside(
    database: Database, part: manifest.Database, pieces: MemoryPieces, options: LoadOptions = JOBS
) -> tuple[Database, LoadReport]:
    new = beside(database, part)
    return new, load(database, new.name, part, pieces, options)


def test_rows_come_back_and_their_checksums_agree_with_the_pieces(pg18: PostgresServer) -> None:
    with made(pg18) as source:
        zoo_url = zoo(pg18, source.name)
        source = Database(zoo_url)
        for options in (RANGES, DumpOptions()):
            pieces = MemoryPieces()
            part = dump(source, pieces, options)
            new, report = load_beside(source, part, pieces)
            assert report.rows == sum(row.rows for row in part.rows)
            assert report.privileges.missing_roles == ()
            assert report.privileges.refused == ()
            assert not report.left_out
            assert not report.serial
            with opened_head(source, part, pieces, JOBS) as head:
                assert checksum.rehearse(new, part, pieces, head) == ()
                run(new, "UPDATE tall SET note = 'other' WHERE id = 2", "DELETE FROM by_list_rest WHERE v = 1")
                wrong = checksum.rehearse(new, part, pieces, head)
            assert [(d.table, d.only_content) for d in wrong] == [("by_list_rest", False), ("tall", True)]
            session = new.connect()
            assert [d.table for d in checksum.compare_live(session, part)] == ["by_list_rest"]
            session.close()


def test_a_superuser_restores_into_a_database_of_somebody_else_who_then_owns_it_all(pg18: PostgresServer) -> None:
    with made(pg18) as source:
        zoo(pg18, source.name, superuser=True)
        source = Database(pg18.url(source.name))
        pieces = MemoryPieces()
        new, _ = load_beside(source, dump(source, pieces, RANGES), pieces)
        owner = one(source, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")
        owners = one(
            new, "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ',') FROM pg_class WHERE relnamespace ="
            " 'public'::regnamespace AND oid NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e')",
        )  # fmt: skip
        assert owners == owner
        assert one(new, "SELECT count(*) FROM pg_event_trigger") == 2


def test_grants_to_roles_that_the_target_lacks_are_listed_and_the_others_kept(pg18: PostgresServer) -> None:
    gone = f"gone_{secrets.token_hex(3)}"
    kept = f"kept_{secrets.token_hex(3)}"
    pg18.execute("postgres", f"CREATE ROLE {gone}", f"CREATE ROLE {kept}")
    with made(
        pg18,
        "CREATE TABLE t (a int, b int)",
        f"GRANT SELECT ON t TO {gone}, {kept}",
        f"GRANT UPDATE (b) ON t TO {kept} WITH GRANT OPTION",
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {gone}, {kept}",
    ) as source:
        pieces = MemoryPieces()
        part = dump(source, pieces, DumpOptions())
        run(source, "DROP TABLE t", f"ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM {gone}, {kept}")
        pg18.execute("postgres", f"DROP ROLE {gone}")
        with opened_head(source, part, pieces, JOBS) as head:
            assert preflight.look(source, part, head).missing_roles == (gone,)
        new, report = load_beside(source, part, pieces)
        assert report.privileges.missing_roles == (gone,)
        assert report.privileges.for_missing == 2
        acl = one(new, "SELECT relacl::text FROM pg_class WHERE relname = 't'")
        assert f"{kept}=r/" in acl
        assert f"{kept}=w*/" in one(
            new, "SELECT attacl::text FROM pg_attribute WHERE attacl IS NOT NULL AND attname = 'b'"
        )
        assert f"{kept}=r/" in one(new, "SELECT defaclacl::text FROM pg_default_acl")
    pg18.execute("postgres", f"DROP ROLE {kept}")


class Slow(MemoryPieces):
    """Takes its time for one piece."""

    def __init__(self, pieces: MemoryPieces, late: Piece) -> None:
        super().__init__()
        self.kept = pieces.kept
        self._late = late

    def read(self, piece: Piece) -> bytes:
        if piece == self._late:
            time.sleep(0.5)
        return super().read(piece)


def test_a_check_that_reads_another_table_makes_it_load_again_in_the_archives_order(pg18: PostgresServer) -> None:
    with made(
        pg18,
        "CREATE TABLE a_limits (most int)",
        "INSERT INTO a_limits VALUES (100000)",
        # The last table by name that is read by ranges is the only one that is big, so it would be loaded first.
        "CREATE FUNCTION fits(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 <= (SELECT most FROM public.a_limits)'",
        "CREATE TABLE c_rows (n int CHECK (fits(n)), t text)",
        "INSERT INTO c_rows SELECT g, repeat('x', 200) FROM generate_series(1, 3000) g",
        "CREATE FUNCTION filled(int) RETURNS bool LANGUAGE sql AS 'SELECT (SELECT count(*) FROM public.c_rows) = 3000'",
        "CREATE TABLE d_small (n int CHECK (filled(n)))",
        "INSERT INTO d_small VALUES (1)",
        "CREATE SEQUENCE s START 9",
    ) as source:
        pieces = MemoryPieces()
        part = dump(source, pieces, DumpOptions(range_threshold=100_000, range_pages=4))
        assert [table.table for table in part.tables] == ["c_rows"]
        new = beside(source, part)

        def again() -> None:
            scratch.drop(source, new.name)
            swap.create_beside(source, new.name, part)

        slow = Slow(pieces, part.tables[0].ranges[0][0])
        report = load(source, new.name, part, slow, replace(JOBS, again=again))
        assert report.serial
        assert one(new, "SELECT count(*) FROM public.c_rows") == 3000
        other = beside(source, part)
        with pytest.raises(FailedError) as told:
            load(source, other.name, part, slow, JOBS)
        assert "xxx" not in told.value.line()


def test_what_follows_the_data_is_made_by_several_sessions_with_more_memory_than_is_usual(pg18: PostgresServer) -> None:
    """Materialized views are filled then, and can tell: how many fill them at that moment, and with what memory."""
    together = """
        CREATE OR REPLACE FUNCTION together() RETURNS int LANGUAGE plpgsql AS
        $$ DECLARE found int := 0; BEGIN {} END $$"""
    look = """
        PERFORM pg_catalog.pg_advisory_xact_lock_shared(4711);
        FOR turn IN 1..100 LOOP
            SELECT pg_catalog.count(*) INTO found FROM pg_catalog.pg_locks
                WHERE locktype = 'advisory' AND objid = 4711 AND database =
                (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database());
            EXIT WHEN found > 1;
            PERFORM pg_catalog.pg_sleep(0.05);
        END LOOP;
        RETURN found;"""
    view = """
        CREATE MATERIALIZED VIEW {} AS
        SELECT together() AS sessions, current_setting('maintenance_work_mem') AS memory"""
    statements = [together.format("RETURN 0;"), view.format("one"), view.format("other"), together.format(look)]
    with made(pg18, *statements) as source:
        pieces = MemoryPieces()
        new, _ = load_beside(source, dump(source, pieces, RANGES), pieces)
        told = "(SELECT * FROM public.one UNION ALL SELECT * FROM public.other) AS told"
        assert one(new, f"SELECT max(sessions) FROM {told}") == 2
        usual, given = (one(at, f"SELECT min(pg_size_bytes(memory)) FROM {told}") for at in (source, new))
        assert given > usual
        assert given >= 128 * 1024 * 1024


class Tampered(MemoryPieces):
    """Gives other bytes than the manifest's for one piece; a real store notices, this one says so too."""

    def __init__(self, pieces: MemoryPieces, bad: Piece) -> None:
        super().__init__()
        self.kept = pieces.kept
        self._bad = bad

    def read(self, piece: Piece) -> bytes:
        if piece == self._bad:
            raise IntegrityError("a piece is not what the manifest says")
        return super().read(piece)


@pytest.fixture(scope="module")
def filled(pg18: PostgresServer) -> Iterator[tuple[Database, manifest.Database, MemoryPieces]]:
    with made(
        pg18,
        "CREATE TABLE t (a int, b text)",
        "INSERT INTO t SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 20000) g",
        "CREATE TABLE small (a int)",
        "INSERT INTO small VALUES (1), (2)",
        "CREATE SEQUENCE s",
        "SELECT nextval('s')",
    ) as source:
        pieces = MemoryPieces()
        yield source, dump(source, pieces, DumpOptions(range_threshold=1_000_000)), pieces


Filled = tuple[Database, manifest.Database, MemoryPieces]


def test_a_damaged_piece_of_a_table_or_of_the_archive_ends_the_load(filled: Filled) -> None:
    source, part, pieces = filled
    assert len(part.tables[0].ranges) > 3
    for bad in (part.tables[0].ranges[2][0], part.archive.pieces[-1]):
        with pytest.raises(IntegrityError, match="not what the manifest says"):
            load_beside(source, part, Tampered(pieces, bad))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "pg_authid", "schema_name": "pg_catalog"}, "not such a table"),
        ({"table": "small"}, "not such a table"),
        ({"columns": ("a",)}, "not such a table"),
        ({"columns": ("a", "b) FROM PROGRAM 'id' --")}, "not such a table"),
        ({"rows": 19999}, "20000 rows after the restore, the manifest says 19999"),
    ],
)
def test_a_forged_table_in_the_manifest_is_refused(filled: Filled, change: dict[str, Any], message: str) -> None:
    source, part, pieces = filled
    forged = part.model_copy(update={"tables": (part.tables[0].model_copy(update=change),)})
    with pytest.raises(IntegrityError, match=message):
        load_beside(source, forged, pieces)


def test_counts_and_sequences_that_are_not_the_manifests_are_noticed(filled: Filled) -> None:
    source, part, pieces = filled
    rows = tuple(row.model_copy(update={"rows": 3}) if row.table == "small" else row for row in part.rows)
    with pytest.raises(IntegrityError, match="small has 2 rows after the restore, the manifest says 3"):
        load_beside(source, part.model_copy(update={"rows": rows}), pieces)
    moved = tuple(value.model_copy(update={"last_value": 77}) for value in part.sequences)
    with pytest.raises(IntegrityError, match="stands elsewhere"):
        load_beside(source, part.model_copy(update={"sequences": moved}), pieces)


def test_something_that_is_no_archive_is_refused_before_anything_is_executed(filled: Filled) -> None:
    source, part, _ = filled
    pieces = MemoryPieces()
    piece = pieces.add(b"CREATE TABLE owned (); -- not an archive")
    forged = part.model_copy(update={"archive": part.archive.model_copy(update={"pieces": (piece,)})})
    new = beside(source, forged)
    with pytest.raises(IntegrityError, match="table of contents"):
        load(source, new.name, forged, pieces, JOBS)
    assert one(new, "SELECT count(*) FROM pg_class WHERE relname = 'owned'") == 0


def test_a_database_that_is_not_empty_is_left_alone(filled: Filled) -> None:
    source, part, pieces = filled
    with pytest.raises(FailedError, match="not empty"):
        load(source, source.name, part, pieces, JOBS)


def test_a_newer_client_loads_into_an_older_server(pg15: PostgresServer) -> None:
    newer = Client(18, bin_dir(18))
    with made(pg15, "CREATE TABLE t (a int PRIMARY KEY)", "INSERT INTO t VALUES (1)") as source:
        pieces = MemoryPieces()
        part = dump(source, pieces, DumpOptions(clients=(newer,)))
        new, report = load_beside(source, part, pieces, replace(JOBS, clients=(newer,)))
        assert report.rows == 1
        assert one(new, "SELECT count(*) FROM pg_index WHERE indrelid = 'public.t'::regclass") == 1


def test_what_the_role_cannot_restore_is_said_before_anything_happens(pg18: PostgresServer) -> None:
    with made(pg18) as source:
        zoo(pg18, source.name, superuser=True)
        pieces = MemoryPieces()
        part = dump(Database(pg18.url(source.name)), pieces, DumpOptions())
        part = part.model_copy(update={"extensions": (*part.extensions, "no_such_extension"), "server_version": 190001})
        with ExitStack() as stack:
            head = stack.enter_context(opened_head(source, part, pieces, JOBS))
            facts = preflight.look(source, part, head)
            said = " ".join(preflight.problems(facts, replace="beside", free_bytes=10))
        assert "Only a superuser can restore: EVENT TRIGGER note_ddl" in said
        assert "lacks these extensions: no_such_extension" in said
        assert "PostgreSQL 19.1, the target is 18." in said
        assert "has 10 B left" in said
        assert facts.may_create


def test_text_in_another_encoding_and_names_in_it_come_back(pg18: PostgresServer) -> None:
    name = f"l{secrets.token_hex(4)}"
    for encoding, word in (("LATIN1", "café"), ("EUC_JP", "日本"), ("SQL_ASCII", "café")):
        pg18.execute(
            "postgres",
            f"CREATE DATABASE {name} ENCODING {encoding} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
        )
        source = Database(pg18.url(name))
        try:
            session = source.connect(autocommit=True)
            session.set_client_encoding("UTF8")
            with session.cursor() as cursor:
                cursor.execute(f'CREATE TABLE public."t {word}" ("c {word}" text)')
                cursor.execute(f'GRANT SELECT ON public."t {word}" TO PUBLIC')
                cursor.execute(f'INSERT INTO public."t {word}" SELECT %s FROM generate_series(1, 300)', (word,))
                if encoding == "SQL_ASCII":
                    cursor.execute(f"INSERT INTO public.\"t {word}\" SELECT convert_from('\\xe9ff', 'SQL_ASCII')")
            session.close()
            for options in (RANGES, DumpOptions()):
                pieces = MemoryPieces()
                part = dump(source, pieces, options)
                new, report = load_beside(source, part, pieces)
                assert report.privileges.refused == ()
                assert one(new, "SELECT pg_encoding_to_char(encoding) FROM pg_database"
                           " WHERE datname = current_database()") == encoding  # fmt: skip
                with opened_head(source, part, pieces, JOBS) as head:
                    assert checksum.rehearse(new, part, pieces, head) == ()
                scratch.drop(source, new.name)
        finally:
            for other in scratch.find(source):
                scratch.drop(source, other.name)
            pg18.execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")
