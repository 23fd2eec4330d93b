"""Backup ids: ``<space>_<UTC time>_<kind>``, for example ``production_20261122T201653Z_pre-deploy``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fac_backup.plain.errors import UsageError

NAME_PATTERN = r"[a-z][a-z0-9-]{0,30}"
"""Spaces, kinds and document labels. No ``_``, so that a backup id has exactly three parts."""

_NAME = re.compile(NAME_PATTERN)
_ID = re.compile(rf"({NAME_PATTERN})_([0-9]{{8}}T[0-9]{{6}}Z)_({NAME_PATTERN})")
_TIME = "%Y%m%dT%H%M%SZ"


def is_name(text: str) -> bool:
    """Whether ``text`` may name a space, a kind or a label."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, order=True)
class BackupId:
    """The name of one backup: which space, when it was begun (UTC, whole seconds), which kind. Sorts by space, time."""

    space: str
    time: datetime
    kind: str

    @classmethod
    def parse(cls, text: str) -> BackupId:
        """Read an id that came from outside. Raises UsageError for anything that is not exactly of the form."""
        match = _ID.fullmatch(text) if len(text) <= 100 and text.isascii() else None
        if match is not None:
            try:
                return cls(match[1], datetime.strptime(match[2], _TIME).replace(tzinfo=UTC), match[3])
            except ValueError:
                pass  # a date such as 20261399: falls through to the same sentence
        shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:60])
        raise UsageError(
            f"{shown!r} is not a backup id",
            next_step="An id looks like production_20261122T201653Z_daily; `fac-backup list --space SPACE` shows them.",
        )

    @classmethod
    def now(cls, space: str, kind: str, moment: datetime) -> BackupId:
        """The id of a backup of ``space`` that begins at ``moment`` (aware; cut to the second, in UTC)."""
        return cls(space, moment.astimezone(UTC).replace(microsecond=0), kind)

    def next_second(self) -> BackupId:
        """The id to try when this one is taken."""
        return BackupId(self.space, self.time + timedelta(seconds=1), self.kind)

    def __str__(self) -> str:
        return f"{self.space}_{self.time.strftime(_TIME)}_{self.kind}"
