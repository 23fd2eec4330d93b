"""Gathers what a decision rests on (policy.facts): only what ``needs`` names, each failure under its own name."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fac_backup.hosting.github.api import Answer, GitHub, Outcome, at, in_repository
from fac_backup.hosting.github.policy_file import Found, default_branch, matrix_of_run
from fac_backup.hosting.github.run import Run, run_from
from fac_backup.policy import facts as plain
from fac_backup.policy.authorization import needs
from fac_backup.policy.facts import Facts, FirstAttempt, Membership, Request, Stage, Trouble
from fac_backup.policy.matrix import Matrix

__all__ = ["Found", "gather", "matrix_of_run"]

_log = logging.getLogger(__name__)

_TROUBLES = {
    Outcome.NO_TOKEN: Trouble.NOT_ASKED,
    Outcome.BAD_TOKEN: Trouble.NO_PERMISSION,
    Outcome.FORBIDDEN: Trouble.NO_PERMISSION,
    Outcome.NOT_FOUND: Trouble.NOT_FOUND,
    Outcome.RATE_LIMITED: Trouble.RATE_LIMITED,
    Outcome.UNAVAILABLE: Trouble.SERVER_ERROR,
    Outcome.UNREACHABLE: Trouble.TIMEOUT,
    Outcome.TIMED_OUT: Trouble.TIMEOUT,
}

_MEMBERSHIPS = {
    Outcome.NO_TOKEN: Membership.NOT_CHECKED,
    Outcome.BAD_TOKEN: Membership.NO_PERMISSION,
    Outcome.FORBIDDEN: Membership.NO_PERMISSION,
    Outcome.RATE_LIMITED: Membership.RATE_LIMITED,
    Outcome.UNAVAILABLE: Membership.SERVER_ERROR,
    Outcome.UNREACHABLE: Membership.TIMEOUT,
    Outcome.TIMED_OUT: Membership.TIMEOUT,
}


@dataclass(frozen=True)
class _Recorded:
    """GitHub's record of one attempt, and which of its people are no people."""

    record: plain.Record | Trouble
    bots: frozenset[str] = frozenset()
    started: datetime | None = None


def gather(
    request: Request,
    matrix: Matrix,
    env: Mapping[str, str],
    *,
    stage: Stage,
    now: datetime,
    first_attempt: FirstAttempt | Trouble = Trouble.NOT_ASKED,
    made_by_this_run: bool | None = None,
) -> Facts:
    """Everything that ``decide`` needs about ``request`` in the run that ``env`` describes.

    ``FAC_BACKUP_AUTHORIZED_AT`` is what the job ``authorize`` said, empty where there was none. ``first_attempt`` and
    ``made_by_this_run`` stand in the target's store and the backup's manifest, which only the job that works can read:
    it passes them in. Raises RefusedError where not even the default branch is known, UsageError outside a run.
    """
    run = run_from(env)
    github = GitHub(run.api_url, env.get("FAC_BACKUP_GITHUB_TOKEN", ""))
    members = GitHub(run.api_url, env.get("FAC_BACKUP_MEMBERS_TOKEN", ""))
    account = _account(run, default_branch(run, github))
    wanted = needs(request, account, matrix, stage)
    # Asked for whatever it is that is decided: a difference refuses a backup too.
    recorded = _record(run, github)
    team = matrix.who.team if matrix.who is not None else None
    return Facts(
        request=request,
        run=account,
        stage=stage,
        record=recorded.record,
        memberships={
            login: _membership(login, team, members, recorded.bots)
            for login in wanted.membership_of
            if team is not None
        },
        environment=_environment(run, wanted.environment, account.default_branch, matrix.refs.manual, github)
        if wanted.environment
        else Trouble.NOT_ASKED,
        approvals=_approvals(run, github) if wanted.approvals else Trouble.NOT_ASKED,
        first_attempt=first_attempt,
        made_by_this_run=made_by_this_run,
        authorized_seconds_ago=_age(env.get("FAC_BACKUP_AUTHORIZED_AT", ""), now),
        started_seconds_ago=None if recorded.started is None else (now - recorded.started).total_seconds(),
    )


def _account(run: Run, branch: str) -> plain.Run:
    path = run.workflow_ref.partition("@")[0].removeprefix(run.repository + "/")
    return plain.Run(
        inside_actions=True,
        repository=run.repository,
        event=run.event,
        attempt=run.attempt,
        actor=run.actor,
        triggering_actor=run.triggering_actor,
        ref=run.ref,
        default_branch=branch,
        workflow_path=path,
    )


def _record(run: Run, github: GitHub) -> _Recorded:
    answer = github.get(in_repository(run.repository, "actions", "runs", run.run_id, "attempts", run.attempt))
    if not answer.ok:
        return _Recorded(_trouble(answer))
    body = answer.mapping()
    try:
        people = {_text(body[role], "login"): _text(body[role], "type") for role in ("actor", "triggering_actor")}
        record = plain.Record(
            repository=_text(body["repository"], "full_name"),
            event=_text(body, "event"),
            attempt=_whole(body, "run_attempt"),
            actor=_text(body["actor"], "login"),
            triggering_actor=_text(body["triggering_actor"], "login"),
            head_branch=_text(body, "head_branch"),
        )
        started = datetime.fromisoformat(_text(body, "run_started_at"))
        if _whole(body, "id") != run.run_id or started.tzinfo is None:
            return _Recorded(Trouble.MALFORMED)
    except (KeyError, TypeError, ValueError):
        return _Recorded(Trouble.MALFORMED)
    return _Recorded(record, frozenset(login.lower() for login, kind in people.items() if kind != "User"), started)


