"""Every attack and accident on the gate, against facts that are gathered from an API: refused, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from fac_backup.hosting.github import api
from fac_backup.hosting.github.facts import matrix_of_run, moment_text
from fac_backup.plain.errors import FacBackupError, RefusedError, UsageError
from fac_backup.policy.facts import FirstAttempt, Stage
from tests.support.github_api import World, serve
from tests.unit.hosting.world import ID, MATRIX, NOW, Asked, consumer, refusals


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
    assert sentence in refusals(Asked(url, actor=login, triggering_actor=login).decide())


def test_an_app_is_no_member_even_if_its_name_looks_like_one(world: World, url: str) -> None:
    robot = {"login": "alice", "type": "Bot", "id": 5}
    world.attempt(1, actor=robot, triggering_actor=robot)
    assert "bot" in refusals(Asked(url).decide())


@pytest.mark.parametrize("attempt", [2, 3])
def test_a_members_run_re_run_by_somebody_else_is_theirs(world: World, url: str, attempt: int) -> None:
    world.attempt(attempt, actor="alice", triggering_actor="mallory")
    decision = Asked(url, attempt=attempt, triggering_actor="mallory").decide()
    assert "mallory is not a member" in refusals(decision)


def test_only_the_failed_job_re_run_by_somebody_else_is_refused_though_authorize_had_passed(
    world: World, url: str
) -> None:
    # The job `authorize` of attempt 1 is reused with its outputs; the step asks again.
    world.attempt(2, actor="alice", triggering_actor="mallory")
    asked = Asked(url, attempt=2, triggering_actor="mallory", authorized_at=moment_text(NOW - timedelta(minutes=5)))
    assert "mallory" in refusals(asked.decide())


def test_hiding_who_re_ran_it_does_not_help(world: World, url: str) -> None:
    world.attempt(2, actor="alice", triggering_actor="mallory")
    for claimed in ("", "alice"):
        assert "record" in refusals(Asked(url, attempt=2, triggering_actor=claimed).decide())
    assert "record" in refusals(Asked(url, attempt=1, triggering_actor="alice", actor="carol").decide())


def test_a_member_removed_between_approval_and_start_is_none(world: World, url: str) -> None:
    assert Asked(url, stage=Stage.AUTHORIZE).decide().allowed
    del world.teams["octo", "admins"]["alice"]
    assert "not a member" in refusals(Asked(url).decide())


def test_a_scheduled_run_re_run_by_a_stranger_is_refused_and_by_a_member_finishes(world: World, url: str) -> None:
    first = FirstAttempt("production", "staging", "production_20261122T191653Z_daily", failed=True)
    for login, passes in (("mallory", False), ("carol", True)):
        world.attempt(2, event="schedule", actor="bob", triggering_actor=login)
        decision = nightly(url, attempt=2, triggering_actor=login, first=first).decide()
        assert decision.allowed is passes, decision.refusals
        assert decision.environment == "staging"


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
        ("redirect", "understood"),
        ("forbidden", "may not"),
        ("401", "may not"),
        ("404", "404"),
    ],
)
@pytest.mark.parametrize("path", ["memberships", "attempts", "environments/preview-restore$", "deployment-branch"])
def test_what_cannot_be_read_refuses_with_its_own_sentence(
    world: World, url: str, path: str, fault: str, sentence: str
) -> None:
    world.fault(path, fault)
    found = refusals(Asked(url).decide())
    if path != "deployment-branch":
        assert sentence in found or (path == "environments/preview-restore$" and fault == "empty"), found


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
    decision = Asked(url, source="default", target="default", confirm="default").decide()
    assert "nothing can be restored" in refusals(decision)


@pytest.mark.parametrize("token", ["", "expired-or-wrong"])
def test_without_a_token_nothing_is_decided(url: str, token: str) -> None:
    with pytest.raises(RefusedError):
        Asked(url, token=token).decide()


def test_without_a_members_token_nobody_is_a_member(url: str) -> None:
    assert "who" in refusals(Asked(url, members="").decide())
    # GITHUB_TOKEN cannot read a team.
    assert "404" in refusals(Asked(url, members="job-token").decide())


def test_a_branch_that_edits_its_copy_of_the_matrix_changes_nothing(world: World, url: str) -> None:
    world.heads["evil"] = "b" * 40
    world.matrix(
        MATRIX.replace("octo/admins", "octo/everybody") + "  - {source: dev, target: production, when: manual}\n",
        "evil",
    )
    world.attempt(1, head_branch="evil", actor="alice")
    asked = Asked(url, target="production", confirm="production", ref="refs/heads/evil")
    found = refusals(asked.decide())
    assert "lists no restore from dev to production" in found
    assert "not the default branch" in found


def test_a_run_from_a_branch_or_tag_may_not_restore(world: World, url: str) -> None:
    for ref, name in (("refs/heads/topic", "topic"), ("refs/tags/v1", "v1"), ("refs/tags/main", "main")):
        world.attempt(1, head_branch=name)
        assert "not the default branch" in refusals(Asked(url, ref=ref).decide())


SPACES = ("production", "staging", "dev", "preview")
BY_HAND = {("production", "production"), ("dev", "preview"), ("production", "staging"), ("dev", "dev")}


@pytest.mark.parametrize("source", SPACES)
@pytest.mark.parametrize("target", SPACES)
def test_by_hand_only_the_listed_pairs(url: str, source: str, target: str) -> None:
    decision = Asked(
        url, source=source, target=target, confirm=target, backup_id=f"{source}_20261122T191653Z_daily"
    ).decide()
    assert decision.allowed is ((source, target) in BY_HAND), decision.refusals


@pytest.mark.parametrize("source", SPACES)
@pytest.mark.parametrize("target", SPACES)
def test_unattended_only_the_listed_pairs(world: World, url: str, source: str, target: str) -> None:
    world.attempt(1, event="schedule", actor="bob", triggering_actor="bob")
    decision = nightly(url, source=source, target=target, backup_id=f"{source}_20261122T191653Z_daily").decide()
    assert decision.allowed is ((source, target) in {("production", "staging"), ("dev", "dev")}), decision.refusals


@pytest.mark.parametrize(
    "trick", ["Preview", "PREVIEW", " preview", "preview ", "preview\n", "pre\u200bview", "ｐreview", "preview\x00", ""]
)
def test_case_and_white_space_tricks_name_no_space(url: str, trick: str) -> None:
    assert not Asked(url, target=trick, confirm=trick).decide().allowed
    assert "confirm" in refusals(Asked(url, confirm=trick).decide())


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
    decision = Asked(url, backup_id=backup_id).decide()
    assert not decision.allowed
    assert all(check.sentence.isprintable() and len(check.sentence) < 500 for check in decision.checks)


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
    assert not Asked(url, event=event).decide().allowed


def test_claiming_another_event_differs_from_the_record(world: World, url: str) -> None:
    world.attempt(1, event="push", actor="bob", triggering_actor="bob")
    assert "differ in: event" in refusals(nightly(url).decide())
    assert "differ in: event" in refusals(Asked(url, actor="bob", triggering_actor="bob").decide())


def test_another_repository_or_attempt_than_the_record_is_refused(world: World, url: str) -> None:
    world.attempt(1, repository={"full_name": "mallory/app"})
    assert "repository" in refusals(Asked(url).decide())
    world.attempt(1, run_attempt=2)
    assert "attempt" in refusals(Asked(url).decide())
    world.attempt(1, id=7002)
    assert "understood" in refusals(Asked(url).decide())
    assert "404" in refusals(Asked(url, attempt=9).decide())


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
    assert sentence in refusals(Asked(url).decide())


def test_protected_branches_only_is_no_limit_to_the_default_branch(world: World, url: str) -> None:
    policy = {"protected_branches": True, "custom_branch_policies": False}
    world.environments["preview-restore"]["deployment_branch_policy"] = policy
    assert "not limited" in refusals(Asked(url).decide())


@pytest.mark.parametrize(
    "authorized_at",
    [
        "2026-11-22T18:59:00+00:00",
        "2026-11-22T20:30:00+00:00",
        "2026-11-22T20:00:00",
        "now",
        "9999-99-99",
        "0",
        "x" * 9999,
    ],
)
def test_an_authorization_that_is_old_forged_or_from_the_future_is_none(url: str, authorized_at: str) -> None:
    assert "age" in refusals(Asked(url, authorized_at=authorized_at).decide())


def test_a_caller_that_skips_the_reusable_workflow_is_decided_on_all_the_same(world: World, url: str) -> None:
    assert Asked(url, authorized_at="").decide().allowed
    world.teams["octo", "admins"].clear()
    assert not Asked(url, authorized_at="").decide().allowed


@pytest.mark.parametrize(
    "variable",
    ["FAC_BACKUP_MATRIX", "FAC_BACKUP_WHO", "FAC_BACKUP_ALLOWED", "FAC_BACKUP_ENVIRONMENT", "FAC_BACKUP_UNATTENDED",
     "FAC_BACKUP_SKIP_CHECKS", "GITHUB_ACTIONS", "CI", "PYTHONPATH"],
)  # fmt: skip
def test_no_variable_turns_a_check_off(world: World, url: str, variable: str) -> None:
    world.teams["octo", "admins"].clear()
    for value in ("", "0", "false", "true", "/tmp/evil.yml"):
        assert not Asked(url, env={variable: value}).decide().allowed


@pytest.mark.parametrize("missing", ["GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT"])
@pytest.mark.parametrize("value", ["", "0", "-1", "../x", "1\n2"])
def test_a_run_that_does_not_say_what_it_is_is_none(url: str, missing: str, value: str) -> None:
    with pytest.raises(UsageError):
        Asked(url, env={missing: value}).decide()


def test_the_matrix_says_where_it_came_from(world: World, url: str) -> None:
    found = matrix_of_run(Asked(url).environment())
    assert found.origin == f"action-matrix.yml of octo/app, branch main, commit {'a' * 40}"
    assert found.commit == "a" * 40


def test_a_matrix_for_other_repositories_is_none_for_this_one(world: World, url: str) -> None:
    world.matrix(MATRIX + "repositories: [octo/other]\n")
    assert "not for the repository" in refusals(Asked(url).decide())


@pytest.mark.parametrize(("login", "passes"), [("carol", True), ("alice", False), ("", False)])
def test_an_approval_by_somebody_else_can_stand_for_the_team(world: World, url: str, login: str, passes: bool) -> None:
    world.matrix(MATRIX.replace("{team: octo/admins}", "environment"))
    if login:
        world.approve("preview-restore", login)
    assert Asked(url, members="").decide().allowed is passes


def test_a_rejection_or_another_environments_approval_does_not_count(world: World, url: str) -> None:
    world.matrix(MATRIX.replace("{team: octo/admins}", "environment"))
    world.approve("staging-restore", "carol")
    world.approve("preview-restore", "carol", "rejected")
    assert not Asked(url, members="").decide().allowed
    world.fault("approvals", "garbage")
    assert not Asked(url, members="").decide().allowed


def test_named_users_may_and_others_may_not(world: World, url: str) -> None:
    world.matrix(MATRIX.replace("{team: octo/admins}", "{users: [Alice]}"))
    assert Asked(url, members="").decide().allowed
    world.attempt(1, actor="carol", triggering_actor="carol")
    assert not Asked(url, actor="carol", triggering_actor="carol", members="").decide().allowed


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
    decision = asked.decide()
    assert decision.allowed is passes, decision.checks


def test_a_backup_needs_nobody_and_a_pre_deploy_backup_its_ref(world: World, url: str) -> None:
    common: dict[str, Any] = {"operation": "backup", "space": "production", "source": "", "target": "", "confirm": "",
                              "backup_id": "", "actor": "mallory", "triggering_actor": "mallory"}  # fmt: skip
    world.attempt(1, event="push", actor="mallory", triggering_actor="mallory")
    assert Asked(url, kind="daily", event="push", **common).decide().allowed
    world.attempt(1, event="push", actor="mallory", triggering_actor="mallory", head_branch="topic")
    asked = Asked(url, kind="pre-deploy", event="push", ref="refs/heads/topic", **common)
    assert "ref" in refusals(asked.decide())


def test_no_token_is_in_what_is_said(world: World, url: str) -> None:
    world.teams["octo", "admins"].clear()
    decision = Asked(url).decide()
    assert not any("job-token" in check.sentence for check in decision.checks)
