"""The composite actions as a stranger's repository uses them: no matrix, one job, real servers behind."""

from __future__ import annotations

import json

import psycopg2
import pytest

from tests.e2e.spaces import Space
from tests.support.act import Act
from tests.support.github_api import World

ONE_JOB = """\
name: Back up
on: [workflow_dispatch, schedule]
permissions: {contents: read, actions: read}
jobs:
  backup:
    runs-on: ubuntu-latest
    steps:
      - id: backup
        uses: fac/backup-actions/backup@v1
        with:
          kind: manual
          note: "::error::not a command <img src=x> [link](https://example.com)"
          database-url: ${{ secrets.DATABASE_URL }}
          bucket: ${{ secrets.BUCKET }}
          bucket-credentials: ${{ secrets.BUCKET_CREDENTIALS }}
          documents: ${{ secrets.DOCUMENTS }}
          documents-credentials: ${{ secrets.DOCUMENTS_CREDENTIALS }}
      - id: list
        uses: fac/backup-actions/actions/list@v1
        with:
          kind: manual
          max-age-hours: 1
          bucket: ${{ secrets.BUCKET }}
          bucket-credentials: ${{ secrets.BUCKET_CREDENTIALS }}
      - id: purge
        uses: fac/backup-actions/purge@v1
        with:
          dry-run: true
          bucket: ${{ secrets.BUCKET }}
          bucket-credentials: ${{ secrets.BUCKET_CREDENTIALS }}
      - id: nothing
        continue-on-error: true
        uses: fac/backup-actions/restore@v1
        with:
          source: default
          target: default
          confirm: default
          backup-id: ${{ steps.backup.outputs.backup-id }}
          database-url: ${{ secrets.DATABASE_URL }}
          bucket: ${{ secrets.BUCKET }}
          bucket-credentials: ${{ secrets.BUCKET_CREDENTIALS }}
          documents: ${{ secrets.DOCUMENTS }}
          documents-credentials: ${{ secrets.DOCUMENTS_CREDENTIALS }}
"""


HOSTILE = "pwned <img src=x> [x](https://example.com) | @admins"


@pytest.fixture
def stranger(world: World) -> World:
    world.files.clear()
    return world


def test_a_stranger_backs_up_lists_and_plans_a_purge_without_a_matrix(
    act: Act, stranger: World, api: str, unmarked: Space
) -> None:
    space = unmarked
    # A key and a table that would be commands of the runner, Markdown and HTML.
    space.s3.client().put_object(
        Bucket=space.documents, Key=f"\n::error::{HOSTILE}", Body=b"x", ContentType="text/plain"
    )
    with psycopg2.connect(space.url) as connection, connection.cursor() as cursor:
        cursor.execute(f'CREATE TABLE "::error::{HOSTILE}" AS SELECT 1 AS "##[error]{HOSTILE}"')
    connection.close()
    before = space.fingerprint()
    act.workflow("backup.yml", ONE_JOB)
    ran = act.run("backup.yml", api=api, secrets=space.secrets())
    assert ran.passed, ran.log()

    backup = ran.outputs("backup")
    assert backup["exit-code"] == "0"
    assert backup["backup-id"].startswith("default_")
    assert backup["backup-id"].endswith("_manual")
    assert backup["documents-count"] == "6"
    assert int(backup["database-bytes"]) > 0
    assert f"all/default/catalog/{backup['backup-id']}.json" in space.stored()

    assert ran.outputs("list")["backup-id"] == backup["backup-id"]
    assert ran.outputs("purge")["exit-code"] == "0"
    refused = ran.outputs("nothing")
    assert refused["exit-code"] == "3"
    assert json.loads(refused["result"])["exit_code"] == 3
    assert space.fingerprint() == before

    assert backup["backup-id"].replace("_", "&#95;") in ran.summary() or backup["backup-id"] in ran.summary()
    assert "<img" not in ran.summary()
    assert "pwned" not in ran.summary(), "in a public repository no document's key"
    assert not [line for line in ran.lines if line.get("command") == "error" and "pwned" in str(line)]
    for secret in (space.s3.secret_key, space.url, space.documents, space.backups):
        assert secret not in ran.log(), "nothing secret, no bucket and no host in a log"
        assert secret not in ran.summary()
