"""What a restore will do, checked before anything is touched: the plan that ``--dry-run`` prints."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fac_backup.database import kept
from fac_backup.database.sessions import Connected
from fac_backup.documents import restore as document_restore
from fac_backup.documents.check import check as check_documents
from fac_backup.documents.listing import Listing
from fac_backup.documents.options import Options
from fac_backup.documents.source import ReadSource
from fac_backup.operations import in_space, opening, restore_database, restore_documents, views
from fac_backup.operations.gate import Admission
from fac_backup.operations.opening import Opened
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import IntegrityError, NoSuchBackupError, UsageError
from fac_backup.plain.manifest import Manifest
from fac_backup.plain.protocols import PieceSource
from fac_backup.plain.text import duration, one_line, plural, size, verb
from fac_backup.report.views import CheckRow, Fact, Form, Outcome
from fac_backup.store.bucket import Bucket
from fac_backup.store.store import Store

if TYPE_CHECKING:
    from fac_backup.operations.restore import RestoreRequest

Mode = Literal["beside", "in-place"]

log = logging.getLogger(__name__)

KEPT = "the kept database is swapped back"
_HOW = {"beside": "built beside, then swapped in", "in-place": "in place: wiped, then filled"}

MOST_SHOWN = 10
"""Programs that are named as connected, the most numerous first."""

OLD = 24 * 3600.0
"""Seconds from which the age of a backup is a warning."""


@dataclass(frozen=True)
class Chosen:
    """The backup that is restored, and what its pieces, listings and documents are read from."""

    manifest: Manifest
    pieces: PieceSource
    stored: ReadSource
    store: Store | None
    """The source's store; None where only an index of addresses is at hand (docs/cloud-gov.md)."""


@dataclass(frozen=True)
class RestorePlan:
    """Everything that was looked at."""

    mode: Mode
    checks: tuple[CheckRow, ...]
    facts: tuple[Fact, ...]
    warnings: tuple[str, ...]
    documents: tuple[tuple[str, document_restore.Plan], ...]
    own_sql: tuple[Fact, ...] = ()
    """What the team's own SQL is, before the swap and after it."""


def choose(around: Surroundings, request: RestoreRequest, target: Opened) -> Chosen:
    """Find the backup. Raises UsageError for an id that is none, NoSuchBackupError, IntegrityError."""
    named = BackupId.parse(request.backup_id)
    if named.space != request.source:
        raise NoSuchBackupError(
            f"{named} is a backup of {named.space}, not of {request.source}",
            next_step=f"`fac-backup list --space {request.source}` shows which there are.",
        )
    handed = in_space.handed_over(around, request.source, target.store)
    store = handed or opening.source_store(around, request.source, request.target)
    if handed is None:
        if store.bucket.address == target.store.bucket.address:
            store = target.store
        store.bucket.check()
    if not store.open_for_reading():
        raise NoSuchBackupError(
            f"There is no store of {request.source} here", next_step="Check FAC_BACKUP_BUCKET and its prefix."
        )
    manifest = store.catalog.read(named)
    labels, wanted = {part.label for part in manifest.documents}, {source.label for source in target.sources}
    if labels != wanted:
        raise UsageError(
            f"The backup holds documents labelled {', '.join(sorted(labels)) or '(none)'}, the target has "
            f"{', '.join(sorted(wanted)) or '(none)'}",
            next_step="Give the target's documents the labels that the source's have.",
        )
    return Chosen(manifest, store.pieces, store.bucket, None if handed else store)


def mode_of(around: Surroundings, target: Opened) -> Mode:
    """Beside, or in place: as the matrix says, and in place where the role may not create databases."""
    declared = around.matrix.space(target.space).replace
    return "in-place" if declared == "in-place" or not restore_database.may_create(target) else "beside"


def check(
    chosen: Chosen, target: Opened, around: Surroundings, mode: Mode, admission: Admission | None, *,
    changed: bool = False,
) -> RestorePlan:  # fmt: skip
    """Look at all that can be known beforehand. Raises IntegrityError or FailedError for what would fail later.

    ``changed``: something of the team's own runs before the swap.
    """
    manifest = chosen.manifest
    undo = manifest.undoes_a_restore_into(target.space) and not changed
    kept_name = kept.find(target.database, target.space, manifest.id).name if undo and mode == "beside" else ""
    found = restore_database.preflight_of(chosen, target, around, mode, loads=not kept_name)
    missing_pieces = _missing_pieces(chosen)
    if missing_pieces:
        raise IntegrityError(
            f"Of the backup {manifest.id} {plural(missing_pieces, 'piece')} of the database "
            f"{verb(missing_pieces, 'is', 'are')} missing or not whole",
            next_step="Choose another backup (`fac-backup list`), and keep this bucket as it is for the analysis.",
        )
    plans = []
    for source in target.sources:
        part = next(part for part in manifest.documents if part.label == source.label)
        listing = Listing.of(chosen.stored, part)
        listing.verify()
        if isinstance(chosen.stored, Bucket):
            check_documents(listing, chosen.stored, options=Options(jobs=around.transfers))
        plan = document_restore.plan(restore_documents.work_for(manifest, chosen.stored, source, target, around))
        plans.append((source.label, plan))
    age = (around.clock() - manifest.created).total_seconds()
    warnings = list(found.warnings)
    if age > OLD:
        warnings.append(f"The backup is {duration(age)} old: what was done since will be gone.")
    checks = (
        *(admission.checks if admission else ()),
        CheckRow("markers", True, f"Database and documents are marked as {target.space}'s."),
        CheckRow("pieces", True, f"Every piece of the database is there ({plural(len(manifest.pieces()), 'piece')})."),
        CheckRow(
            "documents", True, f"Every document is there, as stored ({plural(manifest.documents_count, 'document')})."
        ),
        *found.checks,
    )
    facts = (
        Fact("from", f"{manifest.space}, {duration(age)} ago"),
        Fact("into", target.space),
        Fact("how", KEPT if kept_name else _HOW[mode]),
        Fact("database", f"{size(manifest.database.size)} in place of {size(found.target_size)}"),
        *(Fact(f"documents {label}", _words(plan)) for label, plan in plans),
        Fact("connected now", plural(sum(one.count for one in found.connected), "session")),
        *(Fact("who", _who(one), private=True) for one in found.connected[:MOST_SHOWN]),
        Fact("expected", f"about {duration(_expected(manifest))}"),
    )
    return RestorePlan(mode, checks, facts, tuple(warnings), tuple(plans))


