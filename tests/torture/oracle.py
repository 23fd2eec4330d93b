"""What a purge must keep, said a second time from the design's own sentences, with nothing of policy/retention.py.

    keep the 2 newest pre-deploy · a rolling N days: backups whose date, in the matrix's time zone, is one of the last N
    dates, today included · the newest complete backup of a space and kind always stays, and so does one that is held ·
    what is dated in the future counts for nothing (more than five minutes ahead: docs/format.md)

It works on texts and calendars: a backup's date is read off a wall clock of the zone, and the last N dates are a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

Rules = Mapping[str, tuple[str, int]]
"""By kind: ``("newest", 2)`` or ``("days", 7)``."""


def moment_of(backup_id: str) -> datetime:
    """The time in a backup's id."""
    return datetime.strptime(backup_id.split("_")[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def wall_date(moment: datetime, zone: str) -> str:
    """What a calendar on a wall in ``zone`` shows at ``moment``."""
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d")


def last_dates(now: datetime, zone: str, count: int) -> list[str]:
    """The last ``count`` dates of that calendar, today's included: leaves are turned back one at a time."""
    year, month, day = (int(part) for part in wall_date(now, zone).split("-"))
    found = []
    while len(found) < count:
        found.append(f"{year:04}-{month:02}-{day:02}")
        day -= 1
        if day == 0:
            month -= 1
            if month == 0:
                year, month = year - 1, 12
            day = 31 if month in (1, 3, 5, 7, 8, 10, 12) else 30
            if month == 2:
                day = 29 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 28
    return found


def kept(backups: Iterable[str], held: Iterable[str], rules: Rules, zone: str, now: datetime) -> set[str]:
    """The ids that are there after a purge at ``now``."""
    everything, stays = sorted(backups), set(held)
    in_future = {one for one in everything if (moment_of(one) - now).total_seconds() > 300}
    stays |= in_future
    for kind, (rule, count) in rules.items():
        counting = [one for one in everything if one.split("_")[2] == kind and one not in in_future]
        stays.update(counting[-1:])
        if rule == "newest":
            stays.update(counting[-count:])
        else:
            # One of the five minutes of tolerance may bear tomorrow's date: it is no older than the rule.
            dates = last_dates(now, zone, count)
            stays.update(one for one in counting if wall_date(moment_of(one), zone) in (*dates, max(dates)))
            stays.update(one for one in counting if wall_date(moment_of(one), zone) > max(dates))
    return stays.intersection(everything)
