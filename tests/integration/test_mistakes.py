"""What a tired operator mistypes is told as what it is, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique).fill(100, 8)
    yield made
    made.close()


@pytest.mark.parametrize("command", ["backup", "adopt"])
def test_a_wrong_label_is_told_as_a_wrong_label(space: Space, command: str) -> None:
    done = space.run(command, "--space", "dev", env={"FAC_BACKUP_DOCUMENTS": f"media=s3://{space.documents}"})
    assert done.code == 3
    assert "is marked as dev's (uploads), not as dev's (media). Nothing was changed. Correct the label" in done.last
    assert "another environment" not in done.last


def test_unlock_of_a_bucket_that_is_not_there_does_not_say_that_no_lock_is_held(space: Space) -> None:
    done = space.run("unlock", "--space", "dev", env={"FAC_BACKUP_BUCKET": "s3://no-such-bucket"})
    assert done.code == 1, done.out
    assert "The backups bucket of dev does not exist. Nothing was changed. Check" in done.last


@pytest.mark.parametrize("command", ["list", "purge", "backup"])
def test_an_endpoint_without_a_scheme_is_told_with_how_to_write_it(space: Space, command: str) -> None:
    done = space.run(command, "--space", "dev", env={"AWS_ENDPOINT_URL_S3": "s3.example.org"})
    assert done.code == 2, done.err
    assert "is not an address. Nothing was changed. Write AWS_ENDPOINT_URL_S3" in done.last
    assert "example.org" not in done.last


@pytest.mark.parametrize("command", ["list", "purge", "verify"])
def test_who_names_a_bucket_that_is_not_there_is_told_that_nothing_was_changed(space: Space, command: str) -> None:
    done = space.run(command, "--space", "dev", env={"FAC_BACKUP_BUCKET": "s3://no-such-bucket"})
    assert done.code == 1
    assert "The backups bucket of dev does not exist. Nothing was changed. Check" in done.last


def test_a_backup_without_documents_warns_where_the_one_before_it_has_some(space: Space) -> None:
    before = space.backup()
    none = {"FAC_BACKUP_DOCUMENTS": "none"}
    done = space.run("backup", "--space", "dev", env=none)
    assert done.code == 0, done.err
    assert f"This backup has no documents; the one before it, {before}, has those of uploads." in " ".join(
        done.out.split()
    )
    again = space.run("backup", "--space", "dev", env=none)
    assert "has no documents" not in again.out, "it was said, and seems to be meant"


@pytest.mark.parametrize(
    ("documents", "marked"),
    [("uploads=s3://{}", "Database and documents (1 bucket) are marked"), ("none", "The database is marked")],
)
def test_adopt_says_in_words_what_it_has_marked(space: Space, documents: str, marked: str) -> None:
    env = {"FAC_BACKUP_DOCUMENTS": documents.format(space.documents)}
    assert f"{marked} as dev's" in space.run("adopt", "--space", "dev", env=env).out


def test_an_export_counts_what_it_left_out_in_words(space: Space) -> None:
    space.put("a-folder/", b"")
    done = space.run("export", "--space", "dev", "--backup-id", space.backup(), "--to", "out", "--confirm", "dev")
    assert done.code == 0, done.err
    assert "1 document with keys that Django refuses was left out." in " ".join(done.out.split())
