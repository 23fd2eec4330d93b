"""Back up the documents of one label: what changed since the last listing is copied into the store, then listed.

The steps, all of them streams: LIST the source, walk it beside the previous listing, reuse what is unchanged and still
in the store, copy the rest, write the new listing. Nothing here commits anything: the manifest does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from fac_backup.documents import versions
from fac_backup.documents.entry import Entry, bare, handle, object_key, object_name
from fac_backup.documents.known import Known
from fac_backup.documents.listing import Listing, listing_key, write
from fac_backup.documents.merge import side_by_side
from fac_backup.documents.options import Options
from fac_backup.documents.source import EVERYTHING, KeyRange, Source, documents
from fac_backup.documents.transfer import Transfer, same_description
from fac_backup.documents.window import Ahead, Task, in_order
from fac_backup.plain.errors import FailedError, IntegrityError
from fac_backup.plain.manifest import Documents
from fac_backup.store.bucket import Bucket, Changed, NotFoundError, ObjectInfo

log = logging.getLogger(__name__)

YOUNG_SECONDS = 2
"""S3 tells times in whole seconds: what is younger than this may still be written again without showing."""

_ATTEMPTS = 5


@dataclass(frozen=True)
class Figures:
    """What the backup of one label did."""

    copied: int = 0
    """Documents copied into the store, by the server or through us."""
    copied_size: int = 0
    streamed: int = 0
    """Of these, copied through us."""
    reused: int = 0
    """Documents that the store had."""
    repaired: int = 0
    """Unchanged documents whose stored object was missing or another one: copied again."""
    changed: int = 0
    """Documents that changed while they were copied; the new version was taken."""
    vanished: int = 0
    listing_uploaded: int = 0
    """Bytes of the listing as stored; 0 where the previous one was copied because nothing had changed."""

    @property
    def uploaded(self) -> int:
        """Bytes that were new in the store."""
        return self.copied_size + self.listing_uploaded


@dataclass(frozen=True)
class Result:
    """The manifest's part for this label, and what it cost."""

    documents: Documents
    figures: Figures


@dataclass
class _Tally:
    """Counts that several threads add to."""

    counts: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **more: int) -> None:
        with self._lock:
            for name, count in more.items():
                self.counts[name] = self.counts.get(name, 0) + count


class _Done(NamedTuple):
    """A document that is in the store, as its line of the listing, and its size."""

    line: bytes
    size: int
    unchanged: bool = False
    """The line is the previous listing's next line."""


_Step = _Done | None


def backup(
    source: Source,
    store: Bucket,
    backup_id: str,
    previous: Listing | None = None,
    options: Options | None = None,
) -> Result:
    """Back up one label into ``store`` (a bucket seen from the space's prefix), incremental against ``previous``.

    Raises FailedError where the source or the store cannot be read or written; what was copied until then is found
    again by the next backup.
    """
    return backup_range(
        source,
        store,
        backup_id,
        previous,
        between=EVERYTHING,
        key=listing_key(backup_id, source.label),
        options=options,
    )


def backup_range(
    source: Source,
    store: Bucket,
    backup_id: str,
    previous: Listing | None,
    *,
    between: KeyRange,
    key: str,
    options: Options | None = None,
    restored: Listing | None = None,
) -> Result:
    """Back up a run of keys; the listing of this part is stored under ``key``. ``shards.join`` makes one of several.

    ``restored`` is the record of what a restore from this very store has just put there: the store has it already.
    """
    options = options or Options()
    previous = _readable(previous)
    with closing(Ahead(documents(source.bucket, between))) as found:  # while the store is listed
        work = _Work(source, store, backup_id, Known(store, source.label), options)
        with closing(work.transfer), closing(work.steps(found, previous, between, restored)) as steps:
            if previous is None or restored is not None or between != EVERYTHING:
                listing, uploaded = write(store, key, source.label, work.lines(steps))
            else:
                listing, uploaded = _against(previous, work, steps, key)
    tally = work.tally
    figures = Figures(
        listing_uploaded=uploaded,
        reused=tally.counts.pop("reused", 0) + work.unchanged,
        **tally.counts,
    )
    return Result(_part(listing, work.size, figures.vanished), figures)


