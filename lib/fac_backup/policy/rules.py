"""The rules of authorization. Each looks at one thing, and gives a check for it, or nothing where it does not apply."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import UsageError
from fac_backup.plain.text import one_line
from fac_backup.plain.words import did_you_mean
from fac_backup.policy.case import Case
from fac_backup.policy.facts import Check, Stage, Trouble
from fac_backup.policy.people import check_approved, check_environment, check_people

MAX_AUTHORIZATION_AGE = 3600
"""Seconds. An older authorization is none."""

OPERATIONS = (
    "backup",
    "restore",
    "purge",
    "list",
    "verify",
    "adopt",
    "hold",
    "unlock",
    "doctor",
    "sweep",
    "import",
    "export",
)
"""Every operation that can be decided on."""


def operation_is_known(case: Case) -> Iterator[Check]:
    """The operation is one that exists."""
    known = case.request.operation in OPERATIONS
    shown = one_line(case.request.operation, 30)
    yield Check("operation", known, f"{shown} is an operation" if known else f"There is no operation {shown!r}")


def run_is_understood(case: Case) -> Iterator[Check]:
    """Outside Actions, say so; inside, the repository is one that the matrix is for."""
    if not case.run.inside_actions:
        yield Check("identity", True, "Outside GitHub Actions: no identity was checked")
        return
    named = case.matrix.repositories
    if named:
        known = case.run.repository.lower() in {repository.lower() for repository in named}
        shown = one_line(case.run.repository, 140)
        yield Check("repository", known, f"The matrix is {'' if known else 'not '}for the repository {shown}")


def record_agrees(case: Case) -> Iterator[Check]:
    """GitHub's record of the run says what the runner's variables say."""
    run, record = case.run, case.facts.record
    if not run.inside_actions:
        return
    if isinstance(record, Trouble):
        if case.guarded:
            yield Check("record", False, f"GitHub's record of this run is not known: {record}")
        return
    pairs: dict[str, tuple[object, object]] = {
        "repository": (run.repository.lower(), record.repository.lower()),
        "event": (run.event, record.event),
        "attempt": (run.attempt, record.attempt),
        "actor": (run.actor, record.actor),
        "triggering actor": (run.triggering_actor, record.triggering_actor),
    }
    if case.guarded:
        # Pull requests have another ref than branch; nothing that can harm runs from one.
        pairs["branch"] = (re.sub(r"^refs/(heads|tags)/", "", run.ref), record.head_branch)
    different = [name for name, (ours, theirs) in pairs.items() if ours != theirs]
    if different:
        yield Check("record", False, f"The runner and GitHub's record of this run differ in: {', '.join(different)}")
    elif case.guarded and not (run.actor and run.triggering_actor and run.attempt >= 1):
        yield Check("record", False, "The run names no actor, no triggering actor or no attempt")
    else:
        yield Check("record", True, "GitHub's record of this run agrees with the runner")


def spaces_exist(case: Case) -> Iterator[Check]:
    """Every space that is named is in the matrix, to the letter."""
    request = case.request
    named = {"space": request.space}
    if request.operation == "restore":
        in_journal = request.resume and not request.source
        named = {"target": request.target} if in_journal else {"source": request.source, "target": request.target}
    for role, name in named.items():
        if role == "space" and not name and request.operation in ("list", "doctor"):
            continue
        known = name in case.matrix.spaces
        wrong = (
            f"There is no space {one_line(name, 60)!r}{did_you_mean(name, case.matrix.spaces)}"
            if name
            else f"No {role} is named"
        )
        yield Check(role, known, f"The {role} is {name}" if known else wrong)


def path_is_listed(case: Case) -> Iterator[Check]:
    """A restore goes a way that the matrix lists for how the run began, or undoes one by hand."""
    request, matrix = case.request, case.matrix
    if request.operation != "restore" or (request.resume and not request.source):
        return
    if not matrix.paths:
        yield Check("path", False, "There is no action-matrix.yml, or it lists no paths: nothing can be restored")
        return
    shown = f"from {one_line(request.source, 60)} to {one_line(request.target, 60)}"
    if case.undo:
        if matrix.may_undo(request.target):
            yield Check("path", True, f"A restore {shown} puts a pre-restore backup back")
        else:
            yield Check("path", False, f"No restore goes {shown}, nor is there one to undo")
        return
    path = matrix.path(request.source, request.target)
    when = "manual" if case.by_hand else "unattended"
    if path is None:
        yield Check("path", False, f"The matrix lists no restore {shown}")
    elif when not in path.when:
        yield Check(
            "path", False, f"The matrix lists the restore {shown} for {' and '.join(path.when)}, not {when} runs"
        )
    else:
        purpose = f" ({one_line(path.purpose, 100)})" if path.purpose else ""
        yield Check("path", True, f"The matrix lists the restore {shown} for {when} runs{purpose}")


def protected_is_asked(case: Case) -> Iterator[Check]:
    """No unattended restore goes into a protected space, whatever the paths say."""
    space = case.matrix.spaces.get(case.request.target)
    if case.request.operation == "restore" and not case.by_hand and space is not None and space.protected:
        yield Check("protected", False, f"{case.request.target} is protected: only people may restore into it")


def backup_is_named(case: Case) -> Iterator[Check]:
    """The backup id is one, and of the right space and kind. It is never ``latest``."""
    request = case.request
    name = "backup id"
    if request.operation not in ("restore", "backup", "verify", "hold", "export"):
        return
    if not request.backup_id:
        if request.operation == "restore" and not request.resume and (case.by_hand or case.facts.stage is Stage.ACT):
            yield Check(name, False, "No backup id is named; `list` shows them")
        return
    if request.backup_id.strip().lower() == "latest":
        yield Check(
            name, False, "'latest' is no backup id: name the backup, so that what is restored is what was meant"
        )
        return
    try:
        backup = BackupId.parse(request.backup_id)
    except UsageError as error:
        yield Check(name, False, error.what)
        return
    owner = request.source if request.operation == "restore" else request.space
    if backup.space != owner and (owner or not request.resume):
        yield Check(name, False, f"{backup} is a backup of {backup.space}, not of {one_line(owner, 60)}")
    elif request.operation == "backup" and backup.kind != request.kind:
        yield Check(name, False, f"{backup} is of kind {backup.kind}, not {one_line(request.kind, 60)}")
    elif case.undo and not request.resume and backup.kind != "pre-restore":
        yield Check(
            name, False, f"{backup} is not a pre-restore backup, and only those may be put back into {backup.space}"
        )
    else:
        yield Check(name, True, f"{backup} is a backup of {backup.space}")


def backup_is_this_runs(case: Case) -> Iterator[Check]:
    """Unattended, only the very backup that this run has made is restored."""
    if case.request.operation != "restore" or case.mode != "unattended":
        return
    made = case.facts.made_by_this_run
    if made is None and case.facts.stage is Stage.AUTHORIZE:
        return
    sentence = {
        True: "This run made the backup",
        False: "Another run made this backup; unattended, only this run's own is restored",
        None: "Which run made this backup is not known",
    }[made]
    yield Check("own backup", made is True, sentence)


def rerun_finishes(case: Case) -> Iterator[Check]:
    """A re-run of a scheduled restore finishes exactly what attempt 1 failed to do."""
    if case.mode != "finish" or case.request.operation != "restore":
        return
    name = "first attempt"
    first, request = case.facts.first_attempt, case.request
    if isinstance(first, Trouble):
        deferred = case.facts.stage is Stage.AUTHORIZE and first is Trouble.NOT_ASKED
        later = "What attempt 1 was doing is checked when the job has started"
        yield Check(name, deferred, later if deferred else f"What attempt 1 was doing is not known: {first}")
    elif not first.failed:
        yield Check(name, False, "Attempt 1 did not fail: there is nothing to finish")
    elif (first.source, first.target) != (request.source, request.target):
        yield Check(name, False, "Attempt 1 was restoring another pair of spaces")
    elif first.backup_id and request.backup_id and first.backup_id != request.backup_id:
        yield Check(name, False, "Attempt 1 recorded another backup id")
    elif not first.backup_id and case.facts.stage is Stage.ACT and case.facts.made_by_this_run is not True:
        yield Check(name, False, "Attempt 1 recorded no backup, and this one was not made by this run")
    else:
        yield Check(name, True, "This finishes what attempt 1 failed to do")


def confirmation_is_typed(case: Case) -> Iterator[Check]:
    """By hand a restore is confirmed by the target's name, to the letter; elsewhere it may be left out, not wrong."""
    if case.guarded and case.request.operation != "restore" and case.request.confirm not in ("", case.request.space):
        shown = one_line(case.request.confirm, 60)
        yield Check("confirm", False, f"The confirmation {shown!r} is not the name of the space")
    if case.by_hand:
        same = bool(case.request.target) and case.request.confirm == case.request.target
        shown = one_line(case.request.confirm, 60)
        wrong = (
            f"The confirmation {shown!r} is not the target's name"
            if shown
            else "The target's name was not confirmed: give it once more as `confirm`"
        )
        yield Check("confirm", same, "The confirmation repeats the target's name" if same else wrong)


