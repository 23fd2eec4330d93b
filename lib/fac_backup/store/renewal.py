"""Renewal: objects that a bucket would soon expire by age are made young again, some every day.

An object is due at an age between a quarter and half of the limit; where between, a hash of its name and of the day of
its last writing says. So what was written on one day falls due over many days, differently each time round (with a
period of its own for each object they would meet again: simulated, a quarter of all on one day), and nothing that is
looked at daily comes near the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import chain

from . import layout
from .bucket import Bucket, NotFoundError, ObjectInfo
from .locks import Lease

RECORDS = (layout.CATALOG, layout.HOLDS, layout.TOMBSTONES, layout.JOURNAL, layout.AUDIT)


@dataclass(frozen=True)
class Ageing:
    """How old objects may become in a bucket that expires them after ``max_days``."""

    max_days: float

    def due_after(self, name: str, modified: datetime) -> timedelta:
        """The age at which the object ``name`` is renewed: a quarter to half of the limit."""
        day = int(modified.timestamp() // 86400)
        digest = blake2b(f"{day}/{name}".encode(), digest_size=4).digest()
        return timedelta(days=self.max_days * (0.25 + 0.25 * int.from_bytes(digest) / 2**32))

    def is_due(self, name: str, modified: datetime, now: datetime) -> bool:
        """Whether the object should be renewed today."""
        return now - modified >= self.due_after(name, modified)

    def expires(self, modified: datetime) -> datetime:
        """When the bucket removes an object of that age."""
        return modified + timedelta(days=self.max_days)


@dataclass(frozen=True)
class Renewed:
    """What a renewal did."""

    objects: int = 0
    bytes: int = 0


def due(listed: Iterable[ObjectInfo], ageing: Ageing, now: datetime, needed: Callable[[str], bool]) -> list[ObjectInfo]:
    """Those of the listed objects that are needed and should be renewed now."""
    return [info for info in listed if ageing.is_due(info.key, info.modified, now) and needed(info.key)]


def renew(bucket: Bucket, objects: Iterable[ObjectInfo], lease: Lease | None = None) -> Renewed:
    """Copy each object onto itself, many at once. One that is gone meanwhile is left to ``verify`` to report."""

    def one(info: ObjectInfo) -> int:
        try:
            bucket.renew(info.key)
        except NotFoundError:
            return -1
        return info.size

    if lease is not None:
        lease.check()
    with bucket.parallel() as pool:
        sizes = [size for size in pool.map(one, objects) if size >= 0]
    return Renewed(len(sizes), sum(sizes))


def renew_small(bucket: Bucket, ageing: Ageing, now: datetime, lease: Lease | None = None) -> Renewed:
    """Renew what every operation needs: catalog, signatures, holds, tombstones, journal, audit, and what belongs to one
    backup of the catalog alone, above all its listings."""
    small = [info for folder in RECORDS for info in bucket.list(folder)]
    there = {str(layout.id_in(info.key, layout.CATALOG)) for info in small if info.key.startswith(layout.CATALOG)}
    own = (info for info in bucket.list(layout.BACKUPS) if info.key.split("/")[1] in there)
    return renew(bucket, due(chain(small, own), ageing, now, lambda _: True), lease)
