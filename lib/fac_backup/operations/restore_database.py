"""The database's part of a restore: build beside and swap, or wipe and fill in place; and how each is put back."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import psycopg2

from fac_backup.database import analyzing, beside, closed, inplace, marker, preflight, scratch, sessions, swap
from fac_backup.database.connection import Database, failure, version_text
from fac_backup.database.kept import note as note_kept
from fac_backup.database.load import LoadOptions, LoadReport, load, opened_head, require_valid_constraints
from fac_backup.operations.opening import Opened
from fac_backup.operations.own_sql import BeforeSwap
from fac_backup.operations.result import Result
from fac_backup.operations.shown import loading
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import FacBackupError, FailedError
from fac_backup.plain.manifest import Database as DatabasePart
from fac_backup.plain.manifest import Manifest
from fac_backup.plain.protocols import PieceSource
from fac_backup.plain.text import duration, plural, size
from fac_backup.report.views import CheckRow, Fact, Outcome
from fac_backup.store.records import JournalEntry

if TYPE_CHECKING:
    from fac_backup.operations.restore import RestoreRequest
    from fac_backup.operations.restore_plan import Chosen, Mode

log = logging.getLogger(__name__)

Step = Callable[..., None]
"""Notes in the journal what comes next: ``step("swapping")``."""


class Replacement(Protocol):
    """How the old database gives way to the new one."""

    def takes_up(self, journal: dict[str, Any]) -> bool:
        """Go on with what a killed restore of this very backup has made of the database; False if that is not there."""
        ...

    def remembers(self, journal: dict[str, Any]) -> dict[str, Any]:
        """What the journal must keep besides what it holds."""
        ...

    def build(self, before: BeforeSwap, undo: Manifest | None, step: Step) -> None:
        """Make everything ready that can be made ready while the old database serves."""
        ...

    def replace(self, step: Step) -> None:
        """Let the new database serve."""
        ...

    def put_back(self, undo: Manifest | None) -> bool:
        """Make the old database serve again, as it was; False if there is nothing to do it with."""
        ...

    def close(self) -> None:
        """The restore is done: remove what is no longer needed."""
        ...

    def state(self) -> str:
        """In what state the target's database is now, in a sentence."""
        ...

    def facts(self) -> dict[str, Any]:
        """What was done, for the result."""
        ...


def choose(mode: Mode, chosen: Chosen, target: Opened, around: Surroundings) -> Replacement:
    """The replacement for a mode of the plan."""
    return Beside(chosen, target, around) if mode == "beside" else InPlace(chosen, target, around)


def is_wiped(left: JournalEntry) -> bool:
    """Whether a killed restore has left a database that is not whole: it was wiped, and is not filled yet."""
    return left.step == "wiping"


def as_reached(database: Database, left: JournalEntry) -> JournalEntry:
    """The journal of a killed restore with the step that it came to: one that was about to swap may not have."""
    if left.step != "swapping":
        return left
    new, kept = str(left.data.get("new") or ""), str(left.data.get("kept") or "")
    return left if swap.state(database, new, kept) == "after" else left.model_copy(update={"step": "adding"})


