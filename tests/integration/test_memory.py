"""Memory does not grow with the data (guarantee 10): the short form of ``python -m benchmarks.memory``."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import measure

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import FAC_BACKUP, Space

SMALL, LARGE = 60, 240
"""Megabytes: two thirds in one table, which the larger database reads in ranges, the rest in eight small ones."""


def fill(space: Space, megabytes: int) -> None:
    rows = megabytes * 1000
    space.sql("CREATE SCHEMA big")
    for number, share in enumerate((rows * 2 // 3, *[rows // 24] * 8)):
        space.sql(
            f"CREATE UNLOGGED TABLE big.t{number} AS SELECT g AS id, repeat(md5(g::text), 30) AS words"
            f" FROM generate_series(1, {share}) g"
        )


@pytest.mark.slow
def test_four_times_the_data_takes_no_more_memory_at_the_usual_settings(
    pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str
) -> None:
    peaks: dict[int, dict[str, float]] = {}
    for size in (SMALL, LARGE):
        space = Space(pg18, s3, tmp_path, f"{unique}m{size}").fill(children=1, documents=1)
        try:
            fill(space, size)

            def peak(*arguments: str, on: Space = space) -> float:
                return measure.run([FAC_BACKUP, *arguments], env=on.env(), cwd=tmp_path).peak_rss_mb

            backup = peak("backup", "--space", "dev", "--kind", "daily")
            made = space.run("list", "--space", "dev", "--json").json["backups"][0]
            assert made["database_bytes"] > size * 0.9e6, "what is measured is what is meant"
            restore = peak(
                "restore", "--source", "dev", "--target", "dev", "--backup-id", made["id"], "--confirm", "dev"
            )
            peaks[size] = {"backup": backup, "restore": restore}
        finally:
            space.close()
    for operation, small in peaks[SMALL].items():
        assert peaks[LARGE][operation] < small * 1.2, peaks
        assert peaks[LARGE][operation] < 200, peaks
