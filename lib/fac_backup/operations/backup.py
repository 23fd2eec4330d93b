"""Back up one space: database and documents of one moment.

The steps, in order; a failure at any of them leaves no backup (the manifest is written last), and what was uploaded
goes with the next purge:

1. may this run do it;  2. where is everything, and is it what it is said to be;  3. open the store, take the locks;
4. the database's snapshot is taken and dumped; from the snapshot on, documents are copied beside it;
5. renew what ages;  6. write the manifest: the commit;  7. one line of audit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime

from fac_backup.database.dump import DumpOptions, dump
from fac_backup.documents import backup as document_backup
from fac_backup.documents.listing import Listing
from fac_backup.documents.options import Options
from fac_backup.documents.source import Source
from fac_backup.operations import engine, gate, markers, opening, renewing, views
from fac_backup.operations.opening import Opened
from fac_backup.operations.result import Result
from fac_backup.operations.shown import dumping
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FacBackupError, FailedError, Stopped, UsageError
from fac_backup.plain.manifest import NOTE, Documents, Figures, Manifest
from fac_backup.plain.text import plural
from fac_backup.store import layout, trail
from fac_backup.store.bucket import BucketError
from fac_backup.store.catalog import Entry
from fac_backup.store.cuts import cut
from fac_backup.store.locks import Lease
from fac_backup.store.store import Store

log = logging.getLogger(__name__)

LOCK_WAIT = 900.0
"""Seconds a backup waits for a restore into its space, or for a purge of its store, to end."""


@dataclass(frozen=True)
class BackupRequest:
    """What is asked for; empty texts are filled in from the matrix-free defaults and the event."""

    space: str = ""
    kind: str = ""
    note: str = ""
    backup_id: str = ""
    range_threshold: int | None = None
    range_pages: int | None = None
    engine: str = ""
    """Who reads the database and the documents: fac-backup, django-dbbackup, or as the matrix says."""
    archives: str = ""
    """With django-dbbackup: the folder of what its commands wrote; empty where they are run here."""
    manage_py: str = ""


def run(request: BackupRequest, around: Surroundings) -> Result:
    """Carry out the steps above. Raises FacBackupError; then no backup was made."""
    began = time.monotonic()
    wanted = filled_in(request, around)
    gate.admit(gate.Wish("backup", space=wanted.space, kind=wanted.kind, backup_id=wanted.backup_id), around)

    opened = opening.open_space(around, wanted.space)
    markers.refuse_another_space(opened)
    opened.store.open_for_writing()
    committing: list[BackupId] = []
    with (
        telling(opened.store, committing),
        opened.store.locks.acquire("store", "shared", wait=around.patience(LOCK_WAIT)) as lease,
        opened.store.locks.acquire("space", "shared", wait=around.patience(LOCK_WAIT)),
    ):
        reader = engine.of(wanted.engine, wanted.space, around)
        with engine.read_by(reader, opened, wanted.archives, wanted.manage_py, around) as there:
            manifest = take(there, around, replace(wanted, engine=reader), lease, began=began, committing=committing)
    return views.backup_result(manifest, opened, around)


def take(
    opened: Opened, around: Surroundings, wanted: BackupRequest, lease: Lease, *, began: float,
    listed: tuple[Documents, ...] = (), committing: list[BackupId] | None = None,
) -> Manifest:  # fmt: skip
    """Steps 4 to 7, for whoever holds the locks: also a restore that takes its ``pre-restore`` backup.

    ``listed`` are listings newer than those of the newest backup, where a restore's shards have made some;
    ``committing`` gets the backup's id just before it may exist, for ``telling``.
    """
    store = opened.store
    backup_id = free_id(wanted, opened, around.clock(), around.who)
    log.info("Backing up %s as %s", wanted.space, backup_id)
    store.pieces.load_known()
    newest = newest_of(opened)
    known = newest.manifest.documents if newest and newest.manifest else ()
    previous = {part.label: part for part in (*known, *listed)}
    with _Documents(opened, str(backup_id), previous, around) as documents:
        moment: list[datetime] = []

        def after_snapshot() -> None:
            moment.append(around.clock())
            documents.start()

        with dumping(store.pieces, around, newest) as pieces:
            part = dump(opened.database, pieces, dump_options(wanted, around, after_snapshot))
        part = part.model_copy(update={"engine": engine.IN_MANIFESTS[wanted.engine or engine.OURS]})
        copied = documents.finish()

    markers.renew(opened)
    renewing.renew_needed(opened, lease, made=tuple(result.documents for result in copied), database=part)
    uploaded_documents = sum(result.figures.uploaded for result in copied)
    manifest = Manifest(
        id=str(backup_id),
        space=backup_id.space,
        kind=backup_id.kind,
        created=moment[0],
        finished=around.clock(),
        note=wanted.note,
        run=around.run,
        previous=trail.previous(newest),
        figures=Figures(
            uploaded=store.pieces.figures.uploaded + uploaded_documents,
            uploaded_database=store.pieces.figures.uploaded,
            uploaded_documents=uploaded_documents,
            seconds=round(time.monotonic() - began, 3),
        ),
        database=part,
        documents=tuple(result.documents for result in copied),
    )
    if committing is not None:
        committing.append(backup_id)
    store.catalog.commit(manifest, lease, signer=opened.signer)
    store.audit.record("backup", "done", actor=around.run.actor, run=around.run.url, facts={"backup_id": manifest.id})
    return manifest


@contextmanager
def telling(store: Store, committing: list[BackupId]) -> Iterator[None]:
    """Whoever stops a backup, or loses its bucket, is told whether there is one: there is from its manifest's PUT on.

    ``committing`` is empty before that.
    """
    try:
        yield
    except Stopped as stopped:
        _tell(stopped.told, store, committing)
        raise
    except BucketError as error:
        if committing:
            _tell(error, store, committing)
        raise


def _tell(error: FacBackupError, store: Store, committing: list[BackupId]) -> None:
    error.state = "No backup was made."
    for backup_id in committing:
        there = False
        with suppress(FacBackupError):
            there = store.bucket.head(layout.manifest_key(backup_id)) is not None
        if there:
            error.state = f"The backup {backup_id} is complete, and can be restored."
            error.next_step = "Run it again only if you want another one."
            error.data["backup_id"] = str(backup_id)
        else:  # the PUT may be under way still
            error.state = f"Whether the backup {backup_id} is complete is not known."
            error.next_step = f"See whether `fac-backup list --space {store.space}` shows it; if not, run it again."


class _Documents:
    """The documents of all labels, copied by a thread of their own beside the dump, from the snapshot on."""

    def __init__(self, opened: Opened, backup_id: str, previous: dict[str, Documents], around: Surroundings) -> None:
        self._opened = opened
        self._backup_id = backup_id
        self._previous = previous
        self._around = around
        self._progress = around.progress()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="documents")
        self._result: Future[list[document_backup.Result]] | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to list and copy: everything that the snapshot refers to has been uploaded by now."""
        self._result = self._pool.submit(self._copy_all)

    def finish(self) -> Sequence[document_backup.Result]:
        """Wait for the last copy. Raises what went wrong."""
        if self._result is None:
            raise FailedError("The dump ended before its snapshot was announced", next_step="Report this.")
        return self._result.result()

    def _copy_all(self) -> list[document_backup.Result]:
        return [self._copy(source) for source in self._opened.sources]

    def _copy(self, source: Source) -> document_backup.Result:
        part = self._previous.get(source.label)
        previous = Listing.of(self._opened.bucket, part) if part else None
        with self._progress.task(f"Documents of {source.label}", part.count if part else None, "documents") as task:
            before = 0

            def progress(done: int, total: int | None, _size: int) -> None:
                nonlocal before
                if self._stopped:
                    raise FailedError("The backup was stopped")
                if total is not None:
                    task.set_total(total)
                task.advance(done - before)
                before = done

            options = Options(jobs=self._around.transfers, progress=progress, clock=self._around.clock)
            return document_backup.backup(source, self._opened.bucket, self._backup_id, previous, options)

    def __enter__(self) -> _Documents:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopped = kind is not None
        self._pool.shutdown(wait=True, cancel_futures=True)


