"""Two simulated months in a bucket that deletes objects at 60 days: does everything that is kept still restore?

    .venv/bin/python -m tests.renewal_months          (60 daily backups after the objects look 50 days old; minutes)

The database is real; the S3 server is the one in memory, because its clock can be moved: it stamps every write with the
simulated time, tells that time in its Date header, and deletes what is older than its limit at the end of each day.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import psycopg2

from fac_backup.operations import adopt, backup, hold, purge, verify
from fac_backup.operations.restore import RestoreRequest
from fac_backup.operations.restore import run as restore
from fac_backup.operations.surroundings import Surroundings
from fac_backup.policy.matrix import load

from .support.plain_s3 import PlainS3, Thing, _Handler
from .support.postgres import PostgresServer

LIMIT = timedelta(days=60)

MATRIX = """\
version: 1
who: {users: [alice]}
spaces:
  dev: {max_object_age_days: %s, retention: {daily: {keep_days: 7}, manual: {keep_newest: 1}}}
paths:
  - {source: dev, target: dev, when: manual, undo: none}
"""


@dataclass
class Clock:
    """Simulated time."""

    now: datetime = field(default_factory=lambda: datetime(2026, 9, 1, 22, 17, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now


class _Stamped(dict[str, Thing]):
    """A bucket that stamps what is written with the simulated time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def __setitem__(self, key: str, thing: Thing) -> None:
        thing.modified = self._clock()
        super().__setitem__(key, thing)


@contextmanager
def ageing_s3(clock: Clock) -> Iterator[PlainS3]:
    """The S3 server in memory, living in simulated time."""
    import threading

    class Handler(_Handler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(clock(), usegmt=True)

    server = PlainS3()
    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def expire(server: PlainS3, clock: Clock, bucket: str) -> int:
    """What the bucket's own rule does; how many objects went."""
    old = [key for key, thing in server.buckets[bucket].items() if clock() - thing.modified >= LIMIT]
    for key in old:
        del server.buckets[bucket][key]
    return len(old)


def world(server: PlainS3, clock: Clock, url: str, limit: str = "60", **env: str) -> Surroundings:
    """A space with eight documents and two buckets there; ``limit`` is the age in days that the matrix tells."""
    for name in ("backups", "uploads"):
        server.buckets[name] = _Stamped(clock)
    for number in range(8):
        server.buckets["uploads"][f"{number}.txt"] = Thing(b"document %d" % number, {"content-type": "text/plain"})
    key = json.dumps({"access_key_id": "AKIDAKIDAKIDAKIDAKID", "secret_access_key": "not-checked",
                      "region": "us-east-1", "endpoint": server.endpoint})  # fmt: skip
    places = {
        "DATABASE_URL": url, "FAC_BACKUP_BUCKET": "s3://backups", "FAC_BACKUP_DOCUMENTS": "uploads=s3://uploads",
        "FAC_BACKUP_BUCKET_CREDENTIALS": key, "FAC_BACKUP_DOCUMENTS_CREDENTIALS": key,
    }  # fmt: skip
    return Surroundings(load(MATRIX % limit), "simulation", True, False, places | env, jobs=2, clock=clock)


def simulate(url: str, days: int, *, age: int = 50, renewing: bool = True) -> tuple[int, int]:
    """(backups that restore, objects that the bucket deleted) after ``days`` daily backups of objects ``age`` days old.

    ``renewing`` False leaves ``max_object_age_days`` out of the matrix: what happens without renewal.
    """
    clock = Clock()
    with ageing_s3(clock) as server:
        around = world(server, clock, url, "60" if renewing else "36500")
        adopt.run("dev", "", around)
        first = str(backup.run(backup.BackupRequest("dev", "manual"), around).data["backup_id"])
        hold.run("dev", first, False, "", around)
        clock.now += timedelta(days=age)
        gone = 0
        for day in range(days):
            # Documents of the application are its own business: only the backups bucket expires here.
            server.buckets["uploads"][f"new-{day}.txt"] = Thing(b"day %d" % day, {})
            backup.run(backup.BackupRequest("dev", "daily"), around)
            purge.run("dev", False, around)
            clock.now += timedelta(days=1)
            # Records of what is long over may go: audit, tombstones of backups whose objects have gone.
            gone += expire(server, clock, "backups")
        whole = _restored(around, first)
        return whole, gone


def _restored(around: Surroundings, first: str) -> int:
    """How many of the backups that are kept are whole; the oldest one is restored and compared."""
    from fac_backup.operations.listing import ListRequest
    from fac_backup.operations.listing import run as list_

    rows = list_(ListRequest("dev"), around).data["backups"]
    for row in rows:
        verify.run(verify.VerifyRequest("dev", row["id"]), around)
    restore(RestoreRequest("dev", "dev", first, "dev"), replace(around, doing="restore"))
    return len(rows)


def main() -> int:
    """The command: two months."""
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with PostgresServer(18) as server:
        url = server.create_database("months")
        connection = psycopg2.connect(url)
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 2000) g")
        connection.close()
        whole, gone = simulate(url, days)
    print(f"{days} daily backups of objects that looked 50 days old, in a bucket that deletes at 60 days:")
    print(
        f"{whole} backups are kept, all are whole, the oldest restores; the bucket deleted {gone} objects of its own."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
