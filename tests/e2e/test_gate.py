"""Whole workflows under act: a member restores; one attack of each group is refused, nothing read or changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.spaces import Space
from tests.support.act import ROOT, Act, Ran
from tests.support.github_api import World
from tests.unit.hosting.world import MATRIX, Asked

FORM = """\
name: Restore
on: {workflow_dispatch: {inputs: {source: , target: , backup-id: , confirm: }}}
permissions: {}
jobs:
  restore:
    permissions: {actions: read, contents: read}
    uses: fac/backup-actions/.github/workflows/restore.yml@v1
    with:
      source: ${{ inputs.source }}
      target: ${{ inputs.target }}
      backup-id: ${{ inputs.backup-id }}
      confirm: ${{ inputs.confirm }}
      members-client-id: Iv23li
    secrets: inherit
"""

STEP = """\
name: Restore
on: {workflow_dispatch: {inputs: {source: , target: , backup-id: , confirm: }}}
permissions: {actions: read, contents: read}
jobs:
  restore:
    runs-on: ubuntu-latest
    env:
      GITHUB_ACTIONS: ""
      GITHUB_ACTOR: alice
      FAC_BACKUP_MATRIX: /tmp/evil.yml
      FAC_BACKUP_DEBUG: "true"
    steps:
      - shell: bash
        run: |
          mkdir -p evil/fac_backup
          echo 'open("EVIL", "w").close()' | tee evil/sitecustomize.py evil/fac_backup/__init__.py evil/boto3.py
          echo 'touch EVIL' > evil/bashenv
          printf '#!/bin/sh\\ntouch EVIL\\n' | tee evil/python3 evil/python3.11 evil/pg_restore evil/env evil/dirname
          chmod +x evil/python3 evil/python3.11 evil/pg_restore evil/env evil/dirname
          {
            echo "PYTHONPATH=$PWD/evil"
            echo "BASH_ENV=$PWD/evil/bashenv"
            echo "FAC_BACKUP_AUTHORIZED_AT=2999-01-01T00:00:00+00:00"
            echo "FAC_BACKUP_ALLOWED=true"
            echo "FAC_BACKUP_WHO=users"
          } >> "$GITHUB_ENV"
          echo "$PWD/evil" >> "$GITHUB_PATH"
      - id: work
        uses: fac/backup-actions/restore@v1
        with:
          source: ${{ inputs.source }}
          target: ${{ inputs.target }}
          backup-id: ${{ inputs.backup-id }}
          confirm: ${{ inputs.confirm }}
          authorized-at: ${{ secrets.NOW }}
          database-url: ${{ secrets.DATABASE_URL }}
          bucket: ${{ secrets.BUCKET }}
          bucket-credentials: ${{ secrets.BUCKET_CREDENTIALS }}
          documents: ${{ secrets.DOCUMENTS }}
          documents-credentials: ${{ secrets.DOCUMENTS_CREDENTIALS }}
          members-token: ${{ secrets.MEMBERS_APP_KEY }}
      - if: always()
        name: What is here
        shell: bash --noprofile --norc -e {0}
        env:
          BASH_ENV: ""
        run: /bin/ls -a
