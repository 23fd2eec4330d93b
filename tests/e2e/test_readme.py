"""README.md, done as written: its workflow backs up a Django project every day, and shows what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.act import ROOT, Act
from tests.support.django_project import Project
from tests.support.github_api import World
from tests.support.postgres import PostgresServer, bin_dir
from tests.support.s3 import S3Server

LIST = """\
on: workflow_dispatch
jobs:
  list:
    permissions: {actions: read, contents: read}
    uses: fac/backup-actions/.github/workflows/list.yml@v1
    with: {space: default}
    secrets: inherit
"""


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language, without the indent of a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", (ROOT / "README.md").read_text(), re.M | re.S)
    return [re.sub(f"^{indent}", "", text, flags=re.M) for indent, text in found]


@pytest.fixture
def project(pg18: PostgresServer, unique: str, tmp_path: Path) -> Iterator[Project]:
    made = Project(pg18.create_database(unique), tmp_path, tmp_path, bin_dir(18))
    made.manage("migrate", "--no-color", "-v0")
    yield made
    pg18.execute("postgres", f"DROP DATABASE IF EXISTS {unique} WITH (FORCE)")


def test_the_snippet_backs_up_a_django_project_every_day_and_the_list_keeps_a_page(
    act: Act, world: World, api: str, project: Project, s3: S3Server
) -> None:
    world.files.clear()  # no matrix
    uploads, backups = s3.bucket("uploads"), s3.bucket("backups")
    s3.client().put_object(Bucket=uploads, Key="reports/1.pdf", Body=b"%PDF")
    snippet, matrix = blocks("yaml")
    act.workflow("backup.yml", snippet.replace("my-app-uploads", uploads).replace("my-app-backups", backups))
    secrets = {
        "DATABASE_URL": project.database_url,
        "AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key,
    }  # fmt: skip
    endpoint = {"AWS_ENDPOINT_URL_S3": s3.endpoint}
    world.attempt(1, event="schedule")
    ran = act.run("backup.yml", event="schedule", api=api, secrets=secrets, env=endpoint)
    assert ran.passed, ran.log()
    made = ran.outputs("fac/backup-actions/backup@v1") or ran.outputs("Back up")
    assert re.fullmatch(r"default_\w+Z_daily", made["backup-id"])
    assert made["documents-count"] == "1"
    assert "add an action&#45;matrix" in ran.summary(), "the summary says what to do to be able to restore"
    assert "::group::" in ran.raw

    world.matrix(matrix)
    world.attempt(1, event="workflow_dispatch")
    act.workflow("list.yml", LIST)
    again = {"BUCKET": f"s3://{backups}", "BUCKET_CREDENTIALS": binding(s3)}
    ran = act.run("list.yml", api=api, secrets=again)
    assert ran.passed, ran.log()
    page = (act.artifacts / "backups-of-default" / "index.html").read_text(encoding="utf-8")
    assert made["backup-id"] in page
    assert backups not in page


def binding(s3: S3Server) -> str:
    """Credentials as JSON."""
    return (
        f'{{"access_key_id": "{s3.access_key}", "secret_access_key": "{s3.secret_key}", "region": "us-east-1", '
        f'"endpoint": "{s3.endpoint}"}}'
    )
