"""Adopt: mark a database and its documents buckets as a space's."""

from __future__ import annotations

from fac_backup.operations import gate, markers, opening
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.text import plural
from fac_backup.report.views import Fact, Outcome


def run(space: str, confirm: str, around: Surroundings) -> Result:
    """1. may this run;  2. look whether another space has marked anything;  3. mark;  4. audit."""
    space = around.one_space(space)
    gate.admit(gate.Wish("adopt", space=space, confirm=confirm), around)
    opened = opening.open_space(around, space, signing=False)
    opened.store.open_for_writing()
    markers.adopt(opened, around.run.actor, around.clock())
    opened.store.audit.record("adopt", "done", actor=around.run.actor, run=around.run.url)
    labels = [source.label for source in opened.sources]
    buckets = plural(len(labels), "bucket")
    marked = f"Database and documents ({buckets}) are" if labels else "The database is"
    outcome = Outcome(
        "adopt",
        f"{marked} marked as {space}'s",
        facts=(Fact("space", space), Fact("documents", ", ".join(labels) or "none")),
        next_steps=("Back it up now: `fac-backup backup --space " + space + "`.",),
    )
    return Result(outcome, {"space": space, "documents": labels})
