"""How the cost of backup and restore grows with the data (1, 4 and 16 times) and with the jobs (1, 2 and 4).

make bench-growth                           (75 MB, 300 MB and 1.2 GB; some minutes)
BENCH_SCALE=0.2 make bench-growth

Processor time is told as ours + that of the servers: it is what remains the same when the machine is busy.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from tests.support import fac_like

from .measure import Run
from .ours import Ours
from .world import World

BASE = 10_000
"""Submissions of the smallest database: about 75 MB."""

SIZES = (1, 4, 16)
JOBS = (1, 2, 4)
JOBS_AT = 4
"""The size at which jobs are varied."""


@dataclass(frozen=True)
class Costs:
    """The three operations on one database."""

    megabytes: float
    first: Run
    again: Run
    restore: Run

    def line(self, name: str) -> str:
        """As a row of the table."""
        runs = (self.first, self.again, self.restore)
        cells = (f"{run.seconds:.1f} ({run.cpu_seconds:.1f} + {run.server_cpu_seconds:.1f})" for run in runs)
        peak = max(run.peak_rss_mb for run in runs)
        return f"| {name} | {self.megabytes:,.0f} MB | {' | '.join(cells)} | {peak:,.0f} MB |"


def measured(world: World, name: str, source: str, jobs: int) -> Costs:
    """Back up ``source`` twice and restore it, with so many jobs (0: as many as usual)."""
    ours = Ours(world)
    bucket, target = world.bucket(f"growth-{name}"), world.postgres.create_database(f"preview_{name}")
    options = ("--jobs", str(jobs)) if jobs else ()
    ours.adopt(bucket, target)
    first = ours.backup(bucket, source, "", *options)
    again = ours.backup(bucket, source, "", *options)
    told = ours.result(again)
    restore = ours.restore(bucket, target, told["backup_id"], "", *options)
    world.postgres.execute("postgres", f"DROP DATABASE preview_{name} WITH (FORCE)")
    world.drop(bucket)
    return Costs(told["database_bytes"] / 1e6, first, again, restore)


def main() -> None:
    """Measure and print."""
    base = round(BASE * float(os.environ.get("BENCH_SCALE", "1")))
    rows = []
    with World() as world:
        for times in SIZES:
            source = world.postgres.create_database(f"growth_{times}")
            fac_like.fill(source, base * times)
            rows.append(measured(world, f"{times}x", source, 0).line(f"{times}×"))
            print(rows[-1], flush=True)
            if times == JOBS_AT:
                for jobs in JOBS:
                    rows.append(measured(world, f"{jobs}j", source, jobs).line(f"{times}×, {jobs} jobs"))
                    print(rows[-1], flush=True)
            world.postgres.execute("postgres", f"DROP DATABASE growth_{times} WITH (FORCE)")
    print("\nwall s (processor s: ours + of the servers)\n")
    print("| data | in PostgreSQL | first backup | again, nothing changed | restore | peak memory |")
    print("|---|---:|---:|---:|---:|---:|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
