"""The trail: each manifest names the newest backup before it, so one that vanished without a tombstone shows.

What it cannot show: that the newest backup of all was removed, which nothing names yet. The age of what is left does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import Previous

from .bucket import NotFoundError, TooLargeError
from .catalog import Entry
from .store import Store


@dataclass(frozen=True)
class Gap:
    """A backup that another one names, and that is not there as it was."""

    id: BackupId
    named_by: BackupId
    changed: bool
    """It is there, but its manifest is another; otherwise it is missing."""

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        if self.changed:
            return f"The manifest of {self.id} is not the one that {self.named_by} was made after."
        return f"{self.id} was removed without a purge: {self.named_by} names it, and no valid tombstone tells of it."


def newest(store: Store, entries: Iterable[Entry]) -> Entry | None:
    """The newest backup that counts: sound, not from the future, and validly signed where that is required."""
    sound = [entry for entry in entries if entry.manifest is not None and not entry.future]
    return max((entry for entry in sound if store.catalog.counts(entry)), key=lambda one: one.id, default=None)


def previous(entry: Entry | None) -> Previous | None:
    """How a manifest names ``entry`` as the backup before it."""
    return None if entry is None else Previous(id=str(entry.id), manifest_sha256=entry.sha256)


def gaps(store: Store, entries: Iterable[Entry]) -> tuple[Gap, ...]:
    """What is missing or changed of the backups that others name, oldest first.

    Reads nothing but the tombstones of those that are not there, all at once. Only manifests that count are believed.
    """
    known = {entry.id: entry for entry in entries}
    named: dict[BackupId, tuple[BackupId, str]] = {}
    for entry in known.values():
        before = entry.manifest.previous if entry.manifest is not None else None
        if before is not None and not entry.future and store.catalog.counts(entry):
            named[BackupId.parse(before.id)] = (entry.id, before.manifest_sha256)
    absent = [one for one in named if one not in known or not known[one].sha256]
    with store.bucket.at_once(len(absent)) as pool:
        purged = dict(zip(absent, pool.map(lambda one: _purged(store, one), absent), strict=True))
    found = []
    for one, (by, sha256) in sorted(named.items()):
        if one in purged:
            found += [] if purged[one] else [Gap(one, by, changed=False)]
        elif known[one].sha256 != sha256:
            found.append(Gap(one, by, changed=True))
    return tuple(found)


def _purged(store: Store, backup_id: BackupId) -> bool:
    """Whether a tombstone tells of it, validly signed where the space's backups must be."""
    try:
        store.tombstones.read(backup_id, store.keys if store.catalog.require_signed else None)
    except (NotFoundError, IntegrityError, TooLargeError):
        return False
    return True
