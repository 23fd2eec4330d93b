"""Back up one space with several machines: the documents in shards, each copied by a job of its own (docs/scale.md).

Three stages, each a job, each with its own gate and locks:

1. ``plan``: the database's snapshot is taken and dumped; then the documents' keys are split into ranges;
2. ``copy``, once a shard: documents of its ranges are listed and copied, after the snapshot, so that every document
   that the database refers to is met (guarantee 1);
3. ``commit``: the partial listings become one, everything is looked for once more, the manifest is written.

Between two stages nobody holds a lock. A pin tells purges not to sweep meanwhile what the backup counts on, and a
restore into the space takes the plan away, since the documents would no longer be those of the database. A stage that
finds its work done says so and copies nothing twice. Without the last stage there is no backup, as ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from fac_backup.database.dump import dump
from fac_backup.documents import backup as document_backup
from fac_backup.documents import check, shards
from fac_backup.documents.listing import Listing
from fac_backup.documents.options import Options
from fac_backup.documents.source import KeyRange, Source
from fac_backup.operations import backup, engine, gate, in_space, markers, opening, renewing, stages, views
from fac_backup.operations.backup import BackupRequest
from fac_backup.operations.opening import Opened
from fac_backup.operations.result import Result
from fac_backup.operations.shown import dumping
from fac_backup.operations.stages import MOST, Part, Plan
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FailedError, IntegrityError, NoSuchBackupError, UsageError
from fac_backup.plain.manifest import Documents, Figures, Manifest
from fac_backup.plain.text import plural, size
from fac_backup.report.views import Fact, Outcome
from fac_backup.store import trail
from fac_backup.store.locks import Lease

log = logging.getLogger(__name__)

Stage = Literal["plan", "copy", "commit"]
Leases = tuple[Lease, Lease]


@dataclass(frozen=True)
class Sharding:
    """Which stage of how many shards; ``shard`` counts from 1 and belongs to ``copy`` alone."""

    stage: str
    shards: int
    shard: int = 0

    def check(self, known: tuple[str, ...]) -> None:
        """Refuse what makes no sense. Raises UsageError."""
        if self.stage not in known:
            raise UsageError(
                f"--shards above 1 needs --shard-stage: {', '.join(known)}",
                next_step="In a workflow give `shards` to backup.yml or restore.yml, which does the rest.",
            )
        if not 1 <= self.shards <= MOST:
            raise UsageError(f"There are 1 to {MOST} shards", next_step="docs/scale.md says how many make sense.")
        if (self.stage in ("copy", "add")) != (1 <= self.shard <= self.shards):
            raise UsageError(f"--shard is a number from 1 to {self.shards}, for the stages copy and add")


def run(request: BackupRequest, sharding: Sharding, around: Surroundings) -> Result:
    """Carry out one stage. Raises FacBackupError; then there is no backup, and the stage may be run again."""
    began = time.monotonic()
    sharding.check(("plan", "copy", "commit"))
    if in_space.wanted(around.env):
        raise UsageError("Shards need mode: direct", next_step="A task of the app has one container to work in.")
    if engine.of(request.engine, around.one_space(request.space), around) != engine.OURS:
        raise UsageError("Shards need the engine fac-backup", next_step="django-dbbackup writes one archive of all.")
    if (sharding.stage == "plan") == bool(request.backup_id):
        raise UsageError(
            "--backup-id belongs to the stages copy and commit, which need it",
            next_step="Stage plan chooses and says it.",
        )
    wanted = backup.filled_in(request, around)
    gate.admit(gate.Wish("backup", space=wanted.space, kind=wanted.kind, backup_id=wanted.backup_id), around)
    opened = opening.open_space(around, wanted.space)
    markers.refuse_another_space(opened)
    opened.store.open_for_writing()
    committing: list[BackupId] = []
    with backup.telling(opened.store, committing), locked(opened, around) as (lease, _):
        if sharding.stage == "plan":
            return _plan(opened, around, wanted, sharding, began)
        named = BackupId.parse(wanted.backup_id)
        if sharding.stage == "copy":
            return _copy(opened, around, named, sharding, lease)
        return views.backup_result(_commit(opened, around, named, lease, committing), opened, around)


@contextmanager
def locked(opened: Opened, around: Surroundings, mode: Literal["shared", "exclusive"] = "shared") -> Iterator[Leases]:
    """The locks of one stage: the store's, shared, and the space's."""
    locks, wait = opened.store.locks, around.patience(backup.LOCK_WAIT)
    with ExitStack() as stack:
        store = stack.enter_context(locks.acquire("store", "shared", wait=wait))
        space = stack.enter_context(locks.acquire("space", mode, wait=wait))
        yield store, space


# plan -------------------------------------------------------------------------------------------------------------


def _plan(opened: Opened, around: Surroundings, wanted: BackupRequest, sharding: Sharding, began: float) -> Result:
    store = opened.store
    start = around.clock()
    backup_id = backup.free_id(wanted, opened, start, around.who)
    log.info("Backing up %s as %s, its documents in %s", wanted.space, backup_id, plural(sharding.shards, "shard"))
    stages.keep(store, around, backup_id)
    store.pieces.load_known()
    moment: list[datetime] = []
    newest = backup.newest_of(opened)
    previous = newest.manifest if newest else None
    with dumping(store.pieces, around, newest) as pieces:
        part = dump(opened.database, pieces, backup.dump_options(wanted, around, lambda: moment.append(around.clock())))
    plan = Plan(
        id=str(backup_id),
        shards=sharding.shards,
        began=start,
        created=moment[0],
        note=wanted.note,
        run=around.run,
        previous=trail.previous(newest),
        database=part,
        uploaded=store.pieces.figures.uploaded,
        documents={source.label: _split(opened, source, previous, sharding.shards) for source in opened.sources},
    )
    stages.put(opened, stages.plan_key(plan.id), plan)
    facts = (
        Fact("space", wanted.space),
        Fact("database", f"{size(part.size)}, {size(plan.uploaded)} new in the store"),
        Fact("documents", f"in {plural(plan.shards, 'shard')}"),
    )
    outcome = Outcome("backup", f"Database of {wanted.space} is dumped, documents follow", facts=facts)
    data = _data(plan, "plan") | {
        "database_bytes": part.size, "uploaded_bytes": plan.uploaded,
        "duration_seconds": round(time.monotonic() - began, 3),
    }  # fmt: skip
    return Result(outcome, data)


def _split(opened: Opened, source: Source, previous: Manifest | None, count: int) -> shards.Shards:
    """Ranges of about the same number of documents. They need not be exact: together they hold every key there is."""
    listed = _listing(opened, source, previous)
    if listed is not None and listed.count:
        try:
            return shards.plan_of(listed, count)
        except IntegrityError as error:
            log.warning("The previous listing of %s cannot be used: %s", source.label, error.what)
    return shards.plan_of(source.bucket, count)


def _listing(opened: Opened, source: Source, previous: Manifest | None) -> Listing | None:
    parts = previous.documents if previous else ()
    return next((Listing.of(opened.bucket, part) for part in parts if part.label == source.label), None)


# copy -------------------------------------------------------------------------------------------------------------


def _copy(opened: Opened, around: Surroundings, backup_id: BackupId, sharding: Sharding, lease: Lease) -> Result:
    began = time.monotonic()
    plan = _checked(stages.plan_of(opened, around, backup_id), opened, sharding)
    done = _done(opened, plan, sharding.shard)
    if done is not None:
        log.info("Shard %d of %s is there already", sharding.shard, backup_id)
        return _copied(plan, done, 0.0, again=True)
    previous = backup.previous_of(opened)
    results = []
    for source in opened.sources:
        between = plan.documents[source.label].nth(sharding.shard)
        if between is not None:
            key = shards.part_key(plan.id, source.label, sharding.shard)
            results.append(_copy_range(opened, around, source, plan.id, previous, between, key))
    part = Part(
        id=plan.id,
        shard=sharding.shard,
        documents=tuple(result.documents for result in results),
        copied=sum(result.figures.copied for result in results),
        reused=sum(result.figures.reused for result in results),
        uploaded=sum(result.figures.uploaded for result in results),
    )
    lease.check()
    stages.put(opened, stages.part_key(plan.id, sharding.shard), part)
    return _copied(plan, part, time.monotonic() - began, again=False)


def _copy_range(
    opened: Opened, around: Surroundings, source: Source, backup_id: str, previous: Manifest | None, between: KeyRange,
    key: str,
) -> document_backup.Result:  # fmt: skip
    with around.progress().task(f"Documents of {source.label}", None, "documents") as task:
        before = 0

        def progress(done: int, _total: int | None, _size: int) -> None:
            nonlocal before
            task.advance(done - before)
            before = done

        options = Options(jobs=around.transfers, progress=progress, clock=around.clock)
        listed = _listing(opened, source, previous)
        return document_backup.backup_range(
            source, opened.bucket, backup_id, listed, between=between, key=key, options=options
        )


def _checked(plan: Plan, opened: Opened, sharding: Sharding) -> Plan:
    if plan.shards != sharding.shards or set(plan.documents) != {source.label for source in opened.sources}:
        raise UsageError(
            f"{plan.id} was planned for {plural(plan.shards, 'shard')} of {', '.join(plan.documents) or 'nothing'}",
            next_step="Give every job of a run the same --shards and the same documents.",
        )
    return plan


def _done(opened: Opened, plan: Plan, shard: int) -> Part | None:
    """What a shard has left, if all of it is there."""
    part = stages.get(opened, stages.part_key(plan.id, shard), Part)
    if part is None:
        return None
    wanted = {label for label in plan.documents if plan.documents[label].nth(shard) is not None}
    if (part.id, part.shard) != (plan.id, shard) or {one.label for one in part.documents} != wanted:
        raise IntegrityError(f"What shard {shard} of {plan.id} left is another's")
    return part


def _copied(plan: Plan, part: Part, took: float, *, again: bool) -> Result:
    count = sum(one.count for one in part.documents)
    words = "is there already" if again else "is copied"
    facts = (
        Fact("documents", plural(count, "document")),
        Fact("copied", "nothing: an earlier job has" if again else f"{part.copied:,}, {size(part.uploaded)}"),
        Fact("reused", f"{part.reused:,}"),
    )
    outcome = Outcome("backup", f"Shard {part.shard} of {plan.shards} {words}", facts=facts)
    data = _data(plan, "copy") | {
        "shard": part.shard, "documents_count": count, "documents_bytes": sum(one.size for one in part.documents),
        "copied": 0 if again else part.copied, "reused": count if again else part.reused,
        "uploaded_bytes": 0 if again else part.uploaded, "duration_seconds": round(took, 3),
    }  # fmt: skip
    return Result(outcome, data)


# commit -----------------------------------------------------------------------------------------------------------


def _commit(
    opened: Opened, around: Surroundings, backup_id: BackupId, lease: Lease, committing: list[BackupId]
) -> Manifest:
    store = opened.store
    made = _made_before(opened, around, backup_id)
    if made is not None:
        committing.append(backup_id)
        stages.forget(store, backup_id)
        return made
    plan = stages.plan_of(opened, around, backup_id)
    found = {shard: _done(opened, plan, shard) for shard in range(1, plan.shards + 1)}
    missing = [str(shard) for shard, part in found.items() if part is None]
    if missing:
        raise FailedError(
            f"Of {plural(plan.shards, 'shard')} of {backup_id} these are not copied: {', '.join(missing)}",
            state="No backup was made.",
            next_step="Re-run the failed jobs of this run: what they have copied is found again.",
        )
    parts = [part for part in found.values() if part is not None]
    whole = tuple(_join(opened, plan, label, parts) for label in plan.documents)
    _look_once_more(opened, around, plan, whole)
    markers.renew(opened)
    renewing.renew_needed(opened, lease, made=whole, database=plan.database)
    uploaded = sum(part.uploaded for part in parts)
    now = around.clock()
    manifest = Manifest(
        id=plan.id,
        space=backup_id.space,
        kind=backup_id.kind,
        created=plan.created,
        finished=now,
        note=plan.note,
        run=plan.run,
        previous=plan.previous,
        figures=Figures(
            uploaded=plan.uploaded + uploaded,
            uploaded_database=plan.uploaded,
            uploaded_documents=uploaded,
            seconds=max(0.0, round((now - plan.began).total_seconds(), 3)),
        ),
        database=plan.database,
        documents=whole,
    )
    committing.append(backup_id)
    store.catalog.commit(manifest, lease, signer=opened.signer)
    store.audit.record("backup", "done", actor=around.run.actor, run=around.run.url, facts={"backup_id": manifest.id})
    stages.forget(store, backup_id)
    return manifest


def _made_before(opened: Opened, around: Surroundings, backup_id: BackupId) -> Manifest | None:
    """The backup, if an earlier attempt of this run came as far as its manifest."""
    try:
        manifest = opened.store.catalog.read(backup_id, future_too=True)
    except NoSuchBackupError:
        return None
    if around.inside_actions and manifest.run.url != around.run.url:
        raise UsageError(f"There is already a backup {backup_id}", next_step="Each run makes backups of its own.")
    return manifest


def _join(opened: Opened, plan: Plan, label: str, parts: list[Part]) -> Documents:
    listed = [one for part in parts for one in part.documents if one.label == label]
    return shards.join(opened.bucket, plan.id, listed)


def _look_once_more(opened: Opened, around: Surroundings, plan: Plan, whole: tuple[Documents, ...]) -> None:
    """Nobody held a lock between the stages: is everything that the manifest will name still there?"""
    pieces = opened.store.pieces
    pieces.load_known()
    run = (piece for table in plan.database.tables for pieces_ in table.ranges for piece in pieces_)
    gone = pieces.missing([*plan.database.archive.pieces, *run])
    if gone:
        raise IntegrityError(
            f"{plural(len(gone), 'piece')} of the database went from the store after the dump",
            state="No backup was made.",
            next_step="Find out who deletes there, and start the backup again.",
        )
    for part in whole:
        check.check(Listing.of(opened.bucket, part), opened.bucket, options=Options(jobs=around.transfers))


def _data(plan: Plan, stage: Stage) -> dict[str, Any]:
    named = BackupId.parse(plan.id)
    return {
        "backup_id": plan.id, "space": named.space, "kind": named.kind, "stage": stage, "shards": plan.shards,
        "shard_list": numbers(plan.shards),
    }  # fmt: skip


def numbers(shards: int) -> list[int]:
    """The shards' numbers: what a workflow's matrix is made of."""
    return list(range(1, shards + 1))
