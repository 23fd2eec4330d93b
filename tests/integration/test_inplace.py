"""Emptying a database in place, and loading into it again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import pytest

from fac_backup.database import closed, inplace, marker, sessions
from fac_backup.database.connection import Database
from fac_backup.database.dump import DumpOptions, dump
from fac_backup.database.load import LoadOptions, load
from fac_backup.plain.errors import FailedError
from tests.support.equality import normalized
from tests.support.pieces import MemoryPieces
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space
from tests.support.zoo import zoo
from tests.torture.busy import Application

NOW = datetime(2026, 11, 22, 20, 16, tzinfo=UTC)


@pytest.fixture(params=[18, 15])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    server = request.getfixturevalue(f"pg{request.param}")
    assert isinstance(server, PostgresServer)
    return server


@pytest.fixture
def target(server: PostgresServer) -> Iterator[Database]:
    name = f"in_{secrets.token_hex(4)}"
    database = Database(server.create_database(name, createdb=False))
    yield database
    server.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def execute(database: Database, *statements: str) -> None:
    session = database.connect(autocommit=True)
    try:
        with session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        session.close()


def test_a_wiped_database_is_as_if_new_but_for_its_marker(server: PostgresServer, target: Database) -> None:
    born = normalized(target, server.major)
    zoo(server, target.name)
    session = target.connect(autocommit=True)
    made = marker.adopt(session, "dev", "octocat", NOW)
    execute(
        target,
        "GRANT ALL ON SCHEMA public TO zoo_reader",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "COMMENT ON SCHEMA public IS 'other'",
        "ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM CURRENT_USER",
        "ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM PUBLIC",
        "CREATE TEXT SEARCH DICTIONARY public.words (TEMPLATE = pg_catalog.simple)",
        "CREATE TEXT SEARCH CONFIGURATION public.conf (COPY = pg_catalog.english)",
        "CREATE CONVERSION public.conv FOR 'LATIN1' TO 'UTF8' FROM pg_catalog.iso8859_1_to_utf8",
    )
    assert normalized(target, server.major) != born
    inplace.wipe(target)
    assert normalized(target, server.major) == born
    assert marker.read(session) == made
    inplace.wipe(target)
    session.close()


@pytest.mark.parametrize("options", [DumpOptions(range_threshold=0, range_pages=4, jobs=2), DumpOptions()])
def test_what_is_loaded_after_a_wipe_equals_what_was_there(
    server: PostgresServer, target: Database, options: DumpOptions
) -> None:
    zoo(server, target.name)
    # Stock's round trip changes the order of inherited columns, so: ours once, then again in place.
    pieces = MemoryPieces()
    part = dump(target, pieces, options)
    inplace.wipe(target)
    load(target, target.name, part, pieces, LoadOptions(jobs=2))
    first = normalized(target, server.major)
    part = dump(target, pieces, options)
    execute(target, "DROP TABLE public.tall CASCADE", "CREATE TABLE public.extra (a int)")
    inplace.wipe(target)
    load(target, target.name, part, pieces, LoadOptions(jobs=2))
    assert normalized(target, server.major) == first


def test_many_objects_are_dropped_in_several_transactions(
    pg18: PostgresServer, monkeypatch: pytest.MonkeyPatch, unique: str
) -> None:
    database = Database(pg18.create_database(unique))
    born = normalized(database, 18)
    zoo(pg18, unique)
    monkeypatch.setattr(inplace, "_locks_there_are", lambda session: 10)
    inplace.wipe(database)
    assert normalized(database, 18) == born
    pg18.execute("postgres", f"DROP DATABASE {unique} WITH (FORCE)")


def test_what_belongs_to_others_is_an_obstacle_and_nothing_is_dropped(pg18: PostgresServer, unique: str) -> None:
    database = Database(pg18.create_database(unique))
    execute(database, "CREATE TABLE public.mine (a int)")
    pg18.execute(
        unique, "CREATE SCHEMA others", "CREATE TABLE others.theirs (a int)", "CREATE TABLE public.by_super ()"
    )
    before = normalized(Database(pg18.url(unique)), 18)
    session = database.connect()
    assert inplace.obstacles(session) == ("table others.theirs", "schema others")
    session.close()
    with pytest.raises(FailedError, match="2 objects in the database belong to others"):
        inplace.wipe(database)
    assert normalized(Database(pg18.url(unique)), 18) == before
    pg18.execute("postgres", f"DROP DATABASE {unique} WITH (FORCE)")


def test_an_extension_that_an_administrator_made_stays_and_its_comment_is_left_out(
    pg15: PostgresServer, unique: str
) -> None:
    database = Database(pg15.create_database(unique))
    pg15.execute(unique, "CREATE EXTENSION pg_buffercache SCHEMA public")
    execute(database, "CREATE TABLE public.mine (a int)", "INSERT INTO public.mine VALUES (1)")
    pieces = MemoryPieces()
    part = dump(database, pieces, DumpOptions())
    inplace.wipe(database)
    report = load(database, unique, part, pieces, LoadOptions(jobs=1))
    assert report.left_out == ("COMMENT EXTENSION pg_buffercache",)
    assert report.rows == 1
    pg15.execute("postgres", f"DROP DATABASE {unique} WITH (FORCE)")


def test_an_application_is_kept_out_while_our_own_sessions_stay(pg18: PostgresServer, unique: str) -> None:
    url = pg18.create_database(unique)
    database = Database(url)
    ours = database.connect(autocommit=True)
    application = psycopg2.connect(url)
    with sessions.KeptOut(database, [unique], ours=False, every=0.05), ours.cursor() as cursor:
        time.sleep(0.4)
        cursor.execute("SELECT 1")
        with pytest.raises(psycopg2.Error):
            application.cursor().execute("SELECT 1")
    ours.close()
    application.close()
    pg18.execute("postgres", f"DROP DATABASE {unique} WITH (FORCE)")


def test_an_application_that_comes_writes_and_goes_all_the_time_writes_nothing_into_a_restore(
    pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str
) -> None:
    space = Space(pg18, s3, tmp_path, unique, createdb=False).fill(20_000, 3)
    space.sql("CREATE TABLE busy (id bigserial PRIMARY KEY, note text)", "INSERT INTO busy (note) VALUES ('there')")
    backup_id = space.backup()
    with Application(space.url, seed=1) as application:
        time.sleep(0.5)
        for _ in range(2):
            done = space.restore(backup_id)
            assert done.code == 0, done.err
        time.sleep(0.5)
    assert application.written > 0
    assert space.restore(backup_id).code == 0
    assert space.value("SELECT string_agg(note, ',') FROM busy") == "there"
    assert space.value("SHOW default_transaction_read_only") == "off"
    assert space.value("SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text LIKE '%read_only%'") == 0
    space.close()


def test_what_a_database_says_itself_of_read_only_transactions_is_kept(pg18: PostgresServer, unique: str) -> None:
    database = Database(pg18.create_database(unique))
    assert closed.own_value(database) == ""
    execute(database, f'ALTER DATABASE "{unique}" SET default_transaction_read_only TO off')
    own = closed.own_value(database)
    closed.close(database)
    application = Database(database.url.partition("?")[0])
    with pytest.raises(FailedError, match="read-only"):
        inplace.wipe(application)
    inplace.wipe(database)
    closed.reopen(database, own)
    inplace.wipe(application)
    assert closed.own_value(application) == "off"
    pg18.execute("postgres", f'DROP DATABASE "{unique}" WITH (FORCE)')


def test_a_role_that_owns_what_is_in_the_database_but_not_the_database_is_refused_before_it_is_wiped(
    pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str
) -> None:
    space = Space(pg18, s3, tmp_path, unique, createdb=False).fill(100, 3)
    backup_id = space.backup()
    before = space.state()
    pg18.execute(
        "postgres",
        f'ALTER DATABASE "{unique}" OWNER TO super',
        f'GRANT ALL ON DATABASE "{unique}" TO "{unique}_owner"',
    )
    pg18.execute(unique, f'ALTER SCHEMA public OWNER TO "{unique}_owner"')
    done = space.restore(backup_id)
    assert done.code == 1, done.err
    assert "the database itself" in done.last
    assert space.state() == before
    space.close()
