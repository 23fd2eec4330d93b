"""Make a target's documents equal to a listing, in two phases around the swap of the database.

``add`` gives the target what it lacks and changes nothing that it has. ``finish`` overwrites what differs and deletes
what is too much. Both look at the target as it is now, so each may be repeated or taken up again after a kill, and both
touch only what lies below the target's prefix, ``.fac-backup/`` never.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from fac_backup.documents import records
from fac_backup.documents.entry import Entry, bare, damaged, object_key
from fac_backup.documents.listing import Listing
from fac_backup.documents.merge import side_by_side
from fac_backup.documents.options import Options
from fac_backup.documents.source import EVERYTHING, KeyRange, ReadSource, documents
from fac_backup.documents.transfer import Copied, Transfer, content_sha256, same_description
from fac_backup.documents.window import Task, in_order
from fac_backup.plain.digests import Digests
from fac_backup.store.bucket import Bucket, Changed, NotFoundError, ObjectInfo


class Action(Enum):
    """What a restore does with one document of the target."""

    SAME = "same"
    ADD = "add"
    OVERWRITE = "overwrite"
    DELETE = "delete"


@dataclass(frozen=True)
class Change:
    """One document: what is to be done, what the listing says (None: delete), what the target has (None: add)."""

    action: Action
    entry: Entry | None
    found: ObjectInfo | None


@dataclass(frozen=True)
class Plan:
    """What a restore would do: documents and bytes a kind."""

    same: int = 0
    add: int = 0
    add_size: int = 0
    overwrite: int = 0
    overwrite_size: int = 0
    delete: int = 0
    delete_size: int = 0

    @property
    def equal(self) -> bool:
        """Whether there is nothing to do: the target is what the listing says."""
        return not (self.add or self.overwrite or self.delete)


@dataclass(frozen=True)
class Restore:
    """What is restored, from where, into what.

    ``own``: the listing was made of this very target (recovery, undo), so what has the same key, ETag, size and time
    is the same object. ``last``: the record that the last restore left (see ``finish``), which tells the same of a
    target that is refreshed from elsewhere.
    """

    listing: Listing
    stored: ReadSource
    """The source's store, seen from the source space's prefix: a ``Bucket``, or an index of presigned addresses."""
    target: Bucket
    own: bool = False
    last: Listing | None = None
    options: Options = field(default_factory=Options)
    between: KeyRange = EVERYTHING
    alive: Callable[[], None] = lambda: None
    """Called before each change of the target; raises LockedError if our lease is lost."""


class Added:
    """Which documents ``add`` has written, as digests, so that ``finish`` need not ask after them one by one."""

    def __init__(self) -> None:
        self._written = Digests()
        self._lock = threading.Lock()

    def note(self, key: str, size: int, etag: str) -> None:
        """Remember a document that was written, with the ETag that it got."""
        with self._lock:
            self._written.add(f"{size} {etag} {key}")

    def has(self, key: str, size: int, etag: str) -> bool:
        """Whether this document was written, and still has the ETag that it got then."""
        with self._lock:
            return f"{size} {etag} {key}" in self._written

    def __len__(self) -> int:
        with self._lock:
            return len(self._written)


def plan(work: Restore) -> Plan:
    """Count what a restore would do; changes nothing. Where only a description may differ, it asks."""
    counts: dict[str, int] = {}
    with closing(_settled(work, Added())) as changes:
        for change in changes:
            _count(counts, change)
    return Plan(**counts)


def add(work: Restore, added: Added | None = None) -> tuple[Plan, Added]:
    """Phase one: give the target every document of the listing that it lacks. What it has stays as it is.

    Raises IntegrityError if a stored document is missing or is not what was stored; what was added until then does no
    harm, and is known to ``added`` if the caller gave one. The Plan counts only what was added.
    """
    work.listing.verify()
    counts: dict[str, int] = {}
    added, transfer = Added() if added is None else added, Transfer(work.stored, work.target)

    def give(entry: Entry) -> Change:
        change = Change(Action.ADD, entry, None)
        added.note(entry.key, entry.size, _copy(work, transfer, change)[1])
        return change

    missing = (entry for found, entry, _ in _side_by_side(work) if found is None and entry is not None)
    tasks: Iterator[Change | Task[Change]] = (Task(partial(give, entry)) for entry in missing)
    size = 0
    with closing(transfer), closing(in_order(tasks, work.options.jobs, _slowed(work))) as done:
        for change in done:
            _count(counts, change)
            size += change.entry.size if change.entry else 0
            work.options.progress(counts["add"], None, size)
    return Plan(**counts), added


def finish(work: Restore, added: Added | None = None, record: Bucket | None = None) -> Plan:
    """Phase two: overwrite what differs, add what is still missing, delete what is too much.

    ``added`` is what ``add`` returned, if this process called it. ``record`` is the target's own store, where a listing
    is left that tells the next restore (``records.load``, as ``Restore.last``) what every document of the target is.
    Raises IntegrityError like ``add``.
    """
    work.listing.verify()
    counts: dict[str, int] = {}
    with closing(_carried_out(work, added or Added(), counts)) as lines:
        if record is None:
            for _ in lines:
                pass
        else:
            records.save(record, work.listing.label, lines)
    return Plan(**counts)


def recorded(work: Restore, added: Added) -> Iterator[bytes]:
    """The lines of a record (``records``) of what the target has that is as listed; changes nothing. Where only a
    description may differ, it asks. ``added`` is what ``add`` returned."""
    with closing(_settled(work, added)) as changes:
        for change in changes:
            if change.action is Action.SAME and change.found is not None and change.entry is not None:
                yield _as_found(change.entry, change.found).line()


def compare(work: Restore, *, deep: bool = False) -> Plan:
    """What still differs, after all is done: ``Plan.equal`` says whether the target is what the listing says.

    ``deep`` reads every document of the target and compares the hash of its bytes with the listing's, or with the
    stored document's where the listing knows none.
    """
    counts: dict[str, int] = {}

    def look(change: Change) -> Change:
        entry = change.entry
        if change.action is not Action.SAME or entry is None:
            return change
        stored = object_key(work.listing.label, entry.object)
        wanted = entry.sha256 or content_sha256(work.stored, stored)
        same = content_sha256(work.target, entry.key) == wanted
        return change if same else Change(Action.OVERWRITE, entry, change.found)

    with closing(_settled(work, Added())) as changes:
        tasks: Iterator[Change | Task[Change]] = (Task(partial(look, change)) if deep else change for change in changes)
        with closing(in_order(tasks, work.options.jobs)) as looked:
            for change in looked:
                _count(counts, change)
    return Plan(**counts)


def _carried_out(work: Restore, added: Added, counts: dict[str, int]) -> Generator[bytes]:
    """Carry changes out; yields the lines of the record: what was there already, as LIST shows it."""
    transfer = Transfer(work.stored, work.target)
    size = 0
    with closing(transfer), closing(_settled(work, added, transfer)) as changes:
        extra = Extra(work)
        for change in changes:
            _count(counts, change)
            if change.action is Action.DELETE and change.found is not None:
                extra.delete(change.found.key)
            elif change.action is Action.SAME and change.found is not None and change.entry is not None:
                yield _as_found(change.entry, change.found).line()
            else:
                size += change.entry.size if change.entry else 0
            work.options.progress(sum(counts.get(kind.value, 0) for kind in Action), work.listing.count, size)
        extra.flush()


class Extra:
    """What the target has too much, deleted by the thousand."""

    def __init__(self, work: Restore) -> None:
        self._work = work
        self._keys: list[str] = []

    def delete(self, key: str) -> None:
        """Let this one go with the next thousand."""
        self._keys.append(key)
        if len(self._keys) >= 1000:
            self.flush()

    def flush(self) -> None:
        """Delete what has been named so far."""
        if self._keys:
            self._work.alive()
            self._work.target.delete_many(self._keys)
            self._keys = []


def carry_out_all(work: Restore) -> Generator[Change]:
    """Every document of listing and target in key order; additions and overwrites are done, deletions are not."""
    transfer = Transfer(work.stored, work.target)
    with closing(transfer), closing(_settled(work, Added(), transfer)) as changes:
        yield from changes


def _settled(work: Restore, added: Added, transfer: Transfer | None = None) -> Generator[Change]:
    """Every document of listing and target with what is to be done, in key order; additions and overwrites are done
    on the way if ``transfer`` is given."""

    def settle(entry: Entry, found: ObjectInfo) -> Change:
        if may_be_same(entry, found) and _same_by_head(work, entry, found):
            return Change(Action.SAME, entry, found)
        return carry_out(Change(Action.OVERWRITE, entry, found))

    def carry_out(change: Change) -> Change:
        if transfer is not None:
            _copy(work, transfer, change)
        return change

    def step(found: ObjectInfo | None, entry: Entry | None, last: Entry | None) -> Change | Task[Change]:
        if entry is None:
            return Change(Action.DELETE, None, found)
        if found is None:
            change = Change(Action.ADD, entry, None)
            return Task(lambda: carry_out(change)) if transfer is not None else change
        if _known_same(work, entry, found, last) or added.has(entry.key, found.size, bare(found.etag)):
            return Change(Action.SAME, entry, found)
        return Task(lambda: settle(entry, found))

    return in_order((step(*sides) for sides in _side_by_side(work)), work.options.jobs, _slowed(work))


def _slowed(work: Restore) -> Callable[[], int]:
    """How often the target's server has asked for fewer requests."""
    return lambda: work.target.wire.slowed


