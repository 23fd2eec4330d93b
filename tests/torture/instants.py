"""When to kill: an instant chosen from what a command was seen doing.

Each command talks to S3 through a front that sees every request. One run to its end gives the timeline: which request
came when, and from which on the target was touched. A kill is then an instant of that timeline: a number of requests,
and so many seconds after the last of them (for what happens in the database between two requests).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.faults import S3Front

from .forge import Running

Touch = Callable[[str, str, bytes], bool]
"""Whether a request (method, path, body) touches the target, or is the last before it is touched."""

BEFORE = 0.15
"""The share of kills before the target is touched."""


@dataclass
class Timeline:
    """What one run did: when each request came, in seconds, and the number of the first that touched the target."""

    requests: list[float]
    touched_at: int
    seconds: float


@dataclass(frozen=True)
class Instant:
    """Kill when so many requests have come and ``seconds`` have passed; ``lost``: the last one goes no further."""

    requests: int
    seconds: float
    lost: bool


@dataclass
class Watch:
    """What the front tells: counts requests, notices the touch, kills at the instant."""

    front: S3Front
    touch: Touch
    began: float = field(default_factory=time.monotonic)
    requests: list[float] = field(default_factory=list)
    touched_at: int = -1
    instant: Instant | None = None
    running: Running | None = None
    dead: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _started: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.front.watch = self._see

    def kill(self, running: Running, instant: Instant | None) -> None:
        """From now on: this is the command, and this its end (None: it may live)."""
        self.running, self.instant = running, instant
        if instant is not None and instant.requests == 0:
            threading.Timer(instant.seconds, self._strike).start()
        self._started.set()

    def _strike(self) -> None:
        self.dead = True
        if self.running is not None:
            self.running.kill()

    def _see(self, method: str, path: str, body: bytes) -> bool:
        self._started.wait(10)
        with self._lock:
            if self.dead:
                return False  # nothing that was under way when it died is carried out later
            self.requests.append(time.monotonic() - self.began)
            if self.touched_at < 0 and self.touch(method, path, body):
                self.touched_at = len(self.requests) - 1
            if self.instant is not None and len(self.requests) == self.instant.requests + 2:
                # It is quicker than it was: not so many seconds pass between these requests today.
                self._strike()
                return False
            if self.instant is None or len(self.requests) != self.instant.requests:
                return True
            if self.instant.lost:
                self._strike()
                return False
        if self.instant.seconds < 0.001:
            # Passed on first, so that the server has it and the dead never hear of it.
            threading.Timer(0.004, self._strike).start()
        else:
            threading.Timer(self.instant.seconds, self._strike).start()
        return True

    def settle(self) -> None:
        """Wait until the front has answered all that it had passed on."""
        deadline = time.monotonic() + 5
        while self.front.flying and time.monotonic() < deadline:
            time.sleep(0.005)

    def timeline(self) -> Timeline:
        """What was seen."""
        at = self.touched_at if self.touched_at >= 0 else len(self.requests)
        return Timeline(self.requests, at, time.monotonic() - self.began)


def choose(rng: random.Random, line: Timeline) -> Instant:
    """An instant, mostly after the touch: half of them by the number of requests, half of them by time.

    By number alone kills would crowd where requests are dense, and by time alone where the command waits.
    """
    total = len(line.requests)
    first, last = (0, max(1, line.touched_at)) if rng.random() < BEFORE else (line.touched_at, total)
    first = min(first, total - 1)
    if rng.random() < 0.5:
        number = rng.randrange(first, max(first + 1, last))
        return Instant(number + 1, 0.0, rng.random() < 0.5)
    begin = line.requests[first]
    end = line.requests[last] if last < total else line.seconds
    moment = rng.uniform(begin, max(begin, end))
    number = max(0, sum(1 for at in line.requests if at <= moment) - 1)
    return Instant(number + 1, max(0.0, moment - line.requests[number]), lost=False)
