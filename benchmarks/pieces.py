"""What the size of a page range costs: requests of a first backup against what a day's changes upload anew.

python -m benchmarks.pieces                 (a quarter of the usual database; some minutes)
BENCH_SCALE=1 python -m benchmarks.pieces

Prints the table of docs/performance.md. Nothing is uploaded: pieces are hashed and, where they are new, compressed.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

import zstandard
from tests.support.postgres import PostgresServer

from benchmarks.data import SUBMISSIONS, Growth, build_database
from fac_backup.database.connection import Database
from fac_backup.database.dump import DumpOptions, dump
from fac_backup.plain.manifest import Piece
from fac_backup.store.cuts import cut
from fac_backup.store.pieces import LEVEL

PAGES = (32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class _Packed:
    held: int
    send: Callable[[], Piece]
    drop: Callable[[], None] = lambda: None


class Counted:
    """A store that keeps hashes only, and counts what is new."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._lock = threading.Lock()
        self.new_bytes = 0

    def pack(self, data: bytes | memoryview, *, wait: bool) -> _Packed:
        """Compress ``data`` if it is new."""
        del wait
        name, size = hashlib.sha256(data).hexdigest(), len(data)
        with self._lock:
            known = self._known.get(name)
        if known is None:
            known = len(zstandard.ZstdCompressor(level=LEVEL).compress(data))
            with self._lock:
                self.new_bytes += 0 if name in self._known else known
                self._known[name] = known
        piece = Piece(sha256=name, size=size, stored=known)
        return _Packed(0, lambda: piece)


def main() -> None:
    """Build, change day by day, back each day up in all sizes, print."""
    submissions = round(SUBMISSIONS * float(os.environ.get("BENCH_SCALE", "0.25")))
    with PostgresServer(18) as server:
        url = server.create_database("pieces")
        size = build_database(url, submissions)
        growth = Growth(url, submissions)
        days: list[tuple[str, Callable[[], object]]] = [
            ("first", lambda: None),
            ("10 updates", lambda: growth.touch(10)),
            ("100 updates", lambda: growth.touch(100)),
            ("1,000 updates", lambda: growth.touch(1000)),
            ("2 % appended", lambda: growth.append(0.02)),
        ]
        stores = {pages: Counted() for pages in PAGES}
        uploaded: dict[int, list[int]] = {pages: [] for pages in PAGES}
        requests: dict[int, int] = {}
        for name, change in days:
            change()
            for pages, store in stores.items():
                store.new_bytes = 0
                options = DumpOptions(range_pages=pages, range_threshold=8 << 20, cut=cut)
                part = dump(Database(url), store, options)
                ranged = sum(len(run) for table in part.tables for run in table.ranges)
                requests.setdefault(pages, ranged + len(part.archive.pieces))
                uploaded[pages].append(store.new_bytes)
            print(f"{name}: done", flush=True)
    print(f"\n{size / 1e6:,.0f} MB in PostgreSQL; MB uploaded, and how much of the first backup that is:\n")
    print(f"| pages of a range | pieces | {' | '.join(name for name, _ in days)} |")
    print(f"|---:|---:|{'---:|' * len(days)}")
    for pages, news in uploaded.items():
        shares = (f"{new / 1e6:.1f} ({new / news[0]:.1%})" for new in news[1:])
        print(f"| {pages} | {requests[pages]:,} | {news[0] / 1e6:.1f} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
