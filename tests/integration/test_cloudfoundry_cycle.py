"""The daily procedure in spaces: production's task backs up, staging's task restores from it, nothing stays bound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.support.cloudfoundry import CloudFoundry, Fault
from tests.support.cloudfoundry.fac import APP, ORG, Fac, build
from tests.support.cloudfoundry.fixtures import s3_users  # noqa: F401
from tests.support.cloudfoundry.small_bundle import write
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

SPACE = """
  {name}:
    store: {name}
    binding: ephemeral
    instances:
      database: fac-db
      documents: {{private: fac-private-s3, public: fac-public-s3}}
      backups: backups
"""
MATRIX = """
version: 1
time_zone: America/New_York
repositories: [fac/fac]
who: {{team: fac/admins}}
cloud_foundry: {{api: "{api}", organization: {org}, app: {app}}}
spaces:{spaces}
paths:
  - {{source: production, target: staging, when: [unattended, manual]}}
  - {{source: production, target: preview, when: [unattended, manual]}}
"""
SPACES = ("production", "staging", "preview")


@dataclass
class Stage:
    """The stand-in, the databases, and the command line on a runner."""

    cloud: CloudFoundry
    fac: Fac
    s3: S3Server
    folder: Path
    bundles: Path
    tables: list[str] = field(default_factory=list)

    def task(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run ``fac-backup`` in mode: task; its JSON document."""
        return self._run(words, code, {
            "FAC_BACKUP_MODE": "task", "FAC_BACKUP_CF_USERNAME": str(self.fac.user.name),
            "FAC_BACKUP_CF_PASSWORD": self.fac.user.password, "FAC_BACKUP_BUNDLES": str(self.bundles),
            "FAC_BACKUP_TASK_MEMORY_MB": "512", "FAC_BACKUP_RUN_URL": "https://github.com/fac/fac/actions/runs/1",
        })  # fmt: skip

    def direct(self, space: str, *words: str) -> dict[str, Any]:
        """Run it where everything can be reached, by plain variables."""
        there = self.fac.instances[space]
        documents = " ".join(f"{label}=s3://{there[f'fac-{label}-s3'].bucket}" for label in ("private", "public"))
        return self._run(words, 0, self.s3.env() | {
            "DATABASE_URL": self.fac.databases[space], "FAC_BACKUP_DOCUMENTS": documents,
            "FAC_BACKUP_BUCKET": f"s3://{there['backups'].bucket}",
            "FAC_BACKUP_SOURCE_BUCKET": f"s3://{self.fac.instances['production']['backups'].bucket}",
        })  # fmt: skip

    def _run(self, words: tuple[str, ...], code: int, env: dict[str, str]) -> dict[str, Any]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FAC_BACKUP", "GITHUB"))
        }
        done = subprocess.run(
            [sys.executable, "-m", "fac_backup", *words, "--json"], cwd=self.folder, env=kept | env,
            capture_output=True, text=True, check=False, timeout=250,
        )  # fmt: skip
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        secrets = [key for binding in self.cloud.world.bindings for key in _secrets(binding.credentials)]
        assert all(secret not in done.stdout + done.stderr for secret in [self.fac.user.password, *secrets])
        self.tables.append(f"{' '.join(words)}\n{self.cloud.world.table()}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def rows(self, space: str) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.fac.databases[space])
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT id, report FROM audits ORDER BY id")
                return cursor.fetchall()
        finally:
            connection.close()

    def documents(self, space: str) -> dict[str, tuple[bytes, str, dict[str, str]]]:
        client, found = self.s3.client(), {}
        for label in ("private", "public"):
            bucket = self.fac.instances[space][f"fac-{label}-s3"].bucket
            for entry in client.list_objects_v2(Bucket=bucket).get("Contents", []):
                if not entry["Key"].startswith(".fac-backup/"):
                    got = client.get_object(Bucket=bucket, Key=entry["Key"])
                    found[f"{label}/{entry['Key']}"] = got["Body"].read(), got["ContentType"], got["Metadata"]
        return found


def _secrets(credentials: dict[str, Any]) -> list[str]:
    return [str(credentials[key]) for key in ("secret_access_key", "password") if key in credentials]


@pytest.fixture(scope="module")
def stage(
    s3_users: S3Server, pg15: PostgresServer, tmp_path_factory: pytest.TempPathFactory  # noqa: F811
) -> Iterator[Stage]:  # fmt: skip
    with CloudFoundry(s3_users) as cloud:
        fac = build(cloud, s3_users, pg15, SPACES)
        folder, bundles = tmp_path_factory.mktemp("runner"), tmp_path_factory.mktemp("dist")
        spaces = "".join(SPACE.format(name=name) for name in SPACES)
        (folder / "action-matrix.yml").write_text(MATRIX.format(api=cloud.address, org=ORG, app=APP, spaces=spaces))
        write(bundles, real=True)
        made = Stage(cloud, fac, s3_users, folder, bundles)
        for space in SPACES:
            fill(made, space)
            made.direct(space, "adopt", "--space", space, "--confirm", space)
        yield made
        for url in fac.databases.values():
            name = url.rpartition("/")[2]
            pg15.execute("postgres", f'DROP DATABASE "{name}" WITH (FORCE)', f'DROP ROLE "{name}_owner"')


def fill(stage: Stage, space: str) -> None:
    connection = psycopg2.connect(stage.fac.databases[space])
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE audits (id int PRIMARY KEY, report text)")
        cursor.execute("INSERT INTO audits SELECT n, %s || n FROM generate_series(1, 500) n", (f"{space} ",))
    connection.close()
    for label in ("private", "public"):
        for number in range(3):
            stage.s3.client().put_object(
                Bucket=stage.fac.instances[space][f"fac-{label}-s3"].bucket, Key=f"{space} {number}+ü.pdf",
                Body=f"{space} {label} {number}".encode(), ContentType="application/x-fac", Metadata={"n": str(number)},
            )  # fmt: skip


@pytest.mark.slow
def test_production_is_backed_up_by_its_task_and_staging_and_preview_become_equal(stage: Stage) -> None:
    def during(_: int) -> None:
        stage.tables.append(f"during {stage.cloud.world.tasks[-1].name}\n{stage.cloud.world.table()}")

    stage.cloud.faults = [Fault(during, match="GET /v3/tasks/")]
    made = stage.task("backup", "--space", "production", "--kind", "daily")
    backup_id = made["backup_id"]
    assert stage.cloud.world.temporary() == []

    stage.cloud.faults = [Fault(during, match="GET /v3/tasks/")]
    words = ("restore", "--source", "production", "--backup-id", backup_id)
    restored = stage.task(*words, "--target", "staging", "--confirm", "staging")
    assert restored["undo_id"].startswith("staging_")
    assert stage.cloud.world.temporary() == []
    stage.direct("preview", *words, "--target", "preview", "--confirm", "preview")

    assert stage.rows("staging") == stage.rows("preview") == stage.rows("production")
    assert stage.documents("staging") == stage.documents("preview") == stage.documents("production")
    assert len(stage.documents("staging")) == 6
    listed = stage.task("list", "--space", "production")
    assert backup_id in json.dumps(listed)
    assert stage.cloud.world.temporary() == []
    for app in stage.fac.apps.values():  # no process of an app ever had the backups
        assert all(entry["name"] != "backups" for started in app.started_with for entry in started["s3"])
    # the key of production's store never entered a task of staging, not even in its environment
    for task in stage.cloud.world.tasks:
        owned = stage.fac.instances[str(task.app.space.name)]
        given = json.loads(task.environment["VCAP_SERVICES"])["s3"]
        assert {entry["credentials"]["bucket"] for entry in given} <= {i.bucket for i in owned.values()}
    assert "fac-backup-source-" in next(
        table for table in stage.tables if table.startswith("during fac-backup-restore")
    )
    print("\n\n".join(stage.tables))


@pytest.mark.slow
def test_a_backup_that_does_not_exist_is_exit_code_4_from_inside_the_task(stage: Stage) -> None:
    told = stage.task("restore", "--source", "production", "--target", "staging", "--confirm", "staging",
                      "--backup-id", "production_20200101T000000Z_daily", code=4)  # fmt: skip
    assert "error" in told
    assert stage.cloud.world.temporary() == []


@pytest.mark.slow
def test_a_path_that_the_matrix_does_not_list_is_refused_before_anything_is_bound(stage: Stage) -> None:
    stage.cloud.calls.clear()
    stage.task("restore", "--source", "staging", "--target", "production", "--confirm", "production",
               "--backup-id", "staging_20200101T000000Z_daily", code=3)  # fmt: skip
    assert stage.cloud.calls == []


@pytest.mark.slow
def test_sweep_goes_through_all_spaces(stage: Stage) -> None:
    assert stage.task("sweep")["removed"] == []
