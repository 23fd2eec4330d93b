"""Markers on real servers, as an owner who is no superuser."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database import marker
from fac_backup.database.connection import Database
from fac_backup.plain.errors import RefusedError
from tests.support.postgres import PostgresServer

NOW = datetime(2026, 11, 22, 20, 16, tzinfo=UTC)


@pytest.fixture
def session(pg18: PostgresServer, unique: str) -> Iterator[Connection]:
    session = Database(pg18.create_database(unique)).connect(autocommit=True)
    yield session
    session.close()
    pg18.execute("postgres", f"DROP DATABASE {unique} WITH (FORCE)")


def test_a_database_without_a_marker_is_refused_as_a_target(session: Connection) -> None:
    assert marker.read(session) is None
    with pytest.raises(RefusedError, match="bears no marker"):
        marker.require(session, "dev", "the target's database")


def test_an_owner_marks_the_database_once_and_reads_the_same_marker_back(session: Connection) -> None:
    made = marker.adopt(session, "dev", "octocat", NOW)
    assert marker.read(session) == made == marker.Marker("dev", NOW, "octocat")
    assert marker.adopt(session, "dev", "somebody-else", NOW) == made
    assert marker.require(session, "dev", "the target's database") == made


def test_what_another_space_has_marked_is_refused(session: Connection) -> None:
    marker.adopt(session, "production", "octocat", NOW)
    with pytest.raises(RefusedError, match="marked as production"):
        marker.adopt(session, "dev", "octocat", NOW)
    with pytest.raises(RefusedError, match="marked as production, not as dev"):
        marker.require(session, "dev", "the target's database")
    read = marker.read(session)
    assert read is not None
    assert read.space == "production"


def test_a_marker_is_written_again_with_what_was_restored(session: Connection) -> None:
    marker.adopt(session, "dev", "octocat", NOW)
    again = marker.Marker("dev", NOW, "octocat", restored="dev_20261122T201653Z_daily")
    marker.write(session, again)
    assert marker.read(session) == again


def test_default_privileges_do_not_let_others_change_the_marker(session: Connection) -> None:
    with session.cursor() as cursor:
        cursor.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
        cursor.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC")
        marker.adopt(session, "dev", "octocat", NOW)
        cursor.execute("SELECT relacl::text FROM pg_class WHERE oid = 'fac_backup.marker'::regclass")
        (table,) = cursor.fetchone() or ("",)
        cursor.execute("SELECT nspacl::text FROM pg_namespace WHERE nspname = 'fac_backup'")
        (schema,) = cursor.fetchone() or ("",)
    assert "{=" not in table
    assert ",=" not in table
    assert "{=" not in schema
    assert ",=" not in schema


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE fac_backup.marker (other int)",
        "CREATE VIEW fac_backup.marker AS SELECT 'dev'::text AS space",
        "CREATE TABLE fac_backup.marker AS SELECT 'No Name'::text AS space, now() AS adopted_at,"
        " ''::text AS adopted_by, ''::text AS restored",
    ],
)
def test_something_else_in_the_markers_place_is_refused(session: Connection, statement: str) -> None:
    with session.cursor() as cursor:
        cursor.execute("CREATE SCHEMA fac_backup")
        cursor.execute(statement)
    with pytest.raises(RefusedError, match="no marker"):
        marker.read(session)
