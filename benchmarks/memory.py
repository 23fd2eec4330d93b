"""Peak memory of backup and restore at two sizes of data: it must not grow with the data (guarantee 10).

python -m benchmarks.memory                 (100 MB and 2 GB; some minutes)
python -m benchmarks.memory 5000 20000      (submissions of the small and the large database)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tests.support import fac_like

from benchmarks.ours import Ours
from benchmarks.world import World

SMALL, LARGE = 13_000, 265_000
"""Submissions: about 100 MB and 2 GB in PostgreSQL."""


@dataclass(frozen=True)
class Peaks:
    """Megabytes (10^6) of the whole process tree: fac-backup, pg_dump, pg_restore; servers left out."""

    database_mb: float
    backup_mb: float
    restore_mb: float


def measure(submissions: int, world: World) -> Peaks:
    """Back up a database of that many submissions and restore it into another one."""
    ours = Ours(world)
    name = f"memory{submissions}"
    source = world.postgres.create_database(name)
    target = world.postgres.create_database(f"{name}_preview")
    fac_like.fill(source, submissions)
    bucket = world.bucket(f"memory-{submissions}")
    ours.adopt(bucket, target)
    made = ours.backup(bucket, source)
    result = ours.result(made)
    restored = ours.restore(bucket, target, result["backup_id"])
    world.postgres.execute(
        "postgres", f"DROP DATABASE {name} WITH (FORCE)", f"DROP DATABASE {name}_preview WITH (FORCE)"
    )
    world.drop(bucket)
    return Peaks(result["database_bytes"] / 1e6, made.peak_rss_mb, restored.peak_rss_mb)


def main() -> int:
    """Measure both, print a table; 1 if the large one takes over 20 % more than the small one."""
    sizes = [int(word) for word in sys.argv[1:3]] or [SMALL, LARGE]
    with World() as world:
        small, large = (measure(size, world) for size in sizes)
    print("database      backup      restore    (peak memory of all our processes)")
    for one in (small, large):
        print(f"{one.database_mb:6.0f} MB   {one.backup_mb:6.0f} MB   {one.restore_mb:6.0f} MB")
    growth = max(large.backup_mb / small.backup_mb, large.restore_mb / small.restore_mb)
    print(f"growth: {growth:.2f} (at most 1.20)")
    return 0 if growth <= 1.2 else 1


if __name__ == "__main__":
    raise SystemExit(main())
