"""A backup is said to have failed its verification only where something is wrong with the backup."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique, createdb=False).fill(100, 8)
    yield made
    made.close()


def verdict(space: Space) -> bool | None:
    """What the list says of the verification of the only backup: passed, failed, or nothing."""
    (row,) = space.run("list", "--space", "dev", "--json").json["backups"]
    return row["verified"] and row["verified"]["passed"]


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("--level", "restore"), {}),
        (("--level", "restore"), {"FAC_BACKUP_SCRATCH_DATABASE_URL": "postgres://nobody@127.0.0.1:9/nothing"}),
        (("--live",), {"DATABASE_URL": "postgres://nobody@127.0.0.1:9/nothing"}),
    ],
    ids=["a role without CREATEDB", "a scratch server that is down", "a database that is down"],
)
def test_a_check_that_could_not_be_made_says_nothing_of_the_backup(
    space: Space, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    space.backup()
    done = space.run("verify", "--space", "dev", *arguments, env=env)
    assert done.code == 1, done.err
    assert verdict(space) is None
    assert not [key for key in space.stored("audit/") if "verify" in key]


@pytest.mark.parametrize("what", ["objects/", "documents/"])
def test_a_backup_of_which_an_object_is_gone_has_failed_its_verification(space: Space, what: str) -> None:
    space.backup()
    for key in space.stored(what):
        space.client().delete_object(Bucket=space.backups, Key=key)
    assert space.run("verify", "--space", "dev").code == 5
    assert verdict(space) is False


def test_a_backup_whose_listing_of_documents_is_gone_has_failed_its_verification(space: Space) -> None:
    made = space.backup()
    for key in space.stored(f"backups/{made}/"):
        space.client().delete_object(Bucket=space.backups, Key=key)
    assert space.run("verify", "--space", "dev").code != 0
    assert verdict(space) is False


def test_the_newest_id_comes_with_a_warning_where_its_verification_failed(space: Space) -> None:
    made = space.backup()
    newest = ("list", "--space", "dev", "--newest")
    assert "verification" not in space.run(*newest).err
    space.client().delete_object(Bucket=space.backups, Key=space.stored("objects/")[0])
    assert space.run("verify", "--space", "dev").code == 5
    done = space.run(*newest)
    assert (done.code, done.out) == (0, f"{made}\n")
    assert f"warning: {made} failed its verification on " in done.err
