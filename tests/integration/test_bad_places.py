"""Places that are missing, refuse us, or are not what they should be: one clear line, nothing half done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer, free_port
from tests.support.s3 import S3Server
from tests.support.space import Space


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique)
    yield made
    made.close()


def test_an_empty_database_and_an_empty_bucket_are_backed_up_and_restored(space: Space) -> None:
    space.adopt()
    backup_id = space.backup()
    space.sql("CREATE TABLE later (id int)")
    space.put("later.txt", b"later")
    done = space.restore(backup_id)
    assert done.code == 0, done.err
    assert space.value("SELECT to_regclass('later')") is None
    assert space.all_documents() == {}


WRONG: list[tuple[dict[str, str], str]] = [
    ({"FAC_BACKUP_BUCKET": "s3://no-such-bucket-here"}, "backups bucket"),
    ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "key"),
    ({"FAC_BACKUP_BUCKET": ""}, "FAC_BACKUP_BUCKET"),
    ({"FAC_BACKUP_BUCKET": "my-bucket"}, "s3://"),
    ({"FAC_BACKUP_DOCUMENTS": ""}, "FAC_BACKUP_DOCUMENTS"),
    ({"DATABASE_URL": ""}, "DATABASE_URL"),
    ({"DATABASE_URL": "mysql://u:secret-pw@h/d"}, "PostgreSQL"),
    ({"FAC_BACKUP_BUCKET_CREDENTIALS": "{not json secret-pw"}, "FAC_BACKUP_BUCKET_CREDENTIALS"),
]


def test_a_place_that_is_wrong_is_named_by_its_setting_and_nothing_of_it_is_shown(space: Space) -> None:
    for wrong, says in WRONG:
        done = space.run("backup", "--space", "dev", "--kind", "daily", env=wrong)
        assert done.code in (1, 2), (says, done.err)
        assert says in done.last
        assert "secret-pw" not in done.err
        assert "Traceback" not in done.err
    assert not space.stored("catalog/")


def test_a_database_that_is_down_is_said_to_be_down(space: Space) -> None:
    url = f"postgres://u:pw-secret@127.0.0.1:{free_port()}/d"
    done = space.run("backup", "--space", "dev", "--kind", "daily", env={"DATABASE_URL": url})
    assert done.code == 1
    assert "down or cannot be reached" in done.last
    assert "127.0.0.1" not in done.last


def test_two_labels_on_one_prefix_are_refused(space: Space) -> None:
    places = f"one=s3://{space.documents}/a two=s3://{space.documents}/a/b"
    done = space.run("backup", "--space", "dev", "--kind", "daily", env={"FAC_BACKUP_DOCUMENTS": places})
    assert done.code == 2
    assert "one" in done.last
    assert "two" in done.last


def test_documents_and_backups_in_one_place_are_refused(space: Space) -> None:
    places = f"uploads=s3://{space.backups}"
    done = space.run("backup", "--space", "dev", "--kind", "daily", env={"FAC_BACKUP_DOCUMENTS": places})
    assert done.code == 2


def test_only_what_lies_below_the_prefix_is_backed_up_and_touched(space: Space) -> None:
    env = {"FAC_BACKUP_DOCUMENTS": f"uploads=s3://{space.documents}/media"}
    space.put("media/a.txt", b"a")
    space.put("mediathek/b.txt", b"b")
    space.put("other.txt", b"other")
    assert space.run("adopt", "--space", "dev", env=env).code == 0
    done = space.run("backup", "--space", "dev", "--kind", "daily", "--json", env=env)
    assert done.json["documents_count"] == 1
    space.put("media/extra.txt", b"extra")
    restored = space.restore(done.json["backup_id"], env=env)
    assert restored.code == 0, restored.err
    left = {key for key in space.all_documents() if not key.endswith("space.json")}
    assert left == {"media/a.txt", "mediathek/b.txt", "other.txt"}


def test_a_database_that_is_read_only_by_default_is_restored_into_and_stays_so(space: Space) -> None:
    space.fill(children=10, documents=2)
    backup_id = space.backup()
    space.sql("DELETE FROM child")
    space.pg.execute("postgres", f'ALTER DATABASE "{space.unique}" SET default_transaction_read_only = on')
    done = space.restore(backup_id)
    assert done.code == 0, done.err
    assert space.value("SHOW default_transaction_read_only") == "on", "a setting of the database, not of its contents"
    assert space.databases() == [space.unique]
    assert space.value("SELECT count(*) FROM child") == 10


def test_a_standby_is_backed_up_and_never_restored_into(s3: S3Server, tmp_path: Path, unique: str) -> None:
    with PostgresServer(18) as own:
        space = Space(own, s3, tmp_path, unique).fill(children=10, documents=2)
        backup_id = space.backup()
        own.become_standby()
        space.put("folder/0000.txt", b"newer")
        before = space.state()
        done = space.restore(backup_id)
        assert done.code == 1, done.err
        assert "read-only standby" in done.last
        assert space.state() == before
        assert not [key for key in space.stored("catalog/") if "pre-restore" in key]
        again = space.run("backup", "--space", "dev", "--kind", "daily", "--json")
        assert again.code == 0, again.err
        s3.remove(space.documents, space.backups)


def test_a_clock_that_was_wrong_makes_a_backup_that_counts_for_nothing(space: Space) -> None:
    space.fill(children=10, documents=2)
    now = space.backup()
    client = space.s3.client()
    key = next(key for key in space.stored("catalog/") if key.endswith(".json"))
    planted = re.sub("_20..", "_2099", now)
    body = client.get_object(Bucket=space.backups, Key=key)["Body"].read().replace(now.encode(), planted.encode())
    client.put_object(Bucket=space.backups, Key=key.replace(now, planted), Body=body)
    listed = space.run("list", "--space", "dev", "--json").json
    assert listed["backup_id"] == now
    assert [row["age_seconds"] < 0 for row in listed["backups"]] == [True, False]
    done = space.run("purge", "--space", "dev")
    assert "Traceback" not in done.err
    assert len([key for key in space.stored("catalog/") if key.endswith(".json")]) == 2, "neither is removed"


def test_a_damaged_manifest_is_shown_and_never_restored(space: Space) -> None:
    space.fill(children=10, documents=2)
    backup_id = space.backup()
    key = next(key for key in space.stored("catalog/") if key.endswith(".json"))
    client = space.s3.client()
    body = client.get_object(Bucket=space.backups, Key=key)["Body"].read()
    client.put_object(Bucket=space.backups, Key=key, Body=body[:-40])
    before = space.state()
    assert space.restore(backup_id).code == 5
    assert space.state() == before
    listed = space.run("list", "--space", "dev", "--json").json["backups"]
    assert listed[0]["damaged"]
    assert space.run("purge", "--space", "dev").code == 1, "nobody knows what it needs, so nothing is swept"
