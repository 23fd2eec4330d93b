"""Building beside and swapping, against applications that reconnect all the time."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest

from fac_backup.database import marker, scratch, sessions, swap
from fac_backup.database.connection import Database
from fac_backup.plain import manifest
from fac_backup.plain.errors import FailedError, RefusedError
from tests.support.postgres import PostgresServer

NOW = datetime(2026, 11, 22, 20, 16, tzinfo=UTC)

PART = manifest.Database(
    server_version=180006, dumped_with=18, encoding="UTF8", collate="C.UTF-8", ctype="C.UTF-8", owner="o", size=0,
    archive=manifest.Archive(pieces=(), size=0, sha256="0" * 64),
)  # fmt: skip


@pytest.fixture(params=[18, 15])
def target(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from a_target(request.getfixturevalue(f"pg{request.param}"))


@pytest.fixture
def target18(pg18: PostgresServer) -> Iterator[Database]:
    yield from a_target(pg18)


def a_target(server: PostgresServer) -> Iterator[Database]:
    name = f"Swap me {secrets.token_hex(4)}"
    database = Database(server.create_database(name).replace(" ", "%20"))
    execute(database, "CREATE TABLE public.state AS SELECT 'old'::text AS what")
    adopt(database)
    try:
        yield database
    finally:
        for left in scratch.find(database):
            scratch.drop(database, left.name)
        server.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def execute(database: Database, *statements: str) -> Any:
    session = database.connect(autocommit=True)
    try:
        with session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None
    finally:
        session.close()


def adopt(database: Database, space: str = "dev") -> None:
    session = database.connect(autocommit=True)
    marker.write(session, marker.Marker(space, NOW, "octocat"))
    session.close()


def names(database: Database) -> tuple[str, str]:
    token = secrets.token_hex(4)
    return swap.scratch_name(database.name, "new", token), swap.scratch_name(database.name, "old", token)


def built(database: Database, space: str = "dev") -> tuple[str, str]:
    new, old = names(database)
    swap.create_beside(database, new, PART)
    execute(database.with_name(new), "CREATE TABLE public.state AS SELECT 'new'::text AS what")
    adopt(database.with_name(new), space)
    return new, old


def what(database: Database) -> str:
    return str(execute(database, "SELECT what FROM public.state")[0][0])


def test_the_new_database_takes_the_place_of_the_old_one_with_all_that_belongs_to_the_place(target: Database) -> None:
    execute(
        target,
        f'ALTER DATABASE "{target.name}" SET search_path TO "$user", public, "a,b"',
        f"ALTER DATABASE \"{target.name}\" SET application_name TO 'it''s'",
        f"ALTER ROLE CURRENT_USER IN DATABASE \"{target.name}\" SET work_mem TO '7MB'",
        f'ALTER DATABASE "{target.name}" CONNECTION LIMIT 33',
        f"COMMENT ON DATABASE \"{target.name}\" IS 'the ''comment'''",
        f'REVOKE ALL ON DATABASE "{target.name}" FROM PUBLIC',
        f'GRANT CONNECT ON DATABASE "{target.name}" TO pg_monitor WITH GRANT OPTION',
    )
    before = what_belongs(target)
    new, old = built(target)
    assert swap.state(target, new, old) == "before"
    assert swap.carry_over(target, new) == ()
    done = swap.swap(target, new, old)
    assert done.kept == old
    assert swap.state(target, new, old) == "after"
    assert (what(target), what(target.with_name(old))) == ("new", "old")
    assert what_belongs(target) == before
    assert [(left.name, left.role, left.marked) for left in scratch.find(target)] == [(old, "old", True)]
    scratch.drop(target, old)
    scratch.drop(target, old)
    assert swap.state(target, new, old) == "neither"
    assert scratch.find(target) == ()


def what_belongs(database: Database) -> Any:
    return execute(
        database,
        "SELECT d.datconnlimit, shobj_description(d.oid, 'pg_database'), pg_get_userbyid(d.datdba),"
        " (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(d.datacl) AS a),"
        " (SELECT array_agg(s.setrole::text || s.setconfig::text ORDER BY 1) FROM pg_db_role_setting AS s"
        " WHERE s.setdatabase = d.oid) FROM pg_database AS d WHERE d.datname = current_database()",
    )


class Application(threading.Thread):
    """Queries and reconnects all the time; notes for how long it could not connect, and what it saw."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.url, self.stop = url, stop
        self.seen: set[str] = set()
        self.longest_refusal = 0.0

    def run(self) -> None:
        last_good = time.monotonic()
        while not self.stop.is_set():
            try:
                connection = psycopg2.connect(self.url)
                try:
                    for _ in range(5):
                        with connection, connection.cursor() as cursor:
                            cursor.execute("SELECT what FROM public.state")
                            self.seen.add((cursor.fetchone() or ("",))[0])
                        now = time.monotonic()
                        self.longest_refusal = max(self.longest_refusal, now - last_good)
                        last_good = now
                        time.sleep(0.01)
                finally:
                    connection.close()
            except psycopg2.Error:
                time.sleep(0.01)


def test_twenty_clients_that_reconnect_all_the_time_do_not_hinder_the_swap(
    pg18: PostgresServer, target18: Database
) -> None:
    new, old = built(target18)
    stop = threading.Event()
    url = pg18.url(
        *(part.replace(" ", "%20") for part in (target18.name, f"{target18.name}_owner")),
        f"{target18.name}_owner-pw".replace(" ", "%20"),
    )
    clients = [Application(url, stop) for _ in range(20)]
    for client in clients:
        client.start()
    try:
        time.sleep(0.7)
        done = swap.swap(target18, new, old, patience=30)
        time.sleep(0.7)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert what(target18) == "new"
    assert set.union(*(client.seen for client in clients)) == {"old", "new"}
    assert done.seconds < 10