def event_carries_a_person(case: Case) -> Iterator[Check]:
    """What a person must have meant came from a form that a person filled in."""
    if not case.needs_person or case.mode == "finish" or case.deletes:
        return
    typed = case.run.event == "workflow_dispatch"
    shown = one_line(case.run.event, 40) or "none"
    yield Check(
        "event",
        typed,
        "A person started this run" if typed else f"The event {shown} is not a person's: use a dispatch form",
    )


def ref_is_allowed(case: Case) -> Iterator[Check]:
    """What can harm runs from the default branch, or from a ref that the matrix allows for it."""
    if not case.run.inside_actions:
        return
    run, refs = case.run, case.matrix.refs
    default = bool(run.default_branch) and run.ref == f"refs/heads/{run.default_branch}"
    shown = one_line(run.ref, 100) or "an unknown ref"
    if case.guarded:
        listed = () if case.mode in ("unattended", "finish") else refs.manual
        passed = default or _matches(run.ref, listed)
        yield Check("ref", passed, f"It runs from {shown}" + ("" if passed else ", which is not the default branch"))
    elif case.request.operation == "backup" and case.request.kind == "pre-deploy":
        deployed = run.workflow_path in case.matrix.deployments
        passed = default or deployed or _matches(run.ref, refs.pre_deploy)
        hint = (
            ""
            if passed
            else "; pre-deploy backups are made from the default branch or from what `refs: pre-deploy` lists"
        )
        yield Check("ref", passed, f"It runs from {shown}{hint}")


