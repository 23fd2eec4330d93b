"""Is everything that a listing names in the store, and whole? Asked before a restore, and by verify."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from fac_backup.documents.entry import Entry, bare, object_key
from fac_backup.documents.known import Known
from fac_backup.documents.listing import Listing
from fac_backup.documents.options import Options
from fac_backup.documents.source import ReadSource
from fac_backup.documents.window import Task, in_order
from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import Documents
from fac_backup.plain.text import plural
from fac_backup.store.bucket import Bucket, NotFoundError


@dataclass(frozen=True)
class Examination:
    """What looking at every stored document of a listing found."""

    count: int
    size: int
    missing: int
    """Stored documents that are not there."""
    rewritten: int
    """Stored documents whose size, ETag or (where looked at) content is not what was stored."""
    oldest: datetime | None
    """When the oldest stored document was written or renewed (UTC); None if there are none."""

    @property
    def whole(self) -> bool:
        """Whether every stored document is there and is what was stored."""
        return not (self.missing or self.rewritten)


def examine(
    listing: Listing, store: Bucket, *, deep: bool = False, options: Options | None = None, known: Known | None = None
) -> Examination:
    """Look at every stored document of a listing: by LIST alone, or (``deep``) by reading and hashing each.

    ``known`` saves the LIST where the caller has it. Raises IntegrityError for a damaged listing.
    """
    options = options or Options()
    known = known or Known(store, listing.label)
    state = {"ok": 0, "missing": 0, "rewritten": 0}
    size = 0
    oldest: datetime | None = None

    def step(entry: Entry) -> tuple[Entry, str] | Task[tuple[Entry, str]]:
        if not known.holds(entry.object):
            return entry, "missing"
        if known.has(entry.object, entry.size, entry.expected_etag):
            return Task(lambda: (entry, _read(store, listing.label, entry))) if deep else (entry, "ok")
        if entry.sha256 is None:
            return entry, "rewritten"
        return Task(lambda: (entry, _read(store, listing.label, entry)))  # renewed, perhaps: its bytes tell

    with closing(in_order((step(entry) for entry in listing.entries()), options.jobs)) as looked:
        for entry, found in looked:
            state[found] += 1
            size += entry.size
            written = known.written(entry.object)
            if written is not None and (oldest is None or written < oldest):
                oldest = written
            options.progress(sum(state.values()), listing.count, size)
    return Examination(sum(state.values()), size, state["missing"], state["rewritten"], oldest)


def check(listing: Listing, store: Bucket, *, deep: bool = False, options: Options | None = None) -> Examination:
    """``examine``, and raise IntegrityError unless everything is whole."""
    found = examine(listing, store, deep=deep, options=options)
    if not found.whole:
        raise IntegrityError(
            f"Of {plural(found.count, 'document')} of {listing.label}, missing from the store: {found.missing:,}, not "
            f"what was stored: {found.rewritten:,}",
            next_step="Choose another backup (`fac-backup list`), and keep this bucket as it is for the analysis.",
        )
    return found


def references(parts: Iterable[Documents], store: ReadSource) -> Iterator[str]:
    """The keys of all stored documents that these manifests' listings need, below the space's prefix; keys repeat where
    backups share documents. Raises IntegrityError or NotFoundError rather than leave one out in silence."""
    for part in parts:
        for entry in Listing.of(store, part).entries():
            yield object_key(part.label, entry.object)


def _read(store: Bucket, label: str, entry: Entry) -> str:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    size = 0
    try:
        for chunk in store.stream(object_key(label, entry.object)):
            sha256.update(chunk)
            md5.update(chunk)
            size += len(chunk)
    except NotFoundError:
        return "missing"
    if size != entry.size:
        return "rewritten"
    if entry.sha256 is not None:
        return "ok" if sha256.hexdigest() == entry.sha256 else "rewritten"
    etag = bare(entry.expected_etag)
    return "ok" if len(etag) != 32 or md5.hexdigest() == etag else "rewritten"
