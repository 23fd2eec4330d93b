"""How many requests an endpoint takes at a time, found by trying.

AWS answers a copy after tens of milliseconds and takes thousands of them a second: sixteen in flight would leave most
of that unused. A server on two cores is busy with sixteen. So the number grows as long as the rate grows with it, goes
back where it does not, and is halved where the endpoint says that it has enough (503, SlowDown): once for all that was
in flight then, because many of those are told so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError

_STEP = 1.5
_GAIN = 1.15
"""More in flight stays only where the rate is at least so much higher."""

_LEAST = 4
_ROUND_SECONDS = 0.5
_ROUND_PER_FLYING = 4
"""A rate is taken over at least so many seconds, and over so many requests for each that may be in flight."""

_HOLD = 8
"""Rounds before a number that did not help is tried again."""


class Pace:
    """Lets ``limit`` at a time pass, at first ``start``, never more than ``most``; a context manager for each request.

    ``slowed`` counts how often the endpoint has asked for less. Safe to use from several threads.
    """

    def __init__(
        self, start: int, most: int, slowed: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = start
        self._most = most
        self._slowed = slowed
        self._clock = clock
        self._flying = 0
        self._stopped = False
        self._changed = threading.Condition()
        self._began = clock()
        self._done = 0
        self._heard = slowed()
        self._deaf = 0
        """Requests to end before another halving: the last one was for what those then in flight are told. Twice as
        many as they, because new ones end between them."""
        self._hold = 0
        self._before: tuple[int, float] | None = None
        """The limit and the rate of the round before, while a higher limit is being tried."""

    def __enter__(self) -> None:
        with self._changed:
            while self._flying >= self.limit and not self._stopped:
                self._changed.wait()
            if self._stopped:
                raise CancelledError
            self._flying += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._flying -= 1
            self._done += 1
            self._deaf = max(0, self._deaf - 1)
            before = self.limit
            self._judge()
            self._changed.notify(max(1, self.limit - before + 1))

    def stop(self) -> None:
        """Let nobody pass any more: who waits gets CancelledError."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _judge(self) -> None:
        heard = self._slowed()
        told, self._heard = heard != self._heard, heard
        seconds = self._clock() - self._began
        if told and not self._deaf:
            self._deaf = 2 * self._flying
            self._again(max(_LEAST, self.limit // 2), hold=_HOLD)
        elif seconds >= _ROUND_SECONDS and self._done >= _ROUND_PER_FLYING * self.limit:
            rate = self._done / seconds
            if self._hold:
                self._again(self.limit, hold=self._hold - 1)
            elif self._before is None or rate >= _GAIN * self._before[1]:
                before = (self.limit, rate)
                self._again(min(self._most, round(self.limit * _STEP)), hold=0)
                self._before = before
            else:
                self._again(self._before[0], hold=_HOLD)

    def _again(self, limit: int, *, hold: int) -> None:
        """Begin a new round."""
        self.limit = limit
        self._hold = hold
        self._before = None
        self._done = 0
        self._began = self._clock()
