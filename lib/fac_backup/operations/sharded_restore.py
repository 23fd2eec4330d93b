"""Restore one space with several machines: shards add the documents that the target lacks (docs/scale.md).

Three stages, each a job, each with its own gate, markers and locks:

1. ``plan``: everything is checked that can be, and the backup's documents are split into ranges of keys;
2. ``add``, once a shard: the target is given the documents of the shard's ranges that it lacks; none that it has
   changes. The shard leaves a record of what is there now as in the backup, and, where the restore can be undone, sees
   that the target's store has what the target has;
3. ``finish``: the records become one, and then this is a restore like any other. It finds nothing to add, and its
   pre-restore backup nothing to copy.

So a shard that fails, is killed or is overtaken leaves a target whose database is untouched and that has some documents
more, to which nothing refers; and the undo is what the target was just before it was replaced, those documents
included. Between two stages nobody holds a lock: pins keep the backup, and in the target's store all, from purges.
Another restore into the target takes the plan away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fac_backup.documents import backup as document_backup
from fac_backup.documents import records, shards
from fac_backup.documents import restore as document_restore
from fac_backup.documents.listing import Listing, write
from fac_backup.documents.options import Options
from fac_backup.documents.restore import Restore
from fac_backup.documents.source import KeyRange, Source
from fac_backup.operations import backup, gate, in_space, markers, opening, restore, restore_plan, stages
from fac_backup.operations.opening import Opened
from fac_backup.operations.restore import Prepared, RestoreRequest
from fac_backup.operations.restore_documents import work_for
from fac_backup.operations.restore_plan import Chosen
from fac_backup.operations.result import Result
from fac_backup.operations.sharded import Leases, Sharding, locked, numbers
from fac_backup.operations.stages import Added, Adding
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FacBackupError, FailedError, IntegrityError, UsageError
from fac_backup.plain.manifest import Documents
from fac_backup.plain.text import plural
from fac_backup.report.views import Fact, Outcome

log = logging.getLogger(__name__)


def run(request: RestoreRequest, sharding: Sharding, around: Surroundings) -> Result:
    """Carry out one stage. Raises FacBackupError; the stage may be run again."""
    began = time.monotonic()
    sharding.check(("plan", "add", "finish"))
    if in_space.wanted(around.env):
        raise UsageError("Shards need mode: direct", next_step="A task of the app has one container to work in.")
    if request.resume or request.dry_run or request.beside or request.only:
        raise UsageError(
            "--resume, --dry-run, --beside and --only do not go with --shards",
            next_step="A restore that was killed is resumed without shards: what they have added is found again.",
        )
    # Shards take hours; later stages need the plan of this run, which was admitted within its hour.
    request = replace(request, continued=sharding.stage != "plan")
    if sharding.stage == "finish":
        return _finish(request, sharding, around)
    restore.refuse_nonsense(request, around)
    admission = restore.admit(request, around)
    target = opening.open_space(around, request.target)
    markers.require(target)
    chosen = restore_plan.choose(around, request, target)
    if sharding.stage == "plan":
        return _plan(chosen, target, around, sharding, admission, began)
    return _add(chosen, target, around, sharding, began)


# plan -------------------------------------------------------------------------------------------------------------


def _plan(
    chosen: Chosen, target: Opened, around: Surroundings, sharding: Sharding, admission: gate.Admission, began: float
) -> Result:
    mode = restore_plan.mode_of(around, target)
    looked = restore_plan.check(chosen, target, around, mode, admission)
    manifest = chosen.manifest
    with locked(target, around, "exclusive"):
        stages.give_up_restores(target.store)
        own = target.store.catalog.reserve(BackupId.now(target.space, "pre-restore", around.clock()), owner=around.who)
        stages.keep(target.store, around, own)
        _keep_source(chosen, target, around)
        plan = Adding(
            id=str(own),
            backup_id=manifest.id,
            shards=sharding.shards,
            undo=admission.decision.pre_restore or mode == "in-place",
            run=around.run,
            documents={
                part.label: shards.plan_of(Listing.of(chosen.stored, part), sharding.shards)
                for part in manifest.documents
            },
        )
        stages.put(target, stages.plan_key(plan.id), plan)
        facts: dict[str, Any] = {
            "backup_id": manifest.id, "undo_id": "", "source": manifest.space, "target": target.space,
            "attempt": around.attempt,
        }  # fmt: skip
        target.store.audit.record("restore", "planned", actor=around.run.actor, run=around.run.url, facts=facts)
    outcome = Outcome(
        "restore",
        f"Plan of a restore into {target.space} in {plural(plan.shards, 'shard')}: nothing was changed yet",
        backup_id=manifest.id,
        facts=looked.facts,
        checks=looked.checks,
        warnings=looked.warnings,
    )
    return Result(outcome, _data(chosen, target, "plan", sharding, began) | {"mode": looked.mode})


def _keep_source(chosen: Chosen, target: Opened, around: Surroundings) -> None:
    """Pin the backup in the store where it is, for a day from now. Raises NoSuchBackupError if a purge was quicker."""
    store = chosen.store
    assert store is not None  # noqa: S101 - only a task of the app is handed an index instead (in_space)
    store.pins.put(chosen.manifest.backup_id, by=around.who, seconds=stages.PIN_SECONDS, token=_token(target))
    if store is not target.store:  # of our own we hold the lock
        restore.wait_for_purge(store)
    store.catalog.read(chosen.manifest.backup_id)


def _token(target: Opened) -> str:
    return f"{stages.PIN}-{target.space}"


# add --------------------------------------------------------------------------------------------------------------


def _add(chosen: Chosen, target: Opened, around: Surroundings, sharding: Sharding, began: float) -> Result:
    with locked(target, around) as leases:
        plan = stages.adding_of(target, around, chosen.manifest.id, sharding.shards)
        done = _done(target, plan, sharding.shard)
        if done is not None:
            log.info("Shard %d is there already", sharding.shard)
            return _added(chosen, target, sharding, done, began, again=True)
        _keep_source(chosen, target, around)
        previous = backup.previous_of(target)
        listings = {part.label: Listing.of(target.bucket, part) for part in (previous.documents if previous else ())}
        count, found, kept = 0, [], []
        for source in target.sources:
            between = plan.documents[source.label].nth(sharding.shard)
            if between is None:
                continue
            with around.progress().task(f"Adding documents of {source.label}", None, "documents") as task:
                work = work_for(
                    chosen.manifest, chosen.stored, source, target, around, task, _alive(leases), between=between
                )
                number, record = _give(work, target, plan.id, sharding.shard)
            count += number
            found.append(record)
            if plan.undo:
                own = Listing.of(target.bucket, record) if chosen.store is target.store else None
                key = shards.part_key(plan.id, source.label, sharding.shard)
                listed = listings.get(source.label)
                kept.append(_keep(source, target, around, plan.id, listed, between, key, own, leases))
        part = Added(id=plan.id, shard=sharding.shard, added=count, records=tuple(found), kept=tuple(kept))
        _alive(leases)()
        stages.put(target, stages.part_key(plan.id, sharding.shard), part)
    return _added(chosen, target, sharding, part, began, again=False)


def _give(work: Restore, target: Opened, folder: str, shard: int) -> tuple[int, Documents]:
    """Add what one label's range lacks; how many that were, and the record of what is there as in the backup."""
    done, added = document_restore.add(work)
    key = shards.part_key(folder, work.listing.label, shard, "restored")
    record, _ = write(target.bucket, key, work.listing.label, document_restore.recorded(work, added))
    return done.add, Documents(
        label=record.label,
        listing=record.key,
        listing_sha256=record.sha256,
        listing_size=record.size,
        listing_stored_sha256=record.stored_sha256,
        count=record.count,
        size=0,
    )


