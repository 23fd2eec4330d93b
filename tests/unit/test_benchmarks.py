"""The benchmarks' own arithmetic: what is printed must follow from what was measured."""

from __future__ import annotations

import os
import sys

import pytest
from benchmarks import measure, table
from benchmarks.measure import ProgramFailedError, Run, Spread
from benchmarks.scenes import OURS, ROWS
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
    old = [{"measure": "a", "peer": "x", "ratio": 1}, {"measure": "b", "peer": "x", "ratio": 1}]
    new = [{"measure": "b", "peer": "x", "ratio": 2}]
    assert [row["ratio"] for row in table.merged(old, new)] == [1, 2]


def test_an_object_that_is_written_again_counts_as_uploaded():
    before = {"same": (1, "e1"), "again": (10, "e2"), "gone": (100, "e3")}
    after = {"same": (1, "e1"), "again": (10, "e4"), "new": (1000, "e5")}
    assert written(before, after) == 1010


def test_the_generated_part_of_the_page_stands_between_its_markers():
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.put_between(page, "new") == page.replace("old", "new")
    with pytest.raises(ValueError, match="markers"):
        table.put_between("no markers", "new")


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
