"""Fills an empty database from a backup: schema, data (archive and ranged tables side by side), indexes and keys,
privileges; then compares with the manifest.

Every piece is verified before one byte of it reaches pg_restore or the server. If a step fails, the database is left
half filled: the caller drops it (built beside) or puts the previous state back (in place).
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import make_dsn

from fac_backup.database import inventory, privileges
from fac_backup.database.clients import Client, find_clients, for_restore, with_installed
from fac_backup.database.connection import Database, failure, require_writable
from fac_backup.database.contents import Entry, Head, fetch_head
from fac_backup.database.crew import Crew
from fac_backup.database.feed import fetched_ahead
from fac_backup.database.loading import Copier, check_ranged, open_session, require_rows, settings_for
from fac_backup.database.names import qualified, quoted
from fac_backup.database.ranges import codec_of
from fac_backup.database.restoring import PgRestore, RestoreError, archive_command
from fac_backup.plain import manifest
from fac_backup.plain.errors import FailedError, IntegrityError
from fac_backup.plain.heap import give_back_large_blocks
from fac_backup.plain.manifest import RangedTable
from fac_backup.plain.protocols import PieceSource
from fac_backup.plain.text import one_line

log = logging.getLogger(__name__)

_MIB = 1024 * 1024

# Made by superusers only. Where one restores into a database that somebody else owns, they are his; all else is the
# owner's.
_SUPERUSERS_FIRST = ("EXTENSION", "FOREIGN DATA WRAPPER", "ACCESS METHOD", "PROCEDURAL LANGUAGE")
_SUPERUSERS_LAST = ("EVENT TRIGGER", "SUBSCRIPTION")


@dataclass(frozen=True)
class LoadOptions:
    """How a database is loaded."""

    jobs: int = 3
    """Sessions that load ranged tables beside pg_restore, and that build indexes."""
    inside_actions: bool = False
    """Whether this is a job of GitHub Actions: no programs from PATH, and a missing client version is installed."""
    clients: tuple[Client, ...] | None = None
    """The client versions to choose from; None: those of this machine."""
    again: Callable[[], None] | None = None
    """Empties the database again. Where a check constraint reads other tables, the order of loading matters: then it
    is called, and all is loaded once more, in the archive's order. None: such a database fails.
    """
    downloads: int = 8
    """Pieces that are fetched at a time."""


@dataclass(frozen=True)
class LoadReport:
    """What was loaded, and what could not be kept."""

    tables: int
    """Whose rows were counted and compared."""
    rows: int
    constraints: int
    """Of tables and domains, all as valid as in the source."""
    sequences: int
    """Whose position was compared."""
    privileges: privileges.Outcome
    left_out: tuple[str, ...]
    """Entries of the archive that were left out because only somebody else may make them, and that change no data."""
    serial: bool
    """Whether it had to be loaded a second time, in the archive's order."""
    seconds: tuple[tuple[str, float], ...]
    """How long each phase took."""


def client_for(database: Database, part: manifest.Database, options: LoadOptions) -> Client:
    """The pg_restore that reads this archive and fits the target. Raises FailedError naming the package to install."""
    target = database.server_major
    if options.clients is not None:
        return for_restore(options.clients, target, part.dumped_with)
    found = find_clients(inside_actions=options.inside_actions)
    wanted = [major for major in (target,) if major >= part.dumped_with] or [part.dumped_with]
    found = with_installed(found, wanted, inside_actions=options.inside_actions)
    return for_restore(found, target, part.dumped_with)


@contextmanager
def opened_head(
    database: Database, part: manifest.Database, pieces: PieceSource, options: LoadOptions
) -> Iterator[Head]:
    """The archive's head in a temporary folder, for a plan (preflight) and for :func:`load`. Removed at the end."""
    with tempfile.TemporaryDirectory(prefix="fac-backup-") as folder:
        yield fetch_head(part.archive, pieces, client_for(database, part, options), Path(folder))


def load(
    database: Database,
    into: str,
    part: manifest.Database,
    pieces: PieceSource,
    options: LoadOptions,
    *,
    head: Head | None = None,
) -> LoadReport:
    """Fill the empty database ``into`` (on the server of ``database``) with ``part``, and compare it with the manifest.

    Raises IntegrityError if a piece, a name or a count is not what the manifest says, FailedError for anything else.
    """
    give_back_large_blocks()
    with ExitStack() as stack:
        if head is None:
            head = stack.enter_context(opened_head(database, part, pieces, options))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fac-backup-")))
        try:
            return _load_or_again(_Work(database, into, part, pieces, options, head, folder))
        except psycopg2.Error as error:
            raise failure(error, f"Loading {database.called} failed") from None