def filled_in(request: BackupRequest, around: Surroundings) -> BackupRequest:
    """The request with space, kind and id as they will be, checked against the matrix."""
    space = around.one_space(request.space)
    kind = request.kind or around.default_kind()
    around.matrix.kind(space, kind)
    if kind == "pre-restore":
        raise UsageError(
            "A pre-restore backup is made by a restore only", next_step="Use the kind manual for one of your own."
        )
    if request.backup_id:
        named = BackupId.parse(request.backup_id)
        if (named.space, named.kind) != (space, kind):
            raise UsageError(
                f"The backup id {named} is not one of {space} and kind {kind}", next_step="Leave it out, or correct it."
            )
    return replace(request, space=space, kind=kind, note=fitting(request.note))


def fitting(note: str) -> str:
    """As much of a note as a manifest takes: too long a one is no reason to have no backup."""
    if len(note) > NOTE:
        log.warning("The note has %s; the first %s are kept", plural(len(note), "character"), f"{NOTE:,}")
    return note[:NOTE]


def free_id(wanted: BackupRequest, opened: Opened, now: datetime, owner: str) -> BackupId:
    """The id that was asked for, or one of this second; a taken one moves on by a second."""
    named = BackupId.parse(wanted.backup_id) if wanted.backup_id else BackupId.now(wanted.space, wanted.kind, now)
    free = opened.store.catalog.reserve(named, owner=owner)
    if wanted.backup_id and free != named:
        raise UsageError(f"There is already a backup {named}", next_step="Leave the id out, or choose another.")
    return free


def newest_of(opened: Opened) -> Entry | None:
    """The newest backup that counts: the one that a new manifest names as its previous one."""
    return trail.newest(opened.store, opened.store.catalog.summaries())


def previous_of(opened: Opened) -> Manifest | None:
    """Its manifest, against whose listings the documents are compared; only a saving, never trusted."""
    newest = newest_of(opened)
    return newest.manifest if newest else None


def dump_options(wanted: BackupRequest, around: Surroundings, after_snapshot: Callable[[], None]) -> DumpOptions:
    """How the database is dumped; ``after_snapshot`` is called once the snapshot is taken."""
    options = DumpOptions(
        jobs=around.jobs,
        exclude_data=around.matrix.space(wanted.space).exclude_data,
        inside_actions=around.inside_actions,
        cut=cut,
        after_snapshot=after_snapshot,
    )
    if wanted.range_threshold is not None:
        none = 1 << 62
        options = replace(options, range_threshold=wanted.range_threshold if wanted.range_threshold >= 0 else none)
    return replace(options, range_pages=wanted.range_pages) if wanted.range_pages else options
