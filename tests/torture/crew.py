"""Several processes share the attempts: each takes some numbers of a row, in a world of its own, and then the next.

A row whose attempts load the machine on purpose is left whole and runs alone (``Kind.alone``).
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

from .rows import ROWS, run_row
from .table import Row

Servers = tuple[PostgresServer, S3Server]


def shares(name: str, numbers: Sequence[int]) -> Iterator[list[int]]:
    """The numbers that one process takes at a time."""
    size = ROWS[name].share
    for begin in range(0, len(numbers), size or len(numbers)):
        yield list(numbers[begin : begin + size] if size else numbers)


def _work(name: str, seed: int, numbers: list[int], servers: tuple[dict[str, object], dict[str, object]]) -> Row:
    row = Row(name, seed)
    try:
        with tempfile.TemporaryDirectory() as folder:
            run_row(row, PostgresServer(**servers[0]), S3Server(**servers[1]), Path(folder), numbers)  # type: ignore[arg-type]
    except Exception as found:
        traceback.print_exc()
        row.lost.append(f"{name}:{numbers[0]}-{numbers[-1]}: {found or type(found).__name__}")
    return row


def run(
    wanted: Mapping[str, Sequence[int]], seed: int, servers: Servers, jobs: int, tell: Callable[[Row], None]
) -> list[Row]:
    """Run the ``wanted`` numbers of each row with ``jobs`` processes; ``tell`` hears of each row that is through."""
    pg, s3 = servers
    where = (
        {"major": pg.major, "port": pg.port, "password": pg.password},
        {"access_key": s3.access_key, "secret_key": s3.secret_key, "port": s3.port},
    )
    rows = {name: Row(name, seed) for name in wanted}
    alone = [name for name in wanted if ROWS[name].alone]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for name in alone:
            rows[name].add(pool.submit(_work, name, seed, list(wanted[name]), where).result())
            tell(rows[name])
        shared = {
            pool.submit(_work, name, seed, part, where): name
            for name in wanted
            if name not in alone
            for part in shares(name, wanted[name])
        }
        left = {name: sum(1 for one in shared.values() if one == name) for name in wanted}
        for done in as_completed(shared):
            name = shared[done]
            rows[name].add(done.result())
            left[name] -= 1
            if not left[name]:
                tell(rows[name])
    return list(rows.values())


def jobs_of(text: str) -> int:
    """How many processes: ``TORTURE_JOBS``, or one more than there are cores, as most of an attempt is waiting."""
    return int(text) if text else (os.cpu_count() or 1) + 1