def _part(listing: Listing, size: int, vanished: int) -> Documents:
    return Documents(
        label=listing.label,
        listing=listing.key,
        listing_sha256=listing.sha256,
        listing_size=listing.size,
        listing_stored_sha256=listing.stored_sha256,
        count=listing.count,
        size=size,
        vanished=vanished,
    )


def _readable(previous: Listing | None) -> Listing | None:
    """The previous listing if it is whole. A damaged one costs time (everything is looked at anew), not the backup."""
    if previous is None:
        return None
    try:
        previous.verify()
    except (IntegrityError, NotFoundError) as error:
        log.warning("The previous listing of %s cannot be used: %s", previous.label, error.what)
        return None
    return previous


def _against(previous: Listing, work: _Work, steps: Iterator[_Step], key: str) -> tuple[Listing, int]:
    """Write the listing; where not one line differs from the previous, let the server copy that instead.

    Unchanged lines are only counted until the first difference shows; then they are read once more from the previous
    listing, so nothing is held and nothing is uploaded in vain.
    """
    store = work.store
    same = 0
    first: _Step = None
    for step in steps:
        if step is None or not step.unchanged:
            first = step
            break
        same += 1
        work.count(step)
    else:
        if same == previous.count:
            store.copy_from(store, previous.key, key)
            return replace(previous, store=store, key=key), 0
    head = (line for line, _ in zip(previous.lines(), range(same), strict=False))
    return write(store, key, previous.label, chain(head, work.lines(chain([first], steps))))