def result(plan: RestorePlan, chosen: Chosen, target: Opened, around: Surroundings, began: float) -> Result:
    """The plan alone: what a dry run ends with."""
    outcome = Outcome(
        "restore",
        f"Plan of a restore into {target.space}: nothing was changed",
        backup_id=chosen.manifest.id,
        facts=(*plan.facts, *plan.own_sql),
        checks=plan.checks,
        warnings=plan.warnings,
        dry_run=True,
    )
    return Result(outcome, _data(chosen, target, around, began) | {"dry_run": True, "mode": plan.mode})


def done(
    plan: RestorePlan,
    chosen: Chosen,
    target: Opened,
    undo: Manifest | None,
    around: Surroundings,
    began: float,
    facts: dict[str, Any],
) -> Result:
    """What was replaced, and how to undo it."""
    took = round(time.monotonic() - began, 3)
    shown = (
        *(Fact(one.what, str(facts.get("how", one.value))) if one.what == "how" else one for one in plan.facts[:4]),
        *plan.own_sql,
        *(Fact(name.replace("_", " "), f"{count:,}") for name, count in facts.items() if isinstance(count, int)),
        Fact("took", duration(took)),
    )
    outcome = Outcome(
        "restore",
        f"{target.space} was restored",
        backup_id=chosen.manifest.id,
        undo_id=undo.id if undo else "",
        facts=shown,
        forms=(Form(target.space, target.space, undo.id, "undo"),) if undo else (),
        checks=plan.checks,
        warnings=(*plan.warnings, *facts.get("warnings", ())),
        next_steps=("Look at the application before you tell people that it is back.",),
    )
    data = _data(chosen, target, around, began) | facts | {"undo_id": undo.id if undo else "", "mode": plan.mode}
    return Result(outcome, data)


def _data(chosen: Chosen, target: Opened, around: Surroundings, began: float) -> dict[str, Any]:
    made = views.figures_of(chosen.manifest, around)
    return {
        **made,
        "source": chosen.manifest.space,
        "target": target.space,
        "duration_seconds": round(time.monotonic() - began, 3),
    }


def _missing_pieces(chosen: Chosen) -> int:
    """How many pieces are not in the store, by one LIST; one of another stored size is read to know."""
    if chosen.store is None:
        return 0
    chosen.store.pieces.load_known()
    missing = 0
    for piece in chosen.store.pieces.missing(chosen.manifest.pieces()):
        try:
            chosen.pieces.read(piece)  # compressed anew by another version, perhaps
        except IntegrityError:
            missing += 1
    return missing


def _who(one: Connected) -> str:
    """Sessions of one program, without anything of what they ask."""
    program = one_line(one.application, 63) or "a program without a name"
    return f"{plural(one.count, 'session')} of {program} as {one_line(one.role, 63)}"


def tell(plan: RestorePlan, around: Surroundings) -> None:
    """Log the plan at the start of a restore: who watches sees what it is about to do."""
    for fact in (*plan.facts, *plan.own_sql):
        if not (fact.private and around.inside_actions):
            log.info("plan: %s: %s", fact.what, fact.value)
    for warning in plan.warnings:
        log.warning("%s", warning)


def _words(plan: document_restore.Plan) -> str:
    if plan.equal:
        return f"{plural(plan.same, 'document')}, all as in the backup"
    return (
        f"{plan.same:,} {verb(plan.same, 'stays', 'stay')}, "
        f"{plan.add:,} {verb(plan.add, 'is', 'are')} added ({size(plan.add_size)}), "
        f"{plan.overwrite:,} {verb(plan.overwrite, 'is', 'are')} overwritten ({size(plan.overwrite_size)}), "
        f"{plan.delete:,} {verb(plan.delete, 'is', 'are')} deleted"
    )


def _expected(manifest: Manifest) -> float:
    """Seconds, roughly: what 2 cores and S3 in the same region do (docs/performance.md)."""
    return 5 + manifest.database.size / 60e6 + manifest.documents_count / 500 + manifest.documents_size / 200e6
