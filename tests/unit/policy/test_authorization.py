from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fac_backup.policy.authorization import (
    Approval,
    Decision,
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
    decide,
    needs,
)
from fac_backup.policy.matrix import DEFAULT, Matrix, load
from tests.policy_oracle import fac_matrix

FAC = fac_matrix()
RUN = Run(
    inside_actions=True,
    repository="GSA-TTS/FAC",
    event="workflow_dispatch",
    attempt=1,
    actor="ann",
    triggering_actor="ann",
    ref="refs/heads/main",
    default_branch="main",
    workflow_path=".github/workflows/restore.yml",
)
REQUEST = Request("restore", source="dev", target="preview", backup_id="dev_20261122T040000Z_daily", confirm="preview")
GUARDED = Environment("preview-restore", True, True)


def recorded(run: Run) -> Record:
    branch = run.ref.split("/", 2)[-1]
    return Record(run.repository, run.event, run.attempt, run.actor, run.triggering_actor, branch)


def by_hand(request: Request = REQUEST, run: Run = RUN, **changes: object) -> Facts:
    facts = Facts(
        request, run, record=recorded(run), memberships={"ann": Membership.MEMBER}, environment=GUARDED,
        approvals=(Approval(f"{request.target}-restore", "ann", True),), started_seconds_ago=90.0,
    )  # fmt: skip
    return replace(facts, **changes)  # type: ignore[arg-type]


def why(facts: Facts, matrix: Matrix = FAC) -> dict[str, str]:
    """Name and sentence of what was refused."""
    decision = decide(facts, matrix)
    assert decision.allowed is (not decision.refusals)
    return {check.name: check.sentence for check in decision.refusals}


def test_a_members_restore_is_allowed_and_every_check_is_in_the_result():
    decision = decide(by_hand(), FAC)
    assert decision.allowed
    assert [check.name for check in decision.checks] == [
        "operation",
        "repository",
        "record",
        "source",
        "target",
        "path",
        "backup id",
        "confirm",
        "event",
        "ref",
        "who: actor",
        "who: triggering actor",
        "environment",
        "approval",
        "age",
    ]
    assert (decision.environment, decision.mode, decision.identity_checked) == ("preview-restore", "manual", True)
    assert not decision.unattended
    assert decision.pre_restore


def test_checks_that_pass_stand_beside_the_one_that_does_not():
    decision = decide(by_hand(replace(REQUEST, confirm="prewiev")), FAC)
    assert [check.name for check in decision.refusals] == ["confirm"]
    assert len(decision.checks) == 15


@pytest.mark.parametrize("answer", [answer for answer in Membership if answer is not Membership.MEMBER])
def test_every_answer_but_member_is_refused_with_its_own_sentence(answer: Membership):
    said = {
        other: why(by_hand(memberships={"ann": other}))["who: actor"]
        for other in Membership
        if other is not Membership.MEMBER
    }
    assert sum(sentence == said[answer] for sentence in said.values()) == 1


def test_a_404_says_both_things_that_it_can_mean():
    said = why(by_hand(memberships={"ann": Membership.NOT_FOUND}))["who: actor"]
    assert "not a member" in said
    assert "token may not see" in said


def test_a_members_run_that_somebody_else_ran_again_is_refused():
    run = replace(RUN, attempt=2, triggering_actor="mallory")
    facts = by_hand(run=run, memberships={"ann": Membership.MEMBER, "mallory": Membership.NOT_FOUND})
    assert list(why(facts)) == ["who: triggering actor"]


def test_a_member_may_run_a_members_run_again():
    run = replace(RUN, attempt=2, triggering_actor="Bob")
    assert not why(by_hand(run=run, memberships={"ann": Membership.MEMBER, "bob": Membership.MEMBER}))


@pytest.mark.parametrize("actor", ["deploy[bot]", "github-actions[bot]", "an n", "ann\n", "\u212aim", "-ann", "a" * 40])
def test_a_bot_and_what_is_no_user_name_are_refused_whatever_github_says(actor: str):
    run = replace(RUN, actor=actor)
    assert list(why(by_hand(run=run, memberships={"ann": Membership.MEMBER, actor: Membership.MEMBER}))) == [
        "who: actor"
    ]


