"""Dumping real databases: what is read is what the snapshot holds, whatever others do meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fac_backup.database import dump as dump_module
from fac_backup.database import settings, snapshot
from fac_backup.database.clients import Client, find_clients
from fac_backup.database.connection import Database
from fac_backup.database.dump import DumpOptions, dump
from fac_backup.database.names import qualified, quoted
from fac_backup.database.ranges import PageRange, copy_statement
from fac_backup.plain import manifest
from fac_backup.plain.errors import FailedError, UsageError
from fac_backup.plain.manifest import Piece
from tests.support.pieces import MemoryPieces
from tests.support.postgres import PostgresServer, bin_dir
from tests.support.zoo import zoo

BY_RANGES = {"range_threshold": 0, "range_pages": 4}


def clients() -> tuple[Client, ...]:
    return tuple(Client(major, bin_dir(major)) for major in (18, 15))


def options(**changes: Any) -> DumpOptions:
    return DumpOptions(**{"clients": clients(), "lock_wait": 20.0, **changes})


@pytest.fixture(params=[15, 18])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    running: PostgresServer = request.getfixturevalue(f"pg{request.param}")
    return running


@pytest.fixture
def database(server: PostgresServer, unique: str) -> Iterator[Database]:
    """An empty database of an owner who is no superuser."""
    yield Database(server.create_database(unique))
    drop(server, unique)


@pytest.fixture
def a_zoo(server: PostgresServer, unique: str) -> Iterator[Database]:
    yield Database(zoo(server, unique, superuser=True))
    drop(server, unique)


def drop(server: PostgresServer, name: str) -> None:
    owner = f"{name}_owner"
    server.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', f'DROP ROLE IF EXISTS "{owner}"')


def run(database: Database, *statements: str) -> None:
    with contextlib.closing(database.connect(autocommit=True)) as session, session.cursor() as cursor:
        cursor.execute("SET search_path = public")
        for statement in statements:
            cursor.execute(statement)


def ask(database: Database, query: str, arguments: tuple[object, ...] = ()) -> Any:
    with contextlib.closing(database.connect(autocommit=True)) as session, session.cursor() as cursor:
        cursor.execute(query, arguments)
        row = cursor.fetchone()
    return row[0] if row else None


def text_of(table: manifest.RangedTable, pieces: MemoryPieces) -> bytes:
    return b"".join(pieces.read(piece) for run_ in table.ranges for piece in run_)


def archive_of(part: manifest.Database, pieces: MemoryPieces) -> bytes:
    return b"".join(pieces.read(piece) for piece in part.archive.pieces)


def copied(database: Database, table: manifest.RangedTable) -> bytes:
    """What COPY of the whole table gives now, under the settings of a dump."""
    import io

    out = io.BytesIO()
    with contextlib.closing(database.connect()) as session:
        settings.apply_in_autocommit(session, settings.READING)
        columns = ", ".join(quoted(column) for column in table.columns)
        name = qualified(table.schema_name, table.table)
        with session.cursor() as cursor:
            cursor.copy_expert(f"COPY (SELECT {columns} FROM ONLY {name}) TO STDOUT", out)
    return out.getvalue()


def listed(archive: bytes, major: int) -> str:
    done = subprocess.run([bin_dir(major) / "pg_restore", "--list"], input=archive, capture_output=True, check=True)
    return done.stdout.decode()


def our_sessions(server: PostgresServer, name: str) -> int:
    query = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
    return int(ask(Database(server.url("postgres")), query, (name,)))


def nothing_is_left(server: PostgresServer, name: str) -> bool:
    """No session, no thread, no child process of ours is left (the server needs a moment to notice)."""
    deadline = time.monotonic() + 10
    while our_sessions(server, name) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    running = [Path(f"/proc/{child}/comm").read_text().strip() for child in children]
    readers = [t for t in threading.enumerate() if t.name.startswith(("reader", "upload"))]
    return not our_sessions(server, name) and not readers and not {"pg_dump", "pg_restore"} & set(running)


def test_every_kind_of_table_reads_by_ranges_as_copy_gives_it(a_zoo: Database, server: PostgresServer) -> None:
    pieces = MemoryPieces()
    part = dump(a_zoo, pieces, options(**BY_RANGES))
    assert len(part.tables) >= 35
    for table in part.tables:
        expected = copied(a_zoo, table)
        assert text_of(table, pieces) == expected, table.table
        assert table.rows == expected.count(b"\n"), table.table
    archive = archive_of(part, pieces)
    assert (len(archive), hashlib.sha256(archive).hexdigest()) == (part.archive.size, part.archive.sha256)
    with_data = [line for line in listed(archive, server.major).splitlines() if " TABLE DATA " in line]
    names = sorted(line.split(" TABLE DATA public ")[1].rsplit(" ", 1)[0] for line in with_data)
    # No column to copy, or rows that are restored through the partitioned table.
    assert names == ["by_mood_0", "by_mood_1", "by_mood_2", "no_columns", "only_generated"]


def test_rows_of_every_table_are_counted_whichever_way_they_are_read(a_zoo: Database) -> None:
    by_ranges = dump(a_zoo, MemoryPieces(), options(**BY_RANGES))
    by_archive = dump(a_zoo, MemoryPieces(), options())
    assert by_archive.tables == ()
    assert by_ranges.rows == by_archive.rows
    counted = {(row.schema_name, row.table): row.rows for row in by_ranges.rows}
    assert counted["public", "no_columns"] == 3
    assert counted["public", "by_mood"] == 50
    assert counted["public", "new\nline"] == 2
    assert counted["public", "lion"] == 1
    assert ("public", "by_mood_0") not in counted
    assert ("public", "summary") not in counted


def test_where_sequences_stand_and_what_the_database_is_stand_in_the_manifest(
    a_zoo: Database, server: PostgresServer, unique: str
) -> None:
    part = dump(a_zoo, MemoryPieces(), options())
    values = {value.sequence: (value.last_value, value.is_called) for value in part.sequences}
    assert values["set_not_called"] == (77, False)
    assert values["never_called"] == (42, False)
    assert values["moved"][1]
    assert values['Seq."uence\n'] == (1, True)
    assert (part.encoding, part.collate, part.locale_provider) == ("UTF8", "C.UTF-8", "c")
    assert part.owner == f"{unique}_owner"
    assert part.server_version // 10000 == part.dumped_with == server.major
    assert part.size > 1_000_000
    assert {"hstore", "pg_trgm", "plpgsql"} <= set(part.extensions)


def test_a_second_dump_of_the_same_rows_finds_every_range_again(a_zoo: Database) -> None:
    pieces = MemoryPieces()
    first = dump(a_zoo, pieces, options(**BY_RANGES))
    run(a_zoo, "VACUUM (FREEZE, ANALYZE)", "REINDEX TABLE tall")
    pieces.new.clear()
    second = dump(a_zoo, pieces, options(**BY_RANGES))
    assert second.tables == first.tables
    assert set(pieces.new) <= {piece.sha256 for piece in second.archive.pieces}


def test_the_text_is_the_same_whatever_the_roles_defaults_are(
    a_zoo: Database, server: PostgresServer, unique: str
) -> None:
    pieces = MemoryPieces()
    first = dump(a_zoo, pieces, options(**BY_RANGES))
    server.execute(
        "postgres",
        *(
            f'ALTER ROLE "{unique}_owner" SET {setting}'
            for setting in (
                "timezone = 'Asia/Tokyo'", "datestyle = 'German'", "intervalstyle = 'sql_standard'",
                "bytea_output = 'escape'", "extra_float_digits = 0", "client_encoding = 'LATIN1'",
                "quote_all_identifiers = on", "search_path = 'nowhere'", "statement_timeout = '300ms'",
                "default_transaction_read_only = on", "enable_tidscan = off",
                "row_security = on", "lock_timeout = '300ms'",
                "idle_in_transaction_session_timeout = '300ms'",
            )
        ),
    )  # fmt: skip
    assert dump(a_zoo, pieces, options(**BY_RANGES)).tables == first.tables


@pytest.mark.parametrize("pages", [PageRange(0, 4), PageRange(8, 12), PageRange(8, None)])
def test_a_page_range_is_read_by_a_tid_range_scan(database: Database, pages: PageRange) -> None:
    run(database, "CREATE TABLE t AS SELECT g AS id, repeat('x', 500) AS v FROM generate_series(1, 400) AS g")
    with contextlib.closing(snapshot.Snapshot(database, lock_wait=5).session) as session:
        taken = dump_module.inventory.tables(session, sizes=True)
        with session.cursor() as cursor:
            cursor.execute("ROLLBACK")
        settings.apply_in_autocommit(session, settings.BY_RANGES)
        query = copy_statement(taken[0], pages).removeprefix("COPY (").removesuffix(") TO STDOUT")
        with session.cursor() as cursor:
            cursor.execute("EXPLAIN " + query)
            plan = cursor.fetchall()
    assert "Tid Range Scan" in plan[0][0]


def test_an_empty_database_is_a_backup_too(database: Database, server: PostgresServer) -> None:
    pieces = MemoryPieces()
    part = dump(database, pieces, options(**BY_RANGES))
    assert (part.tables, part.rows, part.sequences) == ((), (), ())
    assert "ENCODING" not in listed(archive_of(part, pieces), server.major) or part.archive.size > 0


def test_the_marker_is_never_dumped(database: Database, server: PostgresServer) -> None:
    run(database, "CREATE SCHEMA fac_backup", "CREATE TABLE fac_backup.marker AS SELECT 'x' AS space")
    pieces = MemoryPieces()
    part = dump(database, pieces, options(**BY_RANGES))
    assert part.rows == ()
    assert "fac_backup" not in listed(archive_of(part, pieces), server.major)


def test_rows_that_the_matrix_leaves_out_are_left_out(a_zoo: Database, server: PostgresServer) -> None:
    left_out = ("public.tall", "by_range", 'Mixed Case.and "dots".Table.With "Quotes" and \'more\'')
    pieces = MemoryPieces()
    part = dump(a_zoo, pieces, options(exclude_data=left_out, **BY_RANGES))
    assert set(part.excluded_data) == {
        "public.tall", "public.by_range", "public.by_range_2025", "public.by_range_2025_0", "public.by_range_2025_1",
        "public.by_range_2026", left_out[2],
    }  # fmt: skip
    held = {table.table for table in part.tables} | {row.table for row in part.rows}
    assert not held & {"tall", "by_range_2026", "by_range", "by_range_2025_0"}
    text = listed(archive_of(part, pieces), server.major)
    assert " TABLE public tall " in text
    assert "TABLE DATA public tall" not in text
    assert "TABLE DATA public by_range" not in text


def test_a_table_to_leave_out_that_does_not_exist_is_a_mistake_in_the_matrix(database: Database) -> None:
    with pytest.raises(UsageError, match=r"'public\.misspelt'"):
        dump(database, MemoryPieces(), options(exclude_data=("public.misspelt",)))


def test_values_wider_than_a_piece_are_cut_and_come_back(database: Database) -> None:
    run(
        database,
        "CREATE TABLE wide (id int, v text)",
        "INSERT INTO wide SELECT g, repeat(md5(g::text), 400000) FROM generate_series(1, 4) AS g",
    )
    pieces = MemoryPieces()
    part = dump(database, pieces, options(**BY_RANGES))
    assert [len(pieces_) for pieces_ in part.tables[0].ranges] == [7]
    assert text_of(part.tables[0], pieces) == copied(database, part.tables[0])


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
def test_other_encodings_are_read_byte_by_byte(server: PostgresServer, unique: str, encoding: str) -> None:
    server.execute("postgres", f"CREATE DATABASE \"{unique}\" ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        database = Database(server.url(unique))
        run(database, 'CREATE TABLE "é±" ("ö" text)' if encoding != "EUC_JP" else 'CREATE TABLE "日本" ("語" text)')
        raw = "convert_from('\\xe4f6fc', 'SQL_ASCII')" if encoding == "SQL_ASCII" else "'日本'"
        if encoding == "LATIN1":
            raw = "'äöü'"
        name, column = ('"é±"', "ö") if encoding != "EUC_JP" else ('"日本"', "語")
        if encoding == "SQL_ASCII":
            run(database, f"INSERT INTO {name} VALUES (E'\\xe4\\xf6\\xfc')")
        else:
            run(database, f"INSERT INTO {name} VALUES ({raw})")
        pieces = MemoryPieces()
        part = dump(database, pieces, options(**BY_RANGES))
        stored = {
            "SQL_ASCII": b"\xe4\xf6\xfc\n", "LATIN1": "äöü\n".encode("latin-1"), "EUC_JP": "日本\n".encode("euc-jp"),
        }  # fmt: skip
        assert part.encoding == encoding
        assert part.tables[0].columns == (column,)
        assert text_of(part.tables[0], pieces) == stored[encoding]
    finally:
        drop(server, unique)


def test_a_database_of_any_name_can_be_dumped(server: PostgresServer) -> None:
    name = f"a=b c'd\"e://{os.getpid()}"
    server.execute("postgres", f"CREATE DATABASE {quoted(name)}")
    try:
        dump(Database(server.url("postgres")).with_name(name), MemoryPieces(), options())
    finally:
        server.execute("postgres", f"DROP DATABASE {quoted(name)} WITH (FORCE)")


# While others write ------------------------------------------------------------------------------------------------


class Gate(MemoryPieces):
    """A store whose first piece waits until pg_dump has its locks and somebody has done something."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self._meanwhile = meanwhile
        self._once = threading.Lock()
        self._done = False
        self.pg_dump_is_ready = threading.Event()

    def add(self, data: bytes) -> Piece:
        with self._once:
            if not self._done:
                self._done = True
                assert self.pg_dump_is_ready.wait(20)
                self._meanwhile()
        return super().add(data)


