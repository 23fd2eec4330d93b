"""A real PgBouncer in front of the server: session mode serves, transaction mode is refused and not disturbed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from fac_backup.database import pooler
from fac_backup.database.clients import Client
from fac_backup.database.connection import Database
from fac_backup.database.dump import DumpOptions, dump
from fac_backup.plain.errors import FailedError
from tests.support.pieces import MemoryPieces
from tests.support.postgres import PostgresServer, bin_dir, free_port

PGBOUNCER = "/usr/sbin/pgbouncer"

pytestmark = pytest.mark.skipif(not Path(PGBOUNCER).exists(), reason="pgbouncer is not installed")

Pool = Callable[..., Database]


@pytest.fixture
def pool(pg15: PostgresServer, unique: str) -> Iterator[Pool]:
    """Starts PgBouncers in front of a database of our own."""
    pg15.create_database(unique)
    owner, running, folders = f"{unique}_owner", [], []

    def start(mode: str, size: int = 20) -> Database:
        folder = Path(tempfile.mkdtemp(prefix="fac-pool-", dir="/tmp"))
        folders.append(folder)
        port = free_port()
        (folder / "users").write_text(f'"{owner}" "{owner}-pw"\n')
        (folder / "ini").write_text(
            f"[databases]\n{unique} = host=127.0.0.1 port={pg15.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = plain\n"
            f"auth_file = {folder}/users\npool_mode = {mode}\ndefault_pool_size = {size}\nunix_socket_dir =\n"
        )
        user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        for path in (folder, folder / "users", folder / "ini"):
            shutil.chown(path, user)
        process = subprocess.Popen(
            [PGBOUNCER, str(folder / "ini")], user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        running.append(process)
        address = f"postgres://{owner}:{owner}-pw@127.0.0.1:{port}/{unique}"
        deadline = time.monotonic() + 10
        while True:
            try:
                psycopg2.connect(address).close()
                return Database(address)
            except psycopg2.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    yield start
    for process in running:
        process.kill()
        process.wait()
    for folder in folders:
        shutil.rmtree(folder)
    pg15.execute("postgres", f'DROP DATABASE "{unique}" WITH (FORCE)', f'DROP ROLE "{owner}"')


def options() -> DumpOptions:
    return DumpOptions(clients=(Client(15, bin_dir(15)),), range_threshold=0, range_pages=4)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pool_that_shares_connections_between_transactions_is_refused(pool: Pool, mode: str) -> None:
    with pytest.raises(FailedError) as raised:
        dump(pool(mode), MemoryPieces(), options())
    assert "connection pooler in transaction mode" in raised.value.line()
    assert "session mode" in raised.value.line()


def test_the_applications_connections_behind_such_a_pool_keep_their_settings(pool: Pool) -> None:
    database = pool("transaction", 1)
    with pytest.raises(FailedError):
        database.connect()
    with contextlib.closing(psycopg2.connect(**database._parameters)) as session, session.cursor() as cursor:
        cursor.execute("SHOW search_path")
        assert cursor.fetchone() == ('"$user", public',)


def test_a_pool_in_session_mode_serves(pool: Pool) -> None:
    database = pool("session")
    with contextlib.closing(database.connect(autocommit=True)) as session, session.cursor() as cursor:
        cursor.execute("CREATE TABLE public.t AS SELECT g AS id FROM pg_catalog.generate_series(1, 100) AS g")
    part = dump(database, MemoryPieces(), options())
    assert [(row.table, row.rows) for row in part.rows] == [("t", 100)]


def test_a_pool_with_one_connection_is_refused_instead_of_waited_for(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooler, "_PATIENCE", 0.5)
    with pytest.raises(FailedError, match="no second connection"):
        pool("session", 1).connect()
