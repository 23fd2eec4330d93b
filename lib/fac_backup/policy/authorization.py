"""Who may: the pure decision over facts. Every check is in the result, passed or not (docs/security.md, "Who may").

How a run began decides which checks there are:

- ``unattended``: event ``schedule``, attempt 1. No person is checked; only pairs listed for it, only this run's backup.
- ``finish``: a re-run of a scheduled restore or purge. Whoever re-ran it is checked; a restore must be the one that
  attempt 1 failed to finish: the same pair, the same backup.
- ``manual``: everything else. A restore then needs the event ``workflow_dispatch``, because no other one carries what a
  person typed: a push, a workflow_run or a repository_dispatch would confirm with a text that stands in a file.
- ``outside``: not in GitHub Actions. There is no identity to check; everything else holds as for ``manual``.

Which operations need a person: a restore, and a purge that deletes, unless unattended; adopt, unlock, hold --release,
import, export and sweep. Export is among them because it takes production's data out of the store in plain files.
"""

from __future__ import annotations

from dataclasses import dataclass

from fac_backup.policy.case import Case, Mode
from fac_backup.policy.facts import (
    Approval,
    Check,
    Environment,
    Facts,
    FirstAttempt,
    Membership,
    Needs,
    Record,
    Request,
    Run,
    Stage,
    Trouble,
)
from fac_backup.policy.model import Matrix
from fac_backup.policy.people import logins
from fac_backup.policy.rules import RULES

__all__ = [
    "Approval",
    "Check",
    "Decision",
    "Environment",
    "Facts",
    "FirstAttempt",
    "Membership",
    "Needs",
    "Record",
    "Request",
    "Run",
    "Stage",
    "Trouble",
    "decide",
    "needs",
]


@dataclass(frozen=True)
class Decision:
    """Whether the operation may go on, and everything that was looked at on the way."""

    allowed: bool
    checks: tuple[Check, ...]
    environment: str
    """The GitHub environment whose secrets the operation's job takes; empty where the space is unknown."""
    mode: Mode
    identity_checked: bool
    """False where no person was checked: unattended, outside Actions, or an operation that needs nobody."""
    pre_restore: bool
    """Whether a restore first takes a ``pre-restore`` backup of its target."""

    @property
    def unattended(self) -> bool:
        """Whether this is an unattended run, or the end of one."""
        return self.mode in ("unattended", "finish")

    @property
    def refusals(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


def decide(facts: Facts, matrix: Matrix) -> Decision:
    """Whether ``facts`` allow the operation under ``matrix``. Never raises, whatever the texts in ``facts`` hold."""
    case = Case(facts, matrix)
    checks = tuple(check for rule in RULES for check in rule(case))
    path = matrix.path(facts.request.source, facts.request.target)
    return Decision(
        # Without a single check nothing was looked at, and that is a no.
        allowed=bool(checks) and all(check.passed for check in checks),
        checks=checks,
        environment=case.environment,
        mode=case.mode,
        identity_checked=case.needs_person,
        pre_restore=path is None or path.undo == "pre-restore",
    )


def needs(request: Request, run: Run, matrix: Matrix, stage: Stage = Stage.ACT) -> Needs:
    """What must be gathered for ``decide``; everything not named here is not looked at."""
    case = Case(Facts(request, run, stage), matrix)
    who = matrix.who
    act = stage is Stage.ACT
    return Needs(
        record=run.inside_actions and case.guarded,
        membership_of=logins(run) if case.needs_person and who is not None and who.team is not None else (),
        environment=case.environment or None if case.needs_environment else None,
        approvals=case.needs_environment and act,
        first_attempt=case.mode == "finish" and act,
        made_by_this_run=request.operation == "restore" and case.mode in ("unattended", "finish") and act,
    )
