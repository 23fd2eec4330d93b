"""Locks of a store: shared or exclusive, with a lease that is renewed while the holder lives.

Protocol. One lock is one object, ``locks/<name>.json``: the list of its holders. It is changed only by compare-and-swap
(PUT with If-None-Match or If-Match on the ETag that was read), never deleted, so that stores without conditional delete
(R2) serve too; "released" is an empty list.

Why it holds. The object is one register; a successful swap is the only transition, and replaces exactly the state
that its writer has read. Every writer keeps the invariant "no holder, or only shared ones, or exactly one exclusive
one": acquiring adds itself only if the living holders it read allow it, renewing changes only its own entry, releasing
removes only itself, taking over removes only expired entries. By induction every state keeps the invariant. Of two that
take over at once one swap succeeds; the other reads again and finds a living holder.

When a holder is dead. Foreign wall clocks are not compared. Each renewal records the *server's* time (the Date header
of the read before the swap). A contender finds a holder expired if the server's time now is more than ``lease + SLACK``
later; where that cannot be said (no Date header, a time in the future) if it has itself watched the entry unchanged for
that long on its own clock. The holder stops believing in its lease earlier: at three quarters of it, counted on its own
clock from before the read. So a process that was paused notices in ``Lease.check`` before its next write that matters,
and what it has in flight has a quarter of the lease to end. The clock counts suspended time too where there is one that
does (CLOCK_BOOTTIME).
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from fac_backup.plain.errors import FacBackupError, LockedError
from fac_backup.plain.manifest import Plain, utc_text
from fac_backup.plain.text import one_line

from . import layout
from .bucket import AlreadyThere, Bucket, Changed

Mode = Literal["shared", "exclusive"]
Name = Literal["store", "space"]

LEASE = 120.0
SLACK = 5.0
"""Seconds: Date headers are whole seconds, and the machines behind one endpoint differ a little."""

_log = logging.getLogger(__name__)


class Holder(Plain):
    """One who holds the lock. ``owner`` and ``since`` are for people; decisions rest on ``token`` and ``renewed``."""

    token: str = Field(pattern=r"^[0-9a-f]{32}$")
    mode: Mode
    owner: str = Field(max_length=500)
    since: AwareDatetime
    lease: float = Field(gt=0, le=3600)
    renewed: AwareDatetime | None
    """The server's time of the last renewal; None where the server tells no time."""
    beat: int = Field(ge=0)


class State(Plain):
    """The lock object's content."""

    holders: tuple[Holder, ...] = ()


def boot_clock() -> float:
    """Seconds on a clock that only moves forward, suspended time included where the system counts it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Locks:
    """The locks of one store; ``bucket`` is seen from the space's prefix.

    ``owner`` is shown to whoever has to wait: what runs, and where. ``lease`` in seconds.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        owner: str,
        lease: float = LEASE,
        slack: float = SLACK,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = boot_clock,
    ) -> None:
        self.bucket = bucket
        # A renewal that hangs must not outlive the lease: fewer attempts and shorter limits than elsewhere.
        limit = max(1.0, lease / 8)
        quick = replace(bucket.tuning, attempts=3, connect_timeout=limit, read_timeout=limit, longest_pause=limit / 4)
        self._quick = Bucket(bucket.address, jobs=4, role=bucket.role, tuning=quick)
        self.owner = one_line(owner, 500)
        self.lease = lease
        self.slack = slack
        self.clock = clock
        self.ticks = ticks

    def acquire(self, name: Name, mode: Mode, *, wait: float = 0.0) -> Lease:
        """Take the lock, waiting at most ``wait`` seconds. Use as ``with locks.acquire(…) as lease:``.

        Raises LockedError saying who holds it since when.
        """
        lease = Lease(self, name, mode)
        lease._take(wait)
        return lease

    def holders(self, name: Name) -> tuple[Holder, ...]:
        """Who holds the lock by the last word of the store, the expired included."""
        return self._read(name)[0].holders

    def expired(self, name: Name) -> tuple[Holder, ...]:
        """Those of the holders whose lease has run out by the server's time."""
        state, _, now = self._read(name)
        return tuple(holder for holder in state.holders if self._is_expired(holder, now, {}))

    def break_lock(self, name: Name, token: str | None = None) -> int:
        """Remove the holder with ``token``, or all (also where the lock object is damaged); how many were removed.

        With the patience of all other requests: nothing runs out meanwhile.
        """
        while True:
            try:
                state, etag, _ = self._read(name, self.bucket)
            except LockedError:
                if token is not None:
                    raise
                self.bucket.put(self.key(name), State().model_dump_json().encode())
                return 1
            kept = tuple(holder for holder in state.holders if token is not None and holder.token != token)
            if len(kept) == len(state.holders):
                return 0
            if self._swap(name, State(holders=kept), etag, self.bucket) is not None:
                return len(state.holders) - len(kept)

    @staticmethod
    def key(name: Name) -> str:
        """The lock's object."""
        return f"{layout.LOCKS}{name}.json"

    def _read(self, name: Name, bucket: Bucket | None = None) -> tuple[State, str, datetime | None]:
        data, etag, now = (bucket or self._quick).get_dated(self.key(name))
        if data is None:
            return State(), "", now
        try:
            return State.model_validate_json(data), etag, now
        except ValidationError:
            raise LockedError(
                f"The lock of the {name} is damaged, so nobody can tell who works here",
                next_step="Make sure that nothing runs, then `fac-backup unlock`.",
            ) from None

    def _swap(self, name: Name, state: State, etag: str, bucket: Bucket | None = None) -> str | None:
        """Write ``state`` in the place of what was read; the new ETag, None if somebody else was quicker."""
        data = state.model_dump_json().encode()
        try:
            key, bucket = self.key(name), bucket or self._quick
            return bucket.replace(key, data, etag) if etag else bucket.put_new(key, data)
        except (AlreadyThere, Changed):
            time.sleep(random.uniform(0, min(0.25, self.lease / 20)))  # noqa: S311 - jitter, no secret
            return None

    def _is_expired(self, holder: Holder, now: datetime | None, watched: dict[str, tuple[int, float]]) -> bool:
        limit = holder.lease + self.slack
        if now is not None and holder.renewed is not None and (now - holder.renewed).total_seconds() > -limit:
            return (now - holder.renewed).total_seconds() > limit
        beat, since = watched.setdefault(holder.token, (holder.beat, self.ticks()))
        if beat != holder.beat:
            watched[holder.token] = (holder.beat, self.ticks())
            return False
        return self.ticks() - since > limit


