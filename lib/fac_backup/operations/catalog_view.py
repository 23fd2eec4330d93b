"""The catalog of one store as people and programs see it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.policy import retention
from fac_backup.report import notices
from fac_backup.report.views import BackupRow, SpaceView, Target, Verified, When
from fac_backup.store import trail
from fac_backup.store.catalog import Entry
from fac_backup.store.store import Store


def of(store: Store, around: Surroundings) -> SpaceView:
    """One space: backups newest first, warnings, rules. Two round trips for a hundred backups."""
    now = around.clock()
    with ThreadPoolExecutor(3) as pool:
        verifying, holding = pool.submit(_verified, store, now), pool.submit(store.holds.held)
        journal = pool.submit(store.journal.unfinished)
        entries = store.catalog.summaries()
        verified, held, restores = verifying.result(), holding.result(), journal.result()
    missing = tuple(gap.sentence for gap in trail.gaps(store, entries))
    decisions = {decision.id: decision for decision in plan(store, around, entries, held)}
    rows = tuple(
        _row(entry, decisions.get(entry.id), entry.id in held, verified.get(str(entry.id)), store, around, now)
        for entry in sorted(entries, key=lambda entry: entry.id.time, reverse=True)
    )
    unfinished = "; ".join(f"{entry.operation} at {entry.step}" for entry, _ in restores)
    space = store.space
    fresh = {
        name: notices.FRESH_SECONDS for name in around.matrix.kinds_of(space) if name == "daily" and around.has_matrix
    }
    rules = tuple(
        (name, str(around.matrix.retention(space, name) or "all are kept")) for name in around.matrix.kinds_of(space)
    )
    worries = notices.notices(rows, now, fresh=fresh, unfinished_restore=unfinished, missing=missing)
    return SpaceView(space, rows, worries, rules)


def plan(
    store: Store, around: Surroundings, entries: list[Entry], held: frozenset[BackupId] | None = None
) -> tuple[retention.Decision, ...]:
    """The retention plan for what is in the catalog; damaged manifests stay for a person to look at.

    ``held`` saves a request where the caller knows it.
    """
    held = store.holds.held() if held is None else held
    candidates = [
        retention.Candidate(
            entry.id,
            held=entry.id in held,
            signed_ok=entry.signature in ("valid", "unchecked") or not around.require_signatures(store.space),
            future=entry.future,
        )
        for entry in entries
        if entry.manifest is not None
    ]
    return retention.plan(candidates, around.matrix, store.space, around.clock())


def targets(around: Surroundings, source: str, kind: str) -> tuple[Target, ...]:
    """Where a backup of ``source`` may be restored to, and how such a run may begin."""
    found = []
    for path in around.matrix.paths_from(source) if kind != "pre-restore" else ():
        when: When = (
            "unattended or by hand"
            if len(set(path.when)) == 2
            else "by hand"
            if "manual" in path.when
            else "unattended"
        )
        found.append(Target(path.target, when, path.purpose))
    if around.matrix.may_undo(source, kind) and all(target.space != source for target in found):
        found.append(Target(source, "by hand", "undo of a restore"))
    return tuple(found)


def as_json(row: BackupRow) -> dict[str, Any]:
    """One backup for programs: bytes, seconds, ISO 8601 in UTC."""
    return {
        "id": row.id, "space": row.space, "kind": row.kind, "note": row.note, "created": row.created.isoformat(),
        "age_seconds": round(row.age_seconds), "database_bytes": row.database_bytes,
        "documents_count": row.documents_count, "documents_bytes": row.documents_bytes,
        "uploaded_bytes": row.uploaded_bytes, "held": row.held, "signed": row.signed,
        "restorable_to": [{"space": t.space, "when": t.when, "purpose": t.purpose} for t in row.restorable_to],
        "expires": row.expires.isoformat() if row.expires else None, "rule": row.rule, "damaged": row.damaged,
        "verified": {"at": row.verified.at.isoformat(), "level": row.verified.level, "passed": row.verified.passed}
        if row.verified else None,
    }  # fmt: skip


def _row(
    entry: Entry,
    decision: retention.Decision | None,
    held: bool,
    verified: Verified | None,
    store: Store,
    around: Surroundings,
    now: datetime,
) -> BackupRow:
    made = entry.manifest
    signed = {"valid": True, "unchecked": None}.get(entry.signature, False)
    created = made.created if made else entry.id.time
    if entry.future:  # the id or the manifest says so: shown by the later of the two, so that it counts as future
        created = max(created, entry.id.time)
    unusable = made is None or entry.future or (signed is False and around.require_signatures(store.space))
    return BackupRow(
        id=str(entry.id),
        space=entry.id.space,
        kind=entry.id.kind,
        created=created,
        age_seconds=(now - created).total_seconds(),
        note=made.note if made else "",
        database_bytes=made.database.size if made else 0,
        documents_count=made.documents_count if made else 0,
        documents_bytes=made.documents_size if made else 0,
        uploaded_bytes=made.figures.uploaded if made else 0,
        held=held,
        signed=signed,
        verified=verified,
        restorable_to=() if unusable else targets(around, entry.id.space, entry.id.kind),
        expires=decision.expires if decision else None,
        rule=decision.rule if decision else "",
        damaged=entry.why or None,
    )


def _verified(store: Store, now: datetime) -> dict[str, Verified]:
    """The last verification of each backup, from the audit of the last weeks."""
    from datetime import timedelta

    found: dict[str, Verified] = {}
    for record in store.audit.since(now - timedelta(days=30), "verify"):
        level, backup_id = record.facts.get("level"), record.facts.get("backup_id")
        if record.operation == "verify" and level in ("objects", "restore") and isinstance(backup_id, str):
            found[backup_id] = Verified(record.at, level, record.result == "done")  # type: ignore[arg-type]
    return found
