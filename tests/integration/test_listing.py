"""The list: what is asked for, and what there is beside it."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import FAC_BACKUP, Space

LIST = ("list", "--space", "dev")


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique).fill(100, 8)
    yield made
    made.close()


def test_a_page_that_cannot_be_written_leaves_the_one_that_was_there(space: Space) -> None:
    folder = space.folder / "catalog"
    assert space.run(*LIST, "--html", str(folder)).code == 0
    before = (folder / "index.html").read_bytes()

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # a full disk, for one process

    done = subprocess.run(
        [FAC_BACKUP, *LIST, "--html", str(folder)], env=space.env(), cwd=space.folder, text=True,
        capture_output=True, check=False, preexec_fn=no_room,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "The page cannot be written (File too large). A page that was there before is as it was." in done.stderr
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    assert (folder / "index.html").read_bytes() == before


@pytest.mark.parametrize("filters", [("--kind", "pre-deploy"), ("--before", "2020-01-01")])
def test_filters_that_leave_no_backup_say_how_many_there_are(space: Space, filters: tuple[str, ...]) -> None:
    space.backup()
    done = space.run(*LIST, *filters)
    assert done.code == 0
    assert "0 of 1 backups match: leave out --kind or --before" in done.out
    newest = space.run(*LIST, *filters, "--newest")
    assert newest.code == 4
    assert "There is no such backup of dev: 0 of 1 backups match." in newest.last