def test_an_empty_triggering_actor_is_refused():
    refused = why(by_hand(run=replace(RUN, triggering_actor="")))
    assert set(refused) == {"record", "who: triggering actor"}


@pytest.mark.parametrize(
    "change",
    [
        {"event": "push"},
        {"attempt": 2},
        {"actor": "eve"},
        {"triggering_actor": "eve"},
        {"head_branch": "feature"},
        {"repository": "eve/FAC"},
    ],
)
def test_a_difference_from_githubs_record_is_refused(change: dict[str, object]):
    assert list(why(by_hand(record=replace(recorded(RUN), **change)))) == ["record"]  # type: ignore[arg-type]


@pytest.mark.parametrize("trouble", list(Trouble))
def test_a_record_or_an_environment_that_cannot_be_read_is_refused(trouble: Trouble):
    assert list(why(by_hand(record=trouble))) == ["record"]
    assert list(why(by_hand(environment=trouble))) == ["environment"]
    assert list(why(by_hand(approvals=trouble))) == ["approval"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (Environment("preview-restore", False, True), "has no required reviewers"),
        (Environment("preview-restore", True, False), "not limited to the default branch"),
        (Environment("preview", True, True), "not of preview-restore"),
    ],
)
def test_an_environment_that_does_not_guard_is_refused(environment: Environment, expected: str):
    assert expected in why(by_hand(environment=environment))["environment"]


@pytest.mark.parametrize(
    "approvals",
    [
        (),
        (Approval("preview", "bob", True),),
        (Approval("preview-restore", "bob", False),),
        (Approval("preview-restore", "approver[bot]", True),),
    ],
)
def test_a_job_that_no_reviewer_let_into_its_environment_is_refused_whoever_started_it(approvals: object):
    assert list(why(by_hand(approvals=approvals))) == ["approval"]
    assert decide(by_hand(approvals=Trouble.NOT_ASKED, stage=Stage.AUTHORIZE), FAC).allowed


def test_a_rejection_of_an_earlier_attempt_does_not_outlive_it():
    run = replace(RUN, attempt=2)
    reviews = (Approval("preview-restore", "bob", False), Approval("Preview-Restore", "bob", True))
    assert not why(by_hand(run=run, approvals=reviews))


@pytest.mark.parametrize("event", ["push", "pull_request_target", "workflow_run", "repository_dispatch", "issues", ""])
def test_only_a_dispatch_form_carries_what_a_person_typed(event: str):
    run = replace(RUN, event=event)
    assert list(why(by_hand(run=run))) == ["event"]


def test_a_branch_is_refused_unless_the_matrix_allows_it():
    run = replace(RUN, ref="refs/heads/hotfix-1")
    assert list(why(by_hand(run=run))) == ["ref"]
    allowing = FAC.model_copy(update={"refs": FAC.refs.model_copy(update={"manual": ("refs/heads/hotfix-*",)})})
    assert not why(by_hand(run=run), allowing)
    nested = replace(RUN, ref="refs/heads/hotfix-1/x")
    assert list(why(by_hand(run=nested), allowing)) == ["ref"]
    assert list(why(by_hand(run=replace(RUN, default_branch="")))) == ["ref"]


@pytest.mark.parametrize("confirm", ["", "Preview", "preview ", " preview", "prev\u200biew", "dev", "yes"])
def test_a_confirmation_is_the_targets_name_to_the_letter(confirm: str):
    assert list(why(by_hand(replace(REQUEST, confirm=confirm)))) == ["confirm"]


@pytest.mark.parametrize(
    "backup_id",
    [
        "",
        "latest",
        "LATEST ",
        "production_20261122T040000Z_daily",
        "dev_20261122T040000Z_daily ",
        "dev_20261122T040000Z_daily\n",
        "dev_20261322T040000Z_daily",
        "../dev_20261122T040000Z_daily",
        "dev_20261122T040000Z_$(id)",
        "${{ secrets.X }}",
        "dev_20261122T040000Z_daily::warning::",
        "x" * 10_000,
    ],
)
def test_a_backup_id_is_one_of_the_source_and_nothing_else(backup_id: str):
    refused = why(by_hand(replace(REQUEST, backup_id=backup_id)))
    assert list(refused) == ["backup id"]
    assert len(refused["backup id"]) < 300
    assert "\n" not in refused["backup id"]


