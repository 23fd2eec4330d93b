"""Sweep: remove what no backup needs any more. Runs under the store's exclusive lock.

The lock alone makes it right: no backup is under way that counts on an old, at this moment unreferenced piece. Young
objects are left alone besides, so that a mistake elsewhere costs room for a day instead of a backup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.digests import Digests
from fac_backup.plain.errors import FailedError, UsageError
from fac_backup.plain.manifest import Manifest

from . import layout
from .bucket import DELETE_BATCH, Bucket, ObjectInfo
from .catalog import Catalog
from .locks import Lease
from .renewal import Ageing

References = Callable[[Manifest], Iterable[str]]
"""The keys below ``documents/`` that a backup needs: read from its listings by the documents' room."""

YOUNG = timedelta(hours=24)
FOLDERS = (layout.OBJECTS, layout.DOCUMENTS, layout.BACKUPS, layout.CATALOG)


class Needed:
    """The keys that remaining backups need: as digests, because there may be millions. A collision keeps too much."""

    def __init__(self) -> None:
        self._keys = Digests()
        self._ids: set[BackupId] = set()

    def add(self, manifest: Manifest, references: References) -> None:
        """Everything that one backup needs."""
        self._ids.add(manifest.backup_id)
        self._keys.update(layout.piece_key(piece.sha256) for piece in manifest.pieces())
        self._keys.update(references(manifest))

    def __call__(self, key: str) -> bool:
        """Whether a piece, a document, an object of one backup or a signature is needed. All others always are."""
        if key.startswith((layout.OBJECTS, layout.DOCUMENTS)):
            return key in self._keys
        if key.startswith(layout.BACKUPS):
            return _owner(key) in self._ids
        if key.startswith(layout.CATALOG) and key.endswith(".sig"):  # of a backup that was killed before its commit
            return layout.id_in(key.removesuffix(".sig"), layout.CATALOG) in self._ids
        return True


def _owner(key: str) -> BackupId | None:
    try:
        return BackupId.parse(key[len(layout.BACKUPS) :].partition("/")[0])
    except UsageError:
        return None


def needed(catalog: Catalog, references: References) -> Needed:
    """What the remaining backups need, unsigned and future-dated ones included: when in doubt, keep.

    Raises FailedError if a manifest cannot be read: nobody knows what it needs, so nothing may be removed.
    """
    found = Needed()
    for entry in catalog.each():
        if entry.manifest is None:
            raise FailedError(
                f"Nothing is swept while the manifest of {entry.id} cannot be read, as nobody knows what it needs",
                state="No object was removed.",
                next_step="Look at that manifest; if it is beyond repair, remove it from catalog/, then run again.",
            )
        found.add(entry.manifest, references)
    return found


@dataclass(frozen=True)
class Plan:
    """What a sweep would do."""

    unneeded: tuple[ObjectInfo, ...]
    kept_young: int
    due: tuple[ObjectInfo, ...]
    """Needed objects that should be renewed on this occasion."""

    @property
    def bytes(self) -> int:
        """Bytes that become free."""
        return sum(info.size for info in self.unneeded)


def plan(
    bucket: Bucket, wanted: Needed, now: datetime, *, young: timedelta = YOUNG, ageing: Ageing | None = None
) -> Plan:
    """Look at all objects, pieces, documents and leftovers; ``now`` is the server's time where it tells."""
    unneeded, due, kept_young = [], [], 0
    for info in chain.from_iterable(bucket.list(folder) for folder in FOLDERS):
        if wanted(info.key):
            if ageing is not None and ageing.is_due(info.key, info.modified, now):
                due.append(info)
        elif now - info.modified < young:
            kept_young += 1
        else:
            unneeded.append(info)
    return Plan(tuple(unneeded), kept_young, tuple(due))


def execute(bucket: Bucket, chosen: Plan, lease: Lease | None) -> int:
    """Remove what the plan found, the lease checked before every thousand; how many objects went."""
    return bucket.delete_many(_while_held((info.key for info in chosen.unneeded), lease))


def _while_held(keys: Iterator[str], lease: Lease | None) -> Iterator[str]:
    while batch := list(islice(keys, DELETE_BATCH)):
        if lease is not None:
            lease.check()
        yield from batch
