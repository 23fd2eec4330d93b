"""What a bucket that deletes objects by age will take from backups, for verify and doctor."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from fac_backup.operations.renewing import references_of
from fac_backup.plain.manifest import Manifest
from fac_backup.plain.text import duration
from fac_backup.store import layout, sweep
from fac_backup.store.renewal import Ageing
from fac_backup.store.store import Store

SOON = 7 * 86400.0
"""Seconds: what is deleted within them was not renewed as it should have been."""


def seconds_left(store: Store, ageing: Ageing, manifests: Iterable[Manifest]) -> float | None:
    """Until the first object is deleted that one of these backups needs; None if they have no objects.

    Raises IntegrityError or NotFoundError where a listing cannot be read.
    """
    wanted, records = sweep.Needed(), set()
    for manifest in manifests:
        wanted.add(manifest, references_of(store))
        records.add(layout.manifest_key(manifest.backup_id))
    listed = chain.from_iterable(store.bucket.list(folder) for folder in sweep.FOLDERS)
    written = (
        info.modified
        for info in listed
        if (info.key.removesuffix(".sig") in records if info.key.startswith(layout.CATALOG) else wanted(info.key))
    )
    oldest = min(written, default=None)
    return None if oldest is None else (ageing.expires(oldest) - store.now()).total_seconds()


def sentence(left: float | None) -> str:
    """What that means, for people."""
    if left is None:
        return "There are no objects to expire."
    if left < SOON:
        return f"The bucket will delete objects that are needed in {duration(max(0.0, left))}."
    return f"The oldest object that is needed would be deleted in {duration(left)}, and is renewed before."
