"""The procedure's table, written down a second time as data, and a command that compares every combination with it.

    .venv/bin/python -m tests.policy_oracle

``TABLE`` says in which combinations an operation may go on. Each row is a set of values for each dimension; what a row
leaves out may have any value there. A case is allowed if it is in one row, and otherwise it is refused. No rule of the
code is used here, and no line of action-matrix.yml: only the words of the procedure.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from fac_backup.policy.authorization import (
    Approval,
    Environment,
    Facts,
    FirstAttempt,
    Membership,
    Record,
    Request,
    Run,
    Trouble,
    decide,
)
from fac_backup.policy.matrix import Matrix, load

Case = dict[str, str]
Row = dict[str, frozenset[str]]

SPACES = ("production", "staging", "dev", "preview")
PEOPLE = ("member", "outsider", "pending", "unreadable", "bot", "nobody")
SOMEBODY = frozenset(PEOPLE) - {"nobody"}

DIMENSIONS: dict[str, tuple[str, ...]] = {
    "operation": (
        *("restore", "backup", "purge", "purge dry", "list", "verify", "adopt", "hold", "hold release", "unlock"),
        *("import", "export", "destroy"),
    ),
    "source": (*SPACES, "Production", "dev "),  # of an operation with one space: that space
    "target": (*SPACES, "DEV"),
    "event": ("schedule", "workflow_dispatch", "push", "pull_request_target", "workflow_run", "repository_dispatch"),
    "attempt": ("1", "2"),
    "actor": PEOPLE,
    "triggering": PEOPLE,
    "ref": ("default branch", "other branch", "deployment tag"),
    "confirm": ("target", "Target", "target with a blank", "source", "nothing"),
    "environment": ("guarded", "no reviewers", "any branch", "missing", "unreadable"),
    "backup": ("of this run", "older", "pre-restore", "of another space", "latest", "hostile", "none"),
    "kind": ("daily", "pre-deploy", "manual", "pre-restore", "weekly"),
    "record": ("agrees", "other event", "other attempt", "other person", "other branch", "unreadable"),
    "repository": ("ours", "fork"),
    "approved": ("here", "elsewhere", "rejected", "by nobody", "unreadable"),
    "authorized": ("just now", "two hours ago", "never", "never, and it waited a day"),
    "first attempt": ("failed", "succeeded", "other pair", "other backup", "unreadable"),
}

NORMAL: Case = {
    "record": "agrees",
    "repository": "ours",
    "authorized": "just now",
    "approved": "here",
    "first attempt": "failed",
    "kind": "daily",
    "confirm": "target",
    "environment": "guarded",
    "backup": "older",
    "target": "staging",
}
"""Values of the dimensions that an operation does not look at, or that are varied one at a time."""


def _row(**values: Iterable[str] | str) -> Row:
    return {
        key.replace("_", " "): frozenset((allowed,) if isinstance(allowed, str) else allowed)
        for key, allowed in values.items()
    }


_SOUND = {"record": "agrees", "repository": "ours", "ref": "default branch", "authorized": ("just now", "never")}
_WHENEVER = ("just now", "never", "never, and it waited a day")
_UNATTENDED = {
    **_SOUND,
    "authorized": _WHENEVER,
    "event": "schedule",
    "attempt": "1",
    "actor": SOMEBODY,
    "triggering": SOMEBODY,
}
_FINISHED_BY_MEMBER = {**_UNATTENDED, "attempt": "2", "triggering": "member"}
_BY_MEMBERS = {**_SOUND, "actor": "member", "triggering": "member"}
_BY_FORM = {**_BY_MEMBERS, "event": "workflow_dispatch"}
_RESTORE_BY_HAND = {
    **_BY_FORM, "operation": "restore", "confirm": "target", "environment": "guarded", "approved": "here",
}  # fmt: skip
_EXISTING = ("of this run", "older", "pre-restore")
_RIGHT_OR_NONE = ("target", "nothing")
_FREE = {"repository": "ours", "record": ("agrees", "unreadable", "other branch")}

TABLE: tuple[Row, ...] = (
    # Every day, unattended: staging from production and dev from dev, the very backup that this run has made.
    _row(operation="restore", source="production", target="staging", backup="of this run", **_UNATTENDED),
    _row(operation="restore", source="dev", target="dev", backup="of this run", **_UNATTENDED),
    # The same, finished by a member who re-runs it.
    *(
        _row(
            operation="restore",
            source=source,
            target=target,
            backup="of this run",
            first_attempt="failed",
            **_FINISHED_BY_MEMBER,
        )
        for source, target in (("production", "staging"), ("dev", "dev"))
    ),
    # By hand, members only: recovery, staging and dev at any other time, testing.
    _row(source="production", target="production", backup=_EXISTING, **_RESTORE_BY_HAND),
    _row(source="production", target="staging", backup=_EXISTING, **_RESTORE_BY_HAND),
    _row(source="dev", target="dev", backup=_EXISTING, **_RESTORE_BY_HAND),
    _row(source="dev", target="preview", backup=_EXISTING, **_RESTORE_BY_HAND),
    # The undo of a restore.
    _row(source="staging", target="staging", backup="pre-restore", **_RESTORE_BY_HAND),
    _row(source="preview", target="preview", backup="pre-restore", **_RESTORE_BY_HAND),
    # Backups: no person is checked.
    _row(operation="backup", source="production", kind=("daily", "manual"), **_FREE),
    _row(operation="backup", source="production", kind="pre-deploy", ref=("default branch", "deployment tag"), **_FREE),
    _row(operation="backup", source="dev", kind=("daily", "manual"), **_FREE),
    _row(operation="backup", source=("staging", "preview"), kind="manual", **_FREE),
    # Purge: every day by itself, or by members; looking is free.
    _row(operation="purge", source=SPACES, confirm=_RIGHT_OR_NONE, **_UNATTENDED),
    _row(operation="purge", source=SPACES, confirm=_RIGHT_OR_NONE, **_FINISHED_BY_MEMBER),
    _row(
        operation="purge",
        source=SPACES,
        confirm=_RIGHT_OR_NONE,
        event=frozenset(DIMENSIONS["event"]) - {"schedule"},
        **_BY_MEMBERS,
    ),
    _row(operation=("purge dry", "list", "verify", "hold"), source=SPACES, **_FREE),
    # What needs a member, from a form.
    _row(
        operation=("adopt", "hold release", "unlock", "import", "export"),
        source=SPACES,
        confirm=_RIGHT_OR_NONE,
        **_BY_FORM,
    ),
)


def expected(case: Case) -> bool:
    """Whether the table allows ``case``."""
    return any(all(case[key] in allowed for key, allowed in row.items()) for row in TABLE)


# --- A case as facts.

_LOGINS = {"nobody": "", "bot": "deploy[bot]"}
_MEMBERSHIPS = {
    "member": Membership.MEMBER,
    "outsider": Membership.NOT_FOUND,
    "pending": Membership.PENDING,
    "unreadable": Membership.SERVER_ERROR,
    "deploy[bot]": Membership.MEMBER,  # even if GitHub said so
}
_REFS = {"default branch": "refs/heads/main", "other branch": "refs/heads/feature", "deployment tag": "refs/tags/v1.2"}
_OPERATIONS = {"purge dry": "purge", "hold release": "hold"}


def facts(case: Case) -> Facts:
    """``case`` as the code meets it."""
    restore = case["operation"] == "restore"
    source, target = case["source"], case["target"]
    backup_id, made_here = _backup(case)
    run = Run(
        inside_actions=True,
        repository="GSA-TTS/FAC" if case["repository"] == "ours" else "somebody/FAC",
        event=case["event"],
        attempt=int(case["attempt"]),
        actor=_LOGINS.get(case["actor"], case["actor"]),
        triggering_actor=_LOGINS.get(case["triggering"], case["triggering"]),
        ref=_REFS[case["ref"]],
        default_branch="main",
        workflow_path=".github/workflows/anything.yml",
    )
    subject = target if restore else source
    confirm = {
        "target": subject,
        "Target": subject.title(),
        "target with a blank": subject + " ",
        "source": f"not {subject}",
    }
    return Facts(
        request=Request(
            operation=_OPERATIONS.get(case["operation"], case["operation"]),
            space="" if restore else source,
            source=source if restore else "",
            target=target if restore else "",
            kind=case["kind"] if case["operation"] == "backup" else "",
            backup_id=backup_id if restore else "",
            confirm=confirm.get(case["confirm"], ""),
            dry_run=case["operation"] == "purge dry",
            release=case["operation"] == "hold release",
        ),
        run=run,
        record=_record(case, run),
        memberships=_MEMBERSHIPS,
        environment=_environment(case),
        first_attempt=_first_attempt(case, backup_id),
        made_by_this_run=made_here,
        approvals=_approvals(case),
        authorized_seconds_ago={"just now": 20.0, "two hours ago": 7200.0}.get(case["authorized"]),
        started_seconds_ago=86400.0 if "waited" in case["authorized"] else 30.0,
    )


def _backup(case: Case) -> tuple[str, bool]:
    source = case["source"] if case["source"] in SPACES else "production"
    other = "dev" if source != "dev" else "production"
    return {
        "of this run": (f"{source}_20261122T040000Z_daily", True),
        "older": (f"{source}_20261120T040000Z_daily", False),
        "pre-restore": (f"{source}_20261121T120000Z_pre-restore", False),
        "of another space": (f"{other}_20261122T040000Z_daily", False),
        "latest": ("latest", True),
        "hostile": (f"{source}_20261122T040000Z_daily\n::set-output name=x::$(id)", True),
        "none": ("", True),
    }[case["backup"]]


def _record(case: Case, run: Run) -> Record | Trouble:
    how = case["record"]
    if how == "unreadable":
        return Trouble.SERVER_ERROR
    branch = run.ref.split("/", 2)[2]
    return Record(
        repository=run.repository,
        event="push"
        if how == "other event" and run.event != "push"
        else "schedule"
        if how == "other event"
        else run.event,
        attempt=run.attempt + (how == "other attempt"),
        actor=run.actor,
        triggering_actor="mallory" if how == "other person" else run.triggering_actor,
        head_branch="elsewhere" if how == "other branch" else branch,
    )


def _environment(case: Case) -> Environment | Trouble:
    how = case["environment"]
    if how in ("missing", "unreadable"):
        return Trouble.NOT_FOUND if how == "missing" else Trouble.NO_PERMISSION
    # The name that the procedure gives to environments of what people start.
    return Environment(f"{case['target']}-restore", how != "no reviewers", how != "any branch")


def _approvals(case: Case) -> tuple[Approval, ...] | Trouble:
    how = case["approved"]
    if how in ("by nobody", "unreadable"):
        return () if how == "by nobody" else Trouble.RATE_LIMITED
    return (Approval(f"{case['target']}{'' if how == 'elsewhere' else '-restore'}", "reviewer", how != "rejected"),)


def _first_attempt(case: Case, backup_id: str) -> FirstAttempt | Trouble:
    how = case["first attempt"]
    if how == "unreadable":
        return Trouble.TIMEOUT
    mine = f"{case['source']}_20261122T040000Z_daily"
    return FirstAttempt(
        source=case["source"],
        target="preview" if how == "other pair" else case["target"],
        backup_id="production_20261101T040000Z_daily" if how == "other backup" else mine,
        failed=how != "succeeded",
    )


# --- Which cases.

_RESTORE_VARIES = (
    "source",
    "target",
    "event",
    "attempt",
    "actor",
    "triggering",
    "ref",
    "confirm",
    "environment",
    "backup",
)
_OTHERS_VARY = ("operation", "source", "event", "attempt", "actor", "triggering", "ref", "kind")
_SMALLER = {
    "ref": ("default branch", "other branch"),
    "confirm": ("target", "nothing"),
    "environment": ("guarded", "no reviewers", "missing"),
    "actor": ("member", "outsider", "nobody"),
    "triggering": ("member", "outsider", "nobody"),
    "backup": ("of this run", "older", "pre-restore", "of another space"),
    "source": (*SPACES, "Production"),
    "target": (*SPACES, "DEV"),
}
"""What the full product of a restore's dimensions is made of; the values left out are covered by ``neighbours``."""


