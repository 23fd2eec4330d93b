"""Makes the database's part of a backup: one snapshot, pg_dump for everything, the fast lane for big tables beside
it.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import psycopg2

from fac_backup.database import inventory, ranges
from fac_backup.database.archive import Cut, DumpProcess, Lister, dump_command, store_archive
from fac_backup.database.clients import Client, find_clients, for_dump, with_installed
from fac_backup.database.connection import Database
from fac_backup.database.inventory import Table
from fac_backup.database.names import codec_of
from fac_backup.database.snapshot import Snapshot, StartOverError, passing_or_final
from fac_backup.database.uploads import Uploads
from fac_backup.plain import manifest
from fac_backup.plain.errors import FailedError
from fac_backup.plain.protocols import PieceSink

log = logging.getLogger(__name__)

_MIB = 1024 * 1024

_ROOM = 4 * _MIB
"""What is on its way to the store takes at most this for each job. A usual piece is 1 MiB, and a third of it once it is
compressed: with 3 jobs all threads have something to send.
"""

_HOPELESS = 2.0
"""Seconds that pg_dump waits for a lock that it cannot get as long as we hold ours."""


def equal_cuts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of 4 MiB: the plainest way to cut. One inserted byte makes all later pieces new."""
    size = 4 * _MIB
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


@dataclass(frozen=True)
class DumpOptions:
    """How a dump is made."""

    jobs: int = 3
    """Sessions that read page ranges beside pg_dump."""
    range_threshold: int = 64 * _MIB
    """Bytes (heap and TOAST) from which a table is read by page ranges."""
    range_pages: int = 128
    """Pages of a range: 128 are 1 MiB of heap (docs/performance.md says why)."""
    exclude_data: tuple[str, ...] = ()
    """Tables whose rows are left out, as ``schema.table``."""
    lock_wait: float = 60.0
    """Seconds to wait for a table that somebody has locked exclusively, in each attempt."""
    attempts: int = 3
    """How often the dump starts over when somebody else's work came between."""
    inside_actions: bool = False
    """Whether this is a job of GitHub Actions: no programs from PATH, and a missing client version is installed."""
    clients: tuple[Client, ...] | None = None
    """The client versions to choose from; None: those of this machine."""
    cut: Cut = equal_cuts
    """Cuts the archive into pieces."""
    after_snapshot: Callable[[], None] | None = None
    """Called once, in the caller's thread, when the snapshot is safe; what is listed from then on holds all it refers
    to.
    """
    threads: int = 16
    """Pieces that are compressed and uploaded at a time."""


def client_for(database: Database, options: DumpOptions) -> Client:
    """The client version that dumps ``database``. Raises FailedError naming the package to install."""
    major = database.server_major
    if options.clients is not None:
        return for_dump(options.clients, major)
    found = find_clients(inside_actions=options.inside_actions)
    return for_dump(with_installed(found, [major], inside_actions=options.inside_actions), major)