def _keep(
    source: Source, target: Opened, around: Surroundings, folder: str, previous: Listing | None, between: KeyRange,
    key: str, restored: Listing | None, leases: Leases,
) -> Documents:  # fmt: skip
    """See that the target's store has what the target has in one label's range, so that the last job need not copy."""
    alive = _alive(leases)
    options = Options(jobs=around.transfers, progress=lambda *_: alive(), clock=around.clock)
    return document_backup.backup_range(
        source, target.bucket, folder, previous, between=between, key=key, options=options, restored=restored
    ).documents


def _alive(leases: Leases) -> Callable[[], None]:
    def alive() -> None:
        for lease in leases:
            lease.check()

    return alive


def _done(target: Opened, plan: Adding, shard: int) -> Added | None:
    """What a shard has left, if all of it is there."""
    part = stages.get(target, stages.part_key(plan.id, shard), Added)
    if part is None:
        return None
    wanted = {label for label, cuts in plan.documents.items() if cuts.nth(shard) is not None}
    left = {one.label for one in part.records}, {one.label for one in part.kept}
    if (part.id, part.shard) != (plan.id, shard) or left != (wanted, wanted if plan.undo else set()):
        raise IntegrityError(f"What shard {shard} of this restore left is another's")
    return part


def _added(
    chosen: Chosen, target: Opened, sharding: Sharding, part: Added, began: float, *, again: bool
) -> Result:  # fmt: skip
    there = sum(one.count for one in part.records)
    facts = (
        Fact("documents as in the backup", f"{there:,}"),
        Fact("added", "nothing: an earlier job has" if again else f"{part.added:,}"),
    )
    outcome = Outcome(
        "restore",
        f"Shard {part.shard} of {sharding.shards} has added what {target.space} lacked",
        backup_id=chosen.manifest.id,
        facts=facts,
    )
    data = _data(chosen, target, "add", sharding, began) | {
        "shard": part.shard, "documents_count": there, "documents_added": 0 if again else part.added,
    }  # fmt: skip
    return Result(outcome, data)