"""


@dataclass
class Restores:
    """A backup of dev, and the form that restores it into preview."""

    act: Act
    world: World
    api: str
    spaces: dict[str, Space]
    backup_id: str

    def __post_init__(self) -> None:
        self.target = self.spaces["preview"]
        self.before = self.target.fingerprint()
        self.stored = self.target.stored()

    def start(
        self,
        form: str = FORM,
        *,
        fields: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
        **run: Any,
    ) -> Ran:
        """Fill in the form and run it. By default it is right, and alice, who is a member, starts it."""
        filled = {"source": "dev", "target": "preview", "backup-id": self.backup_id, "confirm": "preview"}
        self.act.workflow("restore.yml", form)
        given = self.target.secrets() | {"MEMBERS_APP_KEY": "members"} | (secrets or {})
        return self.act.run("restore.yml", api=self.api, inputs=filled | (fields or {}), secrets=given, **run)

    def nothing_happened(self) -> None:
        """The target is as before, and so is the store, but for lines of the audit."""
        assert self.target.fingerprint() == self.before
        assert [key for key in self.target.stored() if key not in self.stored and "/audit/" not in key] == []


@pytest.fixture(scope="module")
def made(spaces: dict[str, Space]) -> str:
    """The id of a backup of dev."""
    return str(spaces["dev"].fac_backup("backup", "--space", "dev", "--kind", "daily")["backup_id"])


@pytest.fixture
def restores(act: Act, world: World, api: str, spaces: dict[str, Space], made: str) -> Restores:
    return Restores(act, world, api, spaces, made)


def test_a_member_restores_by_hand_and_can_undo_it(restores: Restores) -> None:
    ran = restores.start()
    assert ran.passed, ran.log()
    assert restores.target.fingerprint() == restores.spaces["dev"].fingerprint()
    outputs = ran.outputs("work")
    assert outputs["exit-code"] == "0"
    assert outputs["backup-id"] == restores.backup_id
    assert outputs["undo-id"].startswith("preview_")
    assert outputs["undo-id"].endswith("_pre-restore")
    assert "action&#45;matrix&#46;yml of octo/app" in ran.summary("May this run")
    for secret in (restores.target.url, restores.target.s3.secret_key, restores.target.documents):
        assert secret not in ran.log()
    undone = restores.start(fields={"source": "preview", "backup-id": outputs["undo-id"]})
    assert undone.passed, undone.log()
    assert restores.target.fingerprint() == restores.before


@pytest.mark.parametrize(
    ("fields", "actor", "fault", "reason"),
    [
        ({}, "mallory", "", "mallory is not a member"),
        ({"backup-id": "$(touch EVIL); `touch EVIL` ${{ github.token }}"}, "alice", "", "is not a backup id"),
        ({}, "alice", "garbage", "could not be understood"),
    ],
)
def test_authorize_refuses_and_the_job_with_the_secrets_never_starts(
    restores: Restores, fields: dict[str, str], actor: str, fault: str, reason: str
) -> None:
    restores.world.attempt(1, actor=actor, triggering_actor=actor)
    if fault:
        restores.world.fault("attempts", fault)
    ran = restores.start(fields=fields, actor=actor)
    assert not ran.passed
    assert list(ran.jobs().values()) == ["failure"]
    decision = ran.outputs("decide")
    assert (decision["exit-code"], decision["allowed"], decision["environment"]) == ("3", "false", "")
    assert reason in " ".join(one["sentence"] for one in json.loads(decision["result"])["checks"])
    assert "This run may not" in ran.summary()
    restores.nothing_happened()


def test_a_branch_that_edits_its_copy_of_the_matrix_is_refused(restores: Restores) -> None:
    restores.world.attempt(1, head_branch="topic")
    (restores.act.consumer / "action-matrix.yml").write_text("version: 1\nwho: {users: [mallory]}\nspaces: {dev: }\n")
    ran = restores.start(env={"GITHUB_REF": "refs/heads/topic", "GITHUB_REF_NAME": "topic"})
    assert "which is not the default branch" in ran.log()
    assert list(ran.jobs().values()) == ["failure"]
    restores.nothing_happened()


def test_a_member_removed_after_authorize_is_refused_by_the_step(restores: Restores) -> None:
    # Actor and triggering actor are one person, so the second question is the working job's.
    restores.world.fault_after(1, "memberships", "404")
    ran = restores.start()
    assert sorted(ran.jobs().values()) == ["failure", "success"]
    assert ran.outputs("work")["exit-code"] == "3"
    restores.nothing_happened()


def test_production_pasted_into_anothers_environment_is_refused(restores: Restores) -> None:
    production = restores.spaces["production"]
    was = production.fingerprint()
    ran = restores.start(secrets={"DATABASE_URL": production.url})
    assert ran.outputs("work")["exit-code"] == "3"
    assert "is marked as production" in ran.log()
    assert production.fingerprint() == was
    restores.nothing_happened()


@pytest.mark.parametrize(
    ("attempt", "login", "reason"),
    [(1, "bob", "Another run made this backup"), (2, "carol", "this one was not made by this run")],
)
def test_a_scheduled_run_restores_no_backup_of_another_run(
    world: World, api: str, spaces: dict[str, Space], tmp_path: Path, attempt: int, login: str, reason: str
) -> None:
    # Against the Python step, with real servers behind it: who made the backup stands in its manifest.
    made = str(spaces["production"].fac_backup("backup", "--space", "production", "--kind", "manual")["backup_id"])
    world.attempt(attempt, event="schedule", actor="bob", triggering_actor=login)
    staging = spaces["staging"]
    before, stored = staging.fingerprint(), staging.stored()
    asked = Asked(
        api, source="production", target="staging", backup_id=made, confirm="", authorized_at="",
        event="schedule", actor="bob", triggering_actor=login, attempt=attempt,
    )  # fmt: skip
    places = {name.lower().replace("_", "-"): value for name, value in staging.secrets().items()}
    ran = asked.step(tmp_path, places)
    assert ran.code == 3, ran.log
    assert reason in ran.reasons()
    assert staging.fingerprint() == before
    assert staging.stored() == stored


@pytest.mark.slow
def test_the_example_of_a_deployment_complains_about_an_old_daily_and_stops_without_a_backup(
    act: Act, world: World, api: str, spaces: dict[str, Space]
) -> None:
    world.matrix(MATRIX + "refs: {pre-deploy: ['refs/tags/v*']}\n")
    act.workflow("deploy.yml", (ROOT / "examples/workflows/deploy.yml").read_text())
    tag = {"GITHUB_REF": "refs/tags/v1.2", "GITHUB_REF_NAME": "v1.2", "GITHUB_REF_TYPE": "tag"}
    # A deployment is started by whoever deploys, a member or not.
    world.attempt(1, event="push", head_branch="v1.2", actor="mallory", triggering_actor="mallory")
    for reachable in (True, False):
        secrets = spaces["production"].secrets()
        if not reachable:
            secrets["DATABASE_URL"] = "postgres://app:app@127.0.0.1:1/app"
        ran = act.run("deploy.yml", event="push", api=api, secrets=secrets, env=tag, actor="mallory")
        assert ran.passed is reachable, ran.log()
        assert ("To go back, restore production_" in ran.log()) is reachable
        assert ("There is no daily backup of production" in ran.log()) is reachable


def test_a_caller_with_a_job_of_its_own_can_switch_nothing_off_and_forge_nothing(restores: Restores) -> None:
    # A re-run by mallory of alice's run, with a fresh `authorized-at`: as when only the failed job is re-run.
    restores.world.attempt(2, actor="alice", triggering_actor="mallory")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    ran = restores.start(STEP, secrets={"NOW": now}, triggering_actor="mallory", attempt=2)
    assert not ran.passed
    assert ran.outputs("work")["exit-code"] == "3"
    assert "The actor alice is an active member" in ran.summary()
    assert "The triggering actor mallory is not a member" in ran.log()
    assert "Traceback" not in ran.log()
    files = " ".join(str(line.get("msg")) for line in ran.lines if line.get("step") == "What is here").split()
    assert "evil" in files
    assert "EVIL" not in files
    restores.nothing_happened()
