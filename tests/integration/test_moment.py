"""Database and documents are of one moment: documents are looked at after the snapshot, never before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fac_backup.documents.listing import Listing
from fac_backup.operations import backup, opening
from fac_backup.operations.surroundings import Surroundings
from fac_backup.policy.matrix import load
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique)
    yield made
    made.close()


def test_documents_are_listed_after_the_snapshot_so_that_what_it_refers_to_is_there(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    dump, copy = backup.dump, backup.document_backup.backup

    def watched_dump(database: Any, store: Any, options: Any) -> Any:
        def after() -> None:
            # The application, in the last moment before: first the document, then the row that names it.
            space.put("last.txt", b"last")
            order.append("snapshot")
            options.after_snapshot()

        return dump(database, store, replace(options, after_snapshot=after))

    def watched_copy(*arguments: Any, **more: Any) -> Any:
        order.append("documents")
        return copy(*arguments, **more)

    monkeypatch.setattr(backup, "dump", watched_dump)
    monkeypatch.setattr(backup.document_backup, "backup", watched_copy)
    binding = json.dumps(
        {"access_key_id": space.s3.access_key, "secret_access_key": space.s3.secret_key, "endpoint": space.s3.endpoint}
    )
    given = {"FAC_BACKUP_BUCKET_CREDENTIALS": binding, "FAC_BACKUP_DOCUMENTS_CREDENTIALS": binding}
    around = Surroundings(load(space.matrix.read_text()), "matrix", True, False, space.env(given))
    made = backup.run(backup.BackupRequest("dev", "daily"), around).data
    assert order == ["snapshot", "documents"]
    assert made["documents_count"] == 1
    opened = opening.open_space(around, "dev")
    newest = backup.previous_of(opened)
    assert newest is not None
    assert [entry.key for entry in Listing.of(opened.bucket, newest.documents[0]).entries()] == ["last.txt"]
