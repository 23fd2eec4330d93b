"""Verify: is a backup whole, does it restore, is the newest one young enough; and what has moved on since.

1. may this run;  2. the store is ours to read while we look (shared lock; not needed for its age);  3. what the catalog
says: is one missing, which is the newest;  4. its age;  5. every object, or the rehearsal in a scratch database, or the
live tables;  6. audit, so that the catalog shows it. Nothing of the space is changed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from fac_backup.database import checksum, scratch, swap
from fac_backup.database.checksum import Difference
from fac_backup.database.connection import Database
from fac_backup.database.load import LoadOptions, load, opened_head
from fac_backup.documents.check import examine
from fac_backup.documents.listing import Listing
from fac_backup.documents.options import Options
from fac_backup.operations import expiry, gate, opening, views
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FacBackupError, FailedError, IntegrityError, NoSuchBackupError
from fac_backup.plain.manifest import Manifest, Piece
from fac_backup.plain.text import duration, plural, verb
from fac_backup.report.notices import FRESH_SECONDS
from fac_backup.report.views import CheckRow, Fact, Outcome
from fac_backup.store import trail
from fac_backup.store.bucket import NotFoundError
from fac_backup.store.catalog import Entry
from fac_backup.store.store import Store

TITLES = {
    "objects": "The backup is whole",
    "restore": "The backup restores",
    "age": "The newest backup is young enough",
    "live": "The live tables were compared with the backup",
}


@dataclass(frozen=True)
class VerifyRequest:
    """What is asked for."""

    space: str
    backup_id: str = ""
    level: str = "objects"
    """``objects``, ``restore``, or ``age``: nothing but whether the newest backup is young enough."""
    live: bool = False
    max_age_hours: float | None = None
    """Hours; with the level ``age`` 26 where nothing is said."""

    @property
    def check(self) -> str:
        """What kind of check it is, for the audit and the issues."""
        return "live" if self.live else self.level


def run(request: VerifyRequest, around: Surroundings) -> Result:
    """Carry out the steps above. Raises IntegrityError, NoSuchBackupError, FailedError."""
    began = time.monotonic()
    space = around.one_space(request.space)
    gate.admit(gate.Wish("verify", space=space, backup_id=request.backup_id), around)
    store = opening.open_store(around, space)
    store.bucket.check()
    store.open_for_reading()
    patience = around.patience(600.0)
    alone: AbstractContextManager[object] = nullcontext()
    if request.check != "age":
        alone = store.locks.acquire("store", "shared", wait=patience)
    with alone:
        entries = store.catalog.summaries()
        gaps = trail.gaps(store, entries)
        warnings = _warnings(gaps, entries, store)
        missing = {"missing": [str(gap.id) for gap in gaps], "warnings": list(warnings)}
        try:
            manifest = _chosen(store, request, entries)
            _young_enough(manifest, request, around)
            checks = _verify(manifest, store, request, around)
        except FacBackupError as error:
            error.data.update(missing)
            raise
        _note(store, manifest, request, around, "done")
    if not gaps:
        checks.append(CheckRow("catalog", True, "Every backup that another one names is there, or was purged."))
    took = round(time.monotonic() - began, 3)
    outcome = Outcome(
        "verify",
        TITLES[request.check],
        backup_id=manifest.id,
        facts=(
            Fact("space", space),
            Fact("age", _age(manifest, around)),
            Fact("took", duration(took)),
        ),
        checks=tuple(checks),
        warnings=warnings,
    )
    data = views.figures_of(manifest, around) | {"level": request.level, "live": request.live, "duration_seconds": took}
    data |= missing | {"checks": [{"name": c.name, "sentence": c.sentence} for c in checks]}
    return Result(outcome, data)


def _warnings(gaps: Iterable[trail.Gap], entries: Iterable[Entry], store: Store) -> tuple[str, ...]:
    """What the catalog gives cause to worry about beside the backup that is verified."""
    damaged = [f"{entry.id} is damaged: {entry.why}" for entry in entries if entry.manifest is None]
    unsigned = sum(not store.catalog.counts(entry) for entry in entries)
    told = [f"{plural(unsigned, 'backup')} without a valid signature cannot be restored."] if unsigned else []
    return (*(gap.sentence for gap in gaps), *damaged, *told)


def _chosen(store: Store, request: VerifyRequest, entries: Iterable[Entry]) -> Manifest:
    if request.backup_id:
        return store.catalog.read(BackupId.parse(request.backup_id))
    newest = trail.newest(store, entries)
    if newest is None or newest.manifest is None:
        raise NoSuchBackupError(f"{store.space} has no backup to verify", next_step="Back it up first.")
    return newest.manifest if request.check == "age" else store.catalog.read(newest.id)


def _young_enough(manifest: Manifest, request: VerifyRequest, around: Surroundings) -> None:
    age = (around.clock() - manifest.created).total_seconds()
    limit = request.max_age_hours
    if limit is None and request.check == "age":
        limit = FRESH_SECONDS / 3600
    if limit is not None and age > limit * 3600:
        error = FailedError(
            f"The newest backup of {manifest.space} is {duration(age)} old",
            state=f"It may be {limit:g} hours old.",
            next_step="Look at the runs of the daily workflow: docs/operations.md, `cron is red`.",
        )
        error.data.update(views.figures_of(manifest, around))
        raise error


def _verify(manifest: Manifest, store: Store, request: VerifyRequest, around: Surroundings) -> list[CheckRow]:
    """The check itself. What is wrong with the backup is noted in the audit; whatever else fails says nothing of it.

    A failure carries the backup's figures.
    """
    if request.check == "age":
        return [CheckRow("age", True, f"The newest backup is {_age(manifest, around)} old.")]
    try:
        return [_live(manifest, around)] if request.live else _whole(manifest, store, request, around)
    except FacBackupError as error:
        if isinstance(error, IntegrityError | NoSuchBackupError | NotFoundError):
            _note(store, manifest, request, around, "failed")
        error.data.update(views.figures_of(manifest, around))
        raise


def _age(manifest: Manifest, around: Surroundings) -> str:
    return duration((around.clock() - manifest.created).total_seconds())


def _whole(manifest: Manifest, store: Store, request: VerifyRequest, around: Surroundings) -> list[CheckRow]:
    checks = [_pieces(manifest, store, around), *_documents(manifest, store, around)]
    checks.append(_expiry(manifest, store))
    if request.level == "restore":
        checks.append(_rehearsal(manifest, store, around))
    return checks


def _pieces(manifest: Manifest, store: Store, around: Surroundings) -> CheckRow:
    """Read every distinct piece: it is there, has its size, and its hash."""
    distinct = list({piece.sha256: piece for piece in manifest.pieces()}.values())

    def damaged(piece: Piece) -> bool:
        try:
            store.pieces.read(piece)
        except IntegrityError:
            return True
        return False

    with ThreadPoolExecutor(around.jobs) as pool, around.progress().task("Pieces", len(distinct), "pieces") as task:
        wrong = 0
        for bad in pool.map(damaged, distinct):
            wrong += bad
            task.advance()
    if wrong:
        raise _not_whole(
            manifest, f"{plural(wrong, 'piece')} of the database {verb(wrong, 'is', 'are')} missing or damaged"
        )
    return CheckRow("pieces", True, f"Every piece of the database has its hash ({plural(len(distinct), 'piece')}).")


def _documents(manifest: Manifest, store: Store, around: Surroundings) -> Iterable[CheckRow]:
    for part in manifest.documents:
        listing = Listing.of(store.bucket, part)
        found = examine(listing, store.bucket, deep=True, options=Options(jobs=around.transfers))
        if not found.whole or found.count != part.count:
            raise _not_whole(
                manifest,
                f"of the documents {part.label}, missing: {found.missing:,}, damaged: {found.rewritten:,}",
            )
        yield CheckRow(
            f"documents {part.label}", True, f"Every document is there and whole ({plural(found.count, 'document')})."
        )


def _expiry(manifest: Manifest, store: Store) -> CheckRow:
    """Whether the bucket will delete an object that this backup needs before anybody renews it."""
    if store.ageing is None:
        return CheckRow("expiry", None, "The matrix says of no age at which the bucket deletes objects.")
    left = expiry.seconds_left(store, store.ageing, [manifest])
    if left is not None and left < expiry.SOON:
        raise _not_whole(manifest, f"its bucket will delete objects of it in {duration(max(0.0, left))}")
    return CheckRow("expiry", True, expiry.sentence(left))


def _rehearsal(manifest: Manifest, store: Store, around: Surroundings) -> CheckRow:
    """Restore into a scratch database, compare row counts and a checksum of every table, drop it."""
    url = around.env.get("FAC_BACKUP_SCRATCH_DATABASE_URL") or around.places(manifest.space).need_database()
    database = Database(url, called="the scratch server's database")
    part = manifest.database
    name = scratch.scratch_name(database.name, "new", f"{int(around.clock().timestamp()):08x}{secrets.token_hex(2)}")
    options = LoadOptions(jobs=around.jobs, inside_actions=around.inside_actions)
    scratch.drop_abandoned(database)
    swap.create_beside(database, name, part)
    try:
        with opened_head(database, part, store.pieces, options) as head:
            load(database, name, part, store.pieces, options, head=head)
            wrong = checksum.rehearse(database.with_name(name), part, store.pieces, head, jobs=around.jobs)
    finally:
        scratch.drop(database, name)
    if wrong:
        raise _not_whole(
            manifest, f"restored, {plural(len(wrong), 'table')} {verb(len(wrong), 'differs', 'differ')} from it"
        )
    return CheckRow(
        "rehearsal",
        True,
        f"Restored into a scratch database: every table is equal ({plural(len(part.rows), 'table')}).",
    )


def _live(manifest: Manifest, around: Surroundings) -> CheckRow:
    """The live tables' rows beside the backup's counts: news, not an error, unless a table is gone or empty."""
    database = Database(around.places(manifest.space).need_database(), called=f"{manifest.space}'s database")
    session = database.connect(autocommit=True)
    try:
        changed = checksum.compare_live(session, manifest.database)
    finally:
        session.close()
    gone = [one for one in changed if one.found_rows is None or (one.found_rows == 0 and one.expected_rows > 0)]
    if gone:
        raise FailedError(
            f"{plural(len(gone), 'table')} of the backup {manifest.id} {verb(len(gone), 'is', 'are')} missing or empty "
            "in the live database",
            state="Nothing was changed.",
            next_step="If nobody did that on purpose: docs/operations.md, `the data is wrong`.",
        )
    return CheckRow("live", True, _moved(changed, len(manifest.database.rows)))


def _moved(changed: tuple[Difference, ...], tables: int) -> str:
    more = sum(max(0, (one.found_rows or 0) - one.expected_rows) for one in changed)
    less = sum(max(0, one.expected_rows - (one.found_rows or 0)) for one in changed)
    return (
        f"Of {plural(tables, 'table')} {len(changed):,} {verb(len(changed), 'has another count', 'have other counts')} "
        f"now: {plural(more, 'row')} more, {plural(less, 'row')} fewer."
    )


def _not_whole(manifest: Manifest, what: str) -> IntegrityError:
    return IntegrityError(
        f"The backup {manifest.id} is not whole: {what}",
        next_step=f"Back {manifest.space} up now, and keep this bucket as it is for the analysis.",
    )


def _note(store: Store, manifest: Manifest, request: VerifyRequest, around: Surroundings, result: str) -> None:
    if request.check == "age":
        return  # every day, and it says nothing of the backup itself
    facts: dict[str, Any] = {"backup_id": manifest.id, "level": request.check}
    store.audit.record("verify", result, actor=around.run.actor, run=around.run.url, facts=facts)