@pytest.mark.parametrize(
    ("source", "target"), [("Dev", "preview"), ("dev ", "preview"), ("dev", "PREVIEW"), ("", "preview"), ("dev", "")]
)
def test_case_and_white_space_tricks_are_refused(source: str, target: str):
    assert why(by_hand(replace(REQUEST, source=source, target=target, confirm=target)))


def test_a_fork_with_a_copy_of_the_matrix_is_refused():
    run = replace(RUN, repository="eve/FAC")
    assert list(why(by_hand(run=run))) == ["repository"]


@pytest.mark.parametrize(("age", "allowed"), [(None, True), (0, True), (3600, True), (3601, False), (-3600, False)])
@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_an_authorization_older_than_an_hour_is_none(age: float | None, allowed: bool, bad: float | None):
    assert decide(by_hand(authorized_seconds_ago=age), FAC).allowed is allowed
    if bad is not None:
        assert list(why(by_hand(authorized_seconds_ago=bad))) == ["age"]


@pytest.mark.parametrize("started", [None, 3601.0, 86400.0, -3600.0, float("nan"), float("inf")])
def test_where_no_job_authorized_it_a_run_that_began_over_an_hour_ago_is_refused(started: float | None):
    assert list(why(by_hand(started_seconds_ago=started))) == ["age"]
    assert not why(by_hand(started_seconds_ago=started, authorized_seconds_ago=60.0))
    # What a schedule began is finished whenever a member re-runs it: every fact is asked for anew then.
    assert decide(again(started_seconds_ago=started), FAC).allowed
    assert decide(unattended(started_seconds_ago=started), FAC).allowed


def test_a_later_stage_of_shards_may_take_hours_but_no_longer_than_an_authorization_that_is_given():
    stage = replace(REQUEST, continued=True)
    assert not why(by_hand(stage, started_seconds_ago=20_000.0))
    assert list(why(by_hand(stage, authorized_seconds_ago=20_000.0))) == ["age"]
    assert "who: actor" in why(by_hand(stage, started_seconds_ago=20_000.0, memberships={}))


# Unattended, and finished by hand.

NIGHTLY = replace(RUN, event="schedule", actor="whoever", triggering_actor="whoever")
REFRESH = Request("restore", source="production", target="staging", backup_id="production_20261122T040000Z_daily")


def unattended(run: Run = NIGHTLY, request: Request = REFRESH, **changes: object) -> Facts:
    facts = Facts(request, run, record=recorded(run), made_by_this_run=True)
    return replace(facts, **changes)  # type: ignore[arg-type]


def test_a_scheduled_run_refreshes_staging_with_nobody_checked():
    decision = decide(unattended(), FAC)
    assert decision.allowed
    assert (decision.environment, decision.mode, decision.identity_checked) == ("staging", "unattended", False)


def test_unattended_only_this_runs_own_backup_is_restored():
    assert list(why(unattended(made_by_this_run=False))) == ["own backup"]
    assert list(why(unattended(made_by_this_run=None))) == ["own backup"]
    assert list(why(unattended(request=replace(REFRESH, backup_id="")))) == ["backup id"]


def test_before_the_backup_exists_authorize_lets_the_daily_run_begin():
    waiting = unattended(request=replace(REFRESH, backup_id=""), stage=Stage.AUTHORIZE, made_by_this_run=None)
    assert decide(waiting, FAC).allowed


def test_unattended_nothing_goes_into_production():
    request = replace(REFRESH, target="production")
    assert "path" in why(unattended(request=request))
    listed = load(
        "version: 1\nwho: {users: [ann]}\nspaces: {production: {protected: true}}\n"
        "paths: [{source: production, target: production, when: [unattended, manual]}]"
    )
    assert list(why(unattended(request=request), listed)) == ["protected"]


AGAIN = replace(NIGHTLY, attempt=2, triggering_actor="ann")
FAILED = FirstAttempt("production", "staging", REFRESH.backup_id, failed=True)


def again(**changes: object) -> Facts:
    return replace(unattended(AGAIN, memberships={"ann": Membership.MEMBER}, first_attempt=FAILED), **changes)  # type: ignore[arg-type]