def dump_with_gate(database: Database, meanwhile: Callable[[], None], **changes: Any) -> manifest.Database:
    gate = Gate(meanwhile)
    return dump(database, gate, options(after_snapshot=gate.pg_dump_is_ready.set, **changes))


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """One piece at a time: readers stop in the middle when the store does not go on."""
    monkeypatch.setattr(dump_module, "_ROOM", 1)


class Writers:
    """Sessions that insert pairs, update, delete and vacuum all the time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self.rounds = 0
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in (self._pairs, self._vacuum)]

    def _run(self, work: Callable[[Any, int], None]) -> None:
        try:
            with contextlib.closing(self._database.connect(autocommit=True)) as session, session.cursor() as cursor:
                number = 0
                while not self._stop.is_set():
                    number += 1
                    work(cursor, number)
        except BaseException as error:
            self._errors.append(error)

    def _pairs(self, cursor: Any, number: int) -> None:
        # Money moves, rows move to other pages, and every pair comes and goes in one transaction.
        cursor.execute(
            "BEGIN;"
            " UPDATE public.big SET money = money - 7, v = v || 'x' WHERE id = %(a)s;"
            " UPDATE public.big SET money = money + 7, v = left(v, 20) WHERE id = %(b)s;"
            " DELETE FROM public.big WHERE id = %(c)s; DELETE FROM public.little WHERE id = %(c)s;"
            " INSERT INTO public.big VALUES (%(c)s, 100, repeat('n', 30)); INSERT INTO public.little VALUES (%(c)s);"
            " COMMIT",
            {"a": 1 + number * 7 % 3000, "b": 1 + number * 13 % 3000, "c": 3001 + number % 500},
        )
        self.rounds += 1

    def _vacuum(self, cursor: Any, number: int) -> None:
        cursor.execute("VACUUM public.big")
        self._stop.wait(0.01)

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]


def fill_pairs(database: Database) -> None:
    run(
        database,
        "CREATE TABLE big (id int PRIMARY KEY, money int, v text)",
        "CREATE TABLE little (id int PRIMARY KEY)",
        "INSERT INTO big SELECT g, 100, repeat('v', 20) FROM generate_series(1, 3000) AS g",
        "INSERT INTO little SELECT g FROM generate_series(1, 3000) AS g",
    )


def rows_of_archive(archive: bytes, table: str, major: int) -> list[bytes]:
    done = subprocess.run(
        [bin_dir(major) / "pg_restore", "--data-only", f"--table={table}", "--file=-"],
        input=archive, capture_output=True, check=True,
    )  # fmt: skip
    lines = done.stdout.split(b"\n")
    start = next(number for number, line in enumerate(lines) if line.startswith(b"COPY public."))
    return lines[start + 1 : lines.index(b"\\.")]


@pytest.mark.parametrize("threshold", [0, 200_000, 1 << 40], ids=["ranges", "mixed", "archive"])
def test_every_table_shows_the_same_moment_while_others_write(
    database: Database, server: PostgresServer, threshold: int
) -> None:
    fill_pairs(database)
    with Writers(database) as writers:
        while writers.rounds < 20:
            time.sleep(0.01)
        for _ in range(3):
            before = writers.rounds
            pieces = MemoryPieces()
            part = dump(database, pieces, options(range_threshold=threshold, range_pages=2))
            found = {table.table for table in part.tables}
            # The longer the writers have written, the bigger both tables are: on a slow machine the little one too.
            assert found - ({"little"} if threshold == 200_000 else set()) == {
                0: {"big", "little"}, 200_000: {"big"},
            }.get(threshold, set())  # fmt: skip
            rows: dict[str, list[bytes]] = {t.table: text_of(t, pieces).splitlines() for t in part.tables}
            for name in {"big", "little"} - rows.keys():
                rows[name] = rows_of_archive(archive_of(part, pieces), name, server.major)
            money = [int(row.split(b"\t")[1]) for row in rows["big"]]
            ids = sorted(int(row.split(b"\t")[0]) for row in rows["big"])
            assert len(set(ids)) == len(ids)
            assert sum(money) == 100 * len(ids)
            assert ids == sorted(int(row) for row in rows["little"])
            assert {row.table: row.rows for row in part.rows} == {"big": len(ids), "little": len(ids)}
            assert writers.rounds > before


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE big",
        "ALTER TABLE big ALTER money TYPE bigint",
        "ALTER TABLE big SET UNLOGGED",
        "ALTER TABLE big DROP COLUMN v",
        "ALTER TABLE big RENAME TO other",
        "VACUUM FULL big",
        "CLUSTER big USING big_pkey",
        "DROP TABLE big",
    ],
)
@pytest.mark.parametrize("threshold", [0, 1 << 40], ids=["ranges", "archive"])
def test_what_rewrites_a_table_in_the_middle_waits_and_loses_nothing(
    database: Database, little_room: None, statement: str, threshold: int
) -> None:
    fill_pairs(database)
    done = threading.Event()

    def change() -> None:
        run(database, statement)
        done.set()

    thread = threading.Thread(target=change)

    def meanwhile() -> None:
        thread.start()
        query = "SELECT count(*) FROM pg_catalog.pg_locks WHERE NOT granted AND database = %s::pg_catalog.oid"
        oid = ask(database, "SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()")
        deadline = time.monotonic() + 10
        while not ask(database, query, (oid,)):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    part = dump_with_gate(database, meanwhile, range_threshold=threshold, range_pages=2)
    thread.join(20)
    assert done.is_set()
    assert {row.table: row.rows for row in part.rows} == {"big": 3000, "little": 3000}


def queued_before_the_readers_lock(
    monkeypatch: pytest.MonkeyPatch, database: Database, statement: str
) -> tuple[list[int], threading.Thread]:
    """Let ``statement`` queue behind the coordinator's lock of the first attempt, before the readers lock."""
    attempts: list[int] = []
    thread = threading.Thread(target=run, args=(database, statement))
    join = snapshot.join

    def late(*arguments: Any) -> Any:
        if not attempts:
            thread.start()
            time.sleep(0.5)
        attempts.append(1)
        return join(*arguments)

    monkeypatch.setattr("fac_backup.database.ranges.join", late)
    return attempts, thread


