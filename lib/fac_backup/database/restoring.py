"""Runs pg_restore, and says in words what stopped it.

What pg_restore writes to its error output quotes statements and rows, so it is never shown: only the name of the
entry it was at, and the server's message where that is of a kind that holds names and no data.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fac_backup.plain.errors import FailedError
from fac_backup.plain.text import one_line

_STDERR_KEPT = 256 * 1024
_PIPE = 1 << 20

_ENTRY = re.compile(r"from TOC entry \d+; \d+ \d+ (.+)")
# A newer client's preamble, which an older server does not know (a v17 pg_restore on PostgreSQL 16): once a session.
_HARMLESS = re.compile(
    r"(?:pg_restore: (?:while|from) [^\n]*\n"
    r"|pg_restore: error: could not execute query: [^\n]*\"transaction_timeout\"[^\n]*\n"
    r"Command was: SET transaction_timeout = 0;\n+)+"
    r"pg_restore: warning: errors ignored on restore: \d+\n"
)

# Messages of the server that hold names only. Anything else may quote a row.
_SAYABLE = re.compile(
    r"(permission denied (?:to|for) .*|must be (?:owner|superuser|able).*|extension \".*\" is not available.*"
    r"|(?:type|relation|function|schema|role|language|collation|tablespace|operator|extension|access method) .*"
    r"(?:does not exist|already exists).*|could not (?:open|extend|write|access) .*|No space left.*|out of .*"
    r"|canceling statement due to .*|terminating connection due to .*"
    r"|new row for relation \".*\" violates check constraint \".*\"|.* does not support .*)"
)

# Signs that the connection or the server went away, or that we ended it: nothing that another order would cure.
_GONE = ("server closed the connection", "terminating connection", "could not connect", "connection to server")


class RestoreError(FailedError):
    """pg_restore failed. ``by_server`` tells whether the server refused a statement, so that another order may help."""

    def __init__(self, what: str, *, by_server: bool) -> None:
        super().__init__(what)
        self.by_server = by_server


class PgRestore:
    """One run of pg_restore, from a file or from chunks that are written to its standard input."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, tolerant: bool = False) -> None:
        """``tolerant``: the client is newer than the server, so one statement of its preamble may fail."""
        self._tolerant = tolerant
        self._command = (*command, *(() if tolerant else ("--exit-on-error",)))
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """End it, from any thread."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def run(self, chunks: Iterator[bytes] | None = None, on_start: Callable[[], object] | None = None) -> None:
        """Run to the end. ``on_start`` is called once :meth:`stop` would find something to stop.

        Raises RestoreError if pg_restore did not do all of it, and what ``chunks`` raises.
        """
        with tempfile.TemporaryFile() as stderr:
            try:
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdout=subprocess.DEVNULL, stderr=stderr, bufsize=0,
                    stdin=subprocess.DEVNULL if chunks is None else subprocess.PIPE,
                )  # fmt: skip
            except OSError as error:
                raise FailedError(f"pg_restore could not be started: {os.strerror(error.errno or 0)}") from None
            try:
                if on_start is not None:
                    on_start()
                if chunks is not None:
                    self._feed(chunks)
                status = self._process.wait()
            except BaseException:
                self._process.kill()
                self._process.wait()
                raise
            stderr.seek(0)
            said = stderr.read(_STDERR_KEPT).decode(errors="replace")
            if status != 0 and not (self._tolerant and only_harmless(said)):
                raise explained(status, said)

    def _feed(self, chunks: Iterator[bytes]) -> None:
        assert self._process is not None  # noqa: S101 - called by run() only
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - it was asked for
        with suppress(ImportError, OSError, AttributeError):
            import fcntl

            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[pipe.write(view) or 0 :]
        except BrokenPipeError:
            pass  # it says why itself
        finally:
            with suppress(BrokenPipeError):
                pipe.close()


def only_harmless(said: str) -> bool:
    """Whether every error that pg_restore went past was the preamble's setting that the server does not know."""
    return _HARMLESS.fullmatch(said) is not None


def explained(status: int, said: str) -> RestoreError:
    """The failure in words that can be shown."""
    entry = _ENTRY.search(said)
    where = f" at {one_line(entry[1].rsplit(' ', 1)[0], 120)}" if entry else ""
    message = re.search(r"(?:ERROR|FATAL|PANIC):  ([^\n]*)", said)
    sayable = _SAYABLE.fullmatch(message[1]) if message else None
    if sayable:
        reason = one_line(sayable[1], 160)
    elif message:
        reason = "the server refused a statement or a row (its log says which)"
    else:
        reason = f"exit code {status}" if status >= 0 else f"signal {-status}"
    gone = any(sign in said for sign in _GONE)
    if gone:
        reason = "the connection to the server was lost"
    return RestoreError(f"pg_restore failed{where}: {reason}", by_server=bool(message) and not gone)


def archive_command(program: str, *options: str, use_list: Path | None = None, role: str | None = None) -> list[str]:
    """The command line, without the file. Grants come later and owners are the target's.

    >>> archive_command("pg_restore", "--section=data")
    ['pg_restore', '--no-password', '--no-owner', '--no-privileges', '--section=data']
    """
    command = [program, "--no-password", "--no-owner", "--no-privileges", *options]
    if use_list is not None:
        command.append(f"--use-list={use_list}")
    if role is not None:
        command.append(f"--role={role}")
    return command