def test_a_member_finishes_a_failed_daily_run_in_the_unattended_environment_without_confirming():
    decision = decide(again(), FAC)
    assert decision.allowed
    assert (decision.environment, decision.mode, decision.identity_checked) == ("staging", "finish", True)


@pytest.mark.parametrize(
    "changes",
    [
        {"memberships": {"ann": Membership.NOT_FOUND}},
        {"memberships": {"whoever": Membership.MEMBER}},
        {"first_attempt": replace(FAILED, failed=False)},
        {"first_attempt": replace(FAILED, target="preview")},
        {"first_attempt": replace(FAILED, backup_id="production_20261121T040000Z_daily")},
        {"first_attempt": replace(FAILED, backup_id=""), "made_by_this_run": False},
        {"first_attempt": Trouble.NOT_ASKED},
        {"first_attempt": Trouble.SERVER_ERROR, "stage": Stage.AUTHORIZE},
    ],
)
def test_anything_else_that_a_rerun_of_a_daily_run_wants_is_refused(changes: dict[str, object]):
    assert why(again(**changes))


def test_a_rerun_after_a_failed_backup_may_restore_the_backup_that_it_made_itself():
    assert decide(again(first_attempt=replace(FAILED, backup_id="")), FAC).allowed


def test_a_scheduled_rerun_cannot_pass_as_a_restore_by_hand():
    recovery = Request(
        "restore", source="production", target="production", backup_id=REFRESH.backup_id, confirm="production"
    )
    assert {"path", "first attempt"} <= set(why(again(request=recovery)))


def test_a_schedule_cannot_resume_a_restore():
    assert "event" in why(unattended(request=replace(REFRESH, resume=True)))


def test_a_member_resumes_a_killed_restore_by_naming_and_confirming_its_target():
    request = Request("restore", target="preview", confirm="preview", resume=True)
    assert not why(by_hand(request))
    assert "who: actor" in why(by_hand(request, memberships={}))
    assert list(why(by_hand(replace(request, confirm="")))) == ["confirm"]
    assert list(why(by_hand(replace(request, source="production")))) == ["path"]


# Undo.


def test_a_pre_restore_backup_is_put_back_by_hand_wherever_a_restore_can_go():
    for space in FAC.spaces:
        request = Request(
            "restore", source=space, target=space, backup_id=f"{space}_20261122T040000Z_pre-restore", confirm=space
        )
        assert decide(by_hand(request, environment=Environment(f"{space}-restore", True, True)), FAC).allowed


def test_undo_is_for_pre_restore_backups_only_where_the_matrix_lists_no_such_path():
    request = Request(
        "restore", source="staging", target="staging", backup_id="staging_20261122T040000Z_manual", confirm="staging"
    )
    facts = by_hand(request, environment=Environment("staging-restore", True, True))
    assert list(why(facts)) == ["backup id"]


def test_what_is_no_target_has_nothing_to_undo():
    matrix = load(
        "version: 1\nwho: {users: [ann]}\nspaces: {a: {}, b: {}}\npaths: [{source: a, target: b, when: manual}]"
    )
    request = Request("restore", source="a", target="a", backup_id="a_20261122T040000Z_pre-restore", confirm="a")
    assert list(why(by_hand(request, environment=Environment("a-restore", True, True)), matrix)) == ["path"]


# Outside Actions.


def test_outside_actions_no_identity_is_checked_and_that_is_said():
    outside = Facts(REQUEST, Run())
    decision = decide(outside, FAC)
    assert decision.allowed
    assert (decision.mode, decision.identity_checked) == ("outside", False)
    assert any("no identity was checked" in check.sentence for check in decision.checks)


def test_outside_actions_paths_ids_and_confirmation_hold():
    for change in ({"confirm": ""}, {"target": "production", "confirm": "production"}, {"backup_id": "latest"}):
        assert why(Facts(replace(REQUEST, **change), Run()))  # type: ignore[arg-type]


# Who: users, approvals.

APPROVALS = load(
    "version: 1\nwho: environment\nspaces: {dev: {}, preview: {}}\n"
    "paths: [{source: dev, target: preview, when: manual}]"
)
APPROVED = (Approval("preview-restore", "bob", True),)


