"""The undo within ``keep_previous``: the very database that was replaced comes back, if nobody has touched it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from fac_backup.operations import opening, restore_kept, restore_plan
from fac_backup.operations.own_sql import BeforeSwap
from fac_backup.operations.restore import RestoreRequest
from fac_backup.operations.surroundings import surroundings
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique, dev=", keep_previous: 4").fill(children=50, documents=3)
    yield made
    made.close()


OID = "SELECT oid FROM pg_database WHERE datname = current_database()"


def test_an_undo_swaps_the_kept_database_back_and_loads_where_somebody_has_written_to_it(space: Space) -> None:
    first = space.state()
    backup_id = space.backup()
    space.sql("UPDATE parent SET name = 'newer'", "SELECT nextval('child_id_seq')")
    space.put("newer.txt", b"newer")
    space.put("folder/0001.txt", b"overwritten")
    newer, old_oid = space.state(), space.value(OID)
    done = space.restore(backup_id)
    assert done.code == 0, done.err
    assert space.state() == first

    plan = space.restore(done.json["undo_id"], "--dry-run")
    assert plan.code == 0, plan.err
    undone = space.restore(done.json["undo_id"])
    assert undone.code == 0, undone.err
    assert undone.json["how"] == "the kept database was swapped back"
    assert space.value(OID) == old_oid, "not one like it: the very one"
    assert space.state() == newer, "database and documents"

    # The undo has an undo of its own: the database that it replaced is kept too. Somebody looks into it, and writes.
    kept = next(name for name in space.databases() if space.value(
        f"SELECT shobj_description(oid, 'pg_database') LIKE '%{undone.json['undo_id']}%' FROM pg_database"
        f" WHERE datname = '{name}'"))  # fmt: skip
    writer = psycopg2.connect(space.url, dbname=kept)
    with writer, writer.cursor() as cursor:
        cursor.execute("UPDATE parent SET name = 'of somebody' WHERE id = 1")
    writer.close()
    again = space.restore(undone.json["undo_id"])
    assert again.code == 0, again.err
    assert "has been written to" in again.json["how"]
    assert space.state() == first, "what somebody wrote there is not part of the backup"


def test_an_undo_that_fails_after_the_swap_gives_both_databases_their_names_back(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in space.s3.env().items():
        monkeypatch.setenv(name, value)
    backup_id = space.backup()
    done = space.restore(backup_id)
    assert done.code == 0, done.err
    before, oid = space.databases(), space.value(OID)
    around = surroundings(
        doing="restore", matrix_file=str(space.matrix), inside_actions=False, jobs=2, env=space.env()
    )  # fmt: skip
    target = opening.open_space(around, "dev")
    undo_id = done.json["undo_id"]
    chosen = restore_plan.choose(around, RestoreRequest("dev", "dev", undo_id, "dev"), target)
    undo = restore_kept.choose("beside", chosen, target, around, BeforeSwap())
    journal = undo.remembers({"before_swap": "", "undo_id": ""})
    undo.build(BeforeSwap(), None, lambda *_: None)
    undo.replace(lambda *_: None)
    assert space.value(OID) != oid
    resumed = restore_kept.choose("beside", chosen, target, around, BeforeSwap())
    assert resumed.takes_up(journal), "a killed undo is taken up where it was"
    assert resumed.remembers({"before_swap": "", **journal}) == journal
    assert resumed.put_back(None)
    assert (space.databases(), space.value(OID)) == (before, oid)
