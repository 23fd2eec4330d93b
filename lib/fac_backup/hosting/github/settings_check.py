"""Whether a repository's settings guard what the matrix promises (docs/security.md). Reads only; decides nothing else.

Each finding says what is missing, why it matters, and where it is set.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fac_backup.hosting.github.api import Answer, GitHub, Outcome, at, in_repository
from fac_backup.hosting.github.facts import has_reviewers, policy_of
from fac_backup.policy.matrix import FILE_NAME, Matrix

DATA_SECRETS = frozenset(
    (
        "DATABASE_URL",
        "BUCKET_CREDENTIALS",
        "DOCUMENTS_CREDENTIALS",
        "SOURCE_BUCKET_CREDENTIALS",
        "CF_PASSWORD",
        "SOURCE_CF_PASSWORD",
        "SIGNING_KEY",
        "MEMBERS_APP_KEY",
        "MEMBERS_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
    )
)
"""Secrets that belong into environments: those of repository and organization every branch's workflows can read."""

CODEOWNERS = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")


@dataclass(frozen=True)
class Finding:
    """One setting. ``passed`` None: it could not be read. Only what ``matters`` makes doctor fail."""

    name: str
    passed: bool | None
    sentence: str
    url: str
    matters: bool = True


@dataclass(frozen=True)
class Settings:
    """One repository's settings, to be looked at through one token."""

    repository: str
    branch: str
    """The default branch."""
    matrix: Matrix
    github: GitHub
    members: GitHub
    server: str = "https://github.com"

    def page(self, *parts: str) -> str:
        """A page of the repository."""
        return "/".join((self.server, self.repository, *parts))

    def ask(self, *parts: str | int) -> Answer:
        """Ask the API about something below the repository."""
        return self.github.get(in_repository(self.repository, *parts))


def examine(settings: Settings) -> tuple[Finding, ...]:
    """Every finding, in the order in which a setup goes."""
    looks = (_environments, _secrets, _default_branch, _codeowners, _tags, _schedules, _team)
    return tuple(finding for look in looks for finding in look(settings))


def environments_of(matrix: Matrix) -> dict[str, bool]:
    """The environments that the matrix's operations run in, and whether a person's restore runs there."""
    found: dict[str, bool] = {}
    for space in matrix.spaces:
        for operation in ("backup", "list", "verify", "purge"):
            found.setdefault(matrix.environment(operation, space, unattended=True), False)
    for path in matrix.paths:
        for when in path.when:
            name = matrix.environment("restore", path.target, unattended=when == "unattended")
            found[name] = found.get(name, False) or when == "manual"
    return found


def _environments(settings: Settings) -> Iterator[Finding]:
    for name, manual in environments_of(settings.matrix).items():
        yield from _environment(settings, name, manual)


def _environment(settings: Settings, name: str, manual: bool) -> Iterator[Finding]:
    label, url = f"environment {name}", settings.page("settings", "environments")
    answer = settings.ask("environments", name)
    if answer.outcome is Outcome.NOT_FOUND:
        hint = "a job that names it would create it without any protection"
        yield Finding(label, False, f"The environment {name} does not exist: {hint}", url)
        return
    if not answer.ok:
        yield Finding(label, None, f"The environment {name} could not be read: {answer.reason}", url)
        return
    body = answer.mapping()
    reviewers = has_reviewers(body)
    if manual:
        wrong = "has no required reviewers: whoever may start the workflow would reach its secrets"
        yield Finding(label, reviewers, f"{name} {'waits for a reviewer' if reviewers else wrong}", url)
        if reviewers:
            yield _self_review(settings, name, body, label, url)
            yield _bypass(name, body, label, url)
    elif reviewers:
        yield Finding(
            label, False, f"{name} waits for a reviewer, so that no unattended run passes", url, matters=False
        )
    yield _branches(settings, name, body, label, url, manual=manual)