def test_users_of_the_matrix_are_who_they_are_in_any_case_and_nobody_else():
    matrix = APPROVALS.model_copy(update={"who": load("version: 1\nwho: {users: [Ann]}\nspaces: {a: }").who})
    assert not why(by_hand(memberships={}), matrix)
    assert list(why(by_hand(run=replace(RUN, actor="eve")), matrix)) == ["who: actor"]


def test_somebody_elses_approval_lets_a_run_pass():
    assert not why(by_hand(approvals=APPROVED), APPROVALS)


@pytest.mark.parametrize(
    "approvals",
    [
        (),
        (Approval("preview-restore", "ANN", True),),
        (Approval("preview", "bob", True),),
        (Approval("preview-restore", "helper[bot]", True),),
        (Approval("preview-restore", "bob", False),),
        (*APPROVED, Approval("preview-restore", "carl", False)),
        *Trouble,
    ],
)
def test_no_approval_ones_own_a_rejection_or_an_unreadable_one_is_refused(approvals: object):
    assert list(why(by_hand(approvals=approvals), APPROVALS)) == ["who: approval"]


def test_an_approval_of_an_earlier_attempt_is_none():
    run = replace(RUN, attempt=2)
    assert list(why(by_hand(run=run, approvals=APPROVED), APPROVALS)) == ["who: approval"]


def test_before_the_job_waits_for_its_approval_authorize_lets_it_begin():
    waiting = by_hand(stage=Stage.AUTHORIZE, approvals=Trouble.NOT_ASKED)
    assert decide(waiting, APPROVALS).allowed


def test_where_approvals_are_who_every_guarded_operation_needs_a_guarded_environment():
    request = Request("adopt", space="preview")
    assert not why(by_hand(request, approvals=APPROVED), APPROVALS)
    assert list(why(by_hand(request, approvals=APPROVED, environment=Trouble.NOT_FOUND), APPROVALS)) == ["environment"]


# The other operations.


@pytest.mark.parametrize("operation", ["adopt", "unlock", "import", "export"])
def test_what_changes_stores_and_markers_needs_a_member(operation: str):
    request = Request(operation, space="dev")
    assert not why(by_hand(request))
    assert "who: actor" in why(by_hand(request, memberships={}))


def test_holding_is_free_and_releasing_needs_a_member():
    assert not why(by_hand(Request("hold", space="dev"), memberships={}))
    assert "who: actor" in why(by_hand(Request("hold", space="dev", release=True), memberships={}))


def test_a_rerun_of_a_failed_daily_purge_is_a_members_and_stays_in_the_unattended_environment():
    decision = decide(again(request=Request("purge", space="dev"), first_attempt=Trouble.NOT_ASKED), FAC)
    assert decision.allowed
    assert decision.environment == "dev"
    assert "who: triggering actor" in why(again(request=Request("purge", space="dev"), memberships={}))


def test_without_a_matrix_backups_and_lists_work_and_only_an_unattended_purge_deletes():
    assert not why(by_hand(Request("backup", space="default", kind="daily"), memberships={}), DEFAULT)
    assert not why(by_hand(Request("list", space="default"), memberships={}), DEFAULT)
    assert not why(unattended(request=Request("purge", space="default")), DEFAULT)
    assert list(why(by_hand(Request("purge", space="default")), DEFAULT)) == ["who"]
    assert not why(by_hand(Request("purge", space="default", dry_run=True)), DEFAULT)
    restore = Request(
        "restore", source="default", target="default", backup_id="default_20261122T040000Z_daily", confirm="default"
    )
    assert "path" in why(by_hand(restore), DEFAULT)
    assert "path" in why(Facts(restore, Run()), DEFAULT)


def test_pre_deploy_backups_are_made_where_deployments_run():
    request = Request("backup", space="production", kind="pre-deploy")
    for ref in ("refs/heads/main", "refs/tags/v1.20261122"):
        assert not why(by_hand(request, replace(RUN, event="push", ref=ref)))
    for ref in ("refs/heads/v1.0", "refs/tags/v2.0", "refs/tags/v1.0/x", "refs/pull/7/merge", ""):
        assert list(why(Facts(request, replace(RUN, event="push", ref=ref)))) == ["ref"]
    branch = replace(RUN, event="push", ref="refs/heads/feature")
    assert list(why(by_hand(request, branch))) == ["ref"]
    deploying = FAC.model_copy(update={"deployments": (".github/workflows/restore.yml",)})
    assert not why(by_hand(request, branch), deploying)