def may_create(target: Opened) -> bool:
    """Whether the role may create databases on the target's server. Raises FailedError if it cannot be reached."""
    session = target.database.connect(autocommit=True)
    try:
        with session.cursor() as cursor:
            cursor.execute("SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
            row = cursor.fetchone()
    finally:
        session.close()
    return bool(row and row[0])


CONNECTING = 0.3
"""Seconds that a session may need from reading the settings of its database until others can see it."""

GIB = 1024**3
"""Hosted databases give their storage in these."""

MARGIN = 1.2
"""A new database that leaves less than this is a warning."""


@dataclass(frozen=True)
class Found:
    """What is known of the target's server."""

    checks: tuple[CheckRow, ...]
    warnings: tuple[str, ...]
    target_size: int
    connected: tuple[sessions.Connected, ...]
    room: int | None
    """Bytes that are left for a new database, None where nobody knows."""


def preflight_of(chosen: Chosen, target: Opened, around: Surroundings, mode: Mode, *, loads: bool = True) -> Found:
    """What can be known of the target's server beforehand. Raises FailedError for what would fail later.

    ``loads``: a new database is filled, for which there must be room.
    """
    part = chosen.manifest.database
    with opened_head(target.database, part, chosen.pieces, _options(around)) as head:
        facts = preflight.look(target.database, part, head)
    storage = around.matrix.space(target.space).storage_gb if loads else None
    room = None if storage is None else max(0, storage * GIB - facts.used)
    preflight.require(facts, replace=mode, free_bytes=room)
    warnings = []
    if facts.missing_roles:
        warnings.append(f"Grants to roles that the target lacks will be left out: {', '.join(facts.missing_roles)}")
    if facts.refused_extensions:
        warnings.append(f"The role may have no right to create: {', '.join(facts.refused_extensions)}")
    if facts.subscriptions:
        warnings.append(f"{plural(facts.subscriptions, 'subscription')} of the target will be detached.")
    now, then = version_text(facts.target_version), version_text(facts.source_version)
    checks: tuple[CheckRow, ...] = (
        CheckRow("versions", True, f"The target is PostgreSQL {now}, the backup is of {then}."),
        CheckRow("rights", True, "The role may create the new database." if mode == "beside" else "The role may wipe."),
    )
    needed = facts.size_needed if mode == "beside" else max(0, facts.size_needed - facts.size_now)
    if room is not None:
        sentence = f"The new database needs {size(needed)}, {size(room)} are left on the server."
        checks += (CheckRow("room", True, sentence),)
        if needed * MARGIN > room:
            warnings.append(f"{sentence} The server's own log, and files while indexes are built, need room too.")
    elif mode == "beside" and loads:
        checks += (CheckRow("room", None, f"It needs {size(needed)}; `storage_gb` of the space says what there is."),)
    return Found(checks, tuple(warnings), facts.size_now, facts.connected, room)


class Beside:
    """A new database beside the old one, swapped in by two renames in one transaction."""

    def __init__(self, chosen: Chosen, target: Opened, around: Surroundings) -> None:
        self._chosen = chosen
        self._target = target
        self._around = around
        self._database = target.database
        # The time in the name tells how long an old database has been kept.
        token = f"{int(around.clock().timestamp()):08x}{secrets.token_hex(2)}"
        self._new = scratch.scratch_name(self._database.name, "new", token)
        self._kept = scratch.scratch_name(self._database.name, "old", token)
        self._swapped = False
        self._report: LoadReport | None = None
        self._notes: list[str] = []
        self._seconds = 0.0
        self._undo_id = ""

    def takes_up(self, journal: dict[str, Any]) -> bool:
        """If the swap was done: the old database is kept under its name, and the one that serves says that it is this
        backup. The journal is not signed, and is believed no further than that."""
        new, kept = str(journal.get("new") or ""), str(journal.get("kept") or "")
        if not new or not kept or swap.state(self._database, new, kept) != "after":
            return False
        if not any(one.name == kept and one.role == "old" and one.marked for one in scratch.find(self._database)):
            return False
        if not self._serves():
            return False
        self._new, self._kept, self._swapped = new, kept, True
        return True

    def remembers(self, journal: dict[str, Any]) -> dict[str, Any]:
        """The two names."""
        self._undo_id = str(journal.get("undo_id") or "")
        return {"new": self._new, "kept": self._kept}

    def _serves(self) -> bool:
        """Whether the database that serves says that it is what this restore has built."""
        session = self._database.connect()
        try:
            found = marker.read(session)
        finally:
            session.close()
        return found is not None and found.restored == self._chosen.manifest.id

    def build(self, before: BeforeSwap, undo: Manifest | None, step: Step) -> None:
        """Create, load, verify, mark, carry over settings and grants, run the SQL that the caller wants run."""
        del undo
        if self._swapped:
            return
        for left in scratch.find(self._database):
            if left.role == "new" and not left.in_use:
                log.info("Removing a database that a killed restore has left")
                scratch.drop(self._database, left.name)
        step("building")
        part = self._chosen.manifest.database
        self._notes += swap.create_beside(self._database, self._new, part, leftover_unless_locked=True)
        with loading(self._chosen.pieces, self._around, self._chosen.manifest, "Database") as pieces:
            self._report = load(self._database, self._new, part, pieces, _options(self._around, self._again))
        self._notes += _lost(self._report)
        mark(self._database, self._new, self._target, self._chosen)
        self._notes += [f"not carried over: {what}" for what in swap.carry_over(self._database, self._new)]
        _run_before(before, self._database, self._new, part)

    def _again(self) -> None:
        scratch.drop(self._database, self._new)
        part = self._chosen.manifest.database
        swap.create_beside(self._database, self._new, part, leftover_unless_locked=True)

    def replace(self, step: Step) -> None:
        """Swap, and look that what serves now is what was built."""
        if self._swapped:
            return
        step("swapping")
        done = swap.swap(self._database, self._new, self._kept)
        self._swapped = True
        self._seconds = done.seconds
        self._verify()
        step("swapped")

    def _verify(self) -> None:
        if not self._serves():
            raise FailedError("After the swap the database that serves is not the one that was built")

    def put_back(self, undo: Manifest | None) -> bool:
        """Before the swap: drop the new one. After it: swap the old one back in."""
        del undo
        if not self._swapped and swap.state(self._database, self._new, self._kept) == "after":
            self._swapped = True  # it failed in the very moment of the commit
        if not self._swapped:
            scratch.drop(self._database, self._new)
            return True
        self._swap_back(self._kept)
        self._swapped = False
        return True

    def _swap_back(self, kept: str) -> None:
        away = scratch.scratch_name(self._database.name, "old", f"{int(time.time()):08x}{secrets.token_hex(2)}")
        swap.swap(self._database, kept, away)
        scratch.drop(self._database, away)

    def close(self) -> None:
        """Statistics for the planner; drop the old databases that are no longer kept."""
        keep = self._around.matrix.space(self._target.space).keep_previous * 3600
        now = self._around.clock().timestamp()
        with ThreadPoolExecutor(1, thread_name_prefix="analyze") as beside_it:  # DROP DATABASE waits for a checkpoint
            statistics = beside_it.submit(analyze, self._database, self._around.jobs)
            for left in scratch.find(self._database):
                if left.role == "old" and now - _made_at(left.token) >= keep:
                    scratch.drop(self._database, left.name)
            statistics.result()
        if keep and self._undo_id:
            note_kept(self._database, self._kept, self._undo_id)

    def state(self) -> str:
        """Which database serves."""
        if self._swapped:
            return "The new database serves; documents may be half replaced."
        return "The old database serves; documents may have been added."

    def facts(self) -> dict[str, Any]:
        """Rows, seconds of the swap, what could not be kept."""
        return {
            **_counted(self._report),
            "swap_seconds": round(self._seconds, 3),
            "warnings": list(self._notes),
        }


class InPlace:
    """Wipe the target's database and fill it. Between the two nothing serves; the undo puts it back."""

    def __init__(self, chosen: Chosen, target: Opened, around: Surroundings) -> None:
        self._chosen = chosen
        self._target = target
        self._around = around
        self._database = target.database
        self._before = BeforeSwap()
        self._touched = False
        self._filled = False
        self._read_only = ""
        """What the database itself said of read-only transactions before we closed it."""
        self._report: LoadReport | None = None
        self._notes: list[str] = []

    def takes_up(self, journal: dict[str, Any]) -> bool:
        """If it has wiped: the restore is done again from its beginning, and what is put back is what it has wiped."""
        self._touched = journal.get("wiping") is True
        self._read_only = str(journal.get("read_only") or "")
        return self._touched

    def remembers(self, journal: dict[str, Any]) -> dict[str, Any]:
        """Whether the database was wiped, and how it is opened again."""
        del journal
        return {"wiping": self._touched, "read_only": self._read_only}

    def build(self, before: BeforeSwap, undo: Manifest | None, step: Step) -> None:
        """Every piece is read and verified once before the wipe, because there is no way back but the undo; and every
        piece of the undo, unless it is too late for that."""
        del step
        self._before = before
        manifest = self._chosen.manifest
        with loading(self._chosen.pieces, self._around, manifest, "Checking the database") as pieces:
            for piece in manifest.pieces():
                pieces.read(piece)
        if undo is not None and not self._touched:
            with loading(self._target.store.pieces, self._around, undo, "Checking the way back") as pieces:
                for piece in undo.pieces():
                    pieces.read(piece)

    def replace(self, step: Step) -> None:
        """Wipe, fill, verify."""
        if not self._touched:
            self._read_only = closed.own_value(self._database)
        step("wiping", {"wiping": True, "read_only": self._read_only})
        self._touched = True
        with _others_kept_out(self._database):
            inplace.wipe(self._database)
            self._report = self._fill(self._chosen.manifest, self._chosen.pieces)
            mark(self._database, self._database.name, self._target, self._chosen)
            _run_before(self._before, self._database, self._database.name, self._chosen.manifest.database)
        closed.reopen(self._database, self._read_only)
        self._filled = True
        self._notes += _lost(self._report)
        step("filled")

    def put_back(self, undo: Manifest | None) -> bool:
        """Fill the database again from the pre-restore backup."""
        if not self._touched:
            return True
        if undo is None:
            return False
        log.warning("Putting the database back from %s", undo.id)
        with _others_kept_out(self._database):
            inplace.wipe(self._database)
            self._fill(undo, self._target.store.pieces)
        closed.reopen(self._database, self._read_only)
        self._touched = self._filled = False
        return True

    def _fill(self, manifest: Manifest, pieces: PieceSource) -> LoadReport:
        def again() -> None:
            inplace.wipe(self._database)

        options = _options(self._around, again)
        with loading(pieces, self._around, manifest, "Database") as shown:
            return load(self._database, self._database.name, manifest.database, shown, options)

    def close(self) -> None:
        """Statistics for the planner."""
        analyze(self._database, self._around.jobs)

    def state(self) -> str:
        """Whether the database is whole."""
        if self._filled:
            return "The database holds the backup; documents may be half replaced."
        if self._touched:
            return "The target's database was wiped, is not whole, and is read-only: the application must not use it."
        return "The database is as before; documents may have been added."

    def facts(self) -> dict[str, Any]:
        """Rows, and what could not be kept."""
        return {**_counted(self._report), "warnings": list(self._notes)}


def beside_only(
    request: RestoreRequest, chosen: Chosen, target: Opened, around: Surroundings, before: BeforeSwap, began: float
) -> Result:
    """Restore the database alone into a new database, and stop there: yesterday's data next to today's."""
    database, part = target.database, chosen.manifest.database
    beside.require_free(database, request.beside)
    token = f"{int(around.clock().timestamp()):08x}{secrets.token_hex(2)}"
    new = scratch.scratch_name(database.name, "new", token)
    swap.create_beside(database, new, part)
    try:
        with loading(chosen.pieces, around, chosen.manifest, "Database") as pieces:
            report = load(database, new, part, pieces, _options(around))
        _run_before(before, database, new, part)  # what it takes out must not stand beside the target either
        if request.only:
            beside.keep_only(database, new, request.only)
        beside.give_away(database, new, request.beside)
    except BaseException:
        scratch.drop(database, new)
        raise
    took = round(time.monotonic() - began, 3)
    outcome = Outcome(
        "restore",
        f"The backup stands beside {target.space}'s database; nothing was replaced",
        backup_id=chosen.manifest.id,
        facts=(
            Fact("database", request.beside, private=True),
            Fact("rows", f"{report.rows:,}"),
            Fact("took", duration(took)),
        ),
        next_steps=("Drop it yourself when you have looked at it: it is an ordinary database now.",),
    )
    data = {"backup_id": chosen.manifest.id, "beside": request.beside, "rows": report.rows, "duration_seconds": took}
    return Result(outcome, data)


def _counted(report: LoadReport | None) -> dict[str, int]:
    """What was compared before the new database served."""
    if report is None:
        return {"rows": 0}
    return {"rows": report.rows, "constraints": report.constraints, "sequences": report.sequences}


def _made_at(token: str) -> float:
    """When the restore that made a scratch database began (seconds since 1970), as its token tells; else 0."""
    try:
        return float(int(token[:8], 16))
    except ValueError:
        return 0.0


def _end_everybody(database: Database) -> None:
    """End our own program's sessions too: those of a restore that was killed or paused, and lost its lock to us, would
    go on filling what we wipe."""
    session = database.connect(autocommit=True)
    try:
        sessions.end_sessions(session, [database.name], ours=True)
    except psycopg2.Error as error:
        raise failure(error, f"The sessions of {database.called} could not be ended") from None
    finally:
        session.close()


@contextmanager
def _others_kept_out(database: Database) -> Iterator[None]:
    """An application that reconnects all the time must not write into a half filled database, nor lock what is in it.

    Twice everybody's sessions are ended: one that was just connecting may have missed that it shall only read.
    """
    closed.close(database)
    _end_everybody(database)
    time.sleep(CONNECTING)
    _end_everybody(database)
    with sessions.KeptOut(database, [database.name], ours=False, every=0.05):
        yield


def analyze(database: Database, jobs: int) -> None:
    """Gather the planner's statistics, so that the first queries are not slow. A failure is only a warning."""
    try:
        analyzing.analyze(database, jobs=jobs)
    except (psycopg2.Error, FacBackupError):
        log.warning("ANALYZE failed: the first queries may be slow until autovacuum has come by")


def _options(around: Surroundings, again: Callable[[], None] | None = None) -> LoadOptions:
    return LoadOptions(jobs=around.jobs, inside_actions=around.inside_actions, again=again)


def mark(database: Database, name: str, target: Opened, chosen: Chosen) -> None:
    """The new database bears the target's marker, made anew: markers are never restored."""
    session = database.connect()
    try:
        old = marker.require(session, target.space, database.called)
    finally:
        session.close()
    session = database.connect(name, autocommit=True)
    try:
        marker.write(session, marker.Marker(old.space, old.adopted_at, old.adopted_by, chosen.manifest.id))
    finally:
        session.close()


def _run_before(before: BeforeSwap, database: Database, name: str, part: DatabasePart) -> None:
    """Run what the team wants run before the swap, and see that it has left no constraint without a check."""
    if not before.digest:
        return
    before.run(database, name)
    session = database.connect(name, autocommit=True)
    try:
        require_valid_constraints(session, part)
    except psycopg2.Error as error:
        raise failure(error, "The constraints could not be looked at") from None
    finally:
        session.close()


def _lost(report: LoadReport) -> list[str]:
    notes = []
    if report.privileges.missing_roles:
        notes.append(
            f"{plural(report.privileges.for_missing, 'grant')} to roles that the target lacks, left out: "
            + ", ".join(report.privileges.missing_roles)
        )
    notes += [f"refused by the server: {what}" for what in report.privileges.refused]
    notes += [f"left out: {what}" for what in report.left_out]
    if report.serial:
        notes.append("A check reads other tables, so everything was loaded twice, the second time in order.")
    return notes