class Lease:
    """A lock that is held, renewed by a thread of its own until ``release``. Made by ``Locks.acquire``."""

    def __init__(self, locks: Locks, name: Name, mode: Mode) -> None:
        self.name = name
        self.mode = mode
        self.token = secrets.token_hex(16)
        self._locks = locks
        self._since = locks.clock()
        self._beat = 0
        self._valid_until = 0.0
        self._lost = ""
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def _entry(self, now: datetime | None) -> Holder:
        self._beat += 1
        return Holder(
            token=self.token, mode=self.mode, owner=self._locks.owner, since=self._since, lease=self._locks.lease,
            renewed=now, beat=self._beat,
        )  # fmt: skip

    def _take(self, wait: float) -> None:
        locks = self._locks
        deadline = locks.ticks() + wait
        watched: dict[str, tuple[int, float]] = {}
        said = False
        while True:
            before = locks.ticks()
            state, etag, now = locks._read(self.name)
            others = [holder for holder in state.holders if holder.token != self.token]
            living = [holder for holder in others if not locks._is_expired(holder, now, watched)]
            in_the_way = [holder for holder in living if "exclusive" in (holder.mode, self.mode)]
            if not in_the_way:
                for dead in set(others).difference(living):
                    _log.warning("Taking over from %s, whose lease has run out", one_line(dead.owner))
                if locks._swap(self.name, State(holders=(*living, self._entry(now))), etag) is not None:
                    self._valid_until = before + locks.lease * 0.75
                    break
                continue
            holder = in_the_way[0]
            if locks.ticks() >= deadline:
                raise LockedError(
                    f"The {self.name} is locked by {one_line(holder.owner)} since {utc_text(holder.since)}",
                    next_step="Run again when that has ended; `fac-backup unlock` shows it; --owner breaks it.",
                )
            if not said:
                _log.info("Waiting for %s, who holds the lock of the %s", one_line(holder.owner), self.name)
                said = True
            pause = min(5.0, locks.lease / 8) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
            time.sleep(max(0.0, min(pause, deadline - locks.ticks())))
        self._thread = threading.Thread(target=self._keep, name=f"lease-{self.name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Call before a write that matters. Raises LockedError if the lease is lost or may be by now."""
        if not self._lost and self._locks.ticks() > self._valid_until:
            self._lost = "it could not be renewed in time (was this process paused, or the bucket out of reach?)"
        if self._lost:
            raise LockedError(
                f"The lock of the {self.name} was lost: {self._lost}", state="", next_step="Run the operation again."
            )

    def _keep(self) -> None:
        while not self._end.wait(self._locks.lease / 4) and not self._lost:
            try:
                self.renew()
            except FacBackupError as error:  # check() decides when this has lasted too long
                _log.warning("The lock of the %s could not be renewed now: %s", self.name, error.what)

    def renew(self) -> None:
        """Prove that we live. Done by the lease's own thread."""
        locks = self._locks
        while not self._lost:
            before = locks.ticks()
            state, etag, now = locks._read(self.name)
            if all(holder.token != self.token for holder in state.holders):
                self._lost = "somebody else has taken it over or removed it"
                return
            entry = self._entry(now)
            holders = tuple(entry if holder.token == self.token else holder for holder in state.holders)
            if locks._swap(self.name, State(holders=holders), etag) is not None:
                self._valid_until = before + locks.lease * 0.75
                return

    def release(self) -> None:
        """Give the lock back. Never raises: what cannot be given back runs out by itself."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(self._locks.lease)
            self._thread = None
        try:
            self._locks.break_lock(self.name, self.token)
        except FacBackupError as error:
            _log.warning("The lock of the %s could not be given back and runs out by itself: %s", self.name, error.what)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
