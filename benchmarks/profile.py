"""Where the time of a backup and of a restore goes, how soon a step's program starts and a backup reads its first byte.

python -m benchmarks.profile                (a quarter of the usual database; a minute or two)
BENCH_SCALE=1 python -m benchmarks.profile

Each operation is one process with clocks around its stages. Stages run beside each other in threads, so their wall
times add up to more than the whole; their processor times do not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support import fac_like

from . import measure
from .data import SUBMISSIONS
from .measure import Run
from .ours import Ours
from .world import World

TO = "BENCH_PROFILE_TO"
BEGAN = "BENCH_PROFILE_BEGAN"
BOOTSTRAP = Path(__file__).parents[1] / "actions" / "bootstrap.sh"


class Clocks:
    """Wall and processor seconds, and calls, of each stage; of all threads."""

    def __init__(self) -> None:
        self.stages: dict[str, list[float]] = {}
        self.first_byte = 0.0
        self._lock = threading.Lock()

    def around(self, owner: Any, name: str, stage: str, *, reads: bool = False) -> None:
        """Replace ``owner.name`` by itself between two looks at the clocks."""
        real: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **more: Any) -> Any:
            if reads and not self.first_byte:
                self.first_byte = time.monotonic() - float(os.environ[BEGAN])
            wall, cpu = time.monotonic(), time.thread_time()
            try:
                return real(*arguments, **more)
            finally:
                with self._lock:
                    sums = self.stages.setdefault(stage, [0, 0.0, 0.0])
                    sums[0] += 1
                    sums[1] += time.monotonic() - wall
                    sums[2] += time.thread_time() - cpu

        setattr(owner, name, timed)


def inside() -> None:
    """Run fac-backup with clocks; its arguments are the command line's."""
    clocks = Clocks()
    import hashlib

    import zstandard

    from fac_backup.cli import main as cli
    from fac_backup.database import archive, load, loading, ranges
    from fac_backup.operations import restore_database
    from fac_backup.store import pieces
    from fac_backup.store.pieces import Pieces

    class Hashes:
        sha256 = staticmethod(hashlib.sha256)

    class Packer:
        def __init__(self, level: int) -> None:
            self.compress = zstandard.ZstdCompressor(level=level).compress
            clocks.around(self, "compress", "compress")

    class Zstandard:
        ZstdCompressor = Packer
        ZstdDecompressor = zstandard.ZstdDecompressor
        get_frame_parameters = staticmethod(zstandard.get_frame_parameters)
        ZstdError = zstandard.ZstdError

    hashes: Any = Hashes()
    setattr(pieces, "hashlib", hashes)  # noqa: B010 - a module is no place that mypy lets be patched
    setattr(pieces, "zstandard", Zstandard)  # noqa: B010
    clocks.around(hashes, "sha256", "hash")
    clocks.around(pieces, "unpack", "decompress")
    clocks.around(Pieces, "_put", "upload")
    clocks.around(Pieces, "_get", "download")
    clocks.around(Pieces, "load_known", "which pieces the store has")
    clocks.around(ranges.Reader, "_read", "read ranges (COPY); hash and compress them", reads=True)
    clocks.around(ranges.Reader, "_count", "count rows of the other tables")
    if sys.argv[1] == "backup":  # os is everybody's: in a restore others read
        clocks.around(archive.os, "read", "read pg_dump's archive", reads=True)
    clocks.around(loading.Copier, "_copy", "load ranges (COPY)")
    clocks.around(load._Load, "_schema", "schema")
    clocks.around(load._Load, "_post_data", "indexes and keys")
    clocks.around(restore_database, "analyze", "statistics")
    try:
        cli.main()
    finally:
        Path(os.environ[TO]).write_text(json.dumps({"stages": clocks.stages, "first_byte": clocks.first_byte}))


class Profiled(Ours):
    """``fac-backup`` with clocks."""

    def run(self, bucket: str, database: str, documents: str, *arguments: str) -> Run:
        """One command; its clocks are in ``clocks.json`` of the folder."""
        to = self.folder / "clocks.json"
        env = self.env(bucket, database, documents) | {
            TO: str(to),
            BEGAN: str(time.monotonic()),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        return measure.run([sys.executable, "-m", "benchmarks.profile", *arguments], env=env, cwd=self.folder)


def show(what: str, ours: Profiled, run: Run) -> None:
    """Print one operation's stages."""
    told = json.loads((ours.folder / "clocks.json").read_text())
    spent = f"processor {run.cpu_seconds:.1f} s, of the servers {run.server_cpu_seconds:.1f} s"
    print(f"\n{what}: {run.seconds:.1f} s; {spent}")
    if told["first_byte"]:
        print(f"from the process's start to the first byte read: {told['first_byte']:.2f} s")
    print("\n| stage | times | wall s | processor s |\n|---|---:|---:|---:|")
    for stage, (count, wall, cpu) in sorted(told["stages"].items(), key=lambda item: -item[1][2]):
        print(f"| {stage} | {count:,.0f} | {wall:.2f} | {cpu:.2f} |")


def step_starts() -> None:
    """How long an action's step takes until its program speaks: in a job's first step its Python environment is made of
    cached wheels, later ones find it. (Wheels are fetched before the clock starts. What the program says is that it is
    not in a job of GitHub's: by then it has started and looked around.)
    """
    with tempfile.TemporaryDirectory() as folder:
        print("\n| from a step's start until its program speaks | wall s |\n|---|---:|")
        for number, what in enumerate(("", "first step of a job, wheels cached", "a later step")):
            temp = Path(folder) / f"job{min(number, 1)}"
            temp.mkdir(exist_ok=True)
            env = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "FAC_BACKUP_"))}
            env |= {"GITHUB_ACTIONS": "true", "RUNNER_TEMP": str(temp), "RUNNER_TOOL_CACHE": f"{folder}/cache"}
            began = time.monotonic()
            subprocess.run([BOOTSTRAP, "backup"], env=env, capture_output=True, check=False)
            if what:
                print(f"| {what} | {time.monotonic() - began:.2f} |")


def main() -> None:
    """Build, back up twice, restore; print each."""
    step_starts()
    submissions = round(SUBMISSIONS * float(os.environ.get("BENCH_SCALE", "0.25")))
    with World() as world:
        ours = Profiled(world)
        source, target = world.postgres.create_database("profiled"), world.postgres.create_database("profiled_preview")
        fac_like.fill(source, submissions)
        bucket = world.bucket("profile")
        ours.adopt(bucket, target)
        first = ours.backup(bucket, source)
        show(f"First backup of {ours.result(first)['database_bytes'] / 1e6:,.0f} MB", ours, first)
        again = ours.backup(bucket, source)
        show("Backup with nothing changed", ours, again)
        restored = ours.restore(bucket, target, ours.result(again)["backup_id"])
        show("Restore", ours, replace(restored, output=b""))


if __name__ == "__main__":
    if os.environ.get(TO):
        inside()
    else:
        main()
