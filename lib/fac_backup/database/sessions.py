"""Other sessions of a database: who is there, and how they are kept out while we swap or wipe."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database.connection import APPLICATION_NAME, Database, failure
from fac_backup.plain.errors import FailedError

log = logging.getLogger(__name__)

ELSEWHERE = ("postgres", "template1")
"""Databases to be connected to while another one is renamed or dropped."""


@dataclass(frozen=True)
class Connected:
    """Sessions of one role with one application name."""

    role: str
    application: str
    count: int
    endable: bool
    """Whether we may end them: superusers' sessions, and those of roles that we are no member of, need more rights."""


def elsewhere(database: Database, *, avoid: Sequence[str] = ()) -> Connection:
    """An autocommit session on the same server, not in ``database``. Raises FailedError if none can be had."""
    reason: FailedError | None = None
    for name in ELSEWHERE:
        if name != database.name and name not in avoid:
            try:
                return database.connect(name, autocommit=True)
            except FailedError as error:
                reason = reason or error
    raise FailedError(
        f"No other database on the server of {database.called} accepts us, so {database.called} cannot be swapped"
        f"{f' ({reason.what})' if reason else ''}",
        next_step="Use `replace: in-place`, or grant CONNECT on the database postgres.",
    )


def connected(session: Connection, name: str) -> tuple[Connected, ...]:
    """Who is connected to the database ``name``, ourselves left out, most numerous first."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT a.usename::text, coalesce(a.application_name, ''), count(*)::int4, bool_and("
            " pg_catalog.pg_has_role(current_user, a.usesysid, 'MEMBER') OR me.rolsuper OR (NOT r.rolsuper"
            " AND pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'MEMBER')))"
            " FROM pg_catalog.pg_stat_activity AS a JOIN pg_catalog.pg_roles AS r ON r.oid = a.usesysid"
            " CROSS JOIN (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS me"
            " WHERE a.datname = %s AND a.backend_type IS DISTINCT FROM 'parallel worker'"
            " AND coalesce(a.application_name, '') !~ %s"
            " GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
            (name, f"^{APPLICATION_NAME}"),
        )
        return tuple(Connected(*row) for row in cursor.fetchall())


def end_sessions(session: Connection, names: Sequence[str], *, ours: bool) -> int:
    """End the sessions of these databases, as far as we may; how many there were that we may not end.

    ``session`` is in autocommit. ``ours`` tells whether sessions that call themselves fac-backup are ended too (never
    ``session`` itself).
    """
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_catalog.pg_stat_activity WHERE datname = ANY(%s::pg_catalog.text[])"
            # Of roles that we are no member of, we see that they are there, and little else. One of ours that is just
            # starting does not bear its name yet.
            " AND pid <> pg_catalog.pg_backend_pid() AND (%s OR (coalesce(application_name, '') !~ %s"
            " AND coalesce(backend_start < pg_catalog.clock_timestamp() - interval '0.1 s', true)))"
            # A parallel worker goes with its leader; one that has just started does not bear the leader's name yet, so
            # that our own index builds would be hit.
            " AND coalesce(backend_type, '') !~ '^(autovacuum|parallel worker)'",
            (list(names), ours, f"^{APPLICATION_NAME}"),
        )
        refused = 0
        for (pid,) in cursor.fetchall():
            try:
                cursor.execute("SELECT pg_catalog.pg_terminate_backend(%s)", (pid,))
            except psycopg2.errors.InsufficientPrivilege:
                refused += 1
        return refused


class KeptOut:
    """While it is open, a thread ends the sessions of some databases again and again; a context manager.

    An application that reconnects all the time is out for as long as we need, without a state that a kill would leave
    behind (as ALLOW_CONNECTIONS false or a revoked CONNECT would).
    """

    def __init__(self, database: Database, names: Sequence[str], *, ours: bool, every: float) -> None:
        """``every`` in seconds. Raises FailedError if no session for it can be had."""
        self._names = names
        self._ours = ours
        self._every = every
        self._database = database
        self._session = self._connect()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="keep out", daemon=True)
        self.refused = 0
        """Sessions that we were not allowed to end, when we last tried."""

    def _connect(self) -> Connection:
        return elsewhere(self._database) if self._ours else self._database.connect(autocommit=True)

    def _work(self) -> None:
        while not self._done.is_set():
            try:
                self.refused = end_sessions(self._session, self._names, ours=self._ours)
            except psycopg2.Error:
                self._connect_again()
            self._done.wait(self._every)

    def _connect_again(self) -> None:
        """Whoever waits for the others to be out must not wait for a session that is gone."""
        log.warning("The session that keeps others out was lost")
        with suppress(psycopg2.Error):
            self._session.close()
        while not self._done.is_set():
            try:
                self._session = self._connect()
                return
            except FailedError:
                self._done.wait(0.5)

    def __enter__(self) -> KeptOut:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        with suppress(psycopg2.Error):
            self._session.close()


def wait_until_gone(session: Connection, name: str, *, seconds: float) -> None:
    """Wait until nobody is connected to ``name``. Raises FailedError when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with session.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE datname = %s", (name,)
                )
                row: Any = cursor.fetchone()
        except psycopg2.Error as error:
            raise failure(error, "Looking for other sessions failed") from None
        if not row[0]:
            return
        if time.monotonic() > deadline:
            raise FailedError(f"{row[0]} sessions did not leave a database within {seconds:.0f} seconds")
        time.sleep(0.05)
