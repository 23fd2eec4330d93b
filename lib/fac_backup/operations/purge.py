"""Purge: remove the backups that the rules let go, then every object that nothing needs any more.

1. may this run;  2. take the store for ourselves;  3. plan, with a reason for each;  4. for each that goes: tombstone,
then manifest;  5. sweep what no remaining manifest, pin or running operation needs;  6. renew what stays;  7. audit.
A dry run stops after the plan. A failure at any step leaves every remaining backup whole.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from fac_backup.operations import catalog_view, gate, opening, stages
from fac_backup.operations.renewing import references_of
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import Stopped, told
from fac_backup.plain.text import size
from fac_backup.policy.retention import Decision
from fac_backup.report.views import Fact, Outcome, PlanRow
from fac_backup.store import renewal, sweep, trail
from fac_backup.store.catalog import Entry
from fac_backup.store.locks import Lease
from fac_backup.store.store import Store

log = logging.getLogger(__name__)

LOCK_WAIT = 600.0
"""Seconds to wait for the backups and restores that use the store to end."""


def run(space: str, dry_run: bool, around: Surroundings) -> Result:
    """Carry out the steps above. Raises FacBackupError."""
    began = time.monotonic()
    space = around.one_space(space)
    gate.admit(gate.Wish("purge", space=space, dry_run=dry_run), around)
    store = opening.open_store(around, space)
    store.bucket.check()
    store.open_for_reading()
    if dry_run:
        entries = store.catalog.entries()
        plan = _plan(store, around, entries, store.pins.active())
        return _result(space, entries, plan, None, began, trail.gaps(store, entries), dry_run=True)
    signing = opening.signer(around, space)
    begun: list[BackupId] = []
    with _telling(begun), store.locks.acquire("store", "exclusive", wait=around.patience(LOCK_WAIT)) as lease:
        entries = store.catalog.entries()
        missing = trail.gaps(store, entries)  # before those go that tell of them
        decisions = _plan(store, around, entries, store.pins.active())
        for decision in decisions:
            if decision.keep:
                continue
            lease.check()
            log.info("Removing %s: %s", decision.id, decision.reason)
            begun.append(decision.id)
            store.tombstones.put(decision.id, by=around.who, rule=decision.reason, signer=signing)
            store.catalog.remove(decision.id)
        waits = stages.under_way(store.pins.active(), (entry.id for entry in entries))
        freed = (0, 0) if waits else _sweep(store, lease)
        if waits:
            log.warning("Nothing is swept while %s is under way: the next purge does it", waits[0])
        store.audit.record(
            "purge", "done", actor=around.run.actor, run=around.run.url,
            facts={"removed": [str(d.id) for d in decisions if not d.keep], "objects": freed[0], "bytes": freed[1],
                   "missing": [str(gap.id) for gap in missing]},
        )  # fmt: skip
    return _result(space, entries, decisions, freed, began, missing, dry_run=False)


@contextmanager
def _telling(begun: list[BackupId]) -> Iterator[None]:
    """Whoever stops a purge, and whoever sees it fail, is told that the backups it had ``begun`` to remove are gone."""
    try:
        yield
    except BaseException as error:
        known = told(error)
        if known is not None and begun:
            known.state = "What was removed by then stays removed; every backup that is still listed is whole."
            if isinstance(error, Stopped) or not known.next_step:
                known.next_step = "Run it again: it goes on with the rest."
        elif isinstance(error, Stopped):
            error.told.state = "No backup was removed."
        raise


def _plan(
    store: Store, around: Surroundings, entries: list[Entry], pinned: frozenset[BackupId]
) -> tuple[Decision, ...]:
    """The retention plan, but what restores need stays: those that run elsewhere, and those to be finished here."""
    needed = {str(backup_id) for backup_id in pinned}
    for unfinished, _ in store.journal.unfinished():
        needed.update(str(unfinished.data.get(key) or "") for key in ("undo_id", "backup_id"))
    reason = "A restore needs it that runs elsewhere, or that was left unfinished here."
    return tuple(
        replace(decision, keep=True, rule="needed", reason=reason, expires=None)
        if not decision.keep and str(decision.id) in needed
        else decision
        for decision in catalog_view.plan(store, around, entries)
    )


def _sweep(store: Store, lease: Lease) -> tuple[int, int]:
    """Objects and bytes that went; what stays and ages is renewed on the way."""
    wanted = sweep.needed(store.catalog, references_of(store))
    found = sweep.plan(store.bucket, wanted, store.now(), ageing=store.ageing)
    lease.check()
    removed = sweep.execute(store.bucket, found, lease)
    for key in store.pins.expired():
        store.bucket.delete(key)
    renewal.renew(store.bucket, found.due, lease)
    if store.ageing is not None:
        renewal.renew_small(store.bucket, store.ageing, store.now(), lease)
    return removed, found.bytes


def _result(
    space: str,
    entries: list[Entry],
    decisions: tuple[Decision, ...],
    freed: tuple[int, int] | None,
    began: float,
    missing: tuple[trail.Gap, ...],
    *,
    dry_run: bool,
) -> Result:
    sizes = {
        entry.id: entry.manifest.database.size + entry.manifest.documents_size for entry in entries if entry.manifest
    }
    rows = tuple(
        PlanRow(str(d.id), d.keep, d.rule, d.reason, d.expires, sizes.get(d.id))
        for d in sorted(decisions, key=lambda d: d.id, reverse=True)
    )
    gone = [row.id for row in rows if not row.keep]
    facts = [] if freed is None else [Fact("objects removed", f"{freed[0]:,}"), Fact("freed", size(freed[1]))]
    outcome = Outcome(
        "purge",
        f"Plan of a purge of {space}" if dry_run else f"Purge of {space} is done",
        facts=tuple(facts),
        plan=rows,
        dry_run=dry_run,
        warnings=(*(gap.sentence for gap in missing),
                  *(f"{entry.id} is damaged and is left for a person to look at: {entry.why}"
                    for entry in entries if entry.manifest is None)),
    )  # fmt: skip
    data = {
        "space": space, "dry_run": dry_run, "removed": gone, "missing": [str(gap.id) for gap in missing],
        "plan": [
            {"id": row.id, "keep": row.keep, "rule": row.rule, "reason": row.reason,
             "expires": row.expires.isoformat() if row.expires else None}
            for row in rows
        ],
        "removed_objects": freed[0] if freed else 0, "freed_bytes": freed[1] if freed else 0,
        "duration_seconds": round(time.monotonic() - began, 3),
    }  # fmt: skip
    return Result(outcome, data)
