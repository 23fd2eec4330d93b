"""Run one contender and say how long it took and how much memory it held."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.05

Command = Sequence[str | Path]

servers: list[int] = []
"""The processes of PostgreSQL and of the S3 server, whose processor time is told beside that of their clients."""


@dataclass(frozen=True)
class Run:
    """One run of one contender."""

    seconds: float
    """Wall time, from the start of the first program to the end of the last."""
    peak_rss_mb: float
    """The largest sum, at one moment, of the resident memory of its programs and all their children, in MB (10^6).

    Pages that processes share count in each of them. Servers (PostgreSQL, S3) do not belong to it.
    """
    cpu_seconds: float = 0.0
    """Processor time of its programs and their children: what remains the same when the machine is busy."""
    server_cpu_seconds: float = 0.0
    """Processor time that PostgreSQL and the S3 server spent on it meanwhile."""
    output: bytes = b""
    """What the last program wrote to stdout."""
    bytes_uploaded: int | None = None


class ProgramFailedError(Exception):
    """A program of a contender ended with an error: nothing was measured."""


def tree(pid: int) -> Iterator[int]:
    """``pid`` and all its living descendants."""
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))
    except (FileNotFoundError, ProcessLookupError):
        return


def resident(pids: Iterable[int]) -> int:
    """Bytes of these processes in memory; 0 for one that has ended.

    A child between fork and exec is its parent still, page for page, and counts with it.
    """
    found: dict[str, int] = {}
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # proc(5): resident pages and where the stack begins, which differs from program to program, by chance.
        pages, stack = int(words[21]), words[25]
        key = f"process {pid}" if stack == "0" else stack  # 0: not ours to see
        found[key] = max(found.get(key, 0), pages)
    return sum(found.values()) * PAGE


def spent(pid: int) -> float:
    """Processor seconds of a server: its own, those of its living descendants and of its children that have ended."""
    ticks = 0
    for number, one in enumerate(tree(pid)):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(map(int, fields[11:15] if number == 0 else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


class PeakWatch:
    """Samples the memory of process trees from a thread until it is left."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = 0

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, resident(pid for top in self._pids for pid in tree(top)))
            if self._end.wait(SAMPLE_SECONDS):
                return

    def __enter__(self) -> PeakWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def run(
    *pipeline: Command, env: Mapping[str, str], cwd: Path | None = None, discard: bool = False, timeout: float = 3600
) -> Run:
    """Run programs connected by pipes, as a shell would with ``set -o pipefail``.

    ``discard`` sends the last one's output to /dev/null. Raises ProgramFailedError with what stderr says.
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
        before_all, before_servers = _cpu(), _servers_cpu()
        began = time.monotonic()
        programs: list[subprocess.Popen[bytes]] = []
        for number, command in enumerate(pipeline):
            last = number == len(pipeline) - 1
            end = (subprocess.DEVNULL if discard else output) if last else subprocess.PIPE
            before = programs[-1].stdout if programs else subprocess.DEVNULL
            programs.append(
                subprocess.Popen(
                    [str(part) for part in command], stdin=before, stdout=end, stderr=errors, env=dict(env), cwd=cwd
                )
            )
            if programs[:-1] and programs[-2].stdout:
                programs[-2].stdout.close()  # so that the writer notices when its reader ends
        try:
            with PeakWatch([program.pid for program in programs]) as watch:
                for program in programs:
                    program.wait(timeout)
                seconds = time.monotonic() - began
        finally:
            for program in programs:
                if program.poll() is None:
                    program.kill()
        errors.seek(0)
        if any(program.returncode for program in programs):
            names = " | ".join(Path(str(command[0])).name for command in pipeline)
            raise ProgramFailedError(f"{names}: {errors.read().decode(errors='replace')[-2000:]}")
        output.seek(0)
        cpu, served = _cpu() - before_all, _servers_cpu() - before_servers
        return Run(seconds, watch.peak / 1e6, cpu, served, output.read())


def together(runs: Sequence[Run]) -> Run:
    """Several runs, one after the other, as one."""
    return Run(
        sum(run.seconds for run in runs),
        max(run.peak_rss_mb for run in runs),
        sum(run.cpu_seconds for run in runs),
        sum(run.server_cpu_seconds for run in runs),
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _servers_cpu() -> float:
    return sum(map(spent, servers))


@dataclass(frozen=True)
class Spread:
    """Smallest, middle and largest of several values."""

    least: float
    median: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Of at least one value.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(least=1.0, median=2.0, most=3.0)
        """
        return Spread(min(values), statistics.median(values), max(values))

    def __str__(self) -> str:
        return f"{self.least:.2f} / {self.median:.2f} / {self.most:.2f}"
