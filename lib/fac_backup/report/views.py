"""What a report shows, as frozen values. Operations fill them in; tables, summaries and the page only lay them out.

Text in these values may come from outside (ids and notes from a bucket, output of child programs): the renderers pass
every piece of it through ``fac_backup.plain.text``. Nothing here may be a secret or a row of data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from fac_backup.plain.errors import FacBackupError

When = Literal["unattended", "by hand", "unattended or by hand"]
Level = Literal["objects", "restore"]

CLOCK_TOLERANCE_SECONDS = 300.0


@dataclass(frozen=True)
class Target:
    """A space that a backup may be restored into, and how such a run may begin."""

    space: str
    when: When
    purpose: str = ""

    @property
    def by_hand(self) -> bool:
        """Whether the form of the restore workflow may name this target."""
        return self.when != "unattended"


@dataclass(frozen=True)
class Verified:
    """The last verification of a backup."""

    at: datetime
    level: Level
    passed: bool


@dataclass(frozen=True)
class BackupRow:
    """One complete (or damaged) backup of the catalog."""

    id: str
    space: str
    kind: str
    created: datetime
    """The snapshot's moment, aware."""
    age_seconds: float
    note: str = ""
    database_bytes: int = 0
    documents_count: int = 0
    documents_bytes: int = 0
    uploaded_bytes: int = 0
    """What this backup added to the store."""
    held: bool = False
    signed: bool | None = None
    """None where the matrix uses no signatures."""
    verified: Verified | None = None
    restorable_to: tuple[Target, ...] = ()
    expires: datetime | None = None
    """From when on purge will remove it; None if that cannot be foreseen."""
    rule: str = ""
    """The retention rule that keeps it, in words: ``the 2 newest``, ``a rolling 7 days``."""
    objects_expire: datetime | None = None
    """When the bucket's own rule will delete the first object that this backup needs, unless it is renewed."""
    damaged: str | None = None
    """Why the manifest cannot be used; None for a sound one."""

    @property
    def future(self) -> bool:
        """Dated in the future, beyond what clocks may differ by: counts for nothing (docs/format.md, "Retention")."""
        return self.age_seconds < -CLOCK_TOLERANCE_SECONDS

    @property
    def usable(self) -> bool:
        """Whether it can be restored at all."""
        return not self.damaged and self.signed is not False and not self.future

    @property
    def total_bytes(self) -> int:
        """Database and documents together, as they are in the application."""
        return self.database_bytes + self.documents_bytes


@dataclass(frozen=True)
class Notice:
    """One warning, with its weight."""

    text: str
    serious: bool = False


@dataclass(frozen=True)
class SpaceView:
    """One space: its backups, newest first, and what to worry about."""

    name: str
    backups: tuple[BackupRow, ...]
    notices: tuple[Notice, ...] = ()
    """See ``report.notices``."""
    rules: tuple[tuple[str, str], ...] = ()
    """(kind, retention rule in words), in the matrix's order."""
    stored_bytes: int | None = None
    """What the store holds for this space, shared pieces and documents counted once; None if nobody counted."""


@dataclass(frozen=True)
class CatalogView:
    """All spaces that were listed."""

    made: datetime
    spaces: tuple[SpaceView, ...]
    title: str = "Backups"
    restore_url: str = ""
    """Address of the restore workflow's page, empty if unknown."""


@dataclass(frozen=True)
class Fact:
    """One line of a result. ``private`` ones (a document key, a host, a bucket) are left out where everyone reads."""

    what: str
    value: str
    private: bool = False


@dataclass(frozen=True)
class Form:
    """What to type into the form of the restore workflow."""

    source: str
    target: str
    backup_id: str
    purpose: str = ""

    @property
    def confirm(self) -> str:
        """The confirmation repeats the target's name."""
        return self.target


@dataclass(frozen=True)
class PlanRow:
    """What purge does with one backup, and why."""

    id: str
    keep: bool
    rule: str
    reason: str
    expires: datetime | None = None
    total_bytes: int | None = None


@dataclass(frozen=True)
class CheckRow:
    """One check of an authorization, a preflight or ``doctor``. ``passed`` None: it did not apply."""

    name: str
    passed: bool | None
    sentence: str
    url: str = ""
    """Where the setting is made; only https addresses are linked."""


@dataclass(frozen=True)
class Failure:
    """What happened, what state things are in now, and what to do next."""

    what: str
    state: str
    next_step: str
    exit_code: int = 1

    @classmethod
    def of(cls, error: FacBackupError) -> Failure:
        """The same three sentences that the command line prints."""
        return cls(error.what, error.state, error.next_step, error.exit_code)

    @property
    def anchor(self) -> str:
        """The heading of the runbook (docs/operations.md) that deals with it."""
        return f"exit-code-{self.exit_code}"


@dataclass(frozen=True)
class Outcome:
    """The result of one operation, done, refused or failed."""

    operation: str
    """``backup``, ``restore``, ``purge``, …: as on the command line."""
    title: str
    """One sentence without a full stop: ``Backup of production is complete``."""
    backup_id: str = ""
    """The id that this result is about; shown so that it can be copied."""
    undo_id: str = ""
    """The ``pre-restore`` backup with which this restore can be undone."""
    facts: tuple[Fact, ...] = ()
    forms: tuple[Form, ...] = ()
    plan: tuple[PlanRow, ...] = ()
    checks: tuple[CheckRow, ...] = ()
    spaces: tuple[SpaceView, ...] = ()
    warnings: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    failure: Failure | None = None
    dry_run: bool = False
    links: tuple[tuple[str, str], ...] = field(default=())
    """(words, https address): the run, the restore workflow."""

    @property
    def done(self) -> bool:
        """Whether the operation did what it was asked to do."""
        return self.failure is None


def forms_for(row: BackupRow) -> tuple[Form, ...]:
    """What to type to restore ``row`` by hand: one form a target. None for one that cannot be restored."""
    if not row.usable:
        return ()
    return tuple(Form(row.space, to.space, row.id, to.purpose) for to in row.restorable_to if to.by_hand)
