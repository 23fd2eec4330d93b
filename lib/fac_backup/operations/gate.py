"""The gate of every operation: gather the facts, let the policy decide, refuse or go on (docs/security.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import RefusedError
from fac_backup.plain.text import one_line
from fac_backup.policy.authorization import (
    Decision,
    Facts,
    FirstAttempt,
    Request,
    Run,
    Stage,
    Trouble,
    decide,
    needs,
)
from fac_backup.report.views import CheckRow, Fact, Failure, Outcome

log = logging.getLogger(__name__)

Wish = Request
"""What somebody wants to do, to the letter as it came."""


@dataclass(frozen=True)
class Admission:
    """That an operation may go on, and how."""

    decision: Decision
    checks: tuple[CheckRow, ...]


def admit(
    wish: Wish,
    around: Surroundings,
    *,
    made_by_this_run: Callable[[], bool] | None = None,
    first_attempt: Callable[[], FirstAttempt | Trouble] | None = None,
) -> Admission:
    """Decide with fresh facts, just before anything is touched. Raises RefusedError with every check in its outcome.

    ``first_attempt`` reads the audit of the target, ``made_by_this_run`` the backup's manifest; each is asked only
    where all else has passed: nothing in any bucket is read for somebody who is refused.
    """
    facts = _facts(wish, around, Stage.ACT)
    wanted = needs(wish, facts.run, around.matrix)
    hoped = FirstAttempt(wish.source, wish.target, wish.backup_id, failed=True)
    best = replace(facts, first_attempt=hoped, made_by_this_run=True)
    if wanted.first_attempt and first_attempt is not None and decide(best, around.matrix).allowed:
        facts = replace(facts, first_attempt=first_attempt())
    if wanted.made_by_this_run and made_by_this_run is not None:
        hopeful = decide(replace(facts, made_by_this_run=True), around.matrix)
        if hopeful.allowed:
            facts = replace(facts, made_by_this_run=made_by_this_run())
    decision = decide(facts, around.matrix)
    if not decision.allowed:
        raise refusal(wish, decision, around)
    if decision.mode == "outside":
        log.warning("Outside GitHub Actions no identity was checked: paths, confirmation and markers still hold")
    return Admission(decision, _rows(decision))


def admit_unfinished(source: str, backup_id: str, target: str, around: Surroundings) -> None:
    """Whether a journal may be taken at its word: it lies in a bucket, and may name no way that the matrix does not.

    However its restore began, its path is listed, or it puts a pre-restore backup back.
    Raises RefusedError, or UsageError for an id that is none.
    """
    kind = BackupId.parse(backup_id).kind
    if around.matrix.path(source, target) is None and not (source == target and around.matrix.may_undo(target, kind)):
        raise RefusedError(
            f"The unfinished restore goes from {one_line(source, 40)} to {target} by its journal, and the matrix lists "
            "no such path",
            state="Nothing of the backup was read and nothing was changed.",
            next_step="Somebody may have written that journal: docs/operations.md, `exit code 7`.",
        )


def show(wish: Wish, around: Surroundings) -> Result:
    """The decision of ``authorize``: every check, passed or not. A refusal is a result with exit code 3."""
    decision = decide(_facts(wish, around, Stage.AUTHORIZE), around.matrix)
    now = around.clock().isoformat(timespec="seconds")
    subject = wish.subject or "default"
    way = f"{wish.operation} of {subject}"
    failure = None
    if not decision.allowed:
        error = refusal(wish, decision, around)
        failure = Failure.of(error)
    outcome = Outcome(
        "authorize",
        f"This run may do the {way}" if decision.allowed else f"This run may not do the {way}",
        facts=(
            Fact("matrix", around.matrix_from),
            Fact("environment", decision.environment if decision.allowed else ""),
            Fact("how it began", decision.mode),
        ),
        checks=_rows(decision),
        failure=failure,
    )
    data = {
        "allowed": decision.allowed,
        "environment": decision.environment if decision.allowed else "",
        "unattended": decision.unattended,
        "authorized_at": now if decision.allowed else "",
        "matrix": around.matrix_from,
        "matrix_commit": around.matrix_commit,
        "checks": [{"name": c.name, "passed": c.passed, "sentence": c.sentence} for c in decision.checks],
    }
    return Result(outcome, data, exit_code=0 if decision.allowed else RefusedError.exit_code)


def refusal(wish: Wish, decision: Decision, around: Surroundings) -> RefusedError:
    """The refusal in one line; the checks go into the summary."""
    reasons = " ".join(f"{check.sentence.rstrip('.')}." for check in decision.refusals) or "Nothing allows it."
    error = RefusedError(
        f"Refused: {reasons}",
        state="Nothing was read and nothing was changed.",
        next_step=f"The policy is {around.matrix_from}; docs/security.md says what each check is for.",
    )
    error.outcome = Outcome(
        wish.operation,
        f"{wish.operation.capitalize()} was refused",
        facts=(Fact("matrix", around.matrix_from),),
        checks=_rows(decision),
    )
    return error


def _facts(wish: Wish, around: Surroundings, stage: Stage) -> Facts:
    if not around.inside_actions:
        return Facts(wish, Run(inside_actions=False), stage)
    from fac_backup.hosting.github.facts import gather

    return gather(wish, around.matrix, around.env, stage=stage, now=around.clock())


def _rows(decision: Decision) -> tuple[CheckRow, ...]:
    return tuple(CheckRow(check.name, check.passed, check.sentence) for check in decision.checks)
