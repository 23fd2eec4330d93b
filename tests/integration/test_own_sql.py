"""SQL of the team's own around a restore: before the swap, after it, from the matrix and from a terminal."""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.github_api import Token, World, serve
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import MATRIX, Space
from tests.unit.hosting.world import Asked

EXAMPLE = Path(__file__).parents[2] / "examples" / "sql" / "sanitise.sql"
BEFORE = "UPDATE parent SET name = 'somebody'; INSERT INTO child (parent_id, note) SELECT id, '100 %' FROM parent;"
AFTER = "CREATE TABLE IF NOT EXISTS told (n int); INSERT INTO told SELECT count(*) FROM parent WHERE name = 'somebody'"
NAMED = MATRIX % {"dev": ", after_restore: sql/after.sql"}
NAMED = NAMED.replace("when: [manual, unattended]", "when: [manual, unattended], before_swap: sql/sanitise.sql")


@pytest.fixture(params=[True, False], ids=["beside", "in place"])
def space(
    request: pytest.FixtureRequest, pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str
) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique, createdb=request.param).fill(children=100, documents=3)
    yield made
    made.close()


def beside_the_matrix(space: Space, before: str = BEFORE, after: str = AFTER) -> None:
    """The matrix names two files, which lie beside it."""
    space.matrix.write_text(NAMED)
    (space.folder / "sql").mkdir(exist_ok=True)
    (space.folder / "sql" / "sanitise.sql").write_text(before)
    (space.folder / "sql" / "after.sql").write_text(after)


def test_a_paths_sql_runs_before_the_swap_and_a_spaces_after_it_and_an_undo_runs_only_the_latter(space: Space) -> None:
    space.sql(
        "CREATE TABLE auth_user (id int, username text, first_name text, last_name text, email text, password text)",
        "INSERT INTO auth_user VALUES (7, 'jane', 'Jane', 'Doe', 'jane@example.gov', 'pbkdf2_sha256$1$x$y')",
        "CREATE TABLE django_session (session_key text); INSERT INTO django_session VALUES ('secret')",
    )
    backup_id = space.backup()
    beside_the_matrix(space, before=EXAMPLE.read_text() + BEFORE)
    plan = space.restore(backup_id, "--dry-run")
    assert plan.code == 0, plan.err
    done = space.restore(backup_id)
    assert done.code == 0, done.err
    assert space.value("SELECT count(*) FROM parent WHERE name = 'somebody'") == 20
    assert space.value("SELECT u::text FROM auth_user u") == '(7,user7,"","",user7@example.invalid,!)'
    assert space.value("SELECT count(*) FROM django_session") == 0
    assert space.value("SELECT n FROM told") == 20, "what came before the swap was there when this ran"

    undone = space.restore(done.json["undo_id"])
    assert undone.code == 0, undone.err
    assert space.value("SELECT count(*) FROM parent WHERE name LIKE 'parent %'") == 20
    assert space.value("SELECT n FROM told") == 0

    # The database beside is no way round: what must be sanitised before it serves must not stand there as it was.
    if space.createdb:
        assert space.restore(backup_id, "--beside", f"{space.unique}_look", "--only", "public.parent").code == 0
        space.url, own = f"{space.url}_look", space.url
        assert space.value("SELECT count(*) FROM parent WHERE name <> 'somebody'") == 0
        space.url = own


def test_what_fails_before_the_swap_changes_nothing_and_what_fails_after_it_is_told(space: Space) -> None:
    backup_id = space.backup()
    space.sql("UPDATE parent SET name = 'newer'")
    before = space.state()
    beside_the_matrix(space, before="UPDATE parent SET name = 'x'; SELECT 1 / 0")
    done = space.restore(backup_id)
    assert (done.code, space.state()) == (1, before)
    assert "division by zero" in done.last
    assert "as before" in done.last
    (space.folder / "sql" / "sanitise.sql").unlink()
    done = space.restore(backup_id)
    assert (done.code, space.state()) == (2, before)
    assert "sql/sanitise.sql, which is not in the folder" in done.last

    beside_the_matrix(space, after="DROP TABLE child CASCADE; GRANT SELECT ON parent TO nobody_of_this_name")
    done = space.restore(backup_id)
    assert done.code == 7
    assert "dev was restored, but" in done.last
    assert "undefined object" in done.last
    assert done.json["undo_id"]
    assert space.value("SELECT count(*) FROM child") == 120, "that SQL is one transaction"
    assert space.value("SELECT count(*) FROM parent WHERE name = 'somebody'") == 20
    assert not space.stored("journal/")
    assert space.restore(done.json["undo_id"], "--dry-run").code == 0


