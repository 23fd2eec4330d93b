"""Seven simulated weeks of a busy team, against an independent oracle of the retention rules.

Cron that is late, skipped or runs twice; deployments; backups and purges that fail; a person who holds and releases;
clocks that are some minutes wrong, and a manifest dated months ahead; the changes of summer time. Every purge is the
real one, on a real store, with only its clock simulated; after each, what the catalog holds is compared.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from fac_backup.operations import purge
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.manifest import Manifest
from fac_backup.policy.matrix import load

from . import oracle
from .table import Row, require
from .world import World

HISTORIES = (
    ("America/New_York", "2026-10-05"),
    ("America/New_York", "2027-02-15"),
    ("Australia/Lord_Howe", "2027-03-01"),
    ("Africa/Cairo", "2027-04-01"),
)
"""Time zone and first day: in each the clocks change within the seven weeks."""
DAYS = 49

MATRIX = """\
version: 1
time_zone: %s
who: {users: [alice]}
spaces:
  production: {retention: {pre-deploy: {keep_newest: 2}, daily: {keep_days: 7}}}
  dev: {retention: {daily: {keep_days: 1}}}
"""
RULES: dict[str, oracle.Rules] = {
    "production": {"pre-deploy": ("newest", 2), "daily": ("days", 7), "manual": ("days", 7)},
    "dev": {"daily": ("days", 1), "manual": ("days", 7)},
}


class Team:
    """Both spaces, their stores, and the simulated moment."""

    def __init__(self, world: World, rng: random.Random, zone: str, first: str, pattern: Manifest) -> None:
        self.rng = rng
        self.zone = zone
        self.now = datetime.fromisoformat(f"{first}T00:00").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        self.held: set[str] = set()
        self.pattern = pattern
        self.stores = {space: world.store(space) for space in RULES}
        given = {
            "access_key_id": world.s3.access_key, "secret_access_key": world.s3.secret_key, "region": "us-east-1",
            "endpoint": world.s3.endpoint, "bucket": world.backups,
        }  # fmt: skip
        env = world.env({"FAC_BACKUP_BUCKET_CREDENTIALS": json.dumps(given)})
        self.around = Surroundings(load(MATRIX % zone, "matrix"), "matrix", True, False, env, clock=self.clock)
        self.decided = self.removed = 0

    def clock(self) -> datetime:
        """What the runner believes that time it is."""
        return self.now + self.wrong

    wrong = timedelta(0)

    def there(self, space: str) -> set[str]:
        return {str(one) for one in self.stores[space].catalog.ids()}

    def back_up(self, space: str, kind: str, moment: datetime) -> None:
        """Commit a backup; only its manifest is new."""
        backup_id = BackupId.now(space, kind, moment)
        while str(backup_id) in self.there(space):
            backup_id = backup_id.next_second()
        made = self.pattern.model_copy(
            update={
                "id": str(backup_id),
                "space": space,
                "kind": kind,
                "created": moment,
                "finished": moment,
                "documents": (),
                "previous": None,
            }
        )
        self.stores[space].catalog.commit(made, None)

    def purge(self, space: str) -> None:
        """Purge, and compare."""
        self.wrong = timedelta(seconds=self.rng.choice((0, 0, 0, -600, 600)))
        before = self.there(space)
        expected = oracle.kept(before, self.held & before, RULES[space], self.zone, self.clock())
        purge.run(space, False, self.around)
        after = self.there(space)
        when = f"{space}, {self.clock():%Y-%m-%d %H:%M} UTC, {self.zone}"
        require(not expected - after, f"wrongly deleted ({when}): {sorted(expected - after)}")
        require(not after - expected, f"wrongly kept ({when}): {sorted(after - expected)}")
        self.decided += len(before)
        self.removed += len(before) - len(after)
        self.wrong = timedelta(0)

    def hold_or_release(self, space: str) -> None:
        """A person holds one, or lets one go."""
        there = sorted(self.there(space))
        if self.held and self.rng.random() < 0.6:
            one = self.rng.choice(sorted(self.held))
            self.stores[one.split("_")[0]].holds.release(BackupId.parse(one))
            self.held.discard(one)
        elif there:
            one = self.rng.choice(there)
            self.stores[space].holds.hold(BackupId.parse(one), by="torture")
            self.held.add(one)

    def day(self) -> None:
        """One day: what happens at which hour of the wall clock is drawn, then lived through in order."""
        rng, begin = self.rng, self.now
        todo: list[tuple[float, str, str]] = []
        for space in RULES:
            if rng.random() > 0.05:  # cron skips a day now and then
                todo.append((22 + rng.choice((0, 0.1, 0.5, 2.5)), "cron", space))
            if rng.random() < 0.05:
                todo.append((23.2, "cron", space))  # somebody runs it again
            if rng.random() < 0.12:
                todo.append((rng.uniform(8, 18), "manual", space))
            if rng.random() < 0.15:
                todo.append((rng.uniform(8, 18), "hold", space))
        todo += [(rng.uniform(8, 18), "pre-deploy", "production") for _ in range(rng.choice((0, 0, 1, 1, 2, 4)))]
        if rng.random() < 0.04:
            todo.append((12.0, "planted", rng.choice(sorted(RULES))))
        for hour, what, space in sorted(todo):
            self.now = begin + timedelta(hours=hour)
            off = timedelta(seconds=rng.choice((0, 0, 0, 240, -240, 420)))
            fails = rng.random() < 0.1
            if what == "hold":
                self.hold_or_release(space)
            elif what == "planted":
                self.back_up(space, "daily", self.now + timedelta(days=rng.choice((1, 3, 90))))
            elif what == "cron":
                if not fails:
                    self.back_up(space, "daily", self.now + off)
                self.now += timedelta(minutes=rng.choice((1, 5, 100)))
                if rng.random() > 0.1:
                    self.purge(space)
            elif not fails:
                self.back_up(space, what, self.now + off)
        local = begin.astimezone(ZoneInfo(self.zone)).replace(tzinfo=None) + timedelta(days=1)
        self.now = local.replace(tzinfo=ZoneInfo(self.zone)).astimezone(UTC)


def attempt(world: World, row: Row, pattern: Manifest, rng: random.Random, number: int, days: int) -> None:
    """One history."""
    zone, first = HISTORIES[number % len(HISTORIES)]
    with world.fresh_store():
        team = Team(world, rng, zone, first, pattern)
        for _ in range(days):
            team.day()
        for space in RULES:
            team.purge(space)
    row.counts["decisions"] += team.decided
    row.counts["backups removed"] += team.removed


def run(row: Row, world: World, numbers: list[int], days: int = DAYS) -> None:
    """Histories in turn."""
    row.unit = f"histories of {days} days"
    world.fill(50, 3)
    pattern = world.store().catalog.read(BackupId.parse(world.backup()))
    for number in numbers:
        row.attempt(number, lambda rng, n=number: attempt(world, row, pattern, rng, n, days))  # type: ignore[misc]