def product() -> Iterator[Case]:
    """Every combination: for restores of the dimensions that they look at, for all else likewise."""
    values = [_SMALLER.get(name, DIMENSIONS[name]) for name in _RESTORE_VARIES]
    for combination in itertools.product(*values):
        yield {**NORMAL, "operation": "restore", **dict(zip(_RESTORE_VARIES, combination, strict=True))}
    for operation in DIMENSIONS["operation"][1:]:
        kinds = DIMENSIONS["kind"] if operation == "backup" else ("daily",)
        people = ("member", "outsider") if operation == "backup" else PEOPLE
        given = {"operation": (operation,), "kind": kinds, "actor": people, "triggering": people}
        values = [given.get(name, DIMENSIONS[name]) for name in _OTHERS_VARY]
        for combination in itertools.product(*values):
            yield {**NORMAL, **dict(zip(_OTHERS_VARY, combination, strict=True))}


def allowed_by_the_table() -> Iterator[Case]:
    """Every combination of the values that each row names."""
    for row in TABLE:
        for combination in itertools.product(*(sorted(allowed) for allowed in row.values())):
            yield {
                **{name: values[0] for name, values in DIMENSIONS.items()},
                **NORMAL,
                **dict(zip(row, combination, strict=True)),
            }


def neighbours() -> Iterator[Case]:
    """For each row of the table one case that it allows, and every case that differs from it in one dimension."""
    for row in TABLE:
        for pick in (min, max):
            allowed = {
                name: pick(row.get(name, frozenset({NORMAL.get(name, values[0])})))
                for name, values in DIMENSIONS.items()
            }
            yield allowed
            for name, values in DIMENSIONS.items():
                for value in values:
                    yield {**allowed, name: value}


