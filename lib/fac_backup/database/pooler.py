"""Finds out whether a transaction pooler stands between us and the server.

Behind PgBouncer in transaction mode each transaction may run on another server connection: an exported snapshot, a
lock or a setting of the session would be lost, or stay with a connection that the application uses afterwards.
"""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg2
from psycopg2 import extensions
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.plain.errors import FailedError

_ROUNDS = 5
"""How often two clients compare their server connections: other clients' traffic can hide the sharing once."""

_PATIENCE = 10.0
"""Seconds for the second client to get a server connection."""

_NEXT_STEP = "Give the address of the server itself, or of a pool in session mode."


def refuse_transaction_pooler(session: Connection, parameters: dict[str, str], called: str) -> None:
    """Raise FailedError unless ``session`` keeps its server connection between transactions.

    Called when libpq's backend pid is not what ``pg_backend_pid()`` answers: a pooler is in between. ``session`` is
    in autocommit; nothing is set on it. A second client must get another server connection while ``session`` is
    connected.
    """
    second = _SecondClient(parameters)
    try:
        for _ in range(_ROUNDS):
            ours = _pid(session)
            theirs = second.pid()
            if theirs is None:
                raise FailedError(
                    f"The connection pooler in front of {called} has no second connection to give", next_step=_NEXT_STEP
                )
            if ours == theirs or _pid(session) != ours:
                raise FailedError(
                    f"A connection pooler in transaction mode stands in front of {called}, and has no snapshots",
                    next_step=_NEXT_STEP,
                )
    finally:
        second.close()


def _pid(session: Connection) -> int:
    with session.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_backend_pid()")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


class _SecondClient:
    """An asynchronous connection: a pool that is exhausted would otherwise hold us up for its own timeout."""

    def __init__(self, parameters: dict[str, str]) -> None:
        self._session: Any = psycopg2.connect(**parameters, async_=1)  # type: ignore[call-overload]

    def close(self) -> None:
        self._session.close()

    def pid(self) -> int | None:
        """Which server connection answers, None if none does in time."""
        deadline = time.monotonic() + _PATIENCE
        if not self._wait(deadline):
            return None
        cursor = self._session.cursor()
        cursor.execute("SELECT pg_catalog.pg_backend_pid()")
        if not self._wait(deadline):
            return None
        return int(cursor.fetchone()[0])

    def _wait(self, deadline: float) -> bool:
        while True:
            state = self._session.poll()
            if state == extensions.POLL_OK:
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            file = self._session.fileno()
            if state == extensions.POLL_READ:
                select.select([file], [], [], remaining)
            else:
                select.select([], [file], [], remaining)
