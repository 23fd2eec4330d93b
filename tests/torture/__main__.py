"""``make torture``: run the rows, print the table; exit code 1 if anything was lost."""

from __future__ import annotations

import os
import secrets
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.servers import shared_postgres, shared_s3

from .crew import jobs_of, run
from .rows import ROWS
from .table import Row, table, write_page

PAGE = Path(__file__).parents[2] / "docs" / "torture.md"


def numbers_of(text: str) -> list[int]:
    """``17`` or ``0-17``."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def tell(row: Row) -> None:
    """One line when a row is through."""
    print(f"{row.name}: {row.tried:,} tried, {len(row.lost)} lost, {row.seconds:.0f} s of work", flush=True)


def main() -> int:
    """Read the environment, run, print, and write the page if these are the full numbers or TORTURE_OUT names one."""
    scale = float(os.environ.get("TORTURE_RUNS") or 1)
    seed = int(os.environ.get("TORTURE_SEED") or secrets.randbelow(10**6))
    jobs = jobs_of(os.environ.get("TORTURE_JOBS", ""))
    only, _, number = os.environ.get("TORTURE_ONLY", "").partition(":")
    if only and only not in ROWS:
        print(f"TORTURE_ONLY names no row. Rows are: {', '.join(ROWS)}.")
        return 2
    names = [only] if only else list(ROWS)
    wanted = {name: numbers_of(number or f"0-{max(1, round(ROWS[name].full * scale)) - 1}") for name in names}
    print(f"seed {seed}, {scale:g} of the full numbers, {jobs} processes", flush=True)
    began = time.monotonic()
    with ExitStack() as stack:
        pg = shared_postgres(18) or stack.enter_context(PostgresServer(18))
        s3 = shared_s3() or stack.enter_context(S3Server())
        rows = run(wanted, seed, (pg, s3), jobs, tell)
    seconds = time.monotonic() - began
    lost = [what for row in rows for what in row.lost]
    print("", *table(rows), "", f"seed {seed} · {seconds:.0f} s · {len(lost)} lost", sep="\n")
    print(*(f"  lost: {what}" for what in lost), sep="\n")
    out = os.environ.get("TORTURE_OUT") or (PAGE if scale >= 1 and not only else "")
    if out:
        write_page(Path(out), rows, seed, scale, seconds, jobs)
        print(f"The table is in {out}.")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
