"""``make bench``: every measure beside its peers, on the same servers, in the same run, one after the other.

BENCH_SCALE=0.1    a tenth of the data (1: 1.5 GB of database, 20,000 and 100,000 documents)
BENCH_REPEAT=3     rounds; in each, all contenders of a scene run once
BENCH_ONLY=regex   only the rows whose measure or peer matches; they replace theirs in latest.json
BENCH_OUT=folder   where latest.json and latest-runs.json go instead of benchmarks/

Without BENCH_OUT the table in docs/performance.md is written anew too. Processor time is told as that of the contender
+ that of the servers.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import table
from .measure import Run, Spread
from .scenes import ROWS, Row, Scene, Stage
from .world import World, scale, versions

Series = dict[tuple[str, str], list[Run]]


def main() -> int:
    """Run, print, write. Exit code 1 if a contender failed: all others are measured and written all the same."""
    began = time.monotonic()
    rounds = int(os.environ.get("BENCH_REPEAT", "3"))
    only = os.environ.get("BENCH_ONLY", "")
    wanted = [row for row in ROWS if re.search(only, f"{row.measure} / {row.peer}")]
    if not wanted:
        say(f"BENCH_ONLY={only} matches no measure")
        return 2
    known = versions()
    say(", ".join(f"{name} {number}" for name, number in known.items()))
    failed: list[str] = []
    with World() as world:
        stage = Stage(world, scale(), say)
        series = play(stage, wanted, rounds, failed)
        size = stage.database_bytes
    latest = table.rows(series)
    if series:
        write(latest, described(series, known, rounds, size), merge=bool(only))
    say(f"\n{table.text(latest)}\n\nAll of it took {time.monotonic() - began:.0f} s.")
    for line in failed:
        say(f"FAILED, and not measured: {line}")
    return 1 if failed else 0


def described(series: Series, known: dict[str, str], rounds: int, size: int) -> dict[str, Any]:
    """What was run where, and every single run."""
    return {
        "scale": scale(),
        "rounds": rounds,
        "cores": os.cpu_count(),
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "database_mb": size / 1e6,
        "versions": known,
        "runs": [
            {
                "scene": scene,
                "contender": name,
                "cpu_seconds": [round(run.cpu_seconds, 3) for run in runs],
                "server_cpu_seconds": [round(run.server_cpu_seconds, 2) for run in runs],
                "seconds": [round(run.seconds, 3) for run in runs],
                "peak_rss_mb": [round(run.peak_rss_mb, 1) for run in runs],
                "bytes_uploaded": [run.bytes_uploaded for run in runs],
            }
            for (scene, name), runs in series.items()
        ],
    }


def play(stage: Stage, wanted: list[Row], rounds: int, failed: list[str]) -> Series:
    """Run the scenes that ``wanted`` rows need, and in them only the contenders that they name.

    Who fails is left out of the rest of its scene, without the others' losing theirs; ``failed`` tells of it.
    """
    series: Series = {}
    for scene in stage.scenes():
        names = {name for row in wanted if row.scene == scene.name for name in (row.ours, row.peer)}
        if names:
            try:
                play_one(scene, names, scene.rounds or rounds, series, failed)
            except Exception as error:
                failed.append(f"{scene.name}: {said(error)}")
    return series


def said(error: Exception) -> str:
    """What failed, in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[-400:]}"


def play_one(scene: Scene, names: set[str], rounds: int, series: Series, failed: list[str]) -> None:
    """All rounds of one scene."""
    say(f"\n{scene.name}")
    scene.before()
    names = set(names)
    for _ in range(rounds):
        scene.each()
        for name, contend in scene.contenders.items():
            if name in names:
                try:
                    run = contend()
                except Exception as error:
                    names.discard(name)
                    series.pop((scene.name, name), None)
                    failed.append(f"{scene.name}, {name}: {said(error)}")
                    say(f"  {name:<50} FAILED: {said(error)}")
                    continue
                series.setdefault((scene.name, name), []).append(run)
                uploaded = "" if run.bytes_uploaded is None else f"  {run.bytes_uploaded / 1e6:10,.2f} MB uploaded"
                cpu = f"{run.cpu_seconds:6.2f} + {run.server_cpu_seconds:6.2f} s of processor"
                spent = f"{run.seconds:8.2f} s  {cpu}  {run.peak_rss_mb:5.0f} MB"
                say(f"  {name:<50} {spent}{uploaded}")
    scene.after()
    for (of, name), runs in series.items():
        if of == scene.name and len(runs) > 1:
            spread = Spread.of([run.seconds for run in runs])
            say(f"  {name:<50} {spread} s")


def write(latest: list[dict[str, Any]], about: dict[str, Any], *, merge: bool) -> None:
    """Write both files."""
    folder = Path(os.environ.get("BENCH_OUT", table.HERE))
    folder.mkdir(parents=True, exist_ok=True)
    first, second = folder / table.LATEST.name, folder / table.RUNS.name
    if merge and first.exists() and second.exists():
        latest = table.merged(json.loads(first.read_text()), latest)
        old = json.loads(second.read_text())
        fresh = {(item["scene"], item["contender"]) for item in about["runs"]}
        kept = [item for item in old["runs"] if (item["scene"], item["contender"]) not in fresh]
        about = {**about, "runs": kept + about["runs"], "database_mb": about["database_mb"] or old["database_mb"]}
    first.write_text(json.dumps(latest, indent=1) + "\n")
    second.write_text(json.dumps(about, indent=1) + "\n")
    if folder == table.HERE:
        table.write_page()


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
