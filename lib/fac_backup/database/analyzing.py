"""The planner's statistics, which a restored table does not have."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack

from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database.connection import Database
from fac_backup.database.crew import Crew
from fac_backup.database.names import qualified


def analyze(database: Database, *, jobs: int) -> None:
    """Gather the planner's statistics of all tables, largest first, in ``jobs`` sessions.

    Tables that the role may not analyze are left out by the server with a warning. Raises psycopg2.Error, FailedError.
    """
    with ExitStack() as stack:
        first = _session(database, stack)
        with first.cursor() as cursor:
            cursor.execute(
                "SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c"
                " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_(toast|temp)'"
                " ORDER BY pg_catalog.pg_relation_size(c.oid) DESC"
            )
            todo = deque(cursor.fetchall())

        def work(session: Connection) -> None:
            with session.cursor() as cursor:
                while not crew.stopped():
                    try:
                        schema, name = todo.popleft()
                    except IndexError:
                        return
                    cursor.execute(f"ANALYZE {qualified(schema, name)}")

        with Crew("analyze") as crew:
            sessions = [first, *(_session(database, stack) for _ in range(min(jobs, len(todo)) - 1))]
            for session in sessions:
                crew.start(lambda session=session: work(session))  # type: ignore[misc]


def _session(database: Database, stack: ExitStack) -> Connection:
    session = database.connect(autocommit=True)
    stack.callback(session.close)
    return session