def test_a_pre_deploy_backup_does_not_wait_for_githubs_api():
    request = Request("backup", space="production", kind="pre-deploy")
    assert needs(request, RUN, FAC) == Needs(False, (), None, False, False, False)
    assert decide(Facts(request, RUN), FAC).allowed


def test_pre_restore_backups_are_not_made_by_hand():
    assert list(why(by_hand(Request("backup", space="dev", kind="pre-restore")))) == ["kind"]


def test_a_reserved_id_must_fit_the_backup_that_it_is_for():
    request = Request("backup", space="dev", kind="daily", backup_id="dev_20261122T040000Z_daily")
    assert not why(by_hand(request))
    assert list(why(by_hand(replace(request, kind="manual")))) == ["backup id"]


# What must be gathered.


def test_needs_names_what_a_restore_by_hand_rests_on():
    run = replace(RUN, triggering_actor="Bob")
    assert needs(REQUEST, run, FAC) == Needs(
        record=True,
        membership_of=("ann", "Bob"),
        environment="preview-restore",
        approvals=True,
        first_attempt=False,
        made_by_this_run=False,
    )
    assert needs(REQUEST, RUN, FAC).membership_of == ("ann",)
    assert needs(REQUEST, replace(RUN, actor="x[bot]"), FAC).membership_of == ("ann",)
    assert needs(REQUEST, RUN, APPROVALS).approvals
    assert not needs(REQUEST, RUN, APPROVALS, Stage.AUTHORIZE).approvals
    assert needs(REFRESH, NIGHTLY, FAC) == Needs(True, (), None, False, False, True)
    assert not needs(REQUEST, RUN, FAC, Stage.AUTHORIZE).approvals
    assert needs(REFRESH, AGAIN, FAC) == Needs(True, ("ann",), None, False, True, True)
    assert needs(REQUEST, Run(), FAC) == Needs(False, (), None, False, False, False)


TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "dev", "preview", "production", "ann", "latest", "main", "refs/heads/main", "schedule", "workflow_dispatch"]
)
REQUESTS = st.builds(
    Request,
    operation=st.sampled_from(["restore", "purge", "adopt", "hold", "backup", "sweep"]) | TEXTS,
    space=TEXTS,
    source=TEXTS,
    target=TEXTS,
    kind=TEXTS,
    backup_id=TEXTS,
    confirm=TEXTS,
    dry_run=st.booleans(),
    release=st.booleans(),
    resume=st.booleans(),
)
RUNS = st.builds(
    Run,
    inside_actions=st.booleans(),
    repository=TEXTS,
    event=TEXTS,
    attempt=st.integers(-1, 3),
    actor=TEXTS,
    triggering_actor=TEXTS,
    ref=TEXTS,
    default_branch=TEXTS,
    workflow_path=TEXTS,
)
TROUBLES = st.sampled_from(list(Trouble))


@settings(max_examples=120, deadline=None)
@given(
    REQUESTS,
    RUNS,
    st.sampled_from([FAC, APPROVALS, DEFAULT]),
    st.sampled_from(list(Stage)),
    st.none() | st.floats(),
)
def test_no_facts_make_a_traceback_and_what_was_not_gathered_never_lets_a_guarded_operation_pass(
    request_: Request, run: Run, matrix: Matrix, stage: Stage, age: float | None
):
    decision = decide(Facts(request_, run, stage, authorized_seconds_ago=age), matrix)
    assert isinstance(decision, Decision)
    assert all(check.sentence and "\n" not in check.sentence for check in decision.checks)
    asked = needs(request_, run, matrix, stage)
    if asked.record:
        assert not decision.allowed


def test_nobody_gets_in_by_asking_nothing_of_the_facts():
    # Each thing that `needs` names is one without which the answer is no.
    full = by_hand()
    assert decide(full, FAC).allowed
    for missing in (
        {"record": Trouble.NOT_ASKED}, {"memberships": {}}, {"environment": Trouble.NOT_ASKED},
        {"approvals": Trouble.NOT_ASKED}, {"started_seconds_ago": None},
    ):  # fmt: skip
        assert not decide(replace(full, **missing), FAC).allowed  # type: ignore[arg-type]