@dataclass(frozen=True)
class _Work:
    """What is to be done, with what."""

    database: Database
    into: str
    part: manifest.Database
    pieces: PieceSource
    options: LoadOptions
    head: Head
    folder: Path


def _load_or_again(work: _Work) -> LoadReport:
    one = _Load(work)
    again = work.options.again
    try:
        return one.run(serial=False)
    except (RestoreError, psycopg2.Error) as error:
        if again is None or not one.in_data or not work.part.tables or not _order_may_matter(error):
            raise
    log.warning("A check refused a row: loading %s again, in the archive's order", work.database.called)
    again()
    return _Load(work).run(serial=True)


def _order_may_matter(error: Exception) -> bool:
    if isinstance(error, RestoreError):
        return error.by_server
    # The server refused a row (22, 23), or a function that it called failed (42, P0).
    return isinstance(error, psycopg2.Error) and (error.pgcode or "")[:2] in ("22", "23", "42", "P0")


class _Load:
    """One attempt. :meth:`run` is the list of its steps."""

    def __init__(self, work: _Work) -> None:
        self._database = work.database
        self._into = work.into
        self._part = work.part
        self._pieces = work.pieces
        self._options = work.options
        self._head = work.head
        self._folder = work.folder
        self._role: str | None = None
        self._superuser = False
        self._owner = ""
        self._left_out: tuple[Entry, ...] = ()
        self._seconds: list[tuple[str, float]] = []
        self._lists = 0
        self._constraints = 0
        self.in_data = False
        """Whether it is (or stopped) in the data, where another order may help."""

    def run(self, *, serial: bool) -> LoadReport:
        """Schema, data, counts, indexes and keys, sequences, privileges."""
        session = self._database.connect(self._into)
        try:
            require_writable(session, self._database.called)
            self._look_at(session)
        finally:
            session.close()
        with self._phase("schema"):
            self._schema()
            self._check_names()
        with self._phase("data"):
            self.in_data = True
            self._data_in_order() if serial else self._data()
            self.in_data = False
        with self._phase("counts"):
            rows = self._count()
        with self._phase("indexes and keys"):
            self._post_data()
        with self._phase("privileges"):
            outcome = self._privileges()
        return LoadReport(
            tables=len(self._part.rows),
            rows=rows,
            privileges=outcome,
            left_out=tuple(entry.shown for entry in self._left_out),
            constraints=self._constraints,
            sequences=len(self._part.sequences),
            serial=serial,
            seconds=tuple(self._seconds),
        )

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        log.info("Loading %s: %s", self._database.called, name)
        yield
        self._seconds.append((name, time.monotonic() - started))

    # What is there

    def _look_at(self, session: Connection) -> None:
        with session.cursor() as cursor:
            cursor.execute(
                "SELECT pg_catalog.pg_get_userbyid(d.datdba), current_user, r.rolsuper FROM pg_catalog.pg_database AS d"
                " JOIN pg_catalog.pg_roles AS r ON r.rolname = current_user"
                " WHERE d.datname = pg_catalog.current_database()"
            )
            row: Any = cursor.fetchone()
            self._owner, user, self._superuser = row
            self._role = None if user == self._owner else self._owner
            cursor.execute(
                "SELECT count(*) FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
                " ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_'"
                " AND n.nspname NOT IN ('information_schema', 'fac_backup') AND NOT EXISTS (SELECT FROM"
                " pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
                " AND d.objid = c.oid AND d.deptype = 'e')"
            )
            row = cursor.fetchone()
            if row[0]:
                raise FailedError(f"{self._database.called} is not empty, so nothing is loaded into it")
            cursor.execute(
                "SELECT e.extname FROM pg_catalog.pg_extension AS e"
                " WHERE NOT pg_catalog.pg_has_role(current_user, e.extowner, 'USAGE')"
            )
            others = {f"- EXTENSION {name} " for (name,) in cursor.fetchall()}
        self._left_out = tuple(
            entry for entry in self._head.of("COMMENT") if any(entry.rest.startswith(name) for name in others)
        )

    # Steps

    def _schema(self) -> None:
        kept = [entry for entry in self._head.entries if entry not in self._left_out]
        first = [entry for entry in kept if self._is_superusers(entry, _SUPERUSERS_FIRST)]
        if not first:
            self._restore("--section=pre-data", only=kept if self._left_out else None)
            return
        schemas = [entry for entry in kept if entry.description == "SCHEMA"]
        if schemas:
            self._restore("--section=pre-data", only=schemas)
        self._restore("--section=pre-data", only=first, role=None)
        done = {entry.number for entry in (*schemas, *first)}
        self._restore("--section=pre-data", only=[entry for entry in kept if entry.number not in done])

    def _is_superusers(self, entry: Entry, kinds: Iterable[str]) -> bool:
        if self._role is None or not self._superuser:
            return False
        return entry.description in kinds or (
            entry.description == "COMMENT" and any(entry.rest.startswith(f"- {kind} ") for kind in kinds)
        )

    def _check_names(self) -> None:
        if self._part.tables:
            session = self._database.connect(self._into)
            try:
                check_ranged(session, self._part.tables)
            finally:
                session.close()

    def _data(self) -> None:
        """The archive's data through pg_restore, beside it the ranged tables by COPY in ``jobs`` sessions."""
        with self._downloads() as pool, ExitStack() as sessions, Crew("loader") as crew:
            copier = Copier(self._part.tables, self._pieces, pool, crew, self._part.encoding)
            for _ in range(min(self._options.jobs, copier.batches_left)):
                session = self._session(sessions)
                crew.start(lambda session=session: copier.work(session))  # type: ignore[misc]
            crew.start(lambda: self._stream(pool, crew))
        copier.check()

    def _data_in_order(self) -> None:
        """One after the other, in the order in which a whole archive would hold it."""
        with self._downloads() as pool, ExitStack() as sessions:
            session = self._session(sessions)
            for step in self._in_order():
                with Crew("loader") as crew:
                    if isinstance(step, RangedTable):
                        copier = Copier([step], self._pieces, pool, crew, self._part.encoding)
                        copier.work(session)
                        copier.check()
                    else:
                        self._stream(pool, crew, only=step)

    def _in_order(self) -> Iterator[RangedTable | list[Entry]]:
        """pg_dump sorts tables' data by schema and name: put the ranged tables where they would have stood."""
        waiting = deque(sorted(self._part.tables, key=lambda table: (table.schema_name, table.table)))
        run: list[Entry] = []
        for entry in self._head.entries:
            while (
                waiting
                and entry.description == "TABLE DATA"
                and f"{waiting[0].schema_name} {waiting[0].table}" < entry.rest.rsplit(" ", 1)[0]
            ):
                if any(before.description == "TABLE DATA" for before in run):
                    yield run
                    run = []
                yield waiting.popleft()
            run.append(entry)
        tables = [entry for entry in run if entry.description == "TABLE DATA"]
        if waiting and tables:
            # Sequences and large objects stand behind all tables.
            last = run.index(tables[-1]) + 1
            yield run[:last]
            run = run[last:]
        yield from waiting
        yield run

    def _stream(self, pool: ThreadPoolExecutor, crew: Crew, *, only: Sequence[Entry] | None = None) -> None:
        chunks = fetched_ahead(self._part.archive.pieces, self._pieces, pool)
        process = self._process("--section=data", only=only, role=self._role)

        def until_stopped() -> Iterator[bytes]:
            for chunk in chunks:
                if crew.stopped():
                    return
                yield chunk

        process.run(until_stopped(), on_start=lambda: crew.on_stop(process.stop))

    def _count(self) -> int:
        """Compare the rows of all tables that pg_restore loaded; COPY has counted the others."""
        ranged = {(table.schema_name, table.table) for table in self._part.tables}
        todo = deque(row for row in self._part.rows if (row.schema_name, row.table) not in ranged)
        with ExitStack() as sessions, Crew("counter") as crew:

            def count(session: Connection) -> None:
                while not crew.stopped():
                    try:
                        row = todo.popleft()
                    except IndexError:
                        return
                    have = count_rows(session, row.schema_name, row.table)
                    require_rows(row.schema_name, row.table, row.rows, have)

            for _ in range(min(self._options.jobs, len(todo))):
                session = self._session(sessions)
                crew.start(lambda session=session: count(session))  # type: ignore[misc]
        return sum(row.rows for row in self._part.rows)

    def _post_data(self) -> None:
        memory = {"maintenance_work_mem": f"{self._maintenance_memory() // 1024}kB"}
        last = [entry for entry in self._head.entries if self._is_superusers(entry, _SUPERUSERS_LAST)]
        rest = [entry for entry in self._head.entries if entry not in last and entry not in self._left_out]
        jobs = f"--jobs={max(1, self._options.jobs)}"
        self._restore("--section=post-data", jobs, only=rest if last or self._left_out else None, more_settings=memory)
        if last:
            self._restore("--section=post-data", only=last, role=None)
        session = self._database.connect(self._into)
        try:
            _require_valid_indexes(session)
            check_sequences(session, self._part.sequences)
            self._constraints = require_valid_constraints(session, self._part)
        finally:
            session.close()

    def _maintenance_memory(self) -> int:
        """Bytes for each index that is built: more than the usual 64 MiB, less on small servers with many jobs."""
        session = self._database.connect(self._into)
        try:
            with session.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers')),"
                    " pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem'))"
                )
                row: Any = cursor.fetchone()
        finally:
            session.close()
        buffers, current = row
        return max(int(current), min(1024 * _MIB, max(128 * _MIB, int(buffers) // max(1, self._options.jobs))))

    def _privileges(self) -> privileges.Outcome:
        codec = codec_of(self._part.encoding) or "utf-8"
        found = privileges.extract(
            self._head, self._folder, source_owner=self._part.owner, target_owner=self._owner, codec=codec
        )
        session = self._database.connect(self._into)
        try:
            if self._role is not None:
                with session.cursor() as cursor:
                    cursor.execute(f"SET ROLE {quoted(self._role)}")
            outcome = privileges.apply(session, found)
            session.commit()
        finally:
            session.close()
        return outcome

    # Tools

    def _session(self, stack: ExitStack) -> Connection:
        session = open_session(self._database, self._into, role=self._role)
        stack.callback(session.close)
        return session

    @contextmanager
    def _downloads(self) -> Iterator[ThreadPoolExecutor]:
        pool = ThreadPoolExecutor(self._options.downloads, thread_name_prefix="download")
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    _OWN = object()

    def _restore(
        self,
        *options: str,
        only: Sequence[Entry] | None = None,
        role: object = _OWN,
        more_settings: dict[str, str] | None = None,
    ) -> None:
        """Run pg_restore on the head. ``role`` None: as the user who restores, not as the database's owner."""
        as_role = self._role if role is _Load._OWN else None
        self._process(*options, str(self._head.file), only=only, role=as_role, more_settings=more_settings).run()

    def _process(
        self,
        *options: str,
        only: Sequence[Entry] | None,
        role: str | None,
        more_settings: dict[str, str] | None = None,
    ) -> PgRestore:
        use_list = None
        if only is not None:
            self._lists += 1
            use_list = self._head.write_list(self._folder / f"list-{self._lists}", only)
        client = self._head.client
        # As a connection string: a name with "=" in it, or one that looks like an address, is a name all the same.
        name = f"--dbname={make_dsn(dbname=self._into)}"
        command = archive_command(client.program("pg_restore"), name, *options, use_list=use_list, role=role)
        settings = settings_for(self._database.server_version, more_settings)
        environment = self._database.env(self._into, options=settings)
        return PgRestore(command, environment, tolerant=client.major >= 17 > self._database.server_major)


def count_rows(session: Connection, schema: str, table: str) -> int:
    """Rows of one table; of a partitioned one those of all its partitions. Raises IntegrityError if it is not there."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT c.relkind FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
            " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
            (schema, table),
        )
        kind = cursor.fetchone()
        if kind is None:
            raise IntegrityError(f"The manifest counts {one_line(f'{schema}.{table}', 140)}, which the archive lacks")
        only = "" if kind[0] == "p" else "ONLY "
        cursor.execute(f"SELECT pg_catalog.count(*) FROM {only}{qualified(schema, table)}")  # noqa: S608 - quoted
        row: Any = cursor.fetchone()
    return int(row[0])


def check_sequences(session: Connection, wanted: Sequence[manifest.SequenceValue]) -> None:
    """Raise IntegrityError if a sequence does not stand where the manifest says."""
    with session.cursor() as cursor:
        for start in range(0, len(wanted), 200):
            batch = wanted[start : start + 200]
            cursor.execute(
                " UNION ALL ".join(
                    f"SELECT {index}, last_value, is_called FROM {qualified(value.schema_name, value.sequence)}"  # noqa: S608 - quoted
                    for index, value in enumerate(batch)
                )
            )
            for index, last_value, is_called in cursor.fetchall():
                value = batch[index]
                if (value.last_value, value.is_called) != (last_value, is_called):
                    raise IntegrityError(
                        f"The sequence {one_line(f'{value.schema_name}.{value.sequence}', 140)} stands elsewhere than"
                        " the manifest says"
                    )


def require_valid_constraints(session: Connection, part: manifest.Database) -> int:
    """How many constraints there are. Raises IntegrityError for one that is not valid and was valid in the source."""
    count, not_valid = inventory.constraints(session)
    broken = [] if part.not_valid is None else sorted(set(not_valid).difference(part.not_valid))
    if broken:
        raise IntegrityError(
            f"The constraint {one_line(broken[0], 200)} is not valid in the new database, and was valid in the source",
            next_step="If SQL that runs before the swap did that, correct it; else choose another backup.",
        )
    return count


def _require_valid_indexes(session: Connection) -> None:
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_index AS i"
            " JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid"
            " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'i' AND NOT i.indisvalid LIMIT 1"
        )
        row = cursor.fetchone()
    if row is not None:
        raise FailedError(f"The index {one_line(str(row[0]), 140)} is not valid after the restore")
