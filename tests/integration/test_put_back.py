"""What a restore that fails or is killed half-way does to documents: its own doing is undone, others' work stays."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import Bucket
from fac_backup.store.store import Store
from tests.support.faults import S3Front
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space


@pytest.fixture(params=[True, False], ids=["beside", "in place"])
def space(
    request: pytest.FixtureRequest, pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str
) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique, createdb=request.param).fill(100, 8)
    yield made
    made.close()


def store_of(space: Space) -> Store:
    given = S3Credentials(space.s3.access_key, space.s3.secret_key, "", "us-east-1", space.s3.endpoint)
    return Store(Bucket(BucketAddress(space.backups, "", given)), "dev")


def stored_document(space: Space, backup_id: str, key: str) -> str:
    """Where the backup keeps a document: the object's key in the bucket."""
    from fac_backup.documents.entry import object_key
    from fac_backup.documents.listing import Listing

    store = store_of(space)
    part = store.catalog.read(BackupId.parse(backup_id)).documents[0]
    entry = next(entry for entry in Listing.of(store.bucket, part).entries() if entry.key == key)
    return f"dev/{object_key(part.label, entry.object)}"


def begin(space: Space, front: S3Front, *arguments: str) -> subprocess.Popen[str]:
    return space.start(*arguments, env={"AWS_ENDPOINT_URL_S3": front.endpoint})


def restore(backup_id: str) -> tuple[str, ...]:
    return ("restore", "--source", "dev", "--target", "dev", "--backup-id", backup_id, "--confirm", "dev", "--json")


def run_with(space: Space, backup_id: str, at_step: str, then: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    """Restore; when the journal comes to ``at_step``, ``then`` is called, once, before the step is written."""
    called: list[bool] = []

    def watch(method: str, path: str, body: bytes) -> bool:
        if method == "PUT" and "/journal/" in path and f'"step": "{at_step}"'.encode() in body and not called:
            called.append(True)
            then()
        return True

    with S3Front(space.s3.port, watch=watch) as front:
        process = begin(space, front, *restore(backup_id))
        out, err = process.communicate(timeout=120)
    assert called
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_a_document_uploaded_meanwhile_survives_a_restore_that_fails_before_the_swap(space: Space) -> None:
    backup_id = space.backup()
    client = space.s3.client()
    for key in ("folder/0003.txt", "folder/0005.txt"):
        client.delete_object(Bucket=space.documents, Key=key)
    before = space.state()
    lost = stored_document(space, backup_id, "folder/0005.txt")

    def meanwhile() -> None:
        space.put("folder/uploaded meanwhile.txt", b"by somebody")
        client.delete_object(Bucket=space.backups, Key=lost)

    done = run_with(space, backup_id, "adding", meanwhile)
    assert done.returncode == 5, done.stderr
    assert "as before" in done.stderr
    database, documents = space.state()
    assert database == before[0]
    assert documents.pop("folder/uploaded meanwhile.txt")[0] == b"by somebody"
    assert documents == before[1], "what the restore had added is gone again"


def test_a_document_uploaded_meanwhile_survives_a_restore_that_is_put_back_after_the_swap(space: Space) -> None:
    backup_id = space.backup()
    client = space.s3.client()
    for key in ("folder/0002.txt", "folder/0005.txt"):
        space.put(key, b"newer")
    client.delete_object(Bucket=space.documents, Key="folder/0003.txt")
    space.sql("UPDATE parent SET name = 'newer'")
    before = space.state()
    lost = stored_document(space, backup_id, "folder/0005.txt")

    def meanwhile() -> None:
        space.put("folder/uploaded meanwhile.txt", b"by somebody")
        client.delete_object(Bucket=space.backups, Key=lost)

    done = run_with(space, backup_id, "swapping" if space.createdb else "wiping", meanwhile)
    assert done.returncode == 5, done.stderr
    assert "as before" in done.stderr
    database, documents = space.state()
    assert database == before[0]
    assert documents.pop("folder/uploaded meanwhile.txt")[0] == b"by somebody"
    assert documents == before[1]


def test_the_undo_of_a_resumed_restore_knows_nothing_of_documents_that_the_killed_one_added(space: Space) -> None:
    backup_id = space.backup()
    wanted = space.state()
    client = space.s3.client()
    for number in range(6):
        client.delete_object(Bucket=space.documents, Key=f"folder/{number:04}.txt")
    space.put("folder/newer.txt", b"newer")
    before = space.state()
    process: list[subprocess.Popen[str]] = []
    added: list[str] = []

    def watch(method: str, path: str, _body: bytes) -> bool:
        if method == "PUT" and path.startswith(f"/{space.documents}/folder/"):
            added.append(path)
            if len(added) >= 4:
                process[0].kill()
                return False
        return True

    with S3Front(space.s3.port, watch=watch) as front:
        process.append(begin(space, front, *restore(backup_id)))
        process[0].communicate(timeout=120)
    for name in ("store", "space"):
        store_of(space).locks.break_lock(name)
    assert len(space.all_documents()) > len(before[1]), "killed too early"
    done = space.run("restore", "--target", "dev", "--resume", "--confirm", "dev", "--json")
    assert done.code == 0, done.err
    assert space.state() == wanted
    assert space.restore(done.json["undo_id"]).code == 0
    assert space.state() == before
