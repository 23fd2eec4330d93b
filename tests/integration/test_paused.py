"""A process that was paused (SIGSTOP) while its lease ran out: another took over, and it must not write any more."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import S3Front
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.torture.forge import Forge, Running
from tests.torture.world import World, journal_step

LEASE = 2.0


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    """Where the paused process comes from."""
    with Forge() as made:
        yield made


@pytest.fixture(scope="module")
def other_forge() -> Iterator[Forge]:
    """Where all others come from: a forge that waits for a command starts none."""
    with Forge() as made:
        yield made


@pytest.fixture(params=[True, False], ids=["beside", "in place"])
def world(
    request: pytest.FixtureRequest, pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str, other_forge: Forge
) -> Iterator[World]:
    there = World(pg18, s3, tmp_path, unique, createdb=request.param, forge=other_forge, lease=LEASE)
    try:
        yield there.make_states(100, 8)
    finally:
        there.close()


class Paused:
    """A command that stops, with all that it has started, when the front sees the request that ``when`` names."""

    def __init__(self, world: World, front: S3Front, forge: Forge, when: str) -> None:
        self.world, self.front, self.forge, self.when = world, front, forge, when
        self.stopped, self.may_pass, self._seen = threading.Event(), threading.Event(), ""
        self.running: Running | None = None
        front.watch = self._watch

    def _watch(self, method: str, path: str, body: bytes) -> bool:
        if "/journal/" in path and method == "PUT":
            self._seen = journal_step(body)
        if self.stopped.is_set() or not self._is_it(method, path):
            return True
        assert self.running is not None
        self.stopped.set()
        self.running.kill(signal.SIGSTOP)
        if self.when == "commit":
            self.may_pass.wait(120)  # the request itself is late
        return True

    def _is_it(self, method: str, path: str) -> bool:
        if self.when == "commit":
            return method == "PUT" and "/catalog/" in path
        if self.when == "uploading":
            return method == "PUT" and "/objects/" in path
        if self.when == "sweeping":
            return method == "GET" and "list-type=2" in path and "objects%2F" in path
        if self.when == "filling":
            return method == "GET" and "/objects/" in path and self._seen == "wiping"
        return method == "PUT" and "/journal/" in path and self._seen == self.when

    def start(self, *arguments: str) -> None:
        env = self.world.env({"AWS_ENDPOINT_URL_S3": self.front.endpoint})
        self.running = self.forge.start(arguments, env, lease=LEASE, old_objects=arguments[0] == "purge")
        assert self.stopped.wait(60), "it never came so far"
        time.sleep(0.3)

    def wake(self) -> tuple[int, str]:
        assert self.running is not None
        self.running.kill(signal.SIGCONT)
        self.may_pass.set()
        done = self.forge.wait(self.running)
        assert "Traceback" not in done.err
        assert "Unexpected" not in done.err
        return done.code, done.last


@pytest.mark.parametrize("world", [True], indirect=True, ids=["beside"])
@pytest.mark.parametrize("when", ["uploading", "commit"])
def test_a_backup_that_slept_through_a_purge_is_none(world: World, forge: Forge, when: str) -> None:
    world.sql("UPDATE parent SET name = 'only in this backup ' || md5(id::text)")
    with S3Front(world.s3.port) as front:
        paused = Paused(world, front, forge, when)
        paused.start("backup", "--space", "dev", "--kind", "daily")
        world.old_objects = True
        purged = world.run("purge", "--space", "dev", "--json")
        assert purged.code == 0, purged.err
        assert purged.json["removed_objects"] > 0, "it has swept what the backup counts on"
        code, last = paused.wake()
    assert code == 6, last
    assert sorted(world.require_committed_are_whole()) == sorted(world.ids.values())


@pytest.mark.parametrize("world", [True], indirect=True, ids=["beside"])
def test_a_purge_that_slept_while_a_backup_took_over_removes_nothing_that_the_backup_counts_on(
    world: World, forge: Forge
) -> None:
    world.put("in a backup that is gone.txt", b"stored, and needed by none")
    manifest = f"{world.prefix}/dev/catalog/{world.backup()}.json"
    world.client().delete_object(Bucket=world.backups, Key=manifest)
    with S3Front(world.s3.port) as front:
        paused = Paused(world, front, forge, "sweeping")
        paused.start("purge", "--space", "dev")
        world.ids["reuses"] = world.backup()
        code, last = paused.wake()
    assert code == 6, last
    assert sorted(world.require_committed_are_whole()) == sorted(world.ids.values())


@pytest.mark.parametrize(
    ("world", "when"),
    [
        (True, "building"),
        (True, "adding"),
        (True, "swapping"),
        (False, "adding"),
        (False, "wiping"),
        (False, "filling"),
    ],
    indirect=["world"],
)
def test_a_restore_that_slept_while_another_took_over_leaves_the_target_alone(
    world: World, forge: Forge, when: str
) -> None:
    with S3Front(world.s3.port) as front:
        paused = Paused(world, front, forge, when)
        paused.start("restore", "--source", "dev", "--target", "dev", "--backup-id", world.ids["a"], "--confirm", "dev")
        done = world.restore(world.ids["b"])
        assert done.code == 0, done.err
        assert world.look() == world.states["b"]
        code, last = paused.wake()
    assert code == (6 if when == "building" else 7), last
    assert "lock" in last
    assert world.look() == world.states["b"]
    world.require_nothing_left()
