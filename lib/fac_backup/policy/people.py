"""Whether the people behind a run may do what needs a person. Nothing fails open: what is not known is a no."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fac_backup.plain.text import one_line
from fac_backup.policy.facts import Check, Environment, Facts, Membership, Run, Stage, Trouble
from fac_backup.policy.model import Who

# Letters, digits and '-'; '_' in names that a company manages (https://docs.github.com/admin/managing-iam).
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,38}")

_ANSWERS = {
    Membership.MEMBER: "{person} is an active member of {team}",
    Membership.PENDING: "{person} was invited to {team} and has not accepted yet",
    Membership.NOT_FOUND: "{person} is not a member of {team}, or the token may not see its members: "
    "GitHub answers 404 to both. The token needs 'Members: read' of the organization",
    Membership.NO_PERMISSION: "The token may not read the members of {team}: it needs 'Members: read'",
    Membership.UNKNOWN_USER: "GitHub knows no user {person}",
    Membership.BOT: "{person} is a bot, and bots belong to no team",
    Membership.RATE_LIMITED: "GitHub's rate limit is reached, so whether {person} is a member of {team} is not known",
    Membership.TIMEOUT: "GitHub did not answer in time, so whether {person} is a member of {team} is not known",
    Membership.SERVER_ERROR: "GitHub answered with an error, so whether {person} is a member of {team} is not known",
    Membership.MALFORMED: "GitHub's answer about {person} and {team} could not be understood",
    Membership.NOT_CHECKED: "Nobody asked GitHub whether {person} is a member of {team}: the step has no members-token",
}


def is_bot(login: str) -> bool:
    """Whether ``login`` is a bot's or an app's."""
    return login.lower().endswith("[bot]")


def who_to_check(run: Run) -> tuple[tuple[str, str], ...]:
    """The people behind ``run`` as (role, login): actor and triggering actor.

    The actor of a scheduled run is whoever last touched the cron line, so only the triggering actor of a re-run counts.
    """
    if run.event == "schedule":
        return (("triggering actor", run.triggering_actor),)
    return (("actor", run.actor), ("triggering actor", run.triggering_actor))


def logins(run: Run) -> tuple[str, ...]:
    """The user names to ask GitHub about, each once; what cannot be a person's is not asked."""
    found = {login.lower(): login for _, login in who_to_check(run) if _LOGIN.fullmatch(login)}
    return tuple(found.values())


def check_people(facts: Facts, who: Who | None, environment: str) -> Iterator[Check]:
    """A check for each person, or one for the approval that takes their place."""
    if who is None:
        yield Check("who", False, "The matrix does not say who may do this by hand (`who:`), so nobody may")
    elif who.environment:
        yield _approval(facts, environment)
    else:
        for role, login in who_to_check(facts.run):
            yield _person(role, login, facts, who)


def _person(role: str, login: str, facts: Facts, who: Who) -> Check:
    name = f"who: {role}"
    shown = one_line(login, 60)
    if not login:
        return Check(name, False, f"The run names no {role}")
    if is_bot(login):
        return Check(name, False, f"The {role} {shown} is a bot; a person must start this")
    if not _LOGIN.fullmatch(login):
        return Check(name, False, f"The {role} {shown} is not a GitHub user name")
    if who.users:
        listed = login.lower() in {user.lower() for user in who.users}
        return Check(name, listed, f"The {role} {shown} is {'one' if listed else 'none'} of the matrix's users")
    answers = {user.lower(): answer for user, answer in facts.memberships.items()}
    answer = answers.get(login.lower(), Membership.NOT_CHECKED)
    return Check(
        name, answer is Membership.MEMBER, _ANSWERS[answer].format(person=f"The {role} {shown}", team=who.team)
    )


def _approval(facts: Facts, environment: str) -> Check:
    name = "who: approval"
    run = facts.run
    if run.attempt != 1:
        # GitHub lists a run's approvals without saying of which attempt they are.
        return Check(name, False, "An approval of an earlier attempt cannot be told from one of this: start a new run")
    if run.event == "schedule":
        return Check(name, False, "A scheduled run is approved by nobody")
    if facts.stage is Stage.AUTHORIZE:
        return Check(name, True, f"Whether somebody else approved it in {environment} is checked when the job starts")
    if isinstance(facts.approvals, Trouble):
        return Check(name, False, f"The approvals of this run are not known: {facts.approvals}")
    authors = {run.actor.lower(), run.triggering_actor.lower()}
    here = [review for review in facts.approvals if review.environment.lower() == environment.lower()]
    if any(not review.approved for review in here):
        return Check(name, False, f"Somebody rejected this run in {environment}")
    for review in here:
        if review.user.lower() not in authors and _LOGIN.fullmatch(review.user):
            return Check(name, True, f"{one_line(review.user, 60)} approved this run in {environment}")
    if here:
        return Check(name, False, f"Only its own author approved this run in {environment}; somebody else must")
    return Check(name, False, f"Nobody approved this run in {environment}: the job must name that environment")


def check_approved(facts: Facts, environment: str) -> Check:
    """Whether a reviewer let this run into ``environment``: a job that does not name it meets no reviewer at all.

    Whether it may be the run's own author is GitHub's setting (prevent self-review). Of a re-run any attempt's counts,
    since GitHub does not say of which attempt an approval is; the job of a re-run waits for its reviewer again.
    """
    name = "approval"
    if isinstance(facts.approvals, Trouble):
        return Check(name, False, f"The approvals of this run are not known: {facts.approvals}")
    for review in facts.approvals:
        there = review.environment.lower() == environment.lower()
        if review.approved and there and _LOGIN.fullmatch(review.user):  # a bot's name is no user name
            return Check(name, True, f"{one_line(review.user, 60)} approved this run in {environment}")
    return Check(name, False, f"Nobody approved this run in {environment}: the job must name that environment")


def check_environment(facts: Facts, expected: str) -> Check:
    """Whether the environment that guards what people start exists and guards."""
    name = "environment"
    found = facts.environment
    if found is Trouble.NOT_FOUND:
        return Check(name, False, f"The environment {expected} does not exist, or the token may not see it (404)")
    if not isinstance(found, Environment):
        return Check(name, False, f"The settings of the environment {expected} are not known: {found}")
    if found.name.lower() != expected.lower():
        return Check(name, False, f"The settings read are those of {one_line(found.name, 60)}, not of {expected}")
    missing = []
    if not found.required_reviewers:
        missing.append("has no required reviewers")
    if not found.default_branch_only:
        missing.append("is not limited to the default branch")
    if missing:
        return Check(name, False, f"The environment {expected} {' and '.join(missing)}")
    return Check(name, True, f"The environment {expected} has required reviewers and is limited to the default branch")
