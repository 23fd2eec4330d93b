"""Which backups a purge removes, and why each of the others stays. A pure plan; carrying it out is not done here.

The rules (docs/format.md, "Retention"):

- "N days": a backup stays while its date, in the matrix's time zone, is one of the last N, today included. Dates are
  compared, not durations, so a day of 23 or 25 hours counts as one day.
- The newest complete backup of a space and kind stays, however old, and so does every one that is held.
- A backup dated in the future, or without a valid signature where signatures are required, counts for nothing: it is
  neither the newest nor one of N. It is not removed either. A wrong clock or a damaged signature would otherwise
  destroy a good backup, and a planted one is evidence: it stays, and the plan says so, until a person decides.
- A kind without a rule is kept. A line that goes missing from the matrix must not delete backups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.manifest import utc_text
from fac_backup.policy.model import Matrix, Rule

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far ahead of ours the clock may be that dated a backup."""


@dataclass(frozen=True)
class Candidate:
    """A complete backup, as far as a purge must know it."""

    id: BackupId
    held: bool = False
    signed_ok: bool = True
    """False where signatures are required and this one has no valid one."""
    future: bool = False
    """True where something beside the id (the bucket's clock, the manifest) says that the date cannot be right."""


@dataclass(frozen=True)
class Decision:
    """What becomes of one backup."""

    id: BackupId
    keep: bool
    rule: str
    """Short: ``newest``, ``held``, ``not counted``, ``no rule``, or the matrix's rule, such as ``keep 7 days``."""
    reason: str
    """A sentence."""
    expires: datetime | None
    """From when (UTC) a purge removes it, if things stay as they are; None where that cannot be foreseen."""


def plan(backups: Sequence[Candidate], matrix: Matrix, space: str, now: datetime) -> tuple[Decision, ...]:
    """One decision for each of the ``backups`` of ``space``, in the order given. ``now`` is aware.

    Raises UsageError if the matrix has no such space, and ValueError if a backup belongs to another one.
    """
    matrix.space(space)
    if any(backup.id.space != space for backup in backups):
        raise ValueError("a backup of another space in the plan")
    decided: dict[Candidate, Decision] = {}
    for kind in {backup.id.kind for backup in backups}:
        of_kind = [backup for backup in backups if backup.id.kind == kind]
        decided.update(_plan_kind(of_kind, matrix.retention(space, kind), matrix.zone, now.astimezone(UTC)))
    return tuple(decided[backup] for backup in backups)


def first_moment(day: datetime, zone: tzinfo) -> datetime:
    """When, in UTC, the date of ``day`` begins in ``zone``. A midnight that a change of clocks skips ends with it."""
    return datetime.combine(day.date(), time(), zone).astimezone(UTC)


def _plan_kind(
    backups: Iterable[Candidate], rule: Rule | None, zone: tzinfo, now: datetime
) -> dict[Candidate, Decision]:
    decided = {}
    rank = 0
    for backup in sorted(backups, key=lambda candidate: candidate.id, reverse=True):
        doubt = _doubt(backup, now)
        if not doubt:
            rank += 1
        if backup.held:
            decided[backup] = Decision(
                backup.id, True, "held", "It is held: purge leaves it alone until it is released.", None
            )
        elif doubt:
            decided[backup] = Decision(backup.id, True, "not counted", doubt, None)
        elif rule is None:
            reason = f"The matrix has no retention for {backup.id.kind} backups, so all of them stay."
            decided[backup] = Decision(backup.id, True, "no rule", reason, None)
        else:
            decided[backup] = _by_rule(backup.id, rank, rule, zone, now)
    return decided


def _doubt(backup: Candidate, now: datetime) -> str:
    """Why ``backup`` counts for nothing, or an empty text."""
    left = "It counts for nothing and is left for a person to look at."
    if backup.future or backup.id.time > now + CLOCK_TOLERANCE:
        return f"It is dated in the future ({utc_text(backup.id.time)}): a clock is wrong, or it was planted. {left}"
    if not backup.signed_ok:
        return f"It has no valid signature, and signatures are required. {left}"
    return ""


def _by_rule(backup: BackupId, rank: int, rule: Rule, zone: tzinfo, now: datetime) -> Decision:
    """The decision for the ``rank``-th newest (from 1) of those that count."""
    if rule.keep_newest is not None:
        keep = rank <= rule.keep_newest
        expires = None if keep else now
        reason = f"It is number {rank} of those that count, the newest first; {rule.keep_newest} are kept."
    else:
        days = rule.keep_days or 1
        date = backup.time.astimezone(zone)
        expires = first_moment(date + timedelta(days=days), zone)
        keep = (now.astimezone(zone).date() - date.date()).days < days
        last = f"one of the last {days} dates, today included" if days > 1 else "today's"
        reason = f"Its date, {date.date()}, is {last}." if keep else f"Its date, {date.date()}, is not {last}."
    if rank == 1:
        beyond = "" if keep else " Otherwise it would go: " + reason[0].lower() + reason[1:]
        return Decision(
            backup, True, "newest", f"It is the newest {backup.kind} backup of {backup.space}.{beyond}", None
        )
    return Decision(backup, keep, str(rule), reason, expires)