def _self_review(settings: Settings, name: str, body: Mapping[str, Any], label: str, url: str) -> Finding:
    prevented = any(
        isinstance(rule, dict) and rule.get("prevent_self_review") is True for rule in body["protection_rules"]
    )
    who = settings.matrix.who
    matters = who is not None and bool(who.environment)
    wrong = "lets whoever starts a run approve it: set 'Prevent self-review'"
    return Finding(label, prevented, f"{name} {'prevents self-review' if prevented else wrong}", url, matters=matters)


def _bypass(name: str, body: Mapping[str, Any], label: str, url: str) -> Finding:
    kept = body.get("can_admins_bypass") is False
    wrong = "lets administrators pass by its reviewers: clear 'Allow administrators to bypass'"
    return Finding(label, kept, f"{name} {'holds for administrators too' if kept else wrong}", url, matters=False)


def _branches(settings: Settings, name: str, body: Mapping[str, Any], label: str, url: str, *, manual: bool) -> Finding:
    policy = body.get("deployment_branch_policy")
    if not isinstance(policy, dict) or policy.get("custom_branch_policies") is not True:
        wrong = "takes jobs of any branch" if policy is None else "takes jobs of every protected branch"
        hint = f"choose 'Selected branches and tags' and name {settings.branch}"
        return Finding(label, False, f"{name} {wrong}: {hint}", url)
    answer = settings.github.pages(
        in_repository(settings.repository, "environments", name, "deployment-branch-policies"), "branch_policies"
    )
    if not answer.ok:
        return Finding(label, None, f"Which branches may deploy to {name} could not be read: {answer.reason}", url)
    found = {(str(one.get("type", "branch")), str(one.get("name"))) for one in answer.body if isinstance(one, dict)}
    refs = settings.matrix.refs
    allowed = {policy_of(ref) for ref in (refs.manual if manual else refs.pre_deploy)}
    extra = found - {("branch", settings.branch)} - allowed
    if extra or not found:
        shown = ", ".join(sorted(name for _, name in extra)) or "no branch at all"
        return Finding(label, False, f"{name} takes jobs of {shown}; it should take {settings.branch} alone", url)
    return Finding(label, True, f"{name} takes jobs of {', '.join(sorted(one for _, one in found))} alone", url)


def _secrets(settings: Settings) -> Iterator[Finding]:
    url = settings.page("settings", "secrets", "actions")
    for whose, part in (("repository", "secrets"), ("organization", "organization-secrets")):
        name = f"{whose} secrets"
        answer = settings.github.pages(in_repository(settings.repository, "actions", part), "secrets")
        if not answer.ok:
            sentence = f"The names of the {whose}'s secrets could not be read ({answer.reason}): look there yourself"
            yield Finding(name, None, sentence, url, matters=False)
            continue
        exposed = sorted({str(one.get("name")) for one in answer.body if isinstance(one, dict)} & DATA_SECRETS)
        wrong = f"{', '.join(exposed)} can be read by a workflow on any branch: move them into environments"
        right = f"No secret of the data is among the {whose}'s"
        yield Finding(name, not exposed, wrong if exposed else right, url)


def _default_branch(settings: Settings) -> Iterator[Finding]:
    url = settings.page("settings", "rules")
    rules = settings.ask("rules", "branches", settings.branch)
    branch = settings.ask("branches", settings.branch)
    if not rules.ok or not isinstance(rules.body, list) or not branch.ok:
        reason = rules.reason or branch.reason or "GitHub's answer could not be understood"
        yield Finding("default branch", None, f"The rules of {settings.branch} could not be read: {reason}", url)
        return
    reviewed = any(_asks_for_review(rule) for rule in rules.body)
    if reviewed:
        sentence = f"Changes of {settings.branch} need a review"
    elif branch.mapping().get("protected") is True:
        sentence = (
            f"{settings.branch} is protected; see for yourself that it needs a review (only rulesets can be read)"
        )
    else:
        sentence = f"Anyone with write access can change {settings.branch}, and with it {FILE_NAME} and every workflow"
    yield Finding("default branch", reviewed or branch.mapping().get("protected") is True, sentence, url)


def _asks_for_review(rule: Any) -> bool:
    parameters = rule.get("parameters") if isinstance(rule, dict) and rule.get("type") == "pull_request" else None
    count = parameters.get("required_approving_review_count") if isinstance(parameters, dict) else None
    return isinstance(count, int) and count >= 1


