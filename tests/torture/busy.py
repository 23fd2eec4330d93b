"""An application that never stops: 20 connections that write, disconnect and come back, all through the restores.

Each restore must succeed, whatever they do, beside and in place. How long the longest of them was refused a connection
is printed.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg2

from .table import Row, require
from .world import World, database_state

CONNECTIONS = 20


@dataclass
class Application:
    """Twenty threads; a context manager."""

    url: str
    seed: int
    written: int = 0
    refused: list[float] = field(default_factory=list)
    """How long it took each time from the first failure to the next connection, in seconds."""
    _end: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Application:
        for number in range(CONNECTIONS):
            thread = threading.Thread(target=self._client, args=(random.Random(f"{self.seed}:{number}"),), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def _client(self, rng: random.Random) -> None:
        since = 0.0
        while not self._end.is_set():
            try:
                session = psycopg2.connect(self.url)
            except psycopg2.Error:
                since = since or time.monotonic()
                time.sleep(0.005)
                continue
            if since:
                self.refused.append(time.monotonic() - since)
                since = 0.0
            with suppress(psycopg2.Error):
                for _ in range(rng.randrange(1, 6)):
                    with session, session.cursor() as cursor:
                        cursor.execute("INSERT INTO busy (note) VALUES (md5(random()::text))")
                        self.written += 1
                    time.sleep(rng.uniform(0, 0.05))
            with suppress(psycopg2.Error):
                session.close()


def run(row: Row, world: World, numbers: list[int]) -> None:
    """Restores one after the other under fire."""
    world.sql("CREATE TABLE busy (id bigserial PRIMARY KEY, note text)")
    world.fill(300, 12)
    wanted = database_state(world.url)
    backup_id = world.backup()
    seconds: list[float] = []

    def attempt(_rng: random.Random) -> None:
        done = world.restore(backup_id)
        require(done.code == 0, f"a restore under a busy application failed: {done.last}")
        seconds.append(float(done.json.get("swap_seconds", 0)))

    with Application(world.url, row.seed) as application:
        time.sleep(0.5)
        for number in numbers:
            row.attempt(number, attempt)
    require(application.written > 0, "the application has written nothing")
    done = world.restore(backup_id)
    require(done.code == 0, f"a restore after all that failed: {done.last}")
    row.attempt(len(numbers), lambda _rng: require(database_state(world.url) == wanted, "not what was backed up"))
    row.tried -= 1
    row.counts["rows written meanwhile"] = application.written
    longest = max(application.refused, default=0.0)
    row.notes += [f"longest swap {max(seconds):.3f} s"] if any(seconds) else []
    row.notes.append(f"longest refusal to connect {longest:.3f} s")