# finish -----------------------------------------------------------------------------------------------------------


def _finish(request: RestoreRequest, sharding: Sharding, around: Surroundings) -> Result:
    """The restore, which finds what the shards have added."""
    done: list[tuple[Opened, str]] = []

    def prepare(target: Opened) -> Prepared:
        prepared = _prepared(target, around, request.backup_id, sharding)
        done.append((target, prepared.plan))
        return prepared

    result = restore.run(request, around, prepare)
    for target, plan in done:
        try:
            stages.forget(target.store, BackupId.parse(plan))
            source = opening.source_store(around, request.source, request.target)
            source.pins.remove(BackupId.parse(request.backup_id), _token(target))
        except FacBackupError as error:
            log.warning("What the shards left for each other stays until a purge: %s", error.what)
    return result


def _prepared(target: Opened, around: Surroundings, backup_id: str, sharding: Sharding) -> Prepared:
    """Make one record and, with an undo, one listing of what the shards have left. Raises FailedError if one has not
    come to its end."""
    with locked(target, around):
        plan = stages.adding_of(target, around, backup_id, sharding.shards)
        found = {shard: _done(target, plan, shard) for shard in numbers(plan.shards)}
        missing = [str(shard) for shard, part in found.items() if part is None]
        if missing:
            raise FailedError(
                f"Of {plural(plan.shards, 'shard')} of this restore these have not ended: {', '.join(missing)}",
                state="The database is as before; documents that were added are there, and nothing refers to them.",
                next_step="Re-run the failed jobs of this run: what was added is found again.",
            )
        parts = [part for part in found.values() if part is not None]
        listed = []
        for label in plan.documents:
            mine = [one for part in parts for one in part.records if one.label == label]
            records.save(target.bucket, label, shards.joined(target.bucket, mine))
            if plan.undo:
                kept = [one for part in parts for one in part.kept if one.label == label]
                listed.append(shards.join(target.bucket, plan.id, kept))
    return Prepared(plan.id, tuple(listed))


def _data(chosen: Chosen, target: Opened, stage: str, sharding: Sharding, began: float) -> dict[str, Any]:
    return {
        "backup_id": chosen.manifest.id, "source": chosen.manifest.space, "target": target.space, "stage": stage,
        "shards": sharding.shards, "shard_list": numbers(sharding.shards),
        "duration_seconds": round(time.monotonic() - began, 3),
    }  # fmt: skip
