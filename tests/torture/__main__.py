"""``make torture``: run the rows, print the table; exit code 1 if anything was lost."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.servers import shared_postgres, shared_s3

from .rows import ROWS, run_row
from .table import Row, print_table


def main() -> int:
    """Read the environment, run, print."""
    scale = float(os.environ.get("TORTURE_RUNS", "1"))
    seed = int(os.environ.get("TORTURE_SEED") or secrets.randbelow(10**6))
    only, _, number = os.environ.get("TORTURE_ONLY", "").partition(":")
    if only and only not in ROWS:
        print(f"TORTURE_ONLY names no row. Rows are: {', '.join(ROWS)}.")
        return 2
    print(f"seed {seed}, {scale:g} of the full numbers", flush=True)
    began, rows = time.monotonic(), []
    with ExitStack() as stack:
        pg = shared_postgres(18) or stack.enter_context(PostgresServer(18))
        s3 = shared_s3() or stack.enter_context(S3Server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in (only,) if only else ROWS:
            row = Row(name, seed)
            rows.append(row)
            full = ROWS[name].full
            numbers = [int(number)] if number else list(range(max(1, round(full * scale))))
            run_row(row, pg, s3, folder, numbers)
            print(f"{row.name}: {row.tried} tried, {len(row.lost)} lost, {row.seconds:.0f} s", flush=True)
    print()
    print_table(rows, seed, began)
    return 1 if any(row.lost for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
