"""A pin on a backup of another store: what cannot be removed at the end runs out, and hides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.faults import S3Front
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Done, Space
from tests.torture.world import journal_step

Fault = Callable[[str, str], str]
Watch = Callable[[str, str, bytes], bool]


@pytest.fixture
def spaces(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[tuple[Space, Space]]:
    """The source, and a target with a bucket of its own and a document that is to be replaced."""
    made = [
        Space(pg18, s3, tmp_path, unique).fill(100, 8),
        Space(pg18, s3, tmp_path, f"{unique}p", name="preview").fill(50, 3),
    ]
    made[1].put("folder/0001.txt", b"other")
    yield made[0], made[1]
    for one in made:
        one.close()


def restore(source: Space, target: Space, backup_id: str, fault: Fault, watch: Watch) -> Done:
    with S3Front(source.s3.port, fault=fault, watch=watch) as front:
        env = {"AWS_ENDPOINT_URL_S3": front.endpoint, "FAC_BACKUP_SOURCE_BUCKET": f"s3://{source.backups}"}
        done = target.restore(backup_id, source="dev", env=env)
        assert front.done
    return done


def test_a_restore_that_is_done_stays_done_though_its_pin_cannot_be_removed(spaces: tuple[Space, Space]) -> None:
    source, target = spaces
    backup_id = source.backup()

    def fault(method: str, path: str) -> str:
        return "503" if method == "DELETE" and "/pins/" in path else ""

    done = restore(source, target, backup_id, fault, lambda _method, _path, _body: True)
    assert done.code == 0, done.err
    assert "runs out by itself" in done.err
    assert target.state() == source.state()
    assert len(source.stored("pins/")) == 1


def test_a_person_is_still_told_to_act_now_though_the_pin_cannot_be_removed(spaces: tuple[Space, Space]) -> None:
    source, target = spaces
    backup_id = source.backup()
    steps: list[str] = []
    dead: list[bool] = []

    def watch(method: str, path: str, body: bytes) -> bool:
        if method == "PUT" and "/journal/" in path:
            steps.append(journal_step(body))
        if steps and steps[-1] == "swapped" and method in ("PUT", "POST") and target.documents in path:
            dead.append(True)
        return True

    def fault(_method: str, _path: str) -> str:
        return "503" if dead else ""

    done = restore(source, target, backup_id, fault, watch)
    assert done.code == 7, done.err
    assert "runs out by itself" in done.err
    assert "runs out by itself" not in done.last
    assert target.stored("journal/"), "the restore is there to be resumed"