def _membership(login: str, team: str, members: GitHub, bots: frozenset[str]) -> Membership:
    if login.lower() in bots or login.lower().endswith("[bot]"):
        return Membership.BOT
    if not login:
        return Membership.NOT_CHECKED
    organization, _, slug = team.partition("/")
    answer = members.get(at("orgs", organization, "teams", slug, "memberships", login))
    if answer.ok:
        state = answer.mapping().get("state")
        known = {"active": Membership.MEMBER, "pending": Membership.PENDING}
        return known.get(state, Membership.MALFORMED) if isinstance(state, str) else Membership.MALFORMED
    if answer.outcome is Outcome.NOT_FOUND:
        # The same answer for three things; one of them can be told apart.
        someone = members.get(at("users", login))
        return Membership.UNKNOWN_USER if someone.outcome is Outcome.NOT_FOUND else Membership.NOT_FOUND
    return _MEMBERSHIPS.get(answer.outcome, Membership.MALFORMED)


def _environment(
    run: Run, name: str, branch: str, also: tuple[str, ...], github: GitHub
) -> plain.Environment | Trouble:
    answer = github.get(in_repository(run.repository, "environments", name))
    if not answer.ok:
        return _trouble(answer)
    body = answer.mapping()
    rules = body.get("protection_rules", [])
    if not isinstance(body.get("name"), str) or not isinstance(rules, list):
        return Trouble.MALFORMED
    limited = _limited_to(run, body, ("branch", branch), {policy_of(ref) for ref in also}, github)
    if isinstance(limited, Trouble):
        return limited
    return plain.Environment(name=body["name"], required_reviewers=has_reviewers(body), default_branch_only=limited)


def has_reviewers(environment: Mapping[str, Any]) -> bool:
    """Whether an environment, as the API gives it, waits for a reviewer who exists: one of a deleted team is null."""
    rules = environment.get("protection_rules")
    return any(
        isinstance(one, dict) and isinstance(one.get("reviewer"), dict)
        for rule in (rules if isinstance(rules, list) else [])
        if isinstance(rule, dict) and rule.get("type") == "required_reviewers"
        for one in (rule["reviewers"] if isinstance(rule.get("reviewers"), list) else [])
    )


def policy_of(ref: str) -> tuple[str, str]:
    """A full ref or a pattern of refs as an environment's settings have it: type and name."""
    _, kind, name = ref.split("/", 2)
    return ("branch" if kind == "heads" else "tag", name)


def _limited_to(
    run: Run, environment: Mapping[str, Any], wanted: tuple[str, str], also: set[tuple[str, str]], github: GitHub
) -> bool | Trouble:
    """Whether ``wanted`` (type and name), and nothing else but what is in ``also``, may deploy to an environment.

    "Protected branches only" does not count: it lets every protected branch in, and every branch where none is
    protected (https://docs.github.com/actions/reference/workflows-and-actions/deployments-and-environments).
    """
    policy = environment.get("deployment_branch_policy")
    if not isinstance(policy, dict) or policy.get("custom_branch_policies") is not True:
        return False
    path = in_repository(run.repository, "environments", str(environment.get("name")), "deployment-branch-policies")
    answer = github.pages(path, "branch_policies")
    if not answer.ok:
        return _trouble(answer)
    try:
        found = {(_text({"type": "branch"} | one, "type"), _text(one, "name")) for one in answer.body}
    except (KeyError, TypeError, ValueError):
        return Trouble.MALFORMED
    return wanted in found and found <= {wanted} | also


def _approvals(run: Run, github: GitHub) -> tuple[plain.Approval, ...] | Trouble:
    answer = github.get(in_repository(run.repository, "actions", "runs", run.run_id, "approvals"))
    if not answer.ok:
        return _trouble(answer)
    if not isinstance(answer.body, list):
        return Trouble.MALFORMED
    found = []
    try:
        for review in answer.body:
            for environment in review["environments"]:
                found.append(
                    plain.Approval(
                        environment=_text(environment, "name"),
                        user=_text(review["user"], "login"),
                        approved=review["state"] == "approved",
                    )
                )
    except (KeyError, TypeError, ValueError):
        return Trouble.MALFORMED
    return tuple(found)


def _age(text: str, now: datetime) -> float | None:
    """Seconds since the moment that ``text`` names; infinite for a text that names none, None where there is none."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return math.inf
    return (now - moment).total_seconds() if moment.tzinfo is not None else math.inf


def moment_text(moment: datetime) -> str:
    """How ``authorized-at`` is written: ISO 8601, UTC, whole seconds."""
    return moment.astimezone(UTC).replace(microsecond=0).isoformat()


def _trouble(answer: Answer) -> Trouble:
    return _TROUBLES.get(answer.outcome, Trouble.MALFORMED)


def _whole(mapping: Any, key: str) -> int:
    value = mapping[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(key)
    return value


def _text(mapping: Any, key: str) -> str:
    value = mapping[key]
    if not isinstance(value, str) or not value:
        raise ValueError(key)
    return value
