"""What a restore looks at before the swap: its plan, constraints, and databases beside that somebody uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from fac_backup.database import scratch, swap
from fac_backup.database.connection import Database
from fac_backup.plain.manifest import Manifest
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique, dev=", storage_gb: 100000").fill(children=50, documents=2)
    yield made
    made.close()


def manifest_of(space: Space, backup_id: str) -> Manifest:
    body = space.s3.client().get_object(Bucket=space.backups, Key=f"dev/catalog/{backup_id}.json")["Body"].read()
    return Manifest.from_json(body, backup_id)


def test_the_plan_tells_who_is_connected_and_whether_there_is_room_and_beside_waits_for_the_same_locks(
    space: Space,
) -> None:
    backup_id = space.backup()
    other = psycopg2.connect(space.url, application_name="the :: worker")
    plan = space.run("restore", "--source", "dev", "--target", "dev", "--backup-id", backup_id, "--confirm", "dev",
                     "--dry-run")  # fmt: skip
    other.close()
    assert plan.code == 0, plan.err
    assert f"1 session of the :\\: worker as {space.unique}_owner" in plan.out, plan.out
    assert "are left on the server" in plan.out
    assert "SELECT" not in plan.out

    from fac_backup.plain.locations import BucketAddress, S3Credentials
    from fac_backup.store.bucket import Bucket
    from fac_backup.store.store import Store

    keys = S3Credentials(space.s3.access_key, space.s3.secret_key, "", "us-east-1", space.s3.endpoint)
    store = Store(Bucket(BucketAddress(space.backups, "", keys)), "dev", owner="another restore")
    with store.locks.acquire("space", "exclusive"):
        done = space.restore(backup_id, "--beside", f"{space.unique}_look", env={"FAC_BACKUP_LOCK_WAIT": "1"})
    assert done.code == 6, done.err
    assert "another restore" in done.last
    assert space.databases() == [space.unique]


def test_a_constraint_that_is_broken_or_was_not_checked_stops_the_swap(space: Space) -> None:
    again = "ALTER TABLE child DROP CONSTRAINT child_parent_id_fkey, ADD CONSTRAINT child_parent_id_fkey"
    again += " FOREIGN KEY (parent_id) REFERENCES parent NOT VALID"
    space.sql("ALTER TABLE parent ADD CONSTRAINT unproved CHECK (id < 5) NOT VALID")
    backup_id = space.backup()
    assert manifest_of(space, backup_id).database.not_valid == ("public.parent.unproved",)
    space.sql("UPDATE child SET note = 'newer'")
    before = space.state()
    (space.folder / "hurry.sql").write_text(again)
    done = space.restore(backup_id, "--before-swap-sql", "hurry.sql")
    assert done.code == 5, done.err
    assert "public.child.child_parent_id_fkey is not valid in the new database" in done.last
    assert space.state() == before

    # Rows that break a key which says that it is valid: somebody has switched its triggers off once.
    space.pg.execute(
        space.unique, "SET session_replication_role = replica; INSERT INTO child (parent_id) VALUES (999)",
    )  # fmt: skip
    broken, before = space.backup(), space.state()
    done = space.restore(broken)
    assert done.code == 1, done.err
    assert "pg_restore failed" in done.last
    assert space.state() == before
    assert space.databases() == [space.unique]

    done = space.restore(backup_id)
    assert done.code == 0, done.err
    assert done.json["constraints"] >= 5
    assert done.json["sequences"] == 1


def test_a_database_beside_that_a_rehearsal_uses_is_no_leftover_and_is_one_when_its_process_is_gone(
    space: Space,
) -> None:
    backup_id = space.backup()
    rehearsal = Database(space.url)
    name = scratch.scratch_name(rehearsal.name, "new", "0123456789ab")
    swap.create_beside(rehearsal, name, manifest_of(space, backup_id).database)
    assert space.restore(backup_id).code == 0
    assert space.databases() == [space.unique, name]
    rehearsal.leases[name].close()  # as its end does, whatever ends it
    done = space.restore(backup_id)
    assert done.code == 0, json.dumps(done.err)
    assert space.databases() == [space.unique]

    # The next rehearsal removes it too, but not what a restore is building.
    swap.create_beside(rehearsal, name, manifest_of(space, backup_id).database)
    rehearsal.leases.pop(name).close()
    building = scratch.scratch_name(rehearsal.name, "new", "0123456789ac")
    swap.create_beside(rehearsal, building, manifest_of(space, backup_id).database, leftover_unless_locked=True)
    done = space.run("verify", "--space", "dev", "--backup-id", backup_id, "--level", "restore", "--json")
    assert done.code == 0, json.dumps(done.err)
    assert space.databases() == [space.unique, building]
    scratch.drop(rehearsal, building)
