"""SIGKILL at random instants: backup, restore beside, restore in place, purge.

After each kill the locks of the dead are broken, as an operator does, and then:

- every backup that was committed is listed and whole; whatever else is listed is whole too;
- the database is the old or the new one, to the row (beside: at once; in place: once the next run is through);
- no document is anything else than its old or its new version;
- the next run, or ``--resume``, brings the whole target to exactly one of the two; sometimes it is killed as well;
- then nothing is left: no database, journal, pin, lock; and undo brings back exactly what was replaced.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from fac_backup.documents.backup import YOUNG_SECONDS
from fac_backup.plain.backup_id import BackupId
from tests.support.faults import S3Front
from tests.support.space import Done

from .instants import Instant, Timeline, Watch, choose
from .table import Row, require
from .world import World, database_state, journal_step

AGAIN = 0.25
"""The share of attempts whose recovery is killed too."""
UNDO = 0.2
TOUCHING = frozenset({"adding", "swapping", "swapped", "wiping", "filled"})
RESTORED = frozenset({"swapping", "swapped", "wiping", "filled"})


@dataclass
class Killer:
    """Runs commands through the front and kills them."""

    world: World
    front: S3Front
    row: Row
    lines: dict[str, Timeline] = field(default_factory=dict)

    def touches(self, method: str, path: str, body: bytes) -> bool:
        """Whether a request is the touch: see each operation's name for what that means."""
        key = path.partition("?")[0].partition(f"/{self.world.prefix}/{self.world.name}/")[2]
        if self.row.name == "kill backup":
            return method == "PUT" and key.startswith(("objects/", "documents/"))
        if self.row.name == "kill purge":
            return method in ("PUT", "DELETE") and key.startswith(("tombstones/", "catalog/"))
        return method == "PUT" and key.startswith("journal/") and journal_step(body) in TOUCHING

    def run(self, *arguments: str, instant: Instant | None = None) -> tuple[Done, Watch]:
        """A command through the front, killed at the instant or left to its end."""
        watch = Watch(self.front, self.touches)
        env = {"AWS_ENDPOINT_URL_S3": self.front.endpoint}
        running = self.world.begin(*arguments, env=env)
        watch.kill(running, instant)
        assert self.world.forge is not None
        done = self.world.forge.wait(running)
        watch.settle()
        require("Traceback" not in done.err and "Unexpected" not in done.err, f"a traceback: {done.last}")
        require(done.code != -99, f"{arguments[0]} hangs")
        if instant is not None:
            self.row.counts["after the touch"] += watch.dead and watch.touched_at >= 0
            self.row.counts["ended before their kill"] += not watch.dead
        return done, watch

    def kill(self, rng: random.Random, kind: str, *arguments: str) -> None:
        """A command that is killed at an instant of the timeline that ``kind`` names."""
        self.run(*arguments, instant=choose(rng, self.lines[kind]))
        self.world.break_locks()

    def learn(self, kind: str, *arguments: str) -> None:
        """Run a command to its end to know its timeline."""
        done, watch = self.run(*arguments)
        require(done.code == 0, f"{arguments[0]} fails without any fault: {done.last}")
        self.lines[kind] = watch.timeline()


def _restore(world: World, state: str) -> tuple[str, ...]:
    return ("restore", "--source", "dev", "--target", "dev", "--backup-id", world.ids[state], "--confirm", "dev",
            "--json")  # fmt: skip


RESUME = ("restore", "--target", "dev", "--resume", "--confirm", "dev", "--json")


