"""Our restore equals stock's: the short form of ``python -m tests.support.equality``."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fac_backup.database import dump as dump_module
from fac_backup.database import ranges
from fac_backup.database.connection import Database
from fac_backup.database.dump import DumpOptions, dump
from fac_backup.database.inventory import Table
from fac_backup.database.load import LoadOptions, load
from fac_backup.plain.manifest import Piece
from tests.support.equality import FAST_LANE, PLAIN, compare_zoo, normalized, scratch
from tests.support.pieces import MemoryPieces
from tests.support.postgres import PostgresServer, bin_dir
from tests.support.zoo import zoo

REWRITES = {
    "tall": "TRUNCATE public.tall",
    "was_wider": "ALTER TABLE public.was_wider ADD more int DEFAULT 7, ALTER a TYPE bigint",
    "unlogged_rows": "VACUUM FULL public.unlogged_rows",
    "typed_values": "CLUSTER public.typed_values USING typed_values_pkey",
    "serials": "DROP TABLE public.serials",
}
WRITES = (
    "UPDATE public.tall SET note = 'w' || note WHERE id % 5 = 1",
    "INSERT INTO public.animal VALUES (77, 'written')",
    "DELETE FROM ONLY public.animal WHERE id = 77",
    "INSERT INTO public.by_list VALUES ('written', 1), ('a', 4711)",
    "DELETE FROM public.by_list WHERE k = 'written' OR v = 4711",
    "VACUUM public.by_list_rest, public.tall",
)


@pytest.mark.parametrize(
    ("major", "options", "superuser"), [(18, FAST_LANE, True), (18, PLAIN, False), (15, FAST_LANE, False)]
)
def test_our_restore_of_the_zoo_equals_stocks(
    request: pytest.FixtureRequest, major: int, options: DumpOptions, superuser: bool
) -> None:
    diff, said = compare_zoo(request.getfixturevalue(f"pg{major}"), options, superuser=superuser)
    assert diff == []
    assert "37 tables" in said or "38 tables" in said


class Gate(MemoryPieces):
    """A store that takes nothing until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    def add(self, data: bytes) -> Piece:
        assert self.opened.wait(60)
        return super().add(data)


class Others:
    """Sessions that write all the time, and some that wait for a table that they want to rewrite."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write)]
        self.rounds = 0
        self.rewritten = 0

    def _write(self) -> None:
        with closing(self._database.connect(autocommit=True)) as session, session.cursor() as cursor:
            while not self._stop.is_set():
                for statement in WRITES:
                    cursor.execute(statement)
                self.rounds += 1

    def rewrite(self) -> None:
        """Begin all rewrites; back when every one of them waits for its lock."""
        threads = [threading.Thread(target=self._rewrite, args=(statement,)) for statement in REWRITES.values()]
        for thread in threads:
            thread.start()
        self._threads += threads
        with closing(self._database.connect(autocommit=True)) as session, session.cursor() as cursor:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                cursor.execute(
                    "SELECT count(DISTINCT relation) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
                    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
                found: Any = cursor.fetchone()
                if found[0] == len(REWRITES):
                    return
                time.sleep(0.02)
        raise AssertionError("not every rewrite waits")

    def _rewrite(self, statement: str) -> None:
        with closing(self._database.connect(autocommit=True)) as session, session.cursor() as cursor:
            cursor.execute(statement)
            self.rewritten += 1

    def __enter__(self) -> Others:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


@pytest.mark.parametrize("major", [18, 15])
def test_the_zoo_read_by_ranges_while_others_write_and_rewrite_it_equals_stocks_dump_of_the_same_snapshot(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unique: str, major: int
) -> None:
    server: PostgresServer = request.getfixturevalue(f"pg{major}")
    zoo(server, unique, superuser=True)
    server.execute("postgres", f'ALTER DATABASE "{unique}" OWNER TO super')
    source, archive, gate = Database(server.url(unique)), tmp_path / "archive", Gate()
    taken: list[dump_module.Snapshot] = []
    begun: list[str] = []
    copy_statement = ranges.copy_statement

    def watched(table: Table, pages: ranges.PageRange) -> str:
        begun.append(table.name)
        return copy_statement(table, pages)

    class Watched(dump_module.Snapshot):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            taken.append(self)

    monkeypatch.setattr(dump_module, "Snapshot", Watched)
    monkeypatch.setattr(ranges, "copy_statement", watched)
    monkeypatch.setattr(dump_module, "_ROOM", 1)  # one piece in flight: the readers stop at their second

    def then() -> None:
        command = [bin_dir(major) / "pg_dump", "-Fc", f"--snapshot={taken[-1].id}", "-f", archive]
        subprocess.run(command, env=source.env(), check=True)
        try:
            others.rewrite()
            assert not (REWRITES.keys() - {"tall"}) & set(begun), "they are to be rewritten before they have been read"
            assert begun.count("tall") < 10, "it is to be rewritten while most of it is unread"
        finally:
            gate.opened.set()

    try:
        with Others(source) as others:
            while others.rounds < 3:
                time.sleep(0.01)
            part = dump(source, gate, replace(FAST_LANE, after_snapshot=then))
        assert others.rewritten == len(REWRITES)
        assert len(part.tables) >= 35
        assert set(begun) >= REWRITES.keys()
        with scratch(source, part) as stocks, scratch(source, part) as ours:
            restore = [bin_dir(major) / "pg_restore", "--no-owner", "-d", stocks.name, archive]
            subprocess.run(restore, env=stocks.env(), check=True)
            load(source, ours.name, part, gate, LoadOptions(jobs=2))
            assert normalized(ours, major) == normalized(stocks, major)
    finally:
        server.execute("postgres", f'DROP DATABASE IF EXISTS "{unique}" WITH (FORCE)')


def test_the_comparison_sees_a_changed_row_a_lost_grant_and_a_moved_sequence(pg18: PostgresServer, unique: str) -> None:
    pg18.create_database(unique)
    pg18.execute(
        unique,
        "CREATE TABLE t (a int)",
        "INSERT INTO t VALUES (1), (2)",
        "CREATE SEQUENCE s",
        "GRANT SELECT ON t TO PUBLIC",
    )
    superuser = Database(pg18.url(unique))
    before = normalized(superuser, 18)
    for change, back in (
        ("UPDATE t SET a = 3 WHERE a = 1", "UPDATE t SET a = 1 WHERE a = 3"),
        ("REVOKE SELECT ON t FROM PUBLIC", "GRANT SELECT ON t TO PUBLIC"),
        ("SELECT setval('s', 5)", "SELECT setval('s', 1, false)"),
    ):
        pg18.execute(unique, change)
        assert normalized(superuser, 18) != before
        pg18.execute(unique, back)
        assert normalized(superuser, 18) == before
    pg18.execute("postgres", f"DROP DATABASE {unique} WITH (FORCE)")
