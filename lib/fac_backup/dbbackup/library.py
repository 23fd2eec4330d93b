"""``engine: django-dbbackup``: have that library make the dump, with the application's own management commands.

Its limits, which we cannot take away: no common snapshot of database and documents, the whole dump in a temporary file
first, one tar of all documents, no page ranges. ``docs/migrating.md`` says when it is worth them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fac_backup.plain.errors import FailedError

_EXCEPTION = re.compile(rb"^([A-Za-z_][A-Za-z0-9_.]*(?:Error|Exception|Configured|DoesNotExist))\b", re.MULTILINE)


@dataclass(frozen=True)
class Made:
    """What the management commands wrote."""

    database: Path
    media: Path | None


def run_dbbackup(
    manage_py: Path,
    env: Mapping[str, str],
    into: Path,
    *,
    python: str = sys.executable,
    database_key: str = "default",
    media: bool = True,
    timeout: float = 6 * 3600,
) -> Made:
    """Run ``manage.py dbbackup`` and ``mediabackup``, ``env`` being their whole environment; archives land in ``into``.

    ``into`` is an empty folder of the caller's, with room for one archive (the library needs as much again in its
    temporary folder). Raises FailedError; what the commands printed is not shown, it may hold secrets.
    """
    database = into / "database.psql.bin"
    _run(manage_py, env, python, ["dbbackup", "--database", database_key, "--output-path", str(database)], timeout)
    if not database.is_file():
        raise _failed("dbbackup", "wrote nothing")
    archive = None
    if media:
        archive = into / "media.tar"
        _run(manage_py, env, python, ["mediabackup", "--output-path", str(archive)], timeout)
        if not archive.is_file():
            raise _failed("mediabackup", "wrote nothing")
    return Made(database, archive)


def _run(manage_py: Path, env: Mapping[str, str], python: str, command: Sequence[str], timeout: float) -> None:
    line = [python, str(manage_py), *command, "--noinput", "--no-color"]
    try:
        done = subprocess.run(
            line, env=dict(env), cwd=manage_py.parent, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _failed(command[0], f"was still running after {timeout:.0f} s") from None
    except OSError:
        raise _failed(command[0], "could not be started: is the path of manage.py right?") from None
    if done.returncode:
        named = _EXCEPTION.findall(done.stderr)
        # Only the class of the error: its text may name hosts and hold rows.
        because = f" with {named[-1].decode()}" if named else ""
        raise _failed(command[0], f"ended with exit code {done.returncode}{because}")


def _failed(command: str, how: str) -> FailedError:
    return FailedError(
        f"manage.py {command} {how}", next_step="Run it by hand in the application to see what it says, and try again."
    )