def test_a_database_with_another_marker_or_none_is_not_swapped_in(target18: Database) -> None:
    new, old = built(target18, space="production")
    with pytest.raises(RefusedError, match="does not bear the marker"):
        swap.swap(target18, new, old)
    execute(target18.with_name(new), "DROP SCHEMA fac_backup CASCADE")
    with pytest.raises(RefusedError, match="does not bear the marker"):
        swap.swap(target18, new, old)
    assert what(target18) == "old"


@pytest.mark.parametrize("which", ["the old one", "the new one"])
def test_a_session_that_we_may_not_end_fails_the_swap_and_leaves_everything_as_it_was(
    pg18: PostgresServer, target18: Database, which: str
) -> None:
    new, old = built(target18)
    before = what_belongs(target18)
    held = target18.name if which == "the old one" else new  # the first rename fails, or the second
    other = psycopg2.connect(pg18.url(held.replace(" ", "%20")))
    try:
        with pytest.raises(
            FailedError, match=r"others stayed connected to it \(1 sessions that this role may not end\)"
        ):
            swap.swap(target18, new, old, patience=0.5)
        assert swap.state(target18, new, old) == "before"
        assert what(target18) == "old"
        who = sessions.connected(target18.connect("postgres"), held)
        assert [(one.role, one.endable) for one in who] == [("super", False)]
    finally:
        other.close()
    assert what_belongs(target18) == before
    swap.swap(target18, new, old)
    assert what(target18) == "new"


def test_only_what_bears_our_comment_is_found_and_dropped(pg18: PostgresServer, target18: Database) -> None:
    new, old = built(target18)
    other = target18.name + "_fac_old_deadbeef"
    execute(target18.with_name("postgres"), f'CREATE DATABASE "{other}"')
    try:
        with pytest.raises(RefusedError, match="not ours to drop"):
            scratch.drop(target18, other)
        assert [left.name for left in scratch.find(target18)] == [new]
        assert scratch.find(target18.with_name("postgres")) == ()
    finally:
        execute(target18.with_name("postgres"), f'DROP DATABASE "{other}"')
    with pytest.raises(RefusedError, match="not one that this program has made"):
        swap.swap(target18, "postgres", old)


def test_a_database_whose_creation_was_killed_before_its_comment_is_removed_while_it_is_empty(
    target18: Database,
) -> None:
    new, _ = names(target18)
    elsewhere = target18.with_name("postgres")
    execute(elsewhere, f'CREATE DATABASE "{new}" TEMPLATE template0')
    assert [(left.name, left.marked) for left in scratch.find(target18)] == [(new, False)]
    execute(target18.with_name(new), "CREATE TABLE public.somebodys (a int)")
    with pytest.raises(RefusedError, match="does not say that it is"):
        scratch.drop(target18, new)
    execute(target18.with_name(new), "DROP TABLE public.somebodys")
    scratch.drop(target18, new)
    assert scratch.find(target18) == ()


def test_a_locale_that_the_server_does_not_know_gives_way_to_the_targets(target18: Database) -> None:
    new, _ = names(target18)
    part = PART.model_copy(update={"collate": "tlh_KX.utf8", "ctype": "tlh_KX.utf8"})
    assert swap.create_beside(target18, new, part) == (
        "The source's locale is not known here: text sorts by the target's locale.",
    )


def test_a_role_that_may_not_create_databases_is_told_what_to_do(pg18: PostgresServer, unique: str) -> None:
    database = Database(pg18.create_database(unique, createdb=False))
    with pytest.raises(FailedError, match="may not create databases") as told:
        swap.create_beside(database, names(database)[0], PART)
    assert "CREATEDB" in told.value.next_step
    pg18.execute("postgres", f"DROP DATABASE {unique}")


def test_the_old_databases_subscription_is_detached_so_that_it_can_be_dropped(pg18: PostgresServer) -> None:
    name = f"sub_{secrets.token_hex(4)}"
    pg18.create_database(name)
    database = Database(pg18.url(name))
    execute(database, "CREATE TABLE public.state AS SELECT 'old'::text AS what")
    adopt(database)
    execute(
        database,
        f"CREATE SUBSCRIPTION {name} CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = 's')",
    )
    new, old = built(database)
    assert swap.swap(database, new, old).detached == (name,)
    scratch.drop(database, old)
    assert what(database) == "new"
    pg18.execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("major", [18, 15])
def test_a_worker_of_autovacuum_does_not_keep_a_database_that_is_to_go(major: int) -> None:
    slow = {"autovacuum_naptime": "1s", "autovacuum_vacuum_cost_delay": "100ms", "autovacuum_vacuum_cost_limit": "1"}
    with PostgresServer(major, slow) as server, contextmanager(a_target)(server) as target:
        new, _ = built(target)
        execute(
            target.with_name(new),
            "CREATE TABLE public.busy AS SELECT g AS id, repeat('x', 200) AS filling FROM generate_series(1, 20000) g",
            "DELETE FROM public.busy",
        )
        everything = Database(server.url("postgres"))
        workers = f"SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = '{new}'"
        deadline = time.monotonic() + 60
        while not execute(everything, workers):
            assert time.monotonic() < deadline, "no worker came"
            time.sleep(0.05)
        scratch.drop(target, new)
        assert scratch.find(target) == ()