class _Work:
    """One label's backup while it runs."""

    def __init__(self, source: Source, store: Bucket, backup_id: str, known: Known, options: Options) -> None:
        self.label = source.label
        self.bucket = source.bucket
        self.store = store
        self.backup_id = backup_id
        self.known = known
        self.options = options
        self.transfer = Transfer(source.bucket, store, ask_sha256=True)
        self.tally = _Tally()
        self.total: int | None = None
        self.done = self.size = self.unchanged = 0

    def lines(self, steps: Iterable[_Step]) -> Iterator[bytes]:
        """The listing's lines, counted."""
        for step in steps:
            if step is not None:
                self.count(step)
                yield step.line

    def count(self, step: _Done) -> None:
        self.done += 1
        self.size += step.size
        self.unchanged += step.unchanged
        self.options.progress(self.done, self.total, self.tally.counts.get("copied_size", 0))

    def steps(
        self, found: Iterable[ObjectInfo], previous: Listing | None, between: KeyRange, restored: Listing | None
    ) -> Generator[_Step]:
        """One step a document of the source, in key order; None for one that vanished, now or since the previous."""
        before: Iterable[tuple[bytes, Entry]] = ()
        if previous is not None:
            self.total = previous.count if between == EVERYTHING else None
            before = (pair for pair in previous.pairs() if pair[1].key in between)
        if restored is not None:
            before = self._either(before, restored)
        pairs = side_by_side(found, before, lambda found: found.key, lambda pair: pair[1].key)
        steps = (self._step(*pair) for pair in pairs)
        return in_order(steps, self.options.jobs, lambda: self.store.wire.slowed)

    def _either(self, before: Iterable[tuple[bytes, Entry]], restored: Listing) -> Iterator[tuple[bytes, Entry]]:
        """Of each key the line of the record, if the store has what it names, else that of the previous listing."""
        for old, new in side_by_side(before, restored.pairs(), lambda pair: pair[1].key, lambda pair: pair[1].key):
            if new is not None and self.known.has(new[1].object, new[1].size, new[1].expected_etag):
                yield new
            elif old is not None:
                yield old

    def _step(self, found: ObjectInfo | None, before: tuple[bytes, Entry] | None) -> _Step | Task[_Step]:
        if found is None:
            return None  # the lines that follow are no longer the previous listing's next ones
        modified, etag = _seconds(found.modified), bare(found.etag)
        if before is not None:
            line, entry = before
            if entry.etag == etag and entry.size == found.size and entry.modified == modified:
                stored = self.known.has(entry.object, entry.size, entry.expected_etag)
                if stored and not entry.young:
                    return _Done(line, entry.size, unchanged=True)
                if stored:
                    return Task(lambda: self._confirm(entry, found))
                return Task(lambda: self._copy(found, entry.object, repaired=1))
        return Task(lambda: self._copy(found, object_name(found.key, etag, found.size, modified)))

    def _confirm(self, entry: Entry, found: ObjectInfo) -> _Step:
        """A document that was young when it was listed: is what the store has still all of it?"""
        now, stored = self.bucket.head(found.key), self.store.head(object_key(self.label, entry.object))
        if now is not None and stored is not None and bare(now.etag) == entry.etag and same_description(now, stored):
            self.tally.add(reused=1)
            settled = entry.model_copy(update={"young": self._young(entry.modified) or None})
            return _Done(settled.line(), entry.size)
        salted = object_name(found.key, entry.etag, found.size, entry.modified, self.backup_id)
        return self._copy(found, salted)

    def _copy(self, found: ObjectInfo, name: str, repaired: int = 0) -> _Step:
        """Copy one document in the version that is there now; None if there is none any more."""
        key, size, etag, modified = found.key, found.size, bare(found.etag), _seconds(found.modified)
        for attempt in range(_ATTEMPTS):
            young = self._young(modified) or None
            entry = Entry(key=key, size=size, etag=etag, modified=modified, object=name, young=young)
            if self.known.has(name, size, etag) and not young:
                # An interrupted backup, or an older one, has left this very version: its ETag is the source's.
                self.tally.add(reused=1)
                return _Done(entry.line(), size)
            try:
                copied = self.transfer.copy(key, object_key(self.label, name), etag=etag, size=size)
            except (Changed, NotFoundError):
                now = self.bucket.head(key)
                if now is None:
                    return self._vanished(entry)
                size, etag, modified = now.size, bare(now.etag), _seconds(now.modified)
                name = object_name(key, etag, size, modified)
                self.tally.add(changed=attempt == 0)
                continue
            self.tally.add(copied=1, copied_size=size, streamed=copied.streamed, repaired=repaired)
            return _Done(_with(entry, copied.etag, copied.sha256).line(), size)
        raise FailedError(
            f"A document (sha256 of its key begins with {handle(key)}) changes faster than it can be copied",
            next_step="Run the backup again when the application writes less.",
        )

    def _vanished(self, entry: Entry) -> _Step:
        """The document was deleted after it was listed: the version that was listed, if the bucket keeps versions."""
        version_id = versions.find(self.bucket, entry.key, entry.etag)
        if version_id:
            try:
                copied = self.transfer.copy_version(
                    entry.key, object_key(self.label, entry.object), version_id=version_id, size=entry.size
                )
            except FailedError as error:
                log.info("An older version of a document could not be read: %s", error.what)
            else:
                self.tally.add(copied=1, copied_size=entry.size)
                return _Done(_with(entry, copied.etag, copied.sha256).line(), entry.size)
        log.warning("A document (sha256 of its key begins with %s) vanished while it was backed up", handle(entry.key))
        self.tally.add(vanished=1)
        return None

    def _young(self, modified: int) -> bool:
        return self.options.clock().timestamp() - modified < YOUNG_SECONDS


def _seconds(moment: datetime) -> int:
    return max(0, int(moment.timestamp()))


def _with(entry: Entry, stored_etag: str, sha256: str | None) -> Entry:
    return entry.model_copy(
        update={"stored_etag": stored_etag if stored_etag != entry.etag else None, "sha256": sha256}
    )