def _codeowners(settings: Settings) -> Iterator[Finding]:
    url = "https://docs.github.com/repositories/managing-your-repositorys-settings-and-features/customizing-your-repository/about-code-owners"
    head = settings.ask("branches", settings.branch).mapping().get("commit")
    sha = head.get("sha", "") if isinstance(head, dict) else ""
    for path in CODEOWNERS:
        answer = settings.github.get(in_repository(settings.repository, "contents") + f"/{path}", ref=sha)
        if answer.ok:
            missing = [what for what in (FILE_NAME, ".github/workflows/") if not _owned(what, _content(answer))]
            wrong = f"{path} names nobody for {' and '.join(missing)}"
            right = f"{path} covers {FILE_NAME} and the workflows"
            yield Finding("code owners", not missing, wrong if missing else right, url, matters=False)
            return
    yield Finding(
        "code owners", False, f"No CODEOWNERS file: a review of {FILE_NAME} can be anybody's", url, matters=False
    )


def _content(answer: Answer) -> str:
    try:
        return base64.b64decode(str(answer.mapping().get("content", ""))).decode(errors="replace")
    except ValueError:
        return ""


def _owned(path: str, codeowners: str) -> bool:
    """Whether the last line that fits ``path`` names somebody: a later line without owners takes them away."""
    owners: list[str] = []
    for line in codeowners.splitlines():
        pattern, *named = line.partition("#")[0].split() or [""]
        whole = pattern.strip("/") in ("*", "**", path.strip("/"))
        if whole or (pattern.endswith("/") and path.startswith(pattern.lstrip("/"))):
            owners = named
    return bool(owners)


def _tags(settings: Settings) -> Iterator[Finding]:
    if not any(ref.startswith("refs/tags/") for ref in settings.matrix.refs.pre_deploy):
        return
    url = settings.page("settings", "rules")
    answer = settings.github.pages(in_repository(settings.repository, "rulesets"))
    if not answer.ok:
        yield Finding("tags", None, f"The tag rules could not be read: {answer.reason}", url, matters=False)
        return
    ruled = any(
        isinstance(one, dict) and one.get("target") == "tag" and one.get("enforcement") == "active"
        for one in answer.body
    )
    wrong = "Anyone with write access can make the tags from which pre-deploy backups run"
    yield Finding("tags", ruled, "A ruleset guards tags" if ruled else wrong, url, matters=False)


def _schedules(settings: Settings) -> Iterator[Finding]:
    url = settings.page("actions")
    answer = settings.github.pages(in_repository(settings.repository, "actions", "workflows"), "workflows")
    if not answer.ok:
        yield Finding("schedules", None, f"The workflows could not be read: {answer.reason}", url, matters=False)
        return
    disabled = sorted(
        str(one.get("name"))
        for one in answer.body
        if isinstance(one, dict) and str(one.get("state")).startswith("disabled")
    )
    wrong = f"Disabled workflows: {', '.join(disabled)}. GitHub disables schedules after 60 days without a commit"
    yield Finding("schedules", not disabled, wrong if disabled else "No workflow is disabled", url)


def _team(settings: Settings) -> Iterator[Finding]:
    who = settings.matrix.who
    if who is None:
        if any("manual" in path.when for path in settings.matrix.paths):
            sentence = "The matrix has no `who`: nobody can restore by hand"
            yield Finding("who", False, sentence, settings.page("blob", settings.branch, FILE_NAME))
        return
    if who.team is None:
        return
    organization, _, slug = who.team.partition("/")
    url = f"{settings.server}/orgs/{organization}/teams/{slug}/members"
    answer = settings.members.get(at("orgs", organization, "teams", slug))
    if answer.ok:
        yield Finding("team", True, f"The members of {who.team} can be read", url)
    else:
        hint = "give a GitHub App's token with Members: read as `members-token` (docs/setup-github.md)"
        yield Finding("team", False, f"The team {who.team} could not be read ({answer.reason}): {hint}", url)
