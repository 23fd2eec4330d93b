"""Restores by several machines, on real servers: the same end, nothing done twice, nothing replaced before its time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Done, Space


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique).fill(children=200, documents=40)
    yield made
    made.close()


def stage(space: Space, backup_id: str, name: str, *more: str, shards: int = 2) -> Done:
    words = ("--shards", str(shards), "--shard-stage", name, *more)
    return space.restore(backup_id, *words, source=backup_id.partition("_")[0])


def plan(space: Space, backup_id: str, shards: int = 2) -> dict[str, Any]:
    done = stage(space, backup_id, "plan", shards=shards)
    assert done.code == 0, done.err
    return done.json


def add(space: Space, backup_id: str, shard: int, shards: int = 2) -> dict[str, Any]:
    done = stage(space, backup_id, "add", "--shard", str(shard), shards=shards)
    assert done.code == 0, done.err
    return done.json


def vandalise(space: Space) -> None:
    client = space.s3.client()
    for number in range(0, 30):
        client.delete_object(Bucket=space.documents, Key=f"folder/{number:04d}.txt")
    space.put("folder/0035.txt", b"overwritten")
    space.put("folder/extra.txt", b"too much")
    space.sql("DELETE FROM child", "REFRESH MATERIALIZED VIEW per_parent")


def test_a_restore_in_shards_ends_like_any_other_and_its_last_job_copies_only_what_differs(space: Space) -> None:
    first = space.state()
    backup_id = space.backup()
    vandalise(space)
    assert plan(space, backup_id, 3)["shard_list"] == [1, 2, 3]
    assert set(space.all_documents()).isdisjoint({"folder/0001.txt"}), "a plan adds nothing"

    added = {shard: add(space, backup_id, shard, 3)["documents_added"] for shard in (3, 1, 2)}
    assert added == {1: 13, 2: 13, 3: 4}
    assert space.value("SELECT count(*) FROM child") == 0, "the database is as it was"
    documents = space.all_documents()
    assert documents["folder/0035.txt"][0] == b"overwritten", "nothing that was there has changed"
    assert "folder/extra.txt" in documents
    stored = set(space.stored("documents/"))
    space.put("folder/late.txt", b"uploaded by somebody between two jobs")
    before = space.state()

    done = stage(space, backup_id, "finish", shards=3)
    assert done.code == 0, done.err
    numbers = {name: done.json[f"documents_{name}"] for name in ("added", "overwritten", "deleted")}
    assert numbers == {"added": 0, "overwritten": 1, "deleted": 2}
    assert space.state() == first
    assert len(set(space.stored("documents/")) - stored) == 1, "the last job stored only what came late"
    assert len(stored) == 42, "what the shards took out of this store they did not put into it again"
    assert not space.stored("pins/")
    assert not [key for key in space.stored("backups/") if ".part-" in key or "sharded" in key]
    again = stage(space, backup_id, "finish", shards=3)
    assert again.code == 1
    assert "has no plan of a restore" in again.last

    assert space.restore(str(done.json["undo_id"])).code == 0
    assert space.state() == before, "the undo is what was there when it was replaced"


def test_a_shard_that_failed_keeps_the_last_job_away_and_adds_nothing_twice(space: Space) -> None:
    first = space.state()
    backup_id = space.backup()
    vandalise(space)
    plan(space, backup_id)
    number = add(space, backup_id, 1)["documents_added"]
    failed = stage(space, backup_id, "finish")
    assert failed.code == 1
    assert "these have not ended: 2" in failed.last
    assert "The database is as before" in failed.last
    assert space.value("SELECT count(*) FROM child") == 0
    assert not [key for key in space.stored("catalog/") if "pre-restore" in key]

    # Shard 1 is killed after its last document and before it could say so.
    (left,) = [key for key in space.stored("backups/") if key.endswith("part-0001.json")]
    space.s3.client().delete_object(Bucket=space.backups, Key=left)
    assert number > 0
    again = add(space, backup_id, 1)
    assert (again["documents_added"], again["documents_count"]) == (0, 20)
    assert add(space, backup_id, 1)["documents_added"] == 0, "and once more, when it has said so"

    purged = space.run("purge", "--space", "dev", "--json")
    assert "Nothing is swept" in purged.err
    assert add(space, backup_id, 2)["documents_added"] == 30 - number
    done = stage(space, backup_id, "finish")
    assert done.code == 0, done.err
    assert space.state() == first


def test_another_restore_overtakes_the_shards(space: Space) -> None:
    backup_id = space.backup()
    plan(space, backup_id)
    add(space, backup_id, 1)
    plan(space, backup_id)
    assert len([key for key in space.stored("backups/") if key.endswith("sharded.json")]) == 1, "one plan at a time"
    assert space.restore(backup_id).code == 0
    for name, more in (("add", ("--shard", "2")), ("finish", ())):
        late = stage(space, backup_id, name, *more)
        assert late.code == 1, name
        assert "another restore has replaced dev since" in late.last


def test_each_stage_looks_at_markers_and_matrix_anew(space: Space, s3: S3Server) -> None:
    first = space.state()
    backup_id = space.backup()
    preview = Space(space.pg, s3, space.folder, f"{space.unique}p", name="preview", backups=space.backups)
    preview.matrix.write_text(space.matrix.read_text())
    try:
        assert stage(preview, backup_id, "plan").code == 3, "it is not marked as preview's"
        preview.adopt()
        plan(preview, backup_id)
        assert space.stored("pins/"), "a purge of the source must leave the backup alone"
        foreign = preview.run("restore", "--source", "dev", "--target", "preview", "--backup-id", backup_id,
                              "--confirm", "preview", "--shards", "2", "--shard-stage", "add", "--shard", "1",
                              env={"FAC_BACKUP_DOCUMENTS": f"uploads=s3://{space.documents}"})  # fmt: skip
        assert foreign.code == 3
        assert "marked as dev's" in foreign.last
        matrix = preview.matrix.read_text()
        preview.matrix.write_text(matrix.replace("{source: dev, target: preview", "{source: preview, target: preview"))
        assert stage(preview, backup_id, "add", "--shard", "1").code == 3, "the path was taken out meanwhile"
        preview.matrix.write_text(matrix)
        assert not preview.all_documents()
        for words in (("plan", "--dry-run"), ("add",), ("copy", "--shard", "1"), ("finish", "--shard", "1")):
            assert stage(preview, backup_id, *words).code == 2, words

        assert sum(add(preview, backup_id, shard)["documents_added"] for shard in (1, 2)) == 40
        kept = len(preview.stored("documents/"))
        assert kept == 40, "the shards store what the undo will need, each its share"
        done = stage(preview, backup_id, "finish")
        assert done.code == 0, done.err
        assert done.json["documents_added"] == 0
        assert len(preview.stored("documents/")) == kept
        assert preview.state() == first
        assert not space.stored("pins/")
    finally:
        preview.close()