def _side_by_side(work: Restore) -> Iterator[tuple[ObjectInfo | None, Entry | None, Entry | None]]:
    """What the target has, what the listing says, and what the last restore's record says, of each key."""
    listed = (entry for entry in work.listing.entries() if entry.key in work.between)
    last = (entry for entry in work.last.entries() if entry.key in work.between) if work.last else iter(())
    wanted = side_by_side(listed, last, lambda entry: entry.key, lambda entry: entry.key)
    rows = side_by_side(
        documents(work.target, work.between),
        wanted,
        lambda found: found.key,
        lambda pair: (pair[0] or pair[1]).key,  # type: ignore[union-attr]
    )
    for found, pair in rows:
        entry, recorded = pair or (None, None)
        if found is not None or entry is not None:
            yield found, entry, recorded


def _known_same(work: Restore, entry: Entry, found: ObjectInfo, last: Entry | None) -> bool:
    """Whether LIST alone tells that the target's document is the listed one, description included."""
    if work.own and not entry.young and _is(entry, found):
        return True
    return last is not None and last.object == entry.object and _is(last, found)


def _is(entry: Entry, found: ObjectInfo) -> bool:
    return (entry.size, entry.etag, entry.modified) == (found.size, bare(found.etag), _seconds(found))


def may_be_same(entry: Entry, found: ObjectInfo) -> bool:
    """Whether the bytes are the listed ones: an ETag is a hash of the bytes, or tells nothing and never matches."""
    return found.size == entry.size and bare(found.etag) in (entry.etag, entry.expected_etag)