def kind_is_right(case: Case) -> Iterator[Check]:
    """A backup is of a kind that its space has; ``pre-restore`` backups are made by restores alone."""
    request = case.request
    if request.operation != "backup" or request.space not in case.matrix.spaces:
        return
    kinds = case.matrix.kinds_of(request.space)
    if request.kind == "pre-restore":
        yield Check("kind", False, "pre-restore backups are made by restores, not by hand")
    elif request.kind not in kinds:
        hint = did_you_mean(request.kind, kinds)
        yield Check("kind", False, f"{request.space} has no backups of kind {one_line(request.kind, 60)!r}{hint}")
    else:
        yield Check("kind", True, f"{request.space} has {request.kind} backups")


def people_may(case: Case) -> Iterator[Check]:
    """The people behind the run pass the matrix's ``who``."""
    if case.needs_person:
        yield from check_people(case.facts, case.matrix.who, case.environment)
    elif case.run.inside_actions:
        yield Check(
            "who", True, "Nobody is checked: " + ("unattended" if case.guarded else "whoever may run the workflow may")
        )


def environment_guards(case: Case) -> Iterator[Check]:
    """The environment of what people start has reviewers, is limited to the default branch, and let this run in."""
    if not case.needs_environment or not case.environment:
        return
    yield check_environment(case.facts, case.environment)
    # Where approvals are `who`, people_may has looked at them more closely.
    approvals_are_who = case.matrix.who is not None and bool(case.matrix.who.environment)
    if case.facts.stage is Stage.ACT and not approvals_are_who:
        yield check_approved(case.facts, case.environment)


def authorization_is_young(case: Case) -> Iterator[Check]:
    """An authorization older than an hour is none. Where no job gave one, the hour of a manual run begins with it."""
    if not case.run.inside_actions or not case.guarded or case.facts.stage is Stage.AUTHORIZE:
        return
    age = case.facts.authorized_seconds_ago
    if age is not None:
        wrong = "The authorization is older than an hour, or not yet made"
        young = _is_recent(age)
        yield Check("age", young, "The authorization is recent" if young else wrong)
    elif case.mode == "manual" and not case.request.continued:
        started = case.facts.started_seconds_ago
        young = started is not None and _is_recent(started)
        wrong = "It is not known when this run began" if started is None else "This run began more than an hour ago"
        right = "This run began within the last hour"
        yield Check(
            "age", young, right if young else f"{wrong}: start a new one, as what was meant then may have changed"
        )


RULES: tuple[Callable[[Case], Iterator[Check]], ...] = (
    operation_is_known,
    run_is_understood,
    record_agrees,
    spaces_exist,
    kind_is_right,
    path_is_listed,
    protected_is_asked,
    backup_is_named,
    backup_is_this_runs,
    rerun_finishes,
    confirmation_is_typed,
    event_carries_a_person,
    ref_is_allowed,
    people_may,
    environment_guards,
    authorization_is_young,
)


def _is_recent(age: float) -> bool:
    """Whether it lies within the last hour; clocks may differ by a minute."""
    return math.isfinite(age) and -60 <= age <= MAX_AUTHORIZATION_AGE


def _matches(ref: str, patterns: tuple[str, ...]) -> bool:
    """Whether ``ref`` fits one of ``patterns``; ``*`` stands for any text without ``/``."""
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*"), ref) for pattern in patterns)
