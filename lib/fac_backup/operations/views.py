"""Results of backup and restore as people and programs see them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from fac_backup.operations import catalog_view
from fac_backup.operations.opening import Opened
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FacBackupError
from fac_backup.plain.manifest import Manifest
from fac_backup.plain.text import duration, plural, size
from fac_backup.report.views import Fact, Form, Outcome

WITHOUT_MATRIX = (
    "To be able to restore it, add an action-matrix.yml of a few lines (README, from nothing to the first backup)."
)


def backup_result(manifest: Manifest, opened: Opened, around: Surroundings) -> Result:
    """What was backed up, what was new, and where it can be restored to."""
    figures = manifest.figures
    vanished = sum(part.vanished for part in manifest.documents)
    facts = [
        Fact("space", manifest.space),
        Fact("kind", manifest.kind),
        *([Fact("note", manifest.note)] if manifest.note else []),
        *([Fact("read by", manifest.database.engine)] if manifest.database.engine != "pg_dump" else []),
        Fact("database", size(manifest.database.size)),
        Fact("documents", f"{plural(manifest.documents_count, 'document')}, {size(manifest.documents_size)}"),
        Fact("uploaded", f"{size(figures.uploaded)} (database {size(figures.uploaded_database)}, "
             f"documents {size(figures.uploaded_documents)})"),
        Fact("took", duration(figures.seconds)),
        Fact("kept", _kept(manifest, around)),
        Fact("signed", "yes" if opened.signer else "no"),
    ]  # fmt: skip
    warnings = []
    if vanished:
        warnings.append(
            f"{plural(vanished, 'document')} vanished while they were backed up: they were deleted in that moment."
        )
    if around.has_matrix and not manifest.database.rows:
        warnings.append("The database has no tables. If it should have some, check which database this is.")
    before = None if manifest.documents else _before(manifest, opened)
    if before is not None and before.documents_count:
        labels = ", ".join(part.label for part in before.documents if part.count)
        warnings.append(
            f"This backup has no documents; the one before it, {before.id}, has those of {labels}. If they "
            "should be in it, correct FAC_BACKUP_DOCUMENTS (in a workflow: the input `documents`), and back up again."
        )
    unfinished = opened.store.journal.unfinished()
    if unfinished:
        warnings.append(
            f"A restore into {manifest.space} is unfinished, so this backup may show a mixture of before and after: "
            f"run `fac-backup restore --target {manifest.space} --resume` first."
        )
    forms = forms_of(manifest.id, around)
    outcome = Outcome(
        "backup", f"Backup of {manifest.space} is complete", backup_id=manifest.id, facts=tuple(facts), forms=forms,
        warnings=tuple(warnings), next_steps=() if around.has_matrix else (WITHOUT_MATRIX,),
        links=(("Open the restore workflow", around.restore_url),) if forms else (),
    )  # fmt: skip
    return Result(outcome, figures_of(manifest, around) | {"uploaded_bytes": figures.uploaded})


def _before(manifest: Manifest, opened: Opened) -> Manifest | None:
    """The backup that was the newest before this one, None if it is not to be had: it is asked for a warning only."""
    with suppress(FacBackupError):
        return opened.store.catalog.read(BackupId.parse(manifest.previous.id)) if manifest.previous else None
    return None


def forms_of(backup_id: str, around: Surroundings) -> tuple[Form, ...]:
    """What to type to restore a backup by hand: one form a target."""
    named = BackupId.parse(backup_id)
    return tuple(
        Form(named.space, target.space, backup_id, target.purpose)
        for target in catalog_view.targets(around, named.space, named.kind)
        if target.by_hand
    )


def _kept(manifest: Manifest, around: Surroundings) -> str:
    rule = around.matrix.retention(manifest.space, manifest.kind)
    if rule is None:
        return f"always: {manifest.kind} has no retention rule"
    return f"by the rule `{rule}`, and as long as it is the newest {manifest.kind} one"


_BESIDE = frozenset({"backup_id", "undo_id", "created", "dry_run", "warnings", "documents_bytes", "age_seconds"})
"""Figures that a summary says elsewhere, or together with another."""


def facts_of(figures: Mapping[str, object]) -> tuple[Fact, ...]:
    """Figures as a program gets them, as people read them: what a task on Cloud Foundry has sent back."""
    facts = []
    for name, value in figures.items():
        words = name.removesuffix("_bytes").removesuffix("_seconds").removesuffix("_count").replace("_", " ")
        if name in _BESIDE or (name, value) == ("engine", "pg_dump"):
            continue
        if name == "documents_count" and isinstance(value, int):
            stored = figures.get("documents_bytes")
            shown = plural(value, "document") + (f", {size(stored)}" if isinstance(stored, int) else "")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            shown = (
                size(round(value)) if name.endswith("_bytes")
                else duration(value) if name.endswith("_seconds")
                else f"{value:,}"
            )  # fmt: skip
        elif isinstance(value, str) and value:
            shown = value
        else:
            continue
        facts.append(Fact({"duration": "took", "engine": "read by"}.get(words, words), shown))
    return tuple(facts)


def figures_of(manifest: Manifest, around: Surroundings) -> dict[str, object]:
    """The figures of one backup that all results share."""
    return {
        "backup_id": manifest.id,
        "space": manifest.space,
        "kind": manifest.kind,
        "engine": manifest.database.engine,
        "created": manifest.created.isoformat(),
        "age_seconds": round((around.clock() - manifest.created).total_seconds()),
        "database_bytes": manifest.database.size,
        "documents_count": manifest.documents_count,
        "documents_bytes": manifest.documents_size,
        "uploaded_database_bytes": manifest.figures.uploaded_database,
        "uploaded_documents_bytes": manifest.figures.uploaded_documents,
        "duration_seconds": manifest.figures.seconds,
    }