def fac_matrix() -> Matrix:
    """The matrix under examination."""
    return load((Path(__file__).parents[1] / "action-matrix.yml").read_text())


def disagreements(cases: Iterable[Case], matrix: Matrix) -> tuple[Counter[str], list[Case]]:
    """How many were tried and allowed, by operation, and the cases where code and table differ."""
    counts: Counter[str] = Counter()
    differ = []
    for case in cases:
        counts["tried"] += 1
        allowed = decide(facts(case), matrix).allowed
        counts["allowed"] += allowed
        if allowed:
            counts["allowed: " + case["operation"]] += 1
        if allowed is not expected(case):
            differ.append(case)
    return counts, differ


def main() -> int:
    """Try all cases; print how many were allowed and whether they are exactly the table's. Returns the exit code."""
    began = time.monotonic()
    counts, differ = disagreements(itertools.chain(product(), allowed_by_the_table(), neighbours()), fac_matrix())
    print(f"{counts['tried']:,} combinations tried in {time.monotonic() - began:.0f} s")
    print(f"{counts['allowed']:,} allowed, {counts['tried'] - counts['allowed']:,} refused")
    for operation in DIMENSIONS["operation"]:
        print(f"  {operation:<13} {counts['allowed: ' + operation]:>7,} allowed")
    for case in differ[:20]:
        print(f"DIFFERENT: the table says {'yes' if expected(case) else 'no'}: {case}")
    print("Exactly those that the table allows." if not differ else f"{len(differ):,} differ from the table.")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
