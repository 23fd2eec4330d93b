"""Backups by several machines, on real servers: complete or absent, nothing copied twice, and nothing overtaken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Done, Space

SHARDS = 2
"""Four of them are run under act (tests/e2e/test_daily.py)."""


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique).fill(children=200, documents=40)
    yield made
    made.close()


def stage(space: Space, name: str, *more: str, shards: int = SHARDS) -> Done:
    return space.run(
        "backup", "--space", "dev", "--kind", "daily", "--shards", str(shards), "--shard-stage", name, *more, "--json"
    )


def plan(space: Space, shards: int = SHARDS) -> str:
    done = stage(space, "plan", "--note", "in shards", shards=shards)
    assert done.code == 0, done.err
    return str(done.json["backup_id"])


def copy(space: Space, backup_id: str, shard: int, shards: int = SHARDS) -> dict[str, Any]:
    done = stage(space, "copy", "--backup-id", backup_id, "--shard", str(shard), shards=shards)
    assert done.code == 0, done.err
    return done.json


def commit(space: Space, backup_id: str, shards: int = SHARDS) -> Done:
    return stage(space, "commit", "--backup-id", backup_id, shards=shards)


def read(space: Space, key: str) -> Any:
    return json.loads(space.s3.client().get_object(Bucket=space.backups, Key=f"dev/{key}")["Body"].read())


def test_a_backup_in_shards_is_restored_like_any_other_and_leaves_nothing_else(space: Space) -> None:
    first = space.state()
    backup_id = plan(space)
    space.put("folder/0099.txt", b"written after the snapshot, before its shard is listed")
    copied = [copy(space, backup_id, shard) for shard in (2, 1)]
    assert sum(one["documents_count"] for one in copied) == 41
    assert all(one["copied"] for one in copied), "each shard had its share"
    assert backup_id not in space.run("list", "--space", "dev", "--json").out, "no manifest, no backup"
    done = commit(space, backup_id)
    assert done.code == 0, done.err
    assert done.json["documents_count"] == 41
    assert sorted(key.rsplit("/", 1)[1] for key in space.stored(f"backups/{backup_id}/")) == [
        "RESTORE.md", "begun", "documents-uploads.jsonl.zst",
    ]  # fmt: skip
    assert not space.stored("pins/")
    assert read(space, f"catalog/{backup_id}.json")["note"] == "in shards"
    assert commit(space, backup_id).json["backup_id"] == backup_id, "a last job that is run again finds its work done"

    space.s3.client().delete_object(Bucket=space.documents, Key="folder/0001.txt")
    space.sql("DELETE FROM child")
    restored = space.restore(backup_id)
    assert restored.code == 0, restored.err
    space.s3.client().delete_object(Bucket=space.documents, Key="folder/0099.txt")
    assert space.state() == first


def test_a_missing_shard_is_never_committed_and_running_it_again_copies_nothing_twice(space: Space) -> None:
    backup_id = plan(space)
    done = copy(space, backup_id, 1)
    failed = commit(space, backup_id)
    assert failed.code == 1
    assert "these are not copied: 2" in failed.last
    assert "No backup was made" in failed.last
    assert not space.stored("catalog/")

    # Shard 2 is killed after its documents were copied, before it could say so.
    copy(space, backup_id, 2)
    part = f"dev/backups/{backup_id}/part-0002.json"
    space.s3.client().delete_object(Bucket=space.backups, Key=part)
    assert commit(space, backup_id).code == 1
    before = set(space.stored("documents/"))
    again = copy(space, backup_id, 2)
    assert (again["copied"], again["reused"]) == (0, again["documents_count"])
    assert set(space.stored("documents/")) == before

    # Shard 1 had said so already.
    again = copy(space, backup_id, 1)
    assert (again["copied"], again["documents_count"]) == (0, done["documents_count"])
    whole = commit(space, backup_id)
    assert whole.code == 0, whole.err
    assert whole.json["documents_count"] == 40
    assert space.run("verify", "--space", "dev", "--backup-id", backup_id, "--level", "objects").code == 0


def test_a_restore_in_between_gives_the_backup_up(space: Space) -> None:
    old = space.backup()
    backup_id = plan(space)
    copy(space, backup_id, 1)
    assert space.restore(old).code == 0
    late = stage(space, "copy", "--backup-id", backup_id, "--shard", "2")
    assert late.code == 1
    assert "a restore has replaced dev since" in late.last
    assert commit(space, backup_id).code == 1
    assert backup_id not in "".join(space.stored("catalog/"))
    assert not space.stored("pins/")


def test_a_purge_in_between_removes_nothing_that_the_backup_counts_on(space: Space) -> None:
    backup_id = plan(space)
    for shard in (1, 2):
        copy(space, backup_id, shard)
    purged = space.run("purge", "--space", "dev", "--json")
    assert purged.code == 0
    assert "Nothing is swept" in purged.err
    assert commit(space, backup_id).code == 0

    # And if somebody deletes nevertheless, the last job finds out.
    backup_id = plan(space)
    for shard in (1, 2):
        copy(space, backup_id, shard)
    gone = space.stored("documents/")[7]
    space.s3.client().delete_object(Bucket=space.backups, Key=gone)
    failed = commit(space, backup_id)
    assert failed.code == 5
    assert "missing from the store: 1," in failed.last
    assert backup_id not in "".join(space.stored("catalog/"))


def test_what_makes_no_sense_is_refused_and_a_plan_that_ran_out_too(space: Space) -> None:
    for words in (("--shards", "2"), ("--shards", "2", "--shard-stage", "all"),
                  ("--shards", "99", "--shard-stage", "plan"),
                  ("--shards", "2", "--shard-stage", "copy", "--backup-id", "dev_20261122T201653Z_daily"),
                  ("--shards", "2", "--shard-stage", "copy", "--shard", "1")):  # fmt: skip
        assert space.run("backup", "--space", "dev", "--kind", "daily", *words).code == 2, words
    assert space.run("backup", "--space", "dev", "--kind", "daily", "--shards", "2", "--shard-stage", "plan",
                     env={"FAC_BACKUP_MODE": "task"}).code == 2  # fmt: skip
    assert not space.stored("backups/")

    backup_id = plan(space)
    wrong = space.run("backup", "--space", "dev", "--kind", "daily", "--shards", "3", "--shard-stage", "copy",
                      "--shard", "1", "--backup-id", backup_id)  # fmt: skip
    assert wrong.code == 2
    space.s3.client().delete_object(Bucket=space.backups, Key=f"dev/pins/{backup_id}/sharded.json")
    late = stage(space, "copy", "--backup-id", backup_id, "--shard", "1")
    assert late.code == 1
    assert "older than a day" in late.last


def test_few_documents_leave_shards_empty(space: Space) -> None:
    client = space.s3.client()
    for number in range(2, 40):
        client.delete_object(Bucket=space.documents, Key=f"folder/{number:04d}.txt")
    backup_id = plan(space, 3)
    assert [copy(space, backup_id, shard, 3)["documents_count"] for shard in (1, 2, 3)] == [1, 1, 0]
    assert commit(space, backup_id, 3).json["documents_count"] == 2


def test_where_backups_are_signed_the_stages_trust_only_what_the_key_has_signed(space: Space) -> None:
    from fac_backup.store.signing import new_private_pem

    key = {"FAC_BACKUP_SIGNING_KEY": new_private_pem()}

    def signed(name: str, *more: str) -> Done:
        return space.run("backup", "--space", "dev", "--kind", "daily", "--shards", "2", "--shard-stage", name, *more,
                         "--json", env=key)  # fmt: skip

    backup_id = str(signed("plan").json["backup_id"])
    assert signed("copy", "--backup-id", backup_id, "--shard", "1").code == 0
    assert signed("copy", "--backup-id", backup_id, "--shard", "2").code == 0
    name = f"backups/{backup_id}/part-0002.json"
    forged = read(space, name) | {"reused": 7}
    honest = json.dumps(read(space, name))
    client = space.s3.client()
    client.put_object(Bucket=space.backups, Key=f"dev/{name}", Body=json.dumps(forged).encode())
    failed = signed("commit", "--backup-id", backup_id)
    assert failed.code == 5
    assert "not signed" in failed.last
    assert not space.stored("catalog/"), honest
