"""Keep young what buckets expire by age (docs/format.md, "Renewal"): a share every day."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from fac_backup.documents.check import references
from fac_backup.operations.opening import Opened
from fac_backup.plain.digests import Digests
from fac_backup.plain.manifest import Database, Documents, Manifest, Piece
from fac_backup.plain.text import plural
from fac_backup.store import layout, renewal
from fac_backup.store.locks import Lease
from fac_backup.store.store import Store

log = logging.getLogger(__name__)


def references_of(store: Store) -> Callable[[Manifest], Iterable[str]]:
    """What a manifest's listings refer to, for sweep and renewal."""
    return lambda manifest: references(manifest.documents, store.bucket)


def renew_needed(opened: Opened, lease: Lease, *, database: Database, made: tuple[Documents, ...]) -> renewal.Renewed:
    """Renew what the backup that is being made refers to and did not write anew, and the store's small records.

    Pieces are renewed as they are found again (``store.pieces``); this does the documents, markers' neighbours and
    records. Without ``max_object_age_days`` in the matrix there is nothing to do.
    """
    store = opened.store
    if store.ageing is None:
        return renewal.Renewed()
    now = store.now()
    wanted = Digests(layout.piece_key(piece.sha256) for piece in _pieces(database))
    wanted.update(references(made, store.bucket))
    listed = chain(store.bucket.list(layout.OBJECTS), store.bucket.list(layout.DOCUMENTS))
    due = renewal.due(listed, store.ageing, now, wanted.__contains__)
    done = renewal.renew(store.bucket, due, lease)
    small = renewal.renew_small(store.bucket, store.ageing, now, lease)
    if done.objects + small.objects:
        log.info("Renewed %s that the bucket would expire by age", plural(done.objects + small.objects, "object"))
    return renewal.Renewed(done.objects + small.objects, done.bytes + small.bytes)


def _pieces(database: Database) -> Iterator[Piece]:
    ranged = (piece for table in database.tables for run in table.ranges for piece in run)
    return chain(database.archive.pieces, ranged)