def kill_restore(killer: Killer, rng: random.Random, number: int) -> None:
    """One attempt of a restore, beside or in place."""
    world = killer.world
    old, new = ("a", "b") if number % 2 else ("b", "a")
    with world.fresh_store():
        world.bring_to(old)
        before, wanted = world.states[old], world.states[new]
        undo_to = before
        killer.kill(rng, new, *_restore(world, new))
        world.now = ""
        for again in range(3):
            _require_old_or_new(world, before, wanted, whole_database=world.createdb)
            committed = world.require_committed_are_whole()
            unfinished = _journal(world)
            if not unfinished:
                here = world.look()
                require(here in (before, wanted), "without a journal the target is neither old nor new")
                undo_to = here  # what the next restore replaces, be it killed or not
            if rng.random() > AGAIN or again == 2:
                break
            killer.row.counts["kills of a recovery"] += 1
            killer.kill(rng, new, *(RESUME if unfinished else _restore(world, new)))
        arguments = _restore(world, new)
        if unfinished and rng.random() < 0.6:
            arguments = RESUME
        undo = str(unfinished.get("undo_id", ""))
        require(undo in ("", *committed), "the journal names an undo that is not there")
        done = world.run(*arguments)
        require(done.code == 0, f"{'--resume' if arguments is RESUME else 'the next run'} fails: {done.last}")
        require(world.look() == wanted, "the next run did not bring the target to the new state")
        world.now = new
        world.require_nothing_left()
        world.require_committed_are_whole(done.json["undo_id"])
        if rng.random() < UNDO:
            undone = world.restore(done.json["undo_id"])
            require(undone.code == 0, f"undo fails: {undone.last}")
            world.now = ""
            here = world.look()
            require(here[0] == undo_to[0], "undo brought another database back than was replaced")
            require(here[1] == undo_to[1], f"undo brought other documents back: {_differing(here[1], undo_to[1])}")
            world.now = new if undo_to == wanted else old
            killer.row.counts["undone"] += 1


def _journal(world: World) -> dict[str, Any]:
    found = world.store().journal.unfinished()
    return dict(found[-1][0].data) | {"step": found[-1][0].step} if found else {}


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))[:5]


def _require_old_or_new(world: World, before: Any, wanted: Any, *, whole_database: bool) -> None:
    documents = world.all_documents()
    for key in {*documents, *before[1], *wanted[1]}:
        known = (before[1].get(key), wanted[1].get(key))
        require(documents.get(key) in known, f"the document {key!r} is neither its old nor its new version")
    if whole_database:
        require(database_state(world.url) in (before[0], wanted[0]), "the database is neither the old nor the new one")


def kill_backup(killer: Killer, rng: random.Random, number: int) -> None:
    """One attempt of a backup."""
    world = killer.world
    with world.fresh_store():
        world.sql(f"UPDATE parent SET name = 'attempt {number}' WHERE id = {1 + number % 20}")
        _change_documents(world, rng)
        killer.kill(rng, "backup", "backup", "--space", "dev", "--kind", "daily", "--json")
        listed = world.require_committed_are_whole()
        made = set(listed).difference(world.ids.values())
        killer.row.counts["committed before their kill"] += bool(made)
        for one in made:
            world.require_right(one)
        following = world.run("backup", "--space", "dev", "--kind", "daily", "--json")
        require(following.code == 0, f"the next backup fails: {following.last}")
        world.require_committed_are_whole(following.json["backup_id"])
        world.require_right(following.json["backup_id"], restores=number % 5 == 0)
        world.require_nothing_left()
        purge(world)
        require(not world.unneeded(), "the next purge leaves what nothing needs")
        world.require_committed_are_whole(following.json["backup_id"])


def _change_documents(world: World, rng: random.Random) -> None:
    """Upload, overwrite, delete: none, one or several, anywhere among those that are there."""
    there = sorted(world.all_documents())
    fewer = len(there) > 5
    for key in rng.sample(there, rng.choice((0, 1, 1, 2)) if fewer else 0):
        world.client().delete_object(Bucket=world.documents, Key=key)
    for _ in range(rng.choice((0, 0, 1, 2)) if fewer else 5):
        key = rng.choice([*there, f"{rng.choice('ahxz')}{rng.randrange(100)}.txt"])
        world.put(key, rng.randbytes(rng.randrange(200)))