def test_a_change_that_queues_before_the_readers_lock_makes_the_dump_start_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_pairs(database)
    attempts, thread = queued_before_the_readers_lock(monkeypatch, database, "ALTER TABLE big ALTER money TYPE bigint")
    announced: list[int] = []
    part = dump(database, MemoryPieces(), options(after_snapshot=lambda: announced.append(1), **BY_RANGES))
    thread.join()
    assert len(attempts) > 3
    assert announced == [1]
    assert {row.table: row.rows for row in part.rows} == {"big": 3000, "little": 3000}


def test_a_change_that_queues_before_pg_dump_locks_makes_the_dump_start_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_pairs(database)
    thread = threading.Thread(target=run, args=(database, "ALTER TABLE big ADD more int"))
    start = dump_module.DumpProcess
    starts: list[int] = []

    def late(*arguments: Any) -> Any:
        if not starts:
            thread.start()
            time.sleep(0.5)
        starts.append(1)
        return start(*arguments)

    monkeypatch.setattr(dump_module, "DumpProcess", late)
    part = dump(database, MemoryPieces(), options(**BY_RANGES))
    thread.join(10)
    assert len(starts) == 2
    assert {table.table: table.columns for table in part.tables}["big"] == ("id", "money", "v", "more")


def test_a_change_that_comes_while_rows_are_still_to_be_counted_waits_for_the_dump(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_pairs(database)
    thread = threading.Thread(target=run, args=(database, "TRUNCATE little"))
    count_rows = dump_module.inventory.count_rows
    pg_dump_is_ready = threading.Event()

    def slowly(session: Any, table: Any, *rest: Any) -> int:
        if table.name == "big":
            assert pg_dump_is_ready.wait(20)
            thread.start()
            time.sleep(0.5)
        return count_rows(session, table, *rest)

    monkeypatch.setattr(dump_module.inventory, "count_rows", slowly)
    part = dump(database, MemoryPieces(), options(after_snapshot=pg_dump_is_ready.set))
    thread.join(10)
    assert {row.table: row.rows for row in part.rows} == {"big": 3000, "little": 3000}


def test_a_table_that_is_dropped_before_it_is_locked_is_no_failure(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_pairs(database)
    tables = snapshot.tables
    dropped: list[int] = []

    def then_drop(*arguments: Any, **keywords: Any) -> Any:
        found = tables(*arguments, **keywords)
        if not dropped:
            dropped.append(1)
            run(database, "DROP TABLE little")
        return found

    monkeypatch.setattr(snapshot, "tables", then_drop)
    part = dump(database, MemoryPieces(), options(**BY_RANGES))
    assert [row.table for row in part.rows] == ["big"]


def test_a_table_that_stays_locked_ends_in_one_clear_line_after_bounded_attempts(
    database: Database, server: PostgresServer, unique: str
) -> None:
    fill_pairs(database)
    announced: list[int] = []
    with contextlib.closing(database.connect()) as holder:
        holder.cursor().execute("LOCK TABLE public.big IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        with pytest.raises(FailedError) as raised:
            dump(
                database, MemoryPieces(),
                options(lock_wait=0.2, attempts=2, after_snapshot=lambda: announced.append(1), **BY_RANGES),
            )  # fmt: skip
        assert time.monotonic() - began < 15
    assert "gave up after 2 attempts" in raised.value.line()
    assert "exclusive lock" in raised.value.line()
    assert announced == []
    assert nothing_is_left(server, unique)


@pytest.mark.parametrize(
    ("whose", "threshold"),
    [("fac-backup reader 2", 0), ("fac-backup pg_dump", 1 << 40), ("fac-backup", 0)],
)
def test_a_lost_connection_fails_cleanly(
    database: Database, little_room: None, server: PostgresServer, unique: str, whose: str, threshold: int
) -> None:
    fill_pairs(database)
    # More than pipes and sockets hold, in the table that comes first: another is to be asked for after the kill.
    run(
        database,
        "INSERT INTO big SELECT g, 100, repeat('v', 500) FROM generate_series(4000, 14000) AS g",
        "INSERT INTO little SELECT g FROM generate_series(4000, 14000) AS g",
    )

    def kill() -> None:
        server.execute(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{unique}' AND application_name = '{whose}'",
        )

    with pytest.raises(FailedError) as raised:
        dump_with_gate(database, kill, range_threshold=threshold, range_pages=2, cut=small_cuts)
    assert "connection" in raised.value.line()
    assert "127.0.0.1" not in raised.value.line()
    assert nothing_is_left(server, unique)


def small_cuts(chunks: Any) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), 10_000):
            yield chunk[start : start + 10_000]


class Full(MemoryPieces):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def add(self, data: bytes) -> Piece:
        if len(self.kept) >= 3:
            raise self._error
        return super().add(data)


@pytest.mark.parametrize("threshold", [0, 1 << 40], ids=["ranges", "archive"])
@pytest.mark.parametrize(
    "error", [FailedError("The backups bucket is gone"), KeyboardInterrupt()], ids=["store", "ctrl-c"]
)
def test_a_failing_store_ends_the_dump_with_its_own_error_and_leaves_nothing_behind(
    database: Database, server: PostgresServer, unique: str, threshold: int, error: BaseException
) -> None:
    fill_pairs(database)
    run(database, "INSERT INTO little SELECT g FROM generate_series(4000, 200000) AS g")
    with pytest.raises(type(error)) as raised:
        dump(database, Full(error), options(range_threshold=threshold, range_pages=2, cut=small_cuts))
    assert raised.value is error
    assert nothing_is_left(server, unique)


def test_what_the_caller_does_at_the_snapshot_may_fail(database: Database, server: PostgresServer, unique: str) -> None:
    def fail() -> None:
        raise FailedError("The documents bucket is missing")

    with pytest.raises(FailedError, match="documents bucket"):
        dump(database, MemoryPieces(), options(after_snapshot=fail))
    assert nothing_is_left(server, unique)


def test_documents_listed_at_the_snapshot_see_everything_that_it_sees(database: Database) -> None:
    fill_pairs(database)
    seen: list[int] = []
    with Writers(database):
        part = dump(
            database,
            MemoryPieces(),
            options(after_snapshot=lambda: seen.append(ask(database, "SELECT count(*) FROM public.big")), **BY_RANGES),
        )
    assert len(seen) == 1
    assert {row.table: row.rows for row in part.rows}["big"] <= seen[0]


# Who may read ------------------------------------------------------------------------------------------------------


def test_a_table_that_may_not_be_read_is_named_with_what_to_do(
    database: Database, server: PostgresServer, unique: str
) -> None:
    server.execute(unique, "CREATE TABLE public.not_ours (a int)")
    with pytest.raises(FailedError) as raised:
        dump(database, MemoryPieces(), options(**BY_RANGES))
    assert "not_ours" in raised.value.line()
    assert "GRANT SELECT" not in raised.value.what
    assert "grant SELECT" in raised.value.line()


def test_rows_hidden_by_row_level_security_are_never_left_out_in_silence(
    database: Database, server: PostgresServer, unique: str
) -> None:
    server.execute(
        unique,
        "CREATE TABLE public.hidden AS SELECT 1 AS a",
        "ALTER TABLE public.hidden ENABLE ROW LEVEL SECURITY",
        "GRANT SELECT ON public.hidden TO PUBLIC",
    )
    with pytest.raises(FailedError, match="Row-level security"):
        dump(database, MemoryPieces(), options(**BY_RANGES))


def test_a_server_newer_than_every_client_is_refused_before_anything_is_read(pg18: PostgresServer) -> None:
    old = tuple(client for client in find_clients(inside_actions=False) if client.major == 15)
    with pytest.raises(FailedError, match="newer than any client here"):
        dump(Database(pg18.url("postgres")), MemoryPieces(), options(clients=old))


def test_an_older_server_is_dumped_by_a_newer_client(pg15: PostgresServer, unique: str) -> None:
    database = Database(pg15.create_database(unique))
    try:
        fill_pairs(database)
        part = dump(database, MemoryPieces(), options(clients=(Client(18, bin_dir(18)),), **BY_RANGES))
        assert (part.server_version // 10000, part.dumped_with) == (15, 18)
    finally:
        drop(pg15, unique)
