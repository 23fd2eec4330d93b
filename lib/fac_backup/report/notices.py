"""What to worry about in a space: pure, so that list, page and verify say the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fac_backup.plain.text import duration, plural
from fac_backup.report.views import BackupRow, Notice
from fac_backup.report.words import DAY, moment

FRESH_SECONDS = 26 * 3600.0
"""A daily backup may be this old: a day, and two hours for a late cron and a long run."""

OBJECTS_SOON_SECONDS = 14 * DAY
"""Objects that their bucket will delete within this time are a warning."""


def notices(
    backups: tuple[BackupRow, ...],
    now: datetime,
    *,
    fresh: Mapping[str, float] | None = None,
    unfinished_restore: str = "",
    missing: tuple[str, ...] = (),
) -> tuple[Notice, ...]:
    """Warnings for one space, the serious ones first.

    ``fresh`` gives, for each kind that is expected to be young, how many seconds old its newest backup may be.
    ``missing`` are sentences about backups that others name and that nobody purged.
    A damaged, unsigned or future-dated backup never counts as fresh.
    """
    found: list[Notice] = []
    sound = [row for row in backups if row.usable]
    if unfinished_restore:
        found.append(Notice(f"A restore is unfinished: {unfinished_restore}", serious=True))
    found += [Notice(sentence, serious=True) for sentence in missing]
    if not sound:
        found.append(Notice("There is no backup that could be restored.", serious=True))
    for kind, limit in (fresh or {}).items():
        ages = [row.age_seconds for row in sound if row.kind == kind]
        if sound and not ages:
            found.append(Notice(f"There is no {kind} backup.", serious=True))
        elif ages and min(ages) > limit:
            found.append(Notice(f"The newest {kind} backup is {duration(min(ages))} old.", serious=True))
    for row in backups:
        if row.damaged:
            found.append(Notice(f"{row.id} is damaged: {row.damaged}", serious=True))
        if row.verified and not row.verified.passed:
            found.append(Notice(f"{row.id} failed its verification on {moment(row.verified.at)}.", serious=True))
        if row.future:
            found.append(Notice(f"{row.id} is dated in the future and counts for nothing."))
    unsigned = sum(1 for row in backups if row.signed is False)
    if unsigned:
        found.append(
            Notice(f"{plural(unsigned, 'backup')} without a valid signature cannot be restored.", serious=True)
        )
    expiring = [row.objects_expire for row in backups if row.objects_expire]
    if expiring and (min(expiring) - now).total_seconds() < OBJECTS_SOON_SECONDS:
        found.append(
            Notice(f"The bucket will delete objects that backups need from {moment(min(expiring))} on.", serious=True)
        )
    return tuple(sorted(found, key=lambda notice: not notice.serious))
