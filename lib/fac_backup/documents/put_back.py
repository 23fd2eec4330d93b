"""Put a target's documents back after a restore that failed: what *it* did is undone, what others did meanwhile stays.

The application may have gone on all the time: a document that somebody uploaded after the pre-restore backup is in no
listing, and must not be lost because a restore came to nothing.
"""

from __future__ import annotations

from contextlib import closing

from fac_backup.documents.entry import bare
from fac_backup.documents.listing import Listing
from fac_backup.documents.merge import side_by_side
from fac_backup.documents.restore import Action, Added, Extra, Restore, carry_out_all, may_be_same
from fac_backup.documents.source import documents


def take_away(work: Restore, given: Listing, added: Added | None = None) -> int:
    """Delete what a restore of ``given`` has added; how many those were.

    ``work.listing`` is the state before. What it lacks goes if ``given`` has it and it has the bytes that ``given``
    tells, or if ``added`` knows it as written by this process. Raises IntegrityError for a damaged listing.
    """
    work.listing.verify()
    given.verify()
    extra, count = Extra(work), 0
    known = side_by_side(work.listing.entries(), given.entries(), lambda entry: entry.key, lambda entry: entry.key)
    rows = side_by_side(
        documents(work.target, work.between),
        known,
        lambda found: found.key,
        lambda pair: (pair[0] or pair[1]).key,  # type: ignore[union-attr]
    )
    for found, pair in rows:
        before, restored = pair or (None, None)
        if found is None or before is not None or restored is None:
            continue
        ours = added is not None and added.has(found.key, found.size, bare(found.etag))
        if ours or may_be_same(restored, found):
            count += 1
            work.options.progress(count, None, 0)
            extra.delete(found.key)
    extra.flush()
    return count


def put_back(work: Restore, given: Listing, added: Added | None = None) -> None:
    """As ``take_away``, and besides give back what was overwritten or deleted. Raises IntegrityError likewise."""
    take_away(work, given, added)
    with closing(carry_out_all(work)) as changes:
        for count, change in enumerate(changes):
            if change.action is not Action.DELETE:
                work.options.progress(count, work.listing.count, 0)
