"""Runs pg_dump and takes its archive in, as a stream."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import IO

from fac_backup.database.connection import Database
from fac_backup.database.inventory import MARKER_SCHEMA, Table
from fac_backup.database.names import codec_of, quoted
from fac_backup.database.snapshot import StartOverError
from fac_backup.database.uploads import Uploads
from fac_backup.plain.errors import FailedError
from fac_backup.plain.manifest import Archive, Piece
from fac_backup.plain.text import for_log

Cut = Callable[[Iterable[bytes]], Iterator[bytes]]
"""Cuts a stream of chunks into pieces."""

_READ = 1 << 20

_STDERR_KEPT = 64 * 1024

# Texts of pg_dump and of the server that mean: somebody else's work came between.
_PASSING = (
    "lock timeout",
    "statement timeout",  # how pg_dump carries --lock-wait-timeout out
    "deadlock detected",
    "could not obtain lock",
    "does not exist",
    "could not open relation",
    "cache lookup failed",
    "conflict with recovery",
)

_TABLE_DATA = re.compile(rb"^\d+; \d+ (\d+) TABLE DATA ", re.MULTILINE)


def dump_command(
    program: str,
    snapshot_id: str,
    *,
    encoding: str,
    without_data: Sequence[Table] = (),
    lock_wait: float = 60.0,
) -> tuple[bytes, ...]:
    """The command line of pg_dump. Names are quoted, so each pattern means exactly one table.

    ``encoding`` is the server's: the archive keeps it, and pg_dump takes its patterns in it too.

    >>> dump_command("/bin/pg_dump", "0003-1", encoding="UTF8")[:3]
    (b'/bin/pg_dump', b'--format=custom', b'--compress=0')
    """
    codec = codec_of(encoding) or "utf-8"
    arguments = (
        program,
        "--format=custom",
        "--compress=0",
        "--no-password",
        f"--encoding={encoding}",
        f"--snapshot={snapshot_id}",
        f"--lock-wait-timeout={max(1, round(lock_wait * 1000))}",
        f"--exclude-schema={quoted(MARKER_SCHEMA)}",
        *(f"--exclude-table-data={table.sql}" for table in without_data),
    )
    return tuple(argument.encode(codec) for argument in arguments)


class DumpProcess:
    """A running pg_dump; a context manager that ends it whatever happens. :meth:`finish` says whether it succeeded."""

    def __init__(self, command: Sequence[bytes], environment: Mapping[str, str], database: Database) -> None:
        self._database = database
        # A file, not a pipe: nobody has to read it while pg_dump runs.
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
            )
        except OSError as error:
            self._stderr.close()
            raise FailedError(f"pg_dump could not be started: {os.strerror(error.errno or 0)}") from None
        self._widen_pipe()

    def _widen_pipe(self) -> None:
        with suppress(ImportError, OSError, AttributeError):
            import fcntl

            if self._process.stdout is not None:
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _READ)

    def chunks(self) -> Iterator[bytes]:
        """The archive, in chunks of at most 1 MiB."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        descriptor = self._process.stdout.fileno()
        while chunk := os.read(descriptor, _READ):
            yield chunk

    def finish(self) -> None:
        """Wait for the end. Raises StartOverError or FailedError if pg_dump did not succeed."""
        status = self._process.wait()
        if status != 0:
            raise _why_it_failed(status, self._said(), self._database)

    def stop(self) -> None:
        """End it early, from any thread: what it feeds has failed elsewhere."""
        if self._process.poll() is None:
            self._process.terminate()

    def _said(self) -> str:
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - _STDERR_KEPT))
        return self._stderr.read().decode(errors="replace")

    def __enter__(self) -> DumpProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()


def _why_it_failed(status: int, said: str, database: Database) -> Exception:
    text = said.lower()
    if any(sign in text for sign in _PASSING):
        return StartOverError("pg_dump met a table that was locked or dropped at that moment")
    if "permission denied" in text:
        return FailedError(
            f"pg_dump may not read all of {database.called}: {first_error(said, database)}",
            next_step="Let the owner of everything in the database make the backup, or grant SELECT.",
        )
    if "row-level security" in text or "row security" in text:
        return FailedError(
            f"Row-level security hides rows of {database.called} from this user: {first_error(said, database)}",
            next_step="Use the tables' owner or a role with BYPASSRLS.",
        )
    if "server closed the connection" in text or "terminating connection" in text or "could not receive" in text:
        return FailedError(f"pg_dump lost its connection to {database.called}", next_step="Try again.")
    how = f"exit code {status}" if status > 0 else f"signal {-status}"
    return FailedError(f"pg_dump failed ({how}): {first_error(said, database)}")


def first_error(said: str, database: Database) -> str:
    """pg_dump's first error line, safe to show: no secret, no address, one line. Details and statements are left
    out.
    """
    lines = [line for line in said.splitlines() if "error:" in line.lower()] or said.splitlines()[-1:]
    line = lines[0] if lines else "it said nothing"
    for word in (*database.secrets, *database.private_words):
        if len(word) >= 4:
            line = line.replace(word, "***")
    return for_log(line, limit=300)


class Lister:
    """Asks pg_restore which tables have data in the archive, while the archive's head goes by."""

    def __init__(self, pg_restore: str) -> None:
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(
                [pg_restore, "--list"],
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")},
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        except OSError as error:
            self._output.close()
            raise FailedError(f"pg_restore could not be started: {os.strerror(error.errno or 0)}") from None
        self._open = True

    def feed(self, chunk: bytes) -> None:
        """Pass on a chunk; once pg_restore has read the table of contents it wants no more."""
        if not self._open or self._process.stdin is None:
            return
        try:
            view = memoryview(chunk)
            while view:
                view = view[self._process.stdin.write(view) or 0 :]
        except BrokenPipeError:
            self._end()

    def _end(self) -> None:
        self._open = False
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def tables_with_data(self) -> frozenset[int]:
        """Oids of the tables that have a TABLE DATA entry. Raises FailedError if the archive is none."""
        self._end()
        if self._process.wait() != 0:
            raise FailedError("pg_restore cannot read the archive that pg_dump has just written")
        self._output.seek(0)
        return frozenset(int(oid) for oid in _TABLE_DATA.findall(self._output.read()))

    def __enter__(self) -> Lister:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._output.close()


def store_archive(
    dump: DumpProcess, lister: Lister, uploads: Uploads, cut: Cut, at_first_byte: Callable[[], None]
) -> Archive:
    """Read the archive to its end, hash it, cut it, and hand its pieces to ``uploads``.

    ``at_first_byte`` is called once pg_dump has its locks and has read the catalogs: from then on only a lost
    connection can come between.
    """
    whole = hashlib.sha256()
    size = 0

    def passing() -> Iterator[bytes]:
        nonlocal size
        for chunk in dump.chunks():
            if size == 0:
                at_first_byte()
            size += len(chunk)
            whole.update(chunk)
            lister.feed(chunk)
            yield chunk

    pending: list[Future[Piece]] = [uploads.put(piece) for piece in cut(passing())]
    dump.finish()
    pieces = tuple(future.result() for future in pending)
    if not pieces:
        raise FailedError("pg_dump wrote an empty archive")
    return Archive(pieces=pieces, size=size, sha256=whole.hexdigest())
