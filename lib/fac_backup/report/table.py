"""Plain-text tables for a terminal and a job's log. Text from outside breaks neither alignment nor terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.cells import cell_len

from fac_backup.plain.text import for_log, plural, size
from fac_backup.report import words
from fac_backup.report.views import BackupRow, CheckRow, Fact, Outcome, PlanRow, SpaceView

MARKS = {True: "ok", False: "NO", None: "-"}


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """A table with columns two blanks apart, cells made safe, columns in ``right`` flush right; no trailing blanks."""
    cells = [[for_log(cell, 120) for cell in row] for row in rows]
    lines = [[*header], *cells] if header else cells
    if not lines:
        return ""
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = []
    for line in lines:
        padded = []
        for column, cell in enumerate(line):
            gap = " " * (widths[column] - cell_len(cell))
            padded.append(gap + cell if column in right else cell + gap)
        shown.append("  ".join(padded).rstrip())
    return "\n".join(shown)


def facts(rows: Sequence[Fact], *, public: bool = False) -> str:
    """``what  value`` lines; private ones left out where everyone reads."""
    return aligned((), [(fact.what, fact.value) for fact in rows if not (public and fact.private)])


def backups(rows: Sequence[BackupRow], now: datetime) -> str:
    """The backups of one space: one line each, a second one for where to, how long and what is special."""
    if not rows:
        return "no backups"
    table = aligned(
        ("BACKUP ID", "AGE", "DATABASE", "DOCUMENTS", "NEW"),
        [
            (row.id, words.age(row.age_seconds), size(row.database_bytes), words.documents(row),
             size(row.uploaded_bytes))
            for row in rows
        ],
        right=frozenset({1, 2, 3, 4}),
    )  # fmt: skip
    lines = table.split("\n")
    shown = [lines[0]]
    for line, row in zip(lines[1:], rows, strict=True):
        shown.append(line)
        shown.append(for_log(f"    restore to: {words.targets(row)}"))
        shown.append(for_log(f"    kept: {words.until(row, now)}"))
        special = words.flags(row, now)
        if special:
            shown.append(for_log(f"    {'; '.join(special)}"))
        if row.note:
            shown.append(for_log(f"    note: {row.note}"))
    return "\n".join(shown)


def space(view: SpaceView, now: datetime) -> str:
    """One space: a heading, its warnings, its backups."""
    newest = f", the newest {words.old(view.backups[0].age_seconds)}" if view.backups else ""
    stored = f", {size(view.stored_bytes)} stored" if view.stored_bytes is not None else ""
    head = for_log(f"{view.name}: {plural(len(view.backups), 'backup')}{newest}{stored}")
    warnings = [for_log(f"! {notice.text}") for notice in view.notices]
    return "\n".join([head, *warnings, "", backups(view.backups, now)])


def plan(rows: Sequence[PlanRow], *, dry_run: bool = False) -> str:
    """The plan of a purge, with reasons."""
    go = "would go" if dry_run else "goes"
    return aligned(
        ("", "BACKUP ID", "RULE", "WHY"),
        [("keep" if row.keep else go, row.id, row.rule, row.reason) for row in rows],
    )


def checks(rows: Sequence[CheckRow]) -> str:
    """Checks of an authorization or of ``doctor``."""
    return aligned(("", "CHECK", "RESULT"), [(MARKS[row.passed], row.name, row.sentence) for row in rows])


def outcome(result: Outcome, now: datetime | None = None, *, public: bool = False) -> str:
    """The whole result for a terminal: what was done, tables, ids, warnings, next steps. Not the failure's line."""
    now = now or datetime.now(UTC)
    parts = [for_log(result.title)]
    if result.facts:
        parts.append(facts(result.facts, public=public))
    if result.checks:
        parts.append(checks(result.checks))
    if result.plan:
        parts.append(plan(result.plan, dry_run=result.dry_run) + f"\n{words.tally(result)}")
    parts += [space(view, now) for view in result.spaces]
    if result.backup_id:
        parts.append(for_log(f"backup id: {result.backup_id}"))
    if result.undo_id:
        parts.append(for_log(f"to undo it, restore: {result.undo_id}"))
    if result.warnings:
        parts.append("\n".join(for_log(f"! {warning}") for warning in result.warnings))
    if result.next_steps:
        parts.append("\n".join(for_log(f"next: {step}") for step in result.next_steps))
    return "\n\n".join(parts)
