"""The benchmarks' own arithmetic: what is printed must follow from what was measured."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from benchmarks import measure, table
from benchmarks.measure import ProgramFailedError, Run, Spread
from benchmarks.run import play_one
from benchmarks.scenes import OURS, ROWS, Scene
from benchmarks.world import written


def _runs(*seconds: float, uploaded: int | None = None) -> list[Run]:
    return [Run(value, 10.0 * value, bytes_uploaded=uploaded) for value in seconds]


def test_a_ratio_is_that_of_the_medians():
    row = next(row for row in ROWS if row.of == "seconds")
    series = {(row.scene, OURS): _runs(1.0, 9.0, 2.0), (row.scene, row.peer): _runs(4.0, 1.0, 8.0)}
    made = table.rows(series)
    assert (made[0]["ours_s"], made[0]["peer_s"], made[0]["ratio"]) == (2.0, 4.0, 0.5)
    assert made[-1]["measure"] == table.PEAK
    assert made[-1]["ratio"] == 90.0


def test_a_row_of_bytes_compares_bytes_and_not_seconds():
    row = next(row for row in ROWS if row.of == "bytes")
    series = {
        (row.scene, OURS): _runs(5.0, uploaded=20),
        (row.scene, row.peer): _runs(1.0, uploaded=1000),
    }
    assert table.rows(series)[0]["ratio"] == 0.02


def test_rows_have_exactly_the_keys_that_are_promised():
    row = ROWS[0]
    made = table.rows({(row.scene, OURS): _runs(1.0), (row.scene, row.peer): _runs(1.0)})
    promised = {"measure", "ours_s", "peer", "peer_s", "ratio", "peak_rss_mb", "bytes_uploaded", "bar"}
    assert all(set(one) == promised for one in made)


def test_a_run_of_some_measures_replaces_only_theirs():
    def row(measure: str, ratio: float, peak: float) -> dict[str, Any]:
        return {"measure": measure, "peer": "x", "ratio": ratio, "peak_rss_mb": peak}

    old = [row("a", 1, 160), row("b", 1, 150), row(table.PEAK, 160, 160)]
    new = [row("b", 2, 100), row(table.PEAK, 100, 100)]
    assert [one["ratio"] for one in table.merged(old, new)] == [1, 2, 160], "the peak is that of all measures"


def test_an_object_that_is_written_again_counts_as_uploaded():
    before = {"same": (1, "e1"), "again": (10, "e2"), "gone": (100, "e3")}
    after = {"same": (1, "e1"), "again": (10, "e4"), "new": (1000, "e5")}
    assert written(before, after) == 1010


def test_the_generated_part_of_the_page_stands_between_its_markers():
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.put_between(page, "new") == page.replace("old", "new")
    with pytest.raises(ValueError, match="markers"):
        table.put_between("no markers", "new")


def test_the_pages_table_is_that_of_the_latest_run():
    assert table.PAGE.read_text() == table.page(), "run `python -m benchmarks.table`"


def test_the_page_shows_every_row_with_its_bar_and_verdict_and_every_series():
    row = next(row for row in ROWS if row.bar and row.of == "seconds")
    latest = table.rows({(row.scene, OURS): _runs(9.0), (row.scene, row.peer): _runs(1.0)})
    item = {
        "scene": row.scene, "contender": OURS, "seconds": [9.0], "cpu_seconds": [5.0], "server_cpu_seconds": [3.0],
        "peak_rss_mb": [90.0], "bytes_uploaded": [None],
    }  # fmt: skip
    about = {
        "scale": 1.0, "rounds": 3, "cores": 2, "when": "2026-11-24", "database_mb": 1400.0, "versions": {"x": "1"},
        "runs": [item],
    }  # fmt: skip
    made = table.markdown(latest, about)
    assert f"| {row.measure} | 9.00 s | {row.peer} | 1.00 s | 9 | {row.bar:g} | NOT REACHED |" in made
    assert "| peak memory, any of these (MB) | 90 MB |" in made
    assert f"| {row.scene} | {OURS} | 9.00 / 9.00 / 9.00 | 5.00 / 5.00 / 5.00 | 3.00 / 3.00 / 3.00 | 90 |" in made


BARS = {
    ("first database backup", "pg_dump -Fc into rclone rcat"): 0.30,
    ("first database backup", "pg_dump -Fc -Z0 to /dev/null (reading alone)"): 1.8,
    ("first database backup", "pg_dump -Fp into restic"): 0.50,
    ("database backup, nothing changed", "pg_dump -Fc -Z0 to /dev/null (reading alone)"): 1.1,
    ("database backup, nothing changed", "pg_dump -Fp into restic"): 0.60,
    ("database backup, nothing changed, bytes uploaded", "its first backup"): 0.01,
    ("database backup after 2 % of new rows, bytes uploaded", "its first backup"): 0.15,
    ("database restore", "rclone copy, then pg_restore -j2"): 0.80,
    ("database restore", "rclone cat into pg_restore --single-transaction"): 0.90,
    ("database restore", "django-dbbackup dbrestore"): 0.60,
    ("first snapshot of 20,000 documents", "s5cmd sync"): 1.0,
    ("snapshot of 100,000 documents, nothing changed", "s5cmd sync"): 0.7,
    ("seven daily backups, 1 % appended a day, stored bytes", "one full backup"): 1.25,
}


def test_every_bar_is_measured_and_none_was_lowered():
    assert {(row.measure, row.peer): row.bar for row in ROWS if row.bar} == BARS
    assert table.PEAK_BAR == 300


def test_memory_of_children_is_counted():
    hold = "x = bytearray(60_000_000); import time; time.sleep(0.4)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    run = measure.run([sys.executable, "-c", parent], env=dict(os.environ))
    assert run.peak_rss_mb > 60


def test_a_pipeline_fails_when_its_first_program_fails():
    with pytest.raises(ProgramFailedError):
        measure.run(["false"], ["cat"], env=dict(os.environ))


def test_the_middle_of_several_runs_is_their_median():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(1.0, 2.0, 3.0)


def test_a_contender_that_fails_leaves_the_others_their_measures(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> Run:
        raise ProgramFailedError("restic: no such program")

    series: dict[tuple[str, str], list[Run]] = {}
    failed: list[str] = []
    scene = Scene("scene", {"a": fails, OURS: lambda: Run(1.0, 2.0)})
    play_one(scene, {"a", OURS}, 3, series, failed)
    assert {name: len(runs) for name, runs in series.items()} == {("scene", OURS): 3}
    assert len(failed) == 1
    assert "scene, a: ProgramFailedError: restic" in failed[0]
    assert "FAILED" in capsys.readouterr().out
