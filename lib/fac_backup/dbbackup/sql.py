"""Filling a scratch database from an archive, and dumping one: the programs of PostgreSQL, fed and read as streams.

An import goes through an empty scratch database: the archive proves there that it restores, and what is dumped from it
is a backup like any other (one snapshot, row counts, pieces that later backups share).

An archive is SQL and runs as the scratch database's owner: that role must be no superuser. Plain SQL is moreover a
script for psql, whose backslash commands could run programs here: psql reads it in its restricted mode
(postgresql.org/docs/current/app-psql.html, ``\\restrict``), with a key that the script cannot know.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import IO

from fac_backup.dbbackup.stream import CHUNK
from fac_backup.plain.errors import FailedError

UNDEFINED_OBJECT = "42704"
NO_PRIVILEGE = "42501"

_PSQL_ERROR = re.compile(rb"psql:<stdin>:(\d+): \S+:  ([0-9A-Z]{5}): (.*)")
_PSQL_OTHER = re.compile(rb"psql:(?:<stdin>:\d+:)? ?(?:error|fatal)", re.IGNORECASE)
_RESTORE_ERROR = re.compile(rb"pg_restore: error: (.*)")
_NO_ROLE = re.compile(rb'role ".*" does not exist')
_NOT_OURS = re.compile(rb'must be (?:a )?member of role ".*"|must be able to SET ROLE ".*"')
# pg_dump since August 2025 brackets its script itself; in restricted mode its own bracket would be an error.
_RESTRICT = re.compile(rb"(?:--[^\n]*\n|\r?\n)*(\\restrict ([A-Za-z0-9]{1,128})\r?\n)")
_HEAD = 8192
_LINE = 65_536


@dataclass(frozen=True)
class Restored:
    """What became of an archive in the scratch database."""

    left_out: int
    """Statements about roles that this server lacks or that are not ours: owners, grants, policies of theirs."""


def restore_custom(pg_restore: str, env: Mapping[str, str], archive: Iterable[bytes]) -> Restored:
    """Fill the empty database that ``env`` names (``PGDATABASE``, …) from a custom-format archive.

    Raises FailedError if anything but statements about missing roles fails.
    """
    command = (pg_restore, "--dbname", env["PGDATABASE"], "--no-owner", "--no-password")
    complaints = _Complaints(_of_pg_restore)
    status = _feed(command, env, archive, complaints)
    if complaints.serious or (status and not complaints.about_roles):
        raise _failed("pg_restore did not accept the archive")
    return Restored(complaints.about_roles)


def restore_plain(psql: str, env: Mapping[str, str], script: Iterable[bytes]) -> Restored:
    """Fill the empty database that ``env`` names from plain SQL of pg_dump, without ever obeying a backslash command.

    Raises FailedError if anything but statements about other roles fails. The message names the line of the script
    and the SQLSTATE, never the statement: that may hold rows.
    """
    command = (psql, "--no-psqlrc", "--quiet", "--no-password", "--set=VERBOSITY=verbose", "--file=-")
    complaints = _Complaints(_of_psql)
    status = _feed(command, env, _restricted(script), complaints)
    if complaints.serious or status:
        raise _failed(complaints.serious or "psql did not accept the archive")
    return Restored(complaints.about_roles)


def dump_custom(pg_dump: str, env: Mapping[str, str]) -> Iterator[bytes]:
    """A stock ``pg_dump --format=custom`` of the database that ``env`` names, without the marker's schema.

    Raises FailedError if pg_dump fails; what was yielded until then is worthless.
    """
    command = (pg_dump, "--format=custom", "--no-password", '--exclude-schema="fac_backup"')
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
        )
        assert process.stdout is not None  # noqa: S101  it was asked for
        try:
            while chunk := process.stdout.read(CHUNK):
                yield chunk
            if process.wait():
                raise _failed("pg_dump failed")
        finally:
            process.stdout.close()
            if process.poll() is None:
                process.kill()
                process.wait()


def _restricted(script: Iterable[bytes]) -> Iterator[bytes]:
    """``script`` between our ``\\restrict`` and ``\\unrestrict``, without the pair that pg_dump may have put there."""
    key = secrets.token_hex(32).encode()
    yield b"\\restrict " + key + b"\n"
    source = iter(script)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= _HEAD:
            break
    found = _RESTRICT.match(head)
    if found is None:
        yield head
        yield from source
    else:
        own = b"\\unrestrict " + found[2]
        yield from _without(own, chain((head[: found.start(1)] + head[found.end(1) :],), source))
    yield b"\n\\unrestrict " + key + b"\n"


def _without(line: bytes, source: Iterable[bytes]) -> Iterator[bytes]:
    """``source`` without ``line``; parts of it may lie in two chunks. Its key is random: it is nowhere by chance."""
    held = b""
    for chunk in source:
        held = (held + chunk).replace(line, b"")
        keep = len(line)
        if len(held) > keep:
            yield held[:-keep]
            held = held[-keep:]
    yield held


class _Complaints:
    """What a program says on stderr, read line by line: the first serious error, and how many are about roles."""

    def __init__(self, judge: Callable[[bytes], str | None]) -> None:
        self._judge = judge
        self.about_roles = 0
        self.serious = ""

    def listen(self, stream: IO[bytes]) -> None:
        while line := stream.readline(_LINE):
            verdict = self._judge(line)
            if verdict == _ROLE:
                self.about_roles += 1
            elif verdict and not self.serious:
                self.serious = verdict


_ROLE = "role"


def _of_psql(line: bytes) -> str | None:
    """The weight of one line of psql's stderr: None, a missing role, or an error in words."""
    found = _PSQL_ERROR.match(line)
    if found is None:
        return "psql refused a command in the script" if _PSQL_OTHER.match(line) else None
    state = found[2].decode()
    if state[:2] in ("00", "01", "02"):  # success, warning, no data: what NOTICE and WARNING carry
        return None
    if state == UNDEFINED_OBJECT and _NO_ROLE.search(found[3]):
        return _ROLE
    if state == NO_PRIVILEGE and _NOT_OURS.search(found[3]):
        return _ROLE  # OWNER TO a role that exists: here everything belongs to the scratch database's owner
    return f"The script failed at line {int(found[1])} (SQLSTATE {state})"


def _of_pg_restore(line: bytes) -> str | None:
    found = _RESTORE_ERROR.match(line)
    if found is None:
        return None
    return _ROLE if _NO_ROLE.search(found[1]) else "pg_restore did not accept the archive"


def _feed(command: Sequence[str], env: Mapping[str, str], data: Iterable[bytes], complaints: _Complaints) -> int:
    """Run ``command`` with ``data`` as its input, stop it at the first serious complaint; returns its status."""
    process = subprocess.Popen(
        command,
        env={**env, "LC_ALL": "C"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None  # noqa: S101  it was asked for
    assert process.stderr is not None  # noqa: S101
    listener = threading.Thread(target=complaints.listen, args=(process.stderr,), daemon=True)
    listener.start()
    try:
        with suppress(BrokenPipeError):
            for chunk in data:
                if complaints.serious:
                    process.kill()
                    break
                process.stdin.write(chunk)
        with suppress(BrokenPipeError):
            process.stdin.close()
        status = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        with suppress(BrokenPipeError):
            process.stdin.close()
        listener.join(10)
        process.stderr.close()
    return status


def _failed(what: str) -> FailedError:
    return FailedError(what, state="Only a scratch database was touched.", next_step="Choose another archive.")
