"""docs/operations.md, executed as written: each situation is brought about, its lines are run, and it must be cured."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import FAC_BACKUP, Space

RUNBOOK = Path(__file__).parents[2] / "docs" / "operations.md"


def blocks(situation: str) -> list[str]:
    """The ``sh`` blocks below one heading, in order."""
    _, _, rest = RUNBOOK.read_text().partition(f"\n## {situation}\n")
    assert rest, f"the runbook has no heading {situation!r}"
    section = rest.split("\n## ", 1)[0]
    return [re.sub(r"^ {3}", "", block, flags=re.M) for block in re.findall(r"```sh\n(.*?)\n *```", section, re.S)]


def carry_out(space: Space, situation: str, **more: str) -> str:
    """Run all blocks of a situation in one shell, as somebody does who copies them one after the other."""
    script = "\n".join(blocks(situation))
    env = space.env(more)
    del env["FAC_BACKUP_MATRIX"]
    env["PATH"] = f"{Path(FAC_BACKUP).parent}:{env['PATH']}"
    (space.folder / "action-matrix.yml").write_text(space.matrix.read_text())
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=env, cwd=space.folder, text=True, capture_output=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique).fill(children=200, documents=6)
    yield made
    made.close()
    pg18.execute("postgres", "DROP DATABASE IF EXISTS dev_yesterday WITH (FORCE)")


def test_a_bad_deployment_is_taken_back(space: Space) -> None:
    before = space.state()
    space.backup("pre-deploy")
    space.sql("ALTER TABLE parent DROP COLUMN name CASCADE")
    carry_out(space, "Bad deployment half an hour ago")
    assert space.state() == before


def _until_the_next_second() -> None:
    """A backup's moment is told to the second, and `--before now` means before this one."""
    time.sleep(1 - time.time() % 1)


def test_deleted_uploads_come_back_and_the_undo_takes_them_away_again(space: Space) -> None:
    before = space.state()
    space.backup()
    _until_the_next_second()
    client = space.s3.client()
    for key in before[1]:
        client.delete_object(Bucket=space.documents, Key=key)
    carry_out(space, "Somebody deleted uploads")
    assert space.state() == before
    carry_out(space, "To undo a restore")
    assert space.all_documents() == {}


def test_wrong_data_is_looked_at_beside_todays(space: Space) -> None:
    space.backup()
    space.sql("UPDATE parent SET name = 'wrong'")
    before = space.state()
    carry_out(space, "The data is wrong")
    assert space.state() == before


def test_a_database_that_is_gone_comes_back(space: Space) -> None:
    before = space.state()
    space.backup()
    space.pg.execute("postgres", f'DROP DATABASE "{space.unique}" WITH (FORCE)')
    space.pg.create_database(space.unique)
    carry_out(space, "Database gone")
    assert space.state() == before


def test_after_leaked_credentials_the_newest_backup_is_verified_and_held(space: Space) -> None:
    backup_id = space.backup()
    carry_out(space, "Bucket credentials leaked")
    assert space.stored(f"holds/{backup_id}")


def test_a_killed_restore_is_resumed(space: Space) -> None:
    before = space.state()
    backup_id = space.backup()
    space.sql("DELETE FROM child")
    process = space.start("restore", "--source", "dev", "--target", "dev", "--backup-id", backup_id, "--confirm", "dev")
    while not space.stored("journal/") and process.poll() is None:
        pass
    process.kill()
    process.communicate()
    for holder in space.run("unlock", "--space", "dev", "--json").json["holders"]:
        space.run("unlock", "--space", "dev", "--owner", holder["token"])
    if space.stored("journal/"):
        carry_out(space, "A restore was cancelled")
    assert space.state() == before


def test_exit_code_7_is_cured_as_the_runbook_says(
    pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str
) -> None:
    space = Space(pg18, s3, tmp_path, unique, createdb=False).fill(children=200, documents=6)
    before = space.state()
    backup_id = space.backup()
    space.sql("DELETE FROM child")
    # In place, the old database is gone when the SQL before the end runs. It waits for as long as this session lives,
    # and fails; meanwhile nobody may connect any more, so that nothing can be put back either.
    holding = psycopg2.connect(space.url.rpartition("/")[0] + "/postgres", application_name=f"hold {unique}")
    (space.folder / "slow.sql").write_text(
        "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity"
        f" WHERE application_name = 'hold {unique}') LOOP PERFORM pg_sleep(0.1);"
        " PERFORM pg_stat_clear_snapshot(); END LOOP;"
        " IF NOT (SELECT rolcanlogin FROM pg_roles WHERE rolname = current_user) THEN"
        " RAISE EXCEPTION 'no'; END IF; END $$"
    )
    process = space.start(
        "restore", "--source", "dev", "--target", "dev", "--backup-id", backup_id, "--confirm", "dev",
        "--before-swap-sql", "slow.sql",
    )  # fmt: skip
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %hold {unique}%'"
    holding.autocommit = True  # what a transaction has seen of pg_stat_activity it sees until its end
    with holding.cursor() as cursor:
        cursor.execute(waiting)
        while cursor.fetchone() == (0,) and process.poll() is None:
            cursor.execute(waiting)
    pg18.execute("postgres", f'ALTER ROLE "{unique}_owner" NOLOGIN')
    holding.close()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 7, err
    last = err.strip().splitlines()[-1]
    assert "--resume" in last
    assert "pre-restore" in last, "the undo is named"
    assert "with the same SQL" in last
    pg18.execute("postgres", f'ALTER ROLE "{unique}_owner" LOGIN')
    assert "restored" in carry_out(space, "Exit code 7", FAC_BACKUP_BEFORE_SWAP_SQL="slow.sql")
    assert space.state() == before
    space.close()


def test_the_age_of_the_newest_backup_is_asked(space: Space) -> None:
    space.backup()
    assert "dev_" in carry_out(space, "Cron is red")


@pytest.mark.parametrize("code", range(1, 8))
def test_every_exit_code_has_its_heading(code: int) -> None:
    assert f"\n## Exit code {code}\n" in RUNBOOK.read_text()
