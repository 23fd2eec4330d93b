"""Hold a backup, or release it."""

from __future__ import annotations

from fac_backup.operations import gate, opening
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.report.views import Fact, Outcome


def run(space: str, backup_id: str, release: bool, confirm: str, around: Surroundings) -> Result:
    """1. may this run;  2. the backup is there and whole enough to be read;  3. hold or release;  4. audit."""
    space = around.one_space(space)
    gate.admit(gate.Wish("hold", space=space, backup_id=backup_id, confirm=confirm, release=release), around)
    named = BackupId.parse(backup_id)
    store = opening.open_store(around, space)
    store.open_for_reading()
    store.catalog.read(named, future_too=True)
    with store.locks.acquire(
        "store", "shared", wait=around.patience(300.0)
    ):  # a purge that runs now has planned without it
        store.catalog.read(named, future_too=True)
        if release:
            store.holds.release(named)
        else:
            store.holds.hold(named, by=around.who)
    what = "release" if release else "hold"
    store.audit.record(what, "done", actor=around.run.actor, run=around.run.url, facts={"backup_id": backup_id})
    title = "is released: the retention rules decide again" if release else "is held: purge leaves it alone"
    outcome = Outcome("hold", f"The backup {title}", backup_id=str(named), facts=(Fact("space", space),))
    return Result(outcome, {"space": space, "backup_id": str(named), "held": not release})
