"""Every attack and accident on the gate, against facts that are gathered from an API: refused, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fac_backup.hosting.github import api
from fac_backup.hosting.github.facts import matrix_of_run, moment_text
from fac_backup.plain.errors import FacBackupError, RefusedError
from fac_backup.policy.facts import FirstAttempt, Stage
from tests.support.github_api import World, serve
from tests.unit.hosting.world import ID, MATRIX, ROOT, Asked, consumer, refusals


@pytest.fixture
def world() -> World:
    return consumer()


@pytest.fixture
def url(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    original = api.GitHub.__init__

    def quick(self: api.GitHub, *args: Any, **settings: Any) -> None:
        original(self, *args, **({"timeout": 0.5, "patience": 1.5, "sleep": lambda _: None} | settings))

    monkeypatch.setattr(api.GitHub, "__init__", quick)
    with serve(world) as address:
        yield address


def nightly(url: str, **changes: Any) -> Asked:
    """The unattended refresh of staging, with the backup that the run has just made."""
    made = "production_20261122T191653Z_daily"
    settings: dict[str, Any] = {
        "source": "production", "target": "staging", "backup_id": made, "confirm": "", "event": "schedule",
        "actor": "bob", "triggering_actor": "bob", "authorized_at": "", "own": True,
    }  # fmt: skip
    return Asked(url, **(settings | changes))


def test_a_member_may_restore_by_hand_what_the_matrix_lists(url: str) -> None:
    decision = Asked(url).decide()
    assert decision.allowed, decision.refusals
    assert decision.environment == "preview-restore"
    assert not decision.unattended


def test_a_schedule_may_restore_its_own_backup_and_nobody_is_asked(world: World, url: str) -> None:
    world.attempt(1, event="schedule", actor="bob", triggering_actor="bob")
    decision = nightly(url).decide()
    assert decision.allowed, decision.refusals
    assert decision.environment == "staging"
    assert not [path for _, path, _ in world.requests if "memberships" in path]


def test_a_schedule_restores_nothing_that_another_run_made(world: World, url: str) -> None:
    world.attempt(1, event="schedule", actor="bob", triggering_actor="bob")
    assert "own backup" in refusals(nightly(url, own=False).decide())
    assert "own backup" in refusals(nightly(url, own=None).decide())


@pytest.mark.parametrize(
    ("login", "sentence"),
    [
        ("mallory", "not a member"),
        ("pat", "not accepted"),
        ("nobody-at-all", "knows no user"),
        ("dependabot[bot]", "bot"),
        ("../../orgs/octo", ""),
        ("alice/../mallory", ""),
    ],
)
def test_who_is_no_member_may_not(world: World, url: str, login: str, sentence: str) -> None:
    world.attempt(1, actor=login, triggering_actor=login)
    assert sentence in Asked(url, actor=login, triggering_actor=login).refused()


def test_an_app_is_no_member_even_if_its_name_looks_like_one(world: World, url: str) -> None:
    robot = {"login": "alice", "type": "Bot", "id": 5}
    world.attempt(1, actor=robot, triggering_actor=robot)
    assert "bot" in Asked(url).refused()


@pytest.mark.parametrize("attempt", [2, 3])
def test_a_members_run_re_run_by_somebody_else_is_theirs(world: World, url: str, attempt: int) -> None:
    world.attempt(attempt, actor="alice", triggering_actor="mallory")
    assert "mallory is not a member" in Asked(url, attempt=attempt, triggering_actor="mallory").refused()


def test_only_the_failed_job_re_run_by_somebody_else_is_refused_though_authorize_had_passed(
    world: World, url: str
) -> None:
    # The job `authorize` of attempt 1 is reused with its outputs; the step asks again.
    world.attempt(2, actor="alice", triggering_actor="mallory")
    asked = Asked(
        url, attempt=2, triggering_actor="mallory", authorized_at=moment_text(datetime.now(UTC) - timedelta(minutes=5))
    )
    assert "mallory" in asked.refused()


def test_hiding_who_re_ran_it_does_not_help(world: World, url: str) -> None:
    world.attempt(2, actor="alice", triggering_actor="mallory")
    for claimed in ("", "alice"):
        assert "record" in Asked(url, attempt=2, triggering_actor=claimed).refused()
    assert "record" in Asked(url, attempt=1, triggering_actor="alice", actor="carol").refused()


def test_a_member_removed_between_approval_and_start_is_none(world: World, url: str) -> None:
    assert Asked(url, stage=Stage.AUTHORIZE).decide().allowed
    del world.teams["octo", "admins"]["alice"]
    assert "not a member" in Asked(url).refused()


def test_a_scheduled_run_re_run_by_a_stranger_is_refused_and_by_a_member_finishes(world: World, url: str) -> None:
    first = FirstAttempt("production", "staging", "production_20261122T191653Z_daily", failed=True)
    for login, passes in (("mallory", False), ("carol", True)):
        world.attempt(2, event="schedule", actor="bob", triggering_actor=login)
        asked = nightly(url, attempt=2, triggering_actor=login, first=first)
        decision = asked.decide()
        assert decision.allowed is passes, decision.refusals
        assert decision.environment == "staging"
        if not passes:  # not even what attempt 1 was doing is looked up in the target's store
            assert "mallory is not a member" in asked.refused()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("500", "error"),
        ("503", "error"),
        ("slow", "in time"),
        ("drop", "in time"),
        ("rate", "rate limit"),
        ("garbage", "understood"),
        ("html", "understood"),
        ("empty", "understood"),
        ("list", "understood"),
        ("deep", "understood"),
        ("null", "understood"),
        ("text", "understood"),
        ("redirect", "understood"),
        ("forbidden", "may not"),
        ("401", "may not"),
        ("404", "404"),
    ],
)
@pytest.mark.parametrize(
    "path", ["memberships", "attempts", "environments/preview-restore$", "deployment-branch", "approvals"]
)
def test_what_cannot_be_read_refuses_with_its_own_sentence(
    world: World, url: str, path: str, fault: str, sentence: str
) -> None:
    world.fault(path, fault)
    found = Asked(url).refused()
    nobody = path == "approvals" and fault == "list"  # a list without an approval is an answer
    assert sentence in found or (nobody and "Nobody approved" in found), found


@pytest.mark.parametrize(
    "fault", ["500", "slow", "drop", "rate", "garbage", "html", "empty", "list", "redirect", "401"]
)
@pytest.mark.parametrize("path", ["/repos/octo/app$", "branches/main", "contents"])
def test_a_matrix_that_cannot_be_read_is_not_taken_for_none(world: World, url: str, path: str, fault: str) -> None:
    world.fault(path, fault)
    with pytest.raises(FacBackupError):
        matrix_of_run(Asked(url).environment())


def test_a_matrix_hidden_from_the_token_is_not_taken_for_none(world: World, url: str) -> None:
    world.tokens["job-token"].permissions -= {"contents"}
    with pytest.raises(RefusedError) as caught:
        matrix_of_run(Asked(url).environment())
    assert "lacks the permission" in caught.value.what
    assert "contents: read" in caught.value.next_step


def test_without_a_matrix_nothing_can_be_restored(world: World, url: str) -> None:
    world.files.clear()
    assert not matrix_of_run(Asked(url).environment()).has_matrix
    assert "needs a matrix" in Asked(url, source="default", target="default", confirm="default").refused()
    asked = Asked(url, source="default", target="default", confirm="default", stage=Stage.AUTHORIZE)
    assert "nothing can be restored" in asked.refused()


@pytest.mark.parametrize("token", ["", "expired-or-wrong"])
def test_without_a_token_nothing_is_decided(url: str, token: str) -> None:
    assert "could not be read" in Asked(url, token=token).refused()


def test_without_a_members_token_nobody_is_a_member(url: str) -> None:
    assert "who" in Asked(url, members="").refused()
    # GITHUB_TOKEN cannot read a team.
    assert "404" in Asked(url, members="job-token").refused()


def test_a_branch_that_edits_its_copy_of_the_matrix_changes_nothing(world: World, url: str) -> None:
    world.heads["evil"] = "b" * 40
    world.matrix(
        MATRIX.replace("octo/admins", "octo/everybody") + "  - {source: dev, target: production, when: manual}\n",
        "evil",
    )
    world.attempt(1, head_branch="evil", actor="alice")
    asked = Asked(url, target="production", confirm="production", ref="refs/heads/evil")
    found = asked.refused()
    assert "lists no restore from dev to production" in found
    assert "not the default branch" in found


def test_a_run_from_a_branch_or_tag_may_not_restore(world: World, url: str) -> None:
    for ref, name in (("refs/heads/topic", "topic"), ("refs/tags/v1", "v1"), ("refs/tags/main", "main")):
        world.attempt(1, head_branch=name)
        assert "not the default branch" in Asked(url, ref=ref).refused()


SPACES = ("production", "staging", "dev", "preview")
BY_HAND = {("production", "production"), ("dev", "preview"), ("production", "staging"), ("dev", "dev")}


@pytest.mark.parametrize("source", SPACES)
@pytest.mark.parametrize("target", SPACES)
def test_by_hand_only_the_listed_pairs(url: str, source: str, target: str) -> None:
    asked = Asked(url, source=source, target=target, confirm=target, backup_id=f"{source}_20261122T191653Z_daily")
    if (source, target) in BY_HAND:
        assert asked.decide().allowed
    else:
        assert "path: " in asked.refused() or "not a pre-restore backup" in asked.refused()


@pytest.mark.parametrize("source", SPACES)
@pytest.mark.parametrize("target", SPACES)
def test_unattended_only_the_listed_pairs(world: World, url: str, source: str, target: str) -> None:
    world.attempt(1, event="schedule", actor="bob", triggering_actor="bob")
    asked = nightly(url, source=source, target=target, backup_id=f"{source}_20261122T191653Z_daily")
    if (source, target) in {("production", "staging"), ("dev", "dev")}:
        assert asked.decide().allowed
    else:
        assert "path: " in asked.refused()


@pytest.mark.parametrize(
    "trick", ["Preview", "PREVIEW", " preview", "preview ", "preview\n", "pre\u200bview", "ｐreview", "preview\x1f", ""]
)
def test_case_and_white_space_tricks_name_no_space(url: str, trick: str) -> None:
    assert Asked(url, target=trick, confirm=trick).refused(code=3 if trick else 2)
    assert Asked(url, target=trick, confirm=trick, stage=Stage.AUTHORIZE).refused(code=3)
    assert "confirm" in Asked(url, confirm=trick).refused()


@pytest.mark.parametrize("confirm", ["", "yes", "true", "dev", "production", "preview-restore", "preview preview"])
def test_a_wrong_confirmation_is_refused(url: str, confirm: str) -> None:
    assert "confirm" in Asked(url, confirm=confirm).refused()


@pytest.mark.parametrize(
    "backup_id",
    [
        "", "latest", "LATEST ", "production_20261122T191653Z_daily", ID + "\n", " " + ID, ID + ";id", "$(id)", "`id`",
        "${{ secrets.X }}", "../" + ID, ID + "/../x", "dev_20261322T191653Z_daily", "dev_20261122T191653Z_",
        "x" * 10_000,
        "::set-output name=x::y", "dev_20261122T191653Z_daily_extra", "DEV_20261122T191653Z_daily",
        "dev\u00ad" + ID[3:],
    ],
)  # fmt: skip
def test_only_an_id_of_the_source_is_taken(url: str, backup_id: str) -> None:
    # The typed id is in no line of the summary in a form that could do anything there.
    for reason in Asked(url, backup_id=backup_id).refused(code=3 if backup_id else 2).splitlines():
        assert reason.isprintable()
        assert len(reason) < 1200


@pytest.mark.parametrize(
    "event",
    [
        "workflow_run",
        "repository_dispatch",
        "push",
        "pull_request_target",
        "pull_request",
        "issue_comment",
        "deployment",
        "",
    ],
)
def test_an_event_that_no_person_filled_in_may_not_restore(world: World, url: str, event: str) -> None:
    world.attempt(1, event=event or "workflow_dispatch")
    assert Asked(url, event=event).refused()


def test_claiming_another_event_differs_from_the_record(world: World, url: str) -> None:
    world.attempt(1, event="push", actor="bob", triggering_actor="bob")
    assert "differ in: event" in nightly(url).refused()
    assert "differ in: event" in Asked(url, actor="bob", triggering_actor="bob").refused()


def test_another_repository_or_attempt_than_the_record_is_refused(world: World, url: str) -> None:
    world.attempt(1, repository={"full_name": "mallory/app"})
    assert "repository" in Asked(url).refused()
    world.attempt(1, run_attempt=2)
    assert "attempt" in Asked(url).refused()
    world.attempt(1, id=7002)
    assert "understood" in Asked(url).refused()
    assert "404" in Asked(url, attempt=9).refused()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (None, "404"),
        ({"reviewers": False, "branches": ["main"]}, "no required reviewers"),
        ({"branches": None}, "not limited"),
        ({"branches": ["main", "release/*"]}, "not limited"),
        ({"branches": ["*"]}, "not limited"),
        ({"branches": []}, "not limited"),
    ],
)
def test_an_environment_that_does_not_guard_is_refused(
    world: World, url: str, settings: dict[str, Any] | None, sentence: str
) -> None:
    del world.environments["preview-restore"]
    if settings is not None:
        world.environment("preview-restore", **settings)
    assert sentence in Asked(url).refused()


@pytest.mark.parametrize(
    "rule",
    [
        {"type": "wait_timer", "wait_timer": 30},
        {"type": "required_reviewers", "reviewers": []},
        {"type": "required_reviewers", "reviewers": "octo/admins"},
        {"type": "required_reviewers", "reviewers": [None, "x"]},
        {"type": "required_reviewers", "reviewers": [{"type": "Team", "reviewer": None}]},  # a team that was deleted
        {"type": "REQUIRED_REVIEWERS", "reviewers": [{"type": "User", "reviewer": {"login": "carol"}}]},
        "required_reviewers",
    ],
)
def test_a_rule_without_a_reviewer_who_exists_is_no_review(world: World, url: str, rule: object) -> None:
    world.environments["preview-restore"]["protection_rules"] = [rule]
    assert "no required reviewers" in Asked(url).refused()


@pytest.mark.parametrize(
    ("policies", "sentence"),
    [
        ([{"name": "main*", "type": "branch"}], "not limited"),
        ([{"name": "main", "type": "tag"}], "not limited"),
        ([{"name": "main", "type": "branch"}, {"name": "main", "type": "tag"}], "not limited"),
        ([{"name": "Main", "type": "branch"}], "not limited"),
        ([{"name": ["main"], "type": "branch"}], "understood"),
        (["main"], "understood"),
        ([{"type": "branch"}], "understood"),
    ],
)
def test_only_the_default_branch_to_the_letter_limits_an_environment(
    world: World, url: str, policies: list[Any], sentence: str
) -> None:
    world.branch_policies["preview-restore"] = policies
    assert sentence in Asked(url).refused()


def test_an_environment_may_take_what_the_matrix_lets_people_start_from(world: World, url: str) -> None:
    world.environment("preview-restore", branches=["main", "hotfix-*"])
    assert "not limited" in Asked(url).refused()
    world.matrix(MATRIX + "refs: {manual: ['refs/heads/hotfix-*']}\n")
    assert Asked(url).decide().allowed
    world.attempt(1, head_branch="hotfix-1")
    assert Asked(url, ref="refs/heads/hotfix-1").decide().allowed


def test_a_job_that_does_not_name_its_environment_meets_no_reviewer_and_is_refused(world: World, url: str) -> None:
    # A step of the caller's own job, with secrets of the repository: all settings are right, and nobody reviewed it.
    world.approvals.clear()
    world.approve("staging-restore", "carol")
    assert "Nobody approved this run in preview-restore: the job must name" in Asked(url, authorized_at="").refused()


def test_a_run_that_waited_a_day_for_its_reviewer_is_refused_with_and_without_authorize(world: World, url: str) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    world.attempt(1, run_started_at=yesterday.isoformat())
    assert "began more than an hour ago" in Asked(url, authorized_at="").refused()
    assert "older than an hour" in Asked(url, authorized_at=moment_text(yesterday)).refused()


@pytest.mark.parametrize(
    "changes",
    [
        {"run_attempt": "1"}, {"run_attempt": True}, {"run_attempt": 1.0}, {"run_attempt": float("inf")},
        {"run_attempt": None}, {"id": "7001"}, {"id": True}, {"actor": None}, {"triggering_actor": {"login": "alice"}},
        {"triggering_actor": {"login": ["alice"], "type": "User"}}, {"event": None}, {"head_branch": None},
        {"repository": "octo/app"}, {"run_started_at": "yesterday"}, {"run_started_at": 0},
        {"run_started_at": "2026-11-22T20:00:00"},
    ],
)  # fmt: skip
def test_a_record_of_the_wrong_types_is_not_understood(world: World, url: str, changes: dict[str, Any]) -> None:
    world.attempt(1, **changes)
    assert "could not be understood" in Asked(url).refused()


@pytest.mark.parametrize("state", ["ACTIVE", "Active ", True, 1, ["active"], {"active": True}, None, ""])
def test_only_the_word_active_is_a_member(world: World, url: str, state: Any) -> None:
    world.teams["octo", "admins"]["alice"] = state
    assert ("not a member" if state is None else "could not be understood") in Asked(url).refused()


@pytest.mark.parametrize("state", [True, "APPROVED", ["approved"], "pending", None])
def test_only_the_word_approved_is_an_approval(world: World, url: str, state: Any) -> None:
    world.approvals.clear()
    world.approve("preview-restore", "carol", state)
    assert "Nobody approved" in Asked(url).refused()


def test_a_list_that_does_not_come_whole_is_not_understood(world: World, url: str) -> None:
    # A server that gives fewer a page than asked for: the policy that opens the environment is on the next one.
    world.hidden_rows = 1
    assert "could not be understood" in Asked(url).refused()


def test_a_matrix_that_comes_in_part_is_not_read(world: World, url: str) -> None:
    world.cut_files_to = len(MATRIX) - 60
    assert "policy could not be read" in Asked(url).refused()


@pytest.mark.parametrize("repository", ["octo/..", "./app", "octo/app/../../x", "octo", "OCTO\u212a/app"])
def test_a_repository_is_two_names(url: str, repository: str) -> None:
    assert "GITHUB_REPOSITORY" in Asked(url, env={"GITHUB_REPOSITORY": repository}).refused(code=2)


@pytest.mark.parametrize("api", ["http://evil.example", "https://evil.example@127.0.0.1:1", "file:///etc/passwd", ""])
def test_another_api_is_not_asked_in_the_clear(url: str, api: str) -> None:
    # The runner sets GITHUB_API_URL itself, after every `env:`; what is no https address gets no token in any case.
    code = 3 if api.startswith("https") else 2
    assert Asked(url, env={"GITHUB_API_URL": api}).refused(code=code)


def test_what_click_cannot_read_is_a_failure_like_others_and_no_command_of_the_runner(world: World, url: str) -> None:
    asked = Asked(url, operation="purge", space="dev", dry_run="::stop-commands::x ##[error]y")  # type: ignore[arg-type]
    assert "not a valid boolean" in asked.refused(code=2)


def test_protected_branches_only_is_no_limit_to_the_default_branch(world: World, url: str) -> None:
    policy = {"protected_branches": True, "custom_branch_policies": False}
    world.environments["preview-restore"]["deployment_branch_policy"] = policy
    assert "not limited" in Asked(url).refused()


@pytest.mark.parametrize(
    "authorized_at",
    [
        "2026-11-22T18:59:00+00:00",
        "2999-11-22T20:30:00+00:00",
        pytest.param(f"{datetime.now():%Y-%m-%dT%H:%M:%S}", id="no zone"),
        "now",
        "9999-99-99",
        "0",
        "x" * 9999,
    ],
)
def test_an_authorization_that_is_old_forged_or_from_the_future_is_none(url: str, authorized_at: str) -> None:
    assert "age" in Asked(url, authorized_at=authorized_at).refused()


def test_a_caller_that_skips_the_reusable_workflow_is_decided_on_all_the_same(world: World, url: str) -> None:
    assert Asked(url, authorized_at="").decide().allowed
    world.teams["octo", "admins"].clear()
    assert Asked(url, authorized_at="").refused()


@pytest.mark.parametrize(
    "variable",
    ["FAC_BACKUP_MATRIX", "FAC_BACKUP_WHO", "FAC_BACKUP_ALLOWED", "FAC_BACKUP_ENVIRONMENT", "FAC_BACKUP_UNATTENDED",
     "FAC_BACKUP_SKIP_CHECKS", "GITHUB_ACTIONS", "CI", "PYTHONPATH"],
)  # fmt: skip
def test_no_variable_turns_a_check_off(world: World, url: str, variable: str) -> None:
    world.teams["octo", "admins"].clear()
    for value in ("false", "/tmp/evil.yml"):
        assert Asked(url, env={variable: value}).refused()


@pytest.mark.parametrize("missing", ["GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT"])
@pytest.mark.parametrize("value", ["", "0", "-1", "../x", "1\n2"])
def test_a_run_that_does_not_say_what_it_is_is_none(url: str, missing: str, value: str) -> None:
    assert missing in Asked(url, env={missing: value}).refused(code=2)


def test_the_matrix_says_where_it_came_from(world: World, url: str) -> None:
    found = matrix_of_run(Asked(url).environment())
    assert found.origin == f"action-matrix.yml of octo/app, branch main, commit {'a' * 40}"
    assert found.commit == "a" * 40


def test_a_matrix_for_other_repositories_is_none_for_this_one(world: World, url: str) -> None:
    world.matrix(MATRIX + "repositories: [octo/other]\n")
    assert "not for the repository" in Asked(url).refused()


@pytest.mark.parametrize(("login", "passes"), [("carol", True), ("alice", False), ("", False)])
def test_an_approval_by_somebody_else_can_stand_for_the_team(world: World, url: str, login: str, passes: bool) -> None:
    world.matrix(MATRIX.replace("{team: octo/admins}", "environment"))
    world.approvals.clear()
    if login:
        world.approve("preview-restore", login)
    asked = Asked(url, members="")
    if passes:
        assert asked.decide().allowed
    else:
        assert "approved this run" in asked.refused()


def test_a_rejection_or_another_environments_approval_does_not_count(world: World, url: str) -> None:
    world.matrix(MATRIX.replace("{team: octo/admins}", "environment"))
    world.approvals.clear()
    world.approve("staging-restore", "carol")
    world.approve("preview-restore", "carol", "rejected")
    assert Asked(url, members="").refused()
    world.fault("approvals", "garbage")
    assert Asked(url, members="").refused()


def test_named_users_may_and_others_may_not(world: World, url: str) -> None:
    world.matrix(MATRIX.replace("{team: octo/admins}", "{users: [Alice]}"))
    assert Asked(url, members="").decide().allowed
    world.attempt(1, actor="carol", triggering_actor="carol")
    assert Asked(url, actor="carol", triggering_actor="carol", members="").refused()


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"event": "schedule", "actor": "bob", "triggering_actor": "bob"}, True),
        ({}, True),
        ({"actor": "mallory", "triggering_actor": "mallory"}, False),
        ({"actor": "mallory", "triggering_actor": "mallory", "dry_run": True}, True),
        ({"event": "push"}, True),
        ({"event": "push", "actor": "mallory", "triggering_actor": "mallory"}, False),
    ],
)
def test_a_purge_deletes_unattended_or_for_a_member(
    world: World, url: str, changes: dict[str, Any], passes: bool
) -> None:
    world.attempt(1, **{key: value for key, value in changes.items() if key != "dry_run"})
    asked = Asked(url, operation="purge", space="dev", source="", target="", backup_id="", confirm="", **changes)
    if passes:
        assert asked.decide().allowed
    else:
        assert "mallory is not a member" in asked.refused()


def test_a_backup_needs_nobody_and_a_pre_deploy_backup_its_ref(world: World, url: str) -> None:
    common: dict[str, Any] = {"operation": "backup", "space": "production", "source": "", "target": "", "confirm": "",
                              "backup_id": "", "actor": "mallory", "triggering_actor": "mallory"}  # fmt: skip
    world.attempt(1, event="push", actor="mallory", triggering_actor="mallory")
    assert Asked(url, kind="daily", event="push", **common).decide().allowed
    world.attempt(1, event="push", actor="mallory", triggering_actor="mallory", head_branch="topic")
    asked = Asked(url, kind="pre-deploy", event="push", ref="refs/heads/topic", **common)
    assert "ref" in asked.refused()


PAGES = ("security.md", "guarantees.md")


def test_every_test_that_the_security_pages_name_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", "".join((ROOT / "docs" / page).read_text() for page in PAGES)))
    there = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 40
    assert named - there == set()


def test_no_token_is_in_what_is_said(world: World, url: str) -> None:
    world.teams["octo", "admins"].clear()
    assert "not a member" in Asked(url).refused()  # which looks for every secret in what was said
