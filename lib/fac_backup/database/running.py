"""Runs what a team wants run in a restored database: SQL in one transaction, or a program that is given its address.

Neither may show a row: of SQL only the kind of its error is told; what a program prints is the program's own matter,
and reaches the log line by line as text from outside.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Sequence

import psycopg2

from fac_backup.database.connection import Database, failure
from fac_backup.plain.errors import FailedError
from fac_backup.plain.text import one_line

log = logging.getLogger(__name__)

# Where a program might find the address of the database that still serves instead of the new one's.
_OTHER_ADDRESSES = ("VCAP_SERVICES", "VCAP_SERVICES_FILE_PATH")


def sql(database: Database, name: str, text: str, what: str) -> None:
    """Run ``text`` in the database ``name``, in one transaction. Raises FailedError that begins with ``what``."""
    if not text.strip():
        return
    session = database.connect(name)
    try:
        with session.cursor() as cursor:
            cursor.execute("SET search_path TO DEFAULT")
            cursor.execute(text)
        session.commit()
    except psycopg2.Error as error:
        raise failure(error, what) from None
    finally:
        session.close()


def command(database: Database, name: str, words: Sequence[str], what: str) -> None:
    """Run a program whose ``DATABASE_URL`` and ``PG*`` variables lead to the database ``name``.

    Its environment is ours, without what is fac-backup's and without Cloud Foundry's bindings. Raises FailedError,
    which begins with ``what``, if it cannot be started or ends with another exit code than 0.
    """
    there = database.with_name(name)
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("FAC_BACKUP_", "PG")) and key not in _OTHER_ADDRESSES}  # fmt: skip
    address = {key: value for key, value in there.env().items() if key.startswith("PG")}
    try:
        process = subprocess.Popen(
            list(words), env={**kept, **address, "DATABASE_URL": there.url}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        raise FailedError(f"{what} could not be started ({os.strerror(error.errno or 0)})") from None
    try:
        for line in process.stdout or ():
            log.info("before the swap: %s", one_line(line.decode(errors="replace"), 500))
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if code:
        ended = f"exit code {code}" if code > 0 else f"signal {-code}"
        raise FailedError(f"{what} failed ({ended})", next_step="What it printed is in the log above.")
