"""The same wording for the same thing in table, summary and page."""

from __future__ import annotations

from datetime import UTC, datetime

from fac_backup.plain.text import duration, plural, size
from fac_backup.report.views import CLOCK_TOLERANCE_SECONDS, BackupRow, Outcome, Target

DAY = 86_400.0

EXIT_CODES = {
    0: "done",
    1: "failed, the target is as before",
    2: "wrong usage or invalid matrix",
    3: "refused by policy",
    4: "no such backup",
    5: "integrity check failed",
    6: "the store is locked",
    7: "failed after the target was touched: act now",
}


def moment(when: datetime) -> str:
    """``2026-11-22 20:16 UTC``."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def age(seconds: float) -> str:
    """``2 h 5 min``, ``3 days``; a backup dated in the future says so."""
    if seconds < -CLOCK_TOLERANCE_SECONDS:
        return "in the future"
    return "just now" if seconds < 60 else duration(seconds)


def old(seconds: float) -> str:
    """``2 h 5 min old``, ``made just now``."""
    shown = age(seconds)
    return f"made {shown}" if shown == "just now" else f"dated {shown}" if seconds < 0 else f"{shown} old"


def documents(row: BackupRow) -> str:
    """``2,310 documents, 4.2 GB``."""
    return f"{plural(row.documents_count, 'document')}, {size(row.documents_bytes)}"


def target(to: Target) -> str:
    """``staging (unattended or by hand)``."""
    return f"{to.space} ({to.when})"


def target_briefly(to: Target) -> str:
    """``staging``; says so only where the form may not name it."""
    return to.space if to.by_hand else f"{to.space} (unattended only)"


def targets(row: BackupRow) -> str:
    """Where it may be restored to, or why nowhere."""
    if row.damaged:
        return "nowhere: damaged"
    if row.signed is False:
        return "nowhere: no valid signature"
    if row.future:
        return "nowhere: dated in the future"
    return ", ".join(target(to) for to in row.restorable_to) or "nowhere: the matrix has no path for it"


def until(row: BackupRow, now: datetime) -> str:
    """How long it stays, and by which rule: ``6 more days (a rolling 7 days)``."""
    if row.held:
        return "until its hold is released"
    if row.expires is None:
        return f"no date yet ({row.rule})" if row.rule else "no date yet"
    left = (row.expires - now).total_seconds()
    when = "goes with the next purge" if left <= 0 else f"{duration(left)} more"
    return f"{when} ({row.rule})" if row.rule else when


def flags(row: BackupRow, now: datetime, soon: float = 7 * DAY) -> tuple[str, ...]:
    """What is special about it, good or bad, in a word or two each."""
    shown = []
    if row.damaged:
        shown.append(f"damaged: {row.damaged}")
    if row.signed is False:
        shown.append("not signed")
    if row.future:
        shown.append("dated in the future")
    if row.verified and not row.verified.passed:
        shown.append(f"failed verification on {moment(row.verified.at)}")
    if row.objects_expire and (row.objects_expire - now).total_seconds() < soon:
        shown.append(f"the bucket will delete parts of it on {moment(row.objects_expire)}")
    if row.held:
        shown.append("held")
    if row.verified and row.verified.passed:
        shown.append("rehearsed" if row.verified.level == "restore" else "verified")
    return tuple(shown)


def tally(outcome: Outcome) -> str:
    """``3 are kept, 2 go``, for a plan."""
    keep = sum(row.keep for row in outcome.plan)
    go = len(outcome.plan) - keep
    verb = ("would go" if outcome.dry_run else "go") if go != 1 else ("would go" if outcome.dry_run else "goes")
    return f"{keep} {'is' if keep == 1 else 'are'} kept, {go} {verb}"