@pytest.mark.parametrize("space", [True], indirect=True, ids=["beside"])
def test_a_command_before_the_swap_gets_the_new_databases_address_and_nothing_in_its_arguments(space: Space) -> None:
    backup_id = space.backup()
    space.sql("UPDATE parent SET name = 'newer'")
    program = space.folder / "sanitise.py"
    program.write_text(
        "import os, sys, psycopg2\n"
        "assert not [n for n in os.environ if n.startswith(('FAC_BACKUP', 'VCAP'))], 'an address of the old one'\n"
        "one, other = psycopg2.connect(os.environ['DATABASE_URL']), psycopg2.connect('')\n"
        "assert one.info.dbname == other.info.dbname\n"
        "print('::error::' + one.info.dbname[-9:-4], sys.argv[1:])\n"
        "with one, one.cursor() as c: c.execute(\"UPDATE parent SET name = 'by a program'\")\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    command = f"{sys.executable} {program} "
    services = {"VCAP_SERVICES": "{}"}
    done = space.restore(backup_id, "--before-swap-command", "no-such-program 1")
    assert (done.code, space.stored("journal/")) == (2, []), "noticed before anything begins"
    assert "no-such-program" in done.last
    done = space.restore(backup_id, "--before-swap-command", command + "3", env=services)
    assert done.code == 1
    assert "failed (exit code 3)" in done.last
    assert space.value("SELECT max(name) FROM parent") == "newer"
    done = space.restore(backup_id, "--before-swap-command", command + "0", env=services)
    assert done.code == 0, done.err
    assert space.value("SELECT max(name) FROM parent") == "by a program"
    assert "['0']" in done.err


@pytest.mark.parametrize("space", [False], indirect=True, ids=["in place"])
def test_a_killed_restore_is_resumed_only_with_the_sql_that_it_ran(space: Space) -> None:
    backup_id = space.backup()
    waits = space.folder / "waits.sql"
    waits.write_text("SELECT pg_sleep(60); " + BEFORE)
    process = space.start("restore", "--source", "dev", "--target", "dev", "--backup-id", backup_id, "--confirm",
                          "dev", "--before-swap-sql", str(waits))  # fmt: skip
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND datname LIKE '{}%'"
    there = Space.__new__(Space)
    there.url = space.pg.url("postgres")
    while there.value(asleep.format(space.unique)) == 0 and process.poll() is None:
        pass
    process.kill()
    process.communicate()
    for holder in space.run("unlock", "--space", "dev", "--json").json["holders"]:
        space.run("unlock", "--space", "dev", "--owner", holder["token"])
    resume = ("restore", "--target", "dev", "--resume", "--confirm", "dev", "--json")
    other = space.folder / "other.sql"
    other.write_text(BEFORE)
    for wrong in ((), ("--before-swap-sql", str(other)), ("--before-swap-command", "true")):
        refused = space.run(*resume, *wrong)
        assert refused.code == 3, refused.err
        assert "other SQL, or another command" in refused.last
    assert space.stored("journal/")

    # Begun anew as a whole, it needs no such thing: nothing of the killed one is taken up.
    done = space.restore(backup_id, "--before-swap-sql", str(other))
    assert done.code == 0, done.err
    assert space.value("SELECT count(*) FROM parent WHERE name = 'somebody'") == 20
    assert not space.stored("journal/")


@pytest.mark.parametrize("space", [True], indirect=True, ids=["beside"])
def test_inside_actions_the_sql_is_that_of_the_default_branch_and_no_option_chooses_another(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_id = space.backup()
    beside_the_matrix(space, before="UPDATE parent SET name = 'of the checked-out tree'")
    (space.folder / "action-matrix.yml").write_text(NAMED)
    monkeypatch.chdir(space.folder)
    world = World()
    world.tokens["members"] = Token(permissions={"metadata"})
    world.matrix(NAMED)
    world.files["a" * 40, "sql/sanitise.sql"] = BEFORE.encode()
    world.files["a" * 40, "sql/after.sql"] = AFTER.encode()
    world.environment("dev-restore", branches=["main"])
    world.attempt(1)
    world.approve("dev-restore", "carol")
    keys = {
        "access_key_id": space.s3.access_key,
        "secret_access_key": space.s3.secret_key,
        "endpoint": space.s3.endpoint,
    }
    places = {
        "database-url": space.url, "bucket": f"s3://{space.backups}", "bucket-credentials": json.dumps(keys),
        "documents": f"uploads=s3://{space.documents}", "documents-credentials": json.dumps(keys),
    }  # fmt: skip
    with serve(world) as url:
        asked = Asked(url, source="dev", target="dev", backup_id=backup_id, confirm="dev", env={"PATH": "/usr/bin"})
        done = asked.step(space.folder, places)
        assert done.code == 0, done.log
        assert space.value("SELECT count(*) FROM parent WHERE name = 'somebody'") == 20
        assert space.value("SELECT n FROM told") == 20
        assert "sql/sanitise.sql, sha256" in html.unescape(done.summary).replace("\u200b", "")

        del world.files["a" * 40, "sql/sanitise.sql"]
        done = asked.step(space.folder, places)
        assert done.code == 2
        assert "which is not in the commit" in done.log
        asked.env["FAC_BACKUP_BEFORE_SWAP_SQL"] = str(space.folder / "sql" / "sanitise.sql")
        assert asked.step(space.folder, places).code == 2, "the action sets it, empty"
        env = asked.environment() | {"GITHUB_ACTIONS": "true", "FAC_BACKUP_MATRIX": "", "PATH": "/usr/bin"}
        for option in ("--before-swap-sql", "--before-swap-command"):
            refused = space.restore(backup_id, option, "x.sql", env=env)
            assert refused.code == 2, refused.err
            assert "refused inside GitHub Actions" in refused.err