def dump(database: Database, pieces: PieceSink, options: DumpOptions) -> manifest.Database:
    """Store all of ``database`` as pieces, in one snapshot, and say what they are.

    Raises FailedError, after which nothing refers to the pieces that were stored. Memory is bounded by ``options.jobs``
    and the size of pieces, and by the widest row.
    """
    client = client_for(database, options)
    reason = ""
    for attempt in range(1, options.attempts + 1):
        one = _Attempt(database, pieces, options, client)
        try:
            return one.run()
        except StartOverError as why:
            reason = str(why)
            if one.snapshot_was_announced:
                raise FailedError(
                    f"The dump of {database.called} was interrupted: {reason}", next_step="Run the backup again."
                ) from None
        if attempt < options.attempts:
            log.warning("Starting the dump of %s over: %s", database.called, reason)
            time.sleep(attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
    raise FailedError(
        f"The dump of {database.called} gave up after {options.attempts} attempts: {reason}",
        next_step="Find who holds the lock (pg_stat_activity, pg_locks), or try again later.",
    )


class _Attempt:
    """One attempt at a dump: everything that it holds is released when :meth:`run` ends."""

    def __init__(self, database: Database, pieces: PieceSink, options: DumpOptions, client: Client) -> None:
        self._database = database
        self._pieces = pieces
        self._options = options
        self._client = client
        self.snapshot_was_announced = False

    def run(self) -> manifest.Database:
        """Lock, take the snapshot, read everything in it, check that it stayed what it was."""
        try:
            with Snapshot(self._database, lock_wait=self._options.lock_wait) as snapshot:
                return self._read(snapshot)
        except psycopg2.Error as error:
            raise passing_or_final(error, f"The dump of {self._database.called} failed") from None

    def _read(self, snapshot: Snapshot) -> manifest.Database:
        options = self._options
        facts = inventory.facts(snapshot.session)
        sequences = inventory.sequence_values(snapshot.session)
        _, not_valid = inventory.constraints(snapshot.session)
        without = inventory.excluded(options.exclude_data, snapshot.tables, snapshot.session)
        chosen = self._choose(snapshot, without, facts.encoding)
        to_count = [table for table in inventory.to_count(snapshot.tables, without) if table.readable]
        if not snapshot.holds_all:
            to_count = []  # counting would wait for whoever locks a table meanwhile
        with (
            Uploads(self._pieces, threads=options.threads, room=_ROOM * options.jobs) as uploads,
            ranges.Reader(
                self._database, snapshot.id, chosen, to_count,
                sessions=options.jobs if chosen else 1, uploads=uploads, step=options.range_pages,
            ) as reader,
            self._start_pg_dump(snapshot, facts.encoding, [*without, *chosen]) as process,
            Lister(self._client.program("pg_restore")) as lister,
        ):  # fmt: skip
            reader.start(on_failure=process.stop)
            try:
                archive = store_archive(process, lister, uploads, options.cut, self._announce)
            except Exception:
                reader.raise_failure()  # the cause, where it is there and not in pg_dump
                raise
            ranged, rows = reader.finish()
            self._check(snapshot, lister, [*without, *chosen], to_count)
        return manifest.Database(
            server_version=self._database.server_version,
            dumped_with=self._client.major,
            encoding=facts.encoding,
            collate=facts.collate,
            ctype=facts.ctype,
            locale_provider=facts.locale_provider,
            locale=facts.locale,
            owner=facts.owner,
            size=facts.size,
            archive=archive,
            tables=ranged,
            rows=rows,
            sequences=inventory.unmoved(sequences, inventory.sequence_values(snapshot.session)),
            not_valid=not_valid,
            excluded_data=tuple(f"{table.schema}.{table.name}" for table in without),
            extensions=facts.extensions,
        )

    def _choose(self, snapshot: Snapshot, without: Sequence[Table], encoding: str) -> list[Table]:
        if self._database.server_major < ranges.OLDEST_SERVER or codec_of(encoding) is None:
            return []
        return ranges.choose(
            snapshot.sized_tables(), threshold=self._options.range_threshold, without_data=without,
            server_version=self._database.server_version,
        )  # fmt: skip

    def _start_pg_dump(self, snapshot: Snapshot, encoding: str, without_data: Sequence[Table]) -> DumpProcess:
        # Where we hold a lock already, pg_dump waits only behind somebody who waits for us: that would never end.
        wait = min(self._options.lock_wait, _HOPELESS) if snapshot.holds_all else self._options.lock_wait
        command = dump_command(
            self._client.program("pg_dump"), snapshot.id, encoding=encoding, without_data=without_data, lock_wait=wait
        )
        # Timestamps with time zone are written in the session's zone: in one zone they are the same text every day.
        more = {"PGTZ": "UTC", "PGAPPNAME": "fac-backup pg_dump"}
        return DumpProcess(command, {**self._database.env(), **more}, self._database)

    def _announce(self) -> None:
        self.snapshot_was_announced = True
        if self._options.after_snapshot is not None:
            self._options.after_snapshot()

    def _check(self, snapshot: Snapshot, lister: Lister, left_out: Sequence[Table], read: Sequence[Table]) -> None:
        if lister.tables_with_data() & {table.oid for table in left_out}:
            raise FailedError(
                "pg_dump wrote the data of a table that was to be left out of the archive",
                next_step="Report this with the version of pg_dump; --range-threshold 1000G avoids it.",
            )
        if snapshot.changed_under_us(table for table in read if table.kind == "r"):
            raise StartOverError("a table was rewritten or renamed while it was read")