def _same_by_head(work: Restore, entry: Entry, found: ObjectInfo) -> bool:
    here = work.target.head(entry.key)
    if here is None or here.etag != found.etag:
        return False
    stored = work.stored.head(object_key(work.listing.label, entry.object))
    return stored is not None and same_description(here, stored)


def _copy(work: Restore, transfer: Transfer, change: Change) -> tuple[Entry, str]:
    """Bring one stored document to the target; its entry and the ETag that it got there."""
    entry = change.entry
    assert entry is not None  # noqa: S101 - only additions and overwrites come here
    work.alive()
    stored = object_key(work.listing.label, entry.object)
    try:
        done = transfer.copy(stored, entry.key, etag=entry.expected_etag, size=entry.size, sha256=entry.sha256)
    except NotFoundError:
        raise damaged("a stored document is missing") from None
    except Changed:
        done = _copy_renewed(work, transfer, entry, stored)
    return entry, done.etag


def _copy_renewed(work: Restore, transfer: Transfer, entry: Entry, stored: str) -> Copied:
    """The stored document has another ETag than when it was stored. Renewal may do that (an upload in parts becomes one
    copy): it is taken if its bytes have the listing's SHA-256, which is looked at while they pass through us."""
    head = work.stored.head(stored)
    if head is None or head.size != entry.size or entry.sha256 is None:
        raise damaged("a stored document is not what was stored")
    try:
        return transfer.stream(stored, entry.key, etag=bare(head.etag), size=entry.size, sha256=entry.sha256)
    except (Changed, NotFoundError):
        raise damaged("a stored document is not what was stored") from None


def _as_found(entry: Entry, found: ObjectInfo) -> Entry:
    """The record of a document that is the listed one: how the target's LIST shows it, and what it is."""
    return Entry(key=entry.key, size=found.size, etag=bare(found.etag), modified=_seconds(found), object=entry.object)


def _count(counts: dict[str, int], change: Change) -> None:
    name = change.action.value
    counts[name] = counts.get(name, 0) + 1
    if change.action is not Action.SAME:
        size = change.entry.size if change.entry else change.found.size if change.found else 0
        counts[f"{name}_size"] = counts.get(f"{name}_size", 0) + size


def _seconds(found: ObjectInfo) -> int:
    return max(0, int(found.modified.timestamp()))