def purge(world: World) -> Done:
    """A purge for which everything is old."""
    world.old_objects = True
    try:
        done = world.run("purge", "--space", "dev", "--json")
    finally:
        world.old_objects = False
    require(done.code == 0, f"the next purge fails: {done.last}")
    return done


def kill_purge(killer: Killer, rng: random.Random, number: int) -> None:
    """One attempt of a purge: two of five hourly backups stay by rule, and a held one."""
    del number
    world = killer.world
    hourly = [id_ for name, id_ in world.ids.items() if name.startswith("hourly")]
    held, kept = hourly[1], hourly[-2:]
    goes = sorted(set(hourly).difference(kept, [held]))
    ids = dict(world.ids)
    try:
        with world.fresh_store():
            world.ids = {name: id_ for name, id_ in ids.items() if id_ not in goes}
            world.old_objects = True
            try:
                killer.kill(rng, "purge", "purge", "--space", "dev", "--json")
            finally:
                world.old_objects = False
            listed = world.require_committed_are_whole()
            gone = [id_ for id_ in goes if id_ not in listed]
            killer.row.counts["with manifests removed"] += bool(gone)
            buried = {str(id_) for id_ in world.store().tombstones.ids()}
            require(buried.issuperset(gone), "a backup was purged and has no tombstone")
            purge(world)
            require(set(world.require_committed_are_whole()) == set(world.ids.values()), "purged too little")
            require({str(BackupId.parse(one)) for one in goes}
                    <= {str(id_) for id_ in world.store().tombstones.ids()}, "a tombstone is missing")  # fmt: skip
            require(not world.unneeded(), "the next purge leaves what nothing needs")
            world.require_nothing_left()
    finally:
        world.ids = ids


def prepare(killer: Killer, numbers: list[int]) -> None:
    """Make what the row's attempts start from, and learn how its command runs."""
    world, name = killer.world, killer.row.name
    if name == "kill purge":
        for number in range(5):
            world.sql(f"UPDATE parent SET name = 'hourly {number}' WHERE id = {number + 1}")
            world.put(f"hourly/{number}.txt", f"{number}".encode() * 50)
            world.ids[f"hourly {number}"] = world.backup("hourly")
            world.client().delete_object(Bucket=world.documents, Key=f"hourly/{number}.txt")
        done = world.run("hold", "--space", "dev", "--backup-id", world.ids["hourly 1"])
        require(done.code == 0, done.last)
        with world.fresh_store():
            world.old_objects = True
            killer.learn("purge", "purge", "--space", "dev", "--json")
            world.old_objects = False
    elif name == "kill backup":
        time.sleep(YOUNG_SECONDS + 1)
        world.ids["settled"] = world.backup()  # what it lists is known by LIST alone to those that follow
        with world.fresh_store():
            world.sql("UPDATE parent SET name = 'first' WHERE id = 1")
            world.put("new/0.txt", b"first")
            killer.learn("backup", "backup", "--space", "dev", "--kind", "daily", "--json")
    else:
        for new in sorted({"b" if number % 2 else "a" for number in numbers}):
            with world.fresh_store():
                world.bring_to("b" if new == "a" else "a")
                killer.learn(new, *_restore(world, new))
                world.now = new


ATTEMPT = {
    "kill backup": kill_backup,
    "kill restore beside": kill_restore,
    "kill restore in place": kill_restore,
    "kill purge": kill_purge,
}


def run(row: Row, world: World, numbers: list[int]) -> None:
    """The row ``row.name`` of :data:`ATTEMPT`."""
    world.make_states()
    with S3Front(world.s3.port) as front:
        killer = Killer(world, front, row)
        prepare(killer, numbers)
        for number in numbers:
            if not row.attempt(number, lambda rng, n=number: ATTEMPT[row.name](killer, rng, n)):  # type: ignore[misc]
                mend(world)


def mend(world: World) -> None:
    """After something was lost: go on from a sound target, so that one loss is not counted twice."""
    world.break_locks()
    world.now = ""
    for name in world.databases():
        if name != world.unique:
            world.pg.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
