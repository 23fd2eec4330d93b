"""A connection to PostgreSQL that breaks in the middle: a backup fails cleanly, a restore before the swap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.faults import S3Front, TcpProxy
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space
from tests.torture.network import through
from tests.torture.world import journal_step

KINDS = ["reset", "close", "truncate"]


@pytest.fixture(scope="module", params=[True, False], ids=["beside", "in place"])
def space(
    request: pytest.FixtureRequest, pg18: PostgresServer, s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Space]:
    name = f"breaks_{'beside' if request.param else 'place'}"
    made = Space(pg18, s3, Path(tmp_path_factory.mktemp("space")), name, createdb=request.param).fill(20_000, 5)
    yield made
    made.close()


@dataclass
class Break:
    """Breaks one connection after so many bytes, counted once it is armed."""

    kind: str
    after: int
    armed: bool = True
    struck: bool = False

    def __call__(self, _connection: int, size: int) -> str:
        if not self.armed or self.struck:
            return ""
        self.after -= size
        self.struck = self.after < 0
        return self.kind if self.struck else ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", [True], indirect=True, ids=["beside"])
def test_a_dump_whose_connection_breaks_is_no_backup(space: Space, kind: str) -> None:
    catalog, fault = space.stored("catalog/"), Break(kind, 400_000)
    with TcpProxy(space.pg.port, fault) as proxy:
        done = space.run(
            "backup", "--space", "dev", "--kind", "daily", env={"DATABASE_URL": through(space, proxy.port)}
        )
    assert fault.struck
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    assert done.last.startswith("fac-backup: ")
    assert space.stored("catalog/") == catalog
    assert space.run("unlock", "--space", "dev", "--json").json["holders"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_restore_whose_connection_breaks_while_it_loads_leaves_the_target_as_before(space: Space, kind: str) -> None:
    backup_id = space.backup()
    space.sql(f"UPDATE parent SET name = 'before the restore, {kind}'")
    space.put(f"{kind}.txt", b"newer")
    before, fault = space.state(), Break(kind, 400_000, armed=False)
    loading = "building" if space.createdb else "wiping"

    def watch(method: str, path: str, body: bytes) -> bool:
        fault.armed = fault.armed or (method == "PUT" and "/journal/" in path and journal_step(body) == loading)
        return True

    with TcpProxy(space.pg.port, fault) as proxy, S3Front(space.s3.port, watch=watch) as front:
        env = {"DATABASE_URL": through(space, proxy.port), "AWS_ENDPOINT_URL_S3": front.endpoint}
        done = space.restore(backup_id, env=env)
    assert fault.struck
    assert done.code == 1, done.err
    assert "as before" in done.last
    assert "Traceback" not in done.err
    assert space.state() == before
    assert space.databases() == [space.unique]
    assert not space.stored("journal/")
