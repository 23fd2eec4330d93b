"""The daily example under act in ``mode: task``: inside the spaces of a Cloud Foundry, unbound at the end."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tools import bundle

from tests.integration.test_cloudfoundry_cycle import SPACE, Stage, fill
from tests.support.act import ROOT, Act
from tests.support.cloudfoundry import Binding, CloudFoundry
from tests.support.cloudfoundry.fac import APP, ORG, build
from tests.support.cloudfoundry.fixtures import s3_users  # noqa: F401
from tests.support.github_api import World
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

SPACES = ("production", "staging", "dev")
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
MATRIX = """\
version: 1
who: {{team: octo/admins}}
cloud_foundry: {{api: "{api}", organization: {org}, app: {app}, python: "{python}", restart: rolling}}
spaces:{spaces}
paths:
  - {{source: production, target: staging, when: [unattended, manual]}}
  - {{source: dev, target: dev, when: [unattended, manual], undo: none}}
"""


def example() -> str:
    """The example, with ``mode: task`` and one service account for all spaces: act has no environments."""
    text = (ROOT / "examples/workflows/daily.yml").read_text()
    text = text.replace("    with:\n", "    with:\n      mode: task\n      task-memory-mb: 512\n")
    lines = []
    for line in text.splitlines():
        if line.strip().startswith("secrets: inherit"):
            line = "    secrets:\n" + "\n".join(
                f"      {name}: ${{{{ secrets.{name} }}}}" for name in ("CF_USERNAME", "CF_PASSWORD")
            )
        lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.fixture
def stage(
    s3_users: S3Server, pg15: PostgresServer, act: Act, world: World, tmp_path: object  # noqa: F811
) -> Iterator[Stage]:  # fmt: skip
    with CloudFoundry(s3_users) as cloud:
        fac = build(cloud, s3_users, pg15, SPACES)
        spaces = "".join(SPACE.format(name=name) for name in SPACES)
        matrix = MATRIX.format(api=cloud.address, org=ORG, app=APP, python=PYTHON, spaces=spaces)
        folder = act.folder / "by-hand"
        folder.mkdir()
        (folder / "action-matrix.yml").write_text(matrix)
        world.matrix(matrix)
        world.files[world.heads["main"], "sql/after.sql"] = b"COMMENT ON TABLE audits IS 'restored'"
        made = Stage(cloud, fac, s3_users, folder, act.library / "dist")
        for space in SPACES:
            fill(made, space)
            made.direct(space, "adopt", "--space", space, "--confirm", space)
        yield made
        for url in fac.databases.values():
            name = url.rpartition("/")[2]
            pg15.execute("postgres", f'DROP DATABASE "{name}" WITH (FORCE)', f'DROP ROLE "{name}_owner"')


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_night_the_spaces_are_worked_on_by_tasks_and_nothing_stays_bound(
    act: Act, world: World, api: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.act.TIMEOUT", 600)  # twelve jobs, each with an environment of its own
    try:
        bundle.build(PYTHON, act.library / "dist")
    except subprocess.CalledProcessError:
        pytest.skip("the locked wheels cannot be downloaded here")
    world.attempt(1, event="schedule", actor="bob", triggering_actor="bob", path=".github/workflows/daily.yml")
    before = {space: (stage.rows(space), stage.documents(space)) for space in SPACES}
    stage.tables[:] = [f"before\n{stage.table()}"]
    act.workflow("daily.yml", example())
    secrets = {"CF_USERNAME": str(stage.fac.user.name), "CF_PASSWORD": stage.fac.user.password}
    with stage.watched("the run"):
        ran = act.run("daily.yml", event="schedule", api=api, secrets=secrets, actor="bob")
    assert ran.passed, ran.log()
    after = {space: (stage.rows(space), stage.documents(space)) for space in SPACES}
    assert after == before | {"staging": before["production"]}
    assert stage.cloud.world.temporary() == []
    assert len([task for task in stage.cloud.world.tasks if task.state == "SUCCEEDED"]) == 4
    assert stage.fac.user.password not in ran.log()
    stage.tables.append(f"after\n{stage.table()}")

    # What a killed run leaves, the hourly sweep takes away.
    left = Binding("fac-backup-source-dead", "key", stage.fac.instances["staging"]["backups"], None, state="succeeded")
    left.labels = {"fac-backup-run": "dead", "fac-backup-until": "20200101T000000Z"}
    stage.cloud.world.bindings.append(left)
    app = stage.fac.apps["staging"]
    app.state, app.labels = "STOPPED", dict(left.labels)
    hourly = (ROOT / "examples/workflows/sweep.yml").read_text()
    act.workflow("sweep.yml", re.sub(r"space: \[.*\]", "space: [staging]", hourly))
    world.attempt(1, event="schedule", actor="bob", triggering_actor="bob", path=".github/workflows/sweep.yml")
    swept = act.run("sweep.yml", event="schedule", api=api, secrets=secrets, actor="bob")
    assert swept.passed, swept.log()
    assert (left in stage.cloud.world.bindings, app.state, app.labels) == (False, "STARTED", {})
    assert "2 leftovers put right in 1 space" in swept.summary()

    before_it, *during, after_it = stage.tables
    for what in ("task  production", "task  staging", "key   production  backups", "lock  staging", "lock  production"):
        assert any(what in table for table in during), what
        assert what not in before_it + after_it
    print(*stage.tables, sep="\n\n")
