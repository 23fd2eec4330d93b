"""Compares our restore with stock's: ``pg_dump -Fc`` and ``pg_restore`` of the same database, on the same server.

.venv/bin/python -m tests.support.equality                 the zoo on PostgreSQL 18 and 15, as owner and as superuser,
                                                           once as it comes and once with the fast lane forced
.venv/bin/python -m tests.support.equality --range-threshold 0 --range-pages 4 --major 18

Both restored databases are dumped as text; the rows inside each COPY block are sorted, the lines with pg_dump's random
keys dropped. What is left must be the same, byte for byte.
"""

from __future__ import annotations

import argparse
import difflib
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fac_backup.database import scratch as scratch_databases
from fac_backup.database import swap
from fac_backup.database.connection import Database
from fac_backup.database.dump import DumpOptions, dump
from fac_backup.database.load import LoadOptions, LoadReport, load
from fac_backup.plain import manifest

from .pieces import MemoryPieces
from .postgres import PostgresServer, bin_dir
from .servers import shared_postgres
from .zoo import zoo

FAST_LANE = DumpOptions(range_threshold=0, range_pages=4, jobs=2)
PLAIN = DumpOptions(jobs=2)


def normalized(database: Database, major: int) -> list[bytes]:
    """``pg_dump`` of ``database`` as lines, with the rows of each COPY block sorted and the random keys left out."""
    done = subprocess.run(
        [bin_dir(major) / "pg_dump", "--exclude-schema=fac_backup"],
        env=database.env(), capture_output=True, check=True,
    )  # fmt: skip
    lines: list[bytes] = []
    blocks: dict[bytes, list[bytes]] = {}
    rows: list[bytes] | None = None
    for line in done.stdout.split(b"\n"):
        if rows is not None:
            if line == b"\\.":
                rows = None
                lines.append(line)
            else:
                rows.append(line)
        elif not line.startswith((b"\\restrict", b"\\unrestrict")):
            lines.append(line)
            if line.endswith(b" FROM stdin;"):
                # Leaves that are loaded through their root have the root's COPY each: which row is in which of them
                # depends on the oids of an enum's values, and is another in every restore.
                rows = blocks.setdefault(line, [])
    return [part for line in lines for part in (line, *sorted(blocks.pop(line, ())))]


@contextmanager
def scratch(database: Database, like: manifest.Database) -> Iterator[Database]:
    """An empty database on the same server, with the owner of ``database``; dropped at the end."""
    name = swap.scratch_name(database.name, "new", secrets.token_hex(5))
    swap.create_beside(database, name, like)
    try:
        yield database.with_name(name)
    finally:
        scratch_databases.drop(database, name)


def stock_restore(source: Database, target: Database, major: int, role: str | None) -> None:
    """Stock's way: ``pg_dump -Fc``, then ``pg_restore --no-owner``."""
    with TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        subprocess.run(
            [bin_dir(major) / "pg_dump", "-Fc", "-Z0", "--exclude-schema=fac_backup", "-f", archive],
            env=source.env(), check=True,
        )  # fmt: skip
        as_role = [f"--role={role}"] if role else []
        done = subprocess.run(
            [bin_dir(major) / "pg_restore", "--no-owner", *as_role, "-d", target.name, archive],
            env=target.env(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def our_restore(source: Database, target: Database, options: DumpOptions) -> tuple[manifest.Database, LoadReport]:
    """Our way."""
    pieces = MemoryPieces()
    part = dump(source, pieces, options)
    return part, load(source, target.name, part, pieces, LoadOptions(jobs=2))


def difference(source: Database, major: int, options: DumpOptions) -> tuple[list[str], manifest.Database, LoadReport]:
    """What differs between our restore and stock's, as a unified diff; empty if nothing does."""
    like = dump(source, MemoryPieces(), replace(options, range_threshold=1 << 50))
    with scratch(source, like) as stocks, scratch(source, like) as ours:
        stock_restore(source, stocks, major, None)
        part, report = our_restore(source, ours, options)
        diff = difflib.unified_diff(
            [line.decode(errors="replace") for line in normalized(stocks, major)],
            [line.decode(errors="replace") for line in normalized(ours, major)],
            "stock", "ours", lineterm="", n=1,
        )  # fmt: skip
        return list(diff), part, report


def compare_zoo(server: PostgresServer, options: DumpOptions, *, superuser: bool) -> tuple[list[str], str]:
    """The zoo's difference, and a sentence on what was compared."""
    name = f"zoo_{secrets.token_hex(4)}"
    try:
        url = zoo(server, name, superuser=superuser)
        if superuser:
            server.execute("postgres", f'ALTER DATABASE "{name}" OWNER TO super')
        source = Database(server.url(name) if superuser else url)
        diff, part, report = difference(source, server.major, options)
        said = (
            f"{report.tables} tables, {report.rows} rows, {len(part.tables)} by page ranges"
            f" ({sum(len(table.ranges) for table in part.tables)} ranges), {report.privileges.applied} grants"
        )
        return diff, said
    finally:
        server.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def main() -> int:
    """Run the comparison that the module's docstring describes; the exit code is 1 if anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--major", type=int, action="append", choices=(15, 18), help="default: both")
    parser.add_argument("--range-threshold", type=int, help="bytes; default: once 64 MiB, once 0")
    parser.add_argument("--range-pages", type=int, default=4)
    arguments = parser.parse_args()
    if arguments.range_threshold is None:
        lanes = [PLAIN, FAST_LANE]
    else:
        lanes = [DumpOptions(range_threshold=arguments.range_threshold, range_pages=arguments.range_pages, jobs=2)]
    wrong = 0
    with ExitStack() as stack:
        for major in arguments.major or (18, 15):
            server = shared_postgres(major) or stack.enter_context(PostgresServer(major))
            for superuser in (False, True):
                for options in lanes:
                    started = time.monotonic()
                    diff, said = compare_zoo(server, options, superuser=superuser)
                    who = "superuser" if superuser else "owner"
                    result = "no difference" if not diff else f"{len(diff)} lines differ"
                    lane = f"ranges from {options.range_threshold} bytes, {options.range_pages} pages"
                    print(f"PostgreSQL {major}, {who}, {lane}: {said}: {result} ({time.monotonic() - started:.1f} s)")
                    sys.stdout.write("".join(f"    {line}\n" for line in diff[:200]))
                    wrong += bool(diff)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
