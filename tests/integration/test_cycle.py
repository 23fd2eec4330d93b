"""The whole cycle through the command line, on real servers: what each failure leaves, and that nothing is lost."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.support.faults import S3Front
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique).fill()
    yield made
    made.close()


@pytest.fixture
def in_place(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique, createdb=False).fill()
    yield made
    made.close()


def vandalize(space: Space) -> None:
    space.sql("UPDATE parent SET name = 'gone'", "DROP TABLE child CASCADE")
    client = space.s3.client()
    client.delete_object(Bucket=space.documents, Key="folder/0001.txt")
    space.put("folder/0002.txt", b"overwritten")
    space.put("folder/0003.txt", b"document 3" * 10, "text/other")
    space.put("extra.txt", b"extra")


def test_a_restore_brings_everything_back_and_its_undo_brings_back_what_it_replaced(space: Space) -> None:
    first = space.state()
    backup_id = space.backup()
    vandalize(space)
    vandalized = space.all_documents(), space.value("SELECT max(name) FROM parent")
    done = space.restore(backup_id)
    assert done.code == 0, done.err
    assert space.state() == first
    assert space.databases() == [space.unique], "no scratch database is left"
    analyzed = "SELECT count(*) FROM pg_stats WHERE tablename IN ('parent', 'child') AND attname = 'id'"
    assert space.value(analyzed) == 2, "the planner knows the new database"

    undo = ("--source", "dev", "--target", "dev", "--confirm", "dev", "--backup-id", done.json["undo_id"])
    undone = space.on_terminal("restore", *undo)
    assert undone.code == 0, undone.raw
    assert "Adding documents of upl…" in undone.words
    begun = r"\s+Database[ ━]* 0 B of \d"
    assert re.search(r"Backing up dev[^\n]*" + begun, undone.words), "as much as in the last backup is foreseen"
    screen = "\n".join(undone.screen())
    assert "dev was restored" in screen
    assert not any(left in screen for left in ("━", "Adding documents", "0 %")), "bars leave nothing behind"
    assert (space.all_documents(), space.value("SELECT max(name) FROM parent")) == vandalized


def test_a_role_without_createdb_restores_in_place(in_place: Space) -> None:
    first = in_place.state()
    backup_id = in_place.backup()
    vandalize(in_place)
    done = in_place.restore(backup_id)
    assert done.code == 0, done.err
    assert done.json["mode"] == "in-place"
    assert in_place.state() == first


@pytest.mark.parametrize("kind", ["space", "in_place"])
def test_sql_before_the_swap_that_fails_leaves_the_target_as_before(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    space: Space = request.getfixturevalue(kind)
    backup_id = space.backup()
    space.sql("UPDATE parent SET name = 'newer'")
    space.put("newer.txt", b"newer")
    before = space.state()
    sql = tmp_path / "wrong.sql"
    sql.write_text("UPDATE parent SET name = 'sanitised'; SELECT 1 / 0;")
    done = space.restore(backup_id, "--before-swap-sql", str(sql))
    assert done.code == 1
    assert "division by zero" in done.last
    assert "as before" in done.last
    assert space.state() == before
    assert space.databases() == [space.unique]
    assert not space.stored("journal/")


def test_sql_before_the_swap_changes_what_is_swapped_in(space: Space, tmp_path: Path) -> None:
    backup_id = space.backup()
    sql = tmp_path / "sanitise.sql"
    sql.write_text("UPDATE parent SET name = 'somebody'")
    assert space.restore(backup_id, "--before-swap-sql", str(sql)).code == 0
    assert space.value("SELECT count(*) FROM parent WHERE name <> 'somebody'") == 0


def test_a_second_backup_with_nothing_changed_uploads_next_to_nothing(space: Space) -> None:
    time.sleep(2.1)  # documents younger than two seconds are looked at once more by the next backup
    first = space.run("backup", "--space", "dev", "--kind", "daily", "--json").json
    second = space.run("backup", "--space", "dev", "--kind", "daily", "--json").json
    assert second["uploaded_documents_bytes"] * 100 < first["documents_bytes"]
    assert second["uploaded_bytes"] < first["uploaded_bytes"]


def test_a_backup_of_dev_restores_into_preview_and_no_marker_travels(
    space: Space, pg18: PostgresServer, s3: S3Server, tmp_path: Path
) -> None:
    backup_id = space.backup()
    preview = Space(pg18, s3, tmp_path, f"{space.unique}p", name="preview")
    try:
        preview.adopt()
        done = preview.restore(backup_id, source="dev", env={"FAC_BACKUP_SOURCE_BUCKET": f"s3://{space.backups}"})
        assert done.code == 0, done.err
        assert preview.state() == space.state()
        assert preview.value("SELECT space FROM fac_backup.marker") == "preview"
        assert not space.stored("pins/")
        assert not space.stored("journal/"), "nothing is written into the source's store but a pin"
    finally:
        preview.close()


BAD_INPUT: list[tuple[tuple[str, ...], int, str]] = [
    (("backup", "--space", "dve", "--kind", "daily"), 2, "dev"),
    (("backup", "--space", "dev", "--kind", "dialy"), 2, "daily"),
    (("backup", "--space", "dev", "--kind", "pre-restore"), 2, "manual"),
    (("restore", "--source", "dev", "--target", "dev", "--backup-id", "../dev", "--confirm", "dev"), 3, "id"),
    (("restore", "--source", "dev", "--target", "dev", "--backup-id", "dev_20200101T000000Z_daily",
      "--confirm", "dev"), 4, "no backup"),
    (("restore", "--source", "dev", "--target", "dev", "--backup-id", "preview_20200101T000000Z_daily",
      "--confirm", "dev"), 3, "preview"),
    (("restore", "--source", "dev", "--target", "dev", "--backup-id", "dev_20200101T000000Z_daily",
      "--confirm", "Dev"), 3, "confirm"),
    (("restore", "--source", "preview", "--target", "dev", "--backup-id", "preview_20200101T000000Z_daily",
      "--confirm", "dev"), 3, "lists no restore"),
    (("restore", "--source", "dev", "--target", "dev", "--backup-id", "latest", "--confirm", "dev"), 3, "id"),
    (("hold", "--space", "dev", "--backup-id", "dev_20200101T000000Z_daily"), 4, "no backup"),
    (("restore", "--target", "dev", "--resume", "--confirm", "dev"), 4, "nothing to resume"),
]  # fmt: skip


def test_bad_input_gets_one_line_and_its_exit_code(space: Space) -> None:
    before = space.state()
    for arguments, code, says in BAD_INPUT:
        done = space.run(*arguments)
        assert done.code == code, (arguments, done.err)
        assert says.lower() in done.last.lower(), arguments
        assert "Traceback" not in done.err
    assert space.state() == before


def test_a_restore_into_what_is_not_marked_or_marked_as_another_space_is_refused(space: Space) -> None:
    backup_id = space.backup()
    space.sql("UPDATE fac_backup.marker SET space = 'preview'")
    before = space.state()
    done = space.restore(backup_id)
    assert done.code == 3
    assert "preview" in done.last
    space.sql("DROP SCHEMA fac_backup CASCADE")
    done = space.restore(backup_id)
    assert done.code == 3
    assert "adopt" in done.last
    assert space.state()[1] == before[1]
    space.adopt()
    space.s3.client().delete_object(Bucket=space.documents, Key=".fac-backup/space.json")
    assert space.restore(backup_id).code == 3


def test_a_backup_of_what_another_space_has_marked_is_refused(space: Space) -> None:
    done = space.run("backup", "--space", "preview", "--kind", "daily")
    assert done.code == 3
    assert "dev" in done.last
    assert not space.stored("catalog/")


def test_without_a_matrix_backup_list_and_purge_work_for_the_space_default_and_restore_does_not(space: Space) -> None:
    space.sql("DROP SCHEMA fac_backup CASCADE")
    space.s3.client().delete_object(Bucket=space.documents, Key=".fac-backup/space.json")
    env = {"FAC_BACKUP_MATRIX": ""}
    done = space.run("backup", "--json", env=env)
    assert done.code == 0, done.err
    assert done.json["backup_id"].startswith("default_")
    assert len(space.run("list", "--json", env=env).json["backups"]) == 1
    assert space.run("purge", env=env).code == 0
    refused = space.run("restore", "--source", "default", "--target", "default", "--backup-id",
                        done.json["backup_id"], "--confirm", "default", env=env)  # fmt: skip
    assert refused.code in (2, 3)


def test_a_killed_backup_is_never_listed_and_costs_nothing_after_the_next_one(space: Space) -> None:
    process = space.start("backup", "--space", "dev", "--kind", "daily")
    deadline = time.monotonic() + 60
    while not space.stored("objects/") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if not space.stored("catalog/"):
        assert space.run("list", "--space", "dev", "--json").json["backups"] == []
    assert space.backup()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_a_backup_with_one_line_and_no_backup(space: Space, number: signal.Signals) -> None:
    storing = threading.Event()

    def fault(method: str, path: str) -> str:
        if method == "PUT" and "/objects/" in path:
            storing.set()
            time.sleep(1)  # so that it cannot be done before it hears of the signal
        return ""

    with S3Front(space.s3.port, fault=fault) as front:
        process = space.start(
            "backup", "--space", "dev", "--kind", "daily", env={"AWS_ENDPOINT_URL_S3": front.endpoint}
        )
        assert storing.wait(60)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert f"Interrupted by {number.name}" in err.strip().splitlines()[-1]
    assert not space.stored("catalog/")
    assert '"holders":[]' in space.s3.client().get_object(
        Bucket=space.backups, Key="dev/locks/store.json"
    )["Body"].read().decode().replace(" ", "")  # fmt: skip


def test_documents_that_fail_after_the_swap_bring_the_old_database_back(space: Space) -> None:
    """A stored document is removed between the check and the end: the worst moment."""
    backup_id = space.backup()
    space.sql("UPDATE parent SET name = 'newer'")
    space.put("folder/0005.txt", b"newer")
    before = space.state()
    # The check passes, adding has nothing to do; overwriting finds that the stored document is gone.
    process = space.start("restore", "--source", "dev", "--target", "dev", "--backup-id", backup_id, "--confirm", "dev",
                          env={"FAC_BACKUP_JOBS": "2"})  # fmt: skip
    deadline = time.monotonic() + 60
    while len(space.databases()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    client = space.s3.client()
    for key in space.stored("documents/"):
        client.delete_object(Bucket=space.backups, Key=key)
    out, err = process.communicate(timeout=120)
    del out
    assert process.returncode in (1, 5, 7), err
    assert "Traceback" not in err
    # The pre-restore backup shares the stored documents that were removed, so they cannot all be put back: the
    # database must be one of the two, and the exit code must say which.
    name = space.value("SELECT max(name) FROM parent")
    assert name in ("newer", "parent 9")
    if process.returncode != 7:
        assert space.state()[0] == before[0]


@pytest.mark.parametrize("kind", ["space", "in_place"])
def test_a_restore_that_was_killed_is_finished_by_resume(kind: str, request: pytest.FixtureRequest) -> None:
    space: Space = request.getfixturevalue(kind)
    wanted = space.state()
    backup_id = space.backup()
    vandalize(space)
    process = space.start("restore", "--source", "dev", "--target", "dev", "--backup-id", backup_id, "--confirm", "dev")
    deadline = time.monotonic() + 60
    while not space.stored("journal/") and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.7)
    process.kill()
    process.communicate()
    break_locks(space)
    done = space.run("restore", "--target", "dev", "--resume", "--confirm", "dev")
    assert done.code in (0, 4), done.err
    if done.code == 4:  # it had ended before the kill
        assert space.state() == wanted
        return
    assert space.state() == wanted
    assert not space.stored("journal/")
    assert space.databases() == [space.unique]


def test_a_journal_that_names_a_path_of_no_matrix_is_not_resumed(space: Space) -> None:
    from fac_backup.plain.locations import BucketAddress, S3Credentials
    from fac_backup.store.bucket import Bucket
    from fac_backup.store.store import Store

    space.backup()
    wanted = space.state()
    credentials = S3Credentials(space.s3.access_key, space.s3.secret_key, "", "us-east-1", space.s3.endpoint)
    store = Store(Bucket(BucketAddress(space.backups, "", credentials)), "dev", owner="whoever may write the bucket")
    store.journal.begin("restore", owner="x", step="swapping", data={
        "source": "evil", "backup_id": "evil_20261122T201653Z_daily", "undo_id": "", "mode": "beside",
    })  # fmt: skip
    done = space.run("restore", "--target", "dev", "--resume", "--confirm", "dev")
    assert done.code == 3, done.err
    assert "the matrix lists no such path" in done.last
    assert space.state() == wanted


def break_locks(space: Space) -> None:
    """What an operator does who cannot wait for the lease of a dead run."""
    for holder in space.run("unlock", "--space", "dev", "--json").json["holders"]:
        space.run("unlock", "--space", "dev", "--owner", holder["token"])


def test_an_exclusive_lock_makes_a_backup_give_up_and_say_who_holds_it(space: Space) -> None:
    from fac_backup.plain.locations import BucketAddress, S3Credentials
    from fac_backup.store.bucket import Bucket
    from fac_backup.store.store import Store

    credentials = S3Credentials(space.s3.access_key, space.s3.secret_key, "", "us-east-1", space.s3.endpoint)
    store = Store(Bucket(BucketAddress(space.backups, "", credentials)), "dev", owner="somebody's purge")
    backup_id = space.backup()
    with store.locks.acquire("store", "exclusive"):
        shown = space.run("unlock", "--space", "dev")
        assert "somebody's purge" in shown.out
        done = space.run("hold", "--space", "dev", "--backup-id", backup_id, env={"FAC_BACKUP_LOCK_WAIT": "1"})
        assert done.code == 6
        assert "somebody's purge" in done.last
        assert "`fac-backup unlock` shows it; --owner breaks it." in done.last
    assert space.run("hold", "--space", "dev", "--backup-id", backup_id).code == 0


def test_purge_keeps_the_newest_and_the_held_and_sweeps_the_rest(space: Space) -> None:
    ids = [space.backup("hourly") for _ in range(4)]
    assert space.run("hold", "--space", "dev", "--backup-id", ids[0]).code == 0
    plan = space.run("purge", "--space", "dev", "--dry-run", "--json").json
    done = space.run("purge", "--space", "dev", "--json").json
    assert plan["removed"] == done["removed"] == [ids[1]]
    left = [row["id"] for row in space.run("list", "--space", "dev", "--json").json["backups"]]
    assert left == [ids[3], ids[2], ids[0]]
    assert space.restore(ids[0]).code == 0


def test_beside_gives_yesterdays_tables_to_look_at_and_changes_nothing(space: Space) -> None:
    backup_id = space.backup()
    space.sql("UPDATE parent SET name = 'today'")
    before = space.state()
    done = space.restore(backup_id, "--beside", f"{space.unique}_look", "--only", "public.parent")
    assert done.code == 0, done.err
    assert space.state() == before
    beside = psycopg2.connect(f"{space.url}_look")
    with beside.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM parent WHERE name LIKE 'parent %'")
        assert cursor.fetchone() == (20,)
        cursor.execute("SELECT to_regclass('child')")
        assert cursor.fetchone() == (None,)
    beside.close()


def test_verify_notices_a_damaged_piece_and_a_missing_document(space: Space) -> None:
    backup_id = space.backup()
    assert space.run("verify", "--space", "dev", "--level", "restore").code == 0
    assert space.databases() == [space.unique], "the rehearsal's database is gone"
    client = space.s3.client()
    piece = space.stored("objects/")[0]
    whole = client.get_object(Bucket=space.backups, Key=piece)["Body"].read()
    client.put_object(Bucket=space.backups, Key=piece, Body=whole[:-3] + b"xyz")
    done = space.run("verify", "--space", "dev", "--backup-id", backup_id)
    assert done.code == 5
    before = space.state()
    assert space.restore(backup_id).code == 5
    assert space.state() == before
    client.put_object(Bucket=space.backups, Key=piece, Body=whole)
    client.delete_object(Bucket=space.backups, Key=space.stored("documents/")[0])
    assert space.run("verify", "--space", "dev", "--backup-id", backup_id).code == 5
    assert space.restore(backup_id).code == 5
    assert space.state() == before


def test_no_secret_appears_in_what_a_failing_command_prints(space: Space) -> None:
    wrong = space.url.replace(f"{space.unique}_owner-pw", "wrong-secret-pw")
    done = space.run("backup", "--space", "dev", "--kind", "daily", env={"DATABASE_URL": wrong})
    assert done.code == 1
    assert "wrong-secret-pw" not in done.err + done.out
    assert space.s3.secret_key not in done.err + done.out


def test_a_note_that_is_too_long_is_cut_and_there_is_a_backup_all_the_same(space: Space) -> None:
    done = space.run("backup", "--space", "dev", "--kind", "manual", "--note", "é" * 1200, "--json")
    assert done.code == 0, done.err
    assert "warning: The note has 1,200 characters; the first 1,000 are kept" in done.err
    (row,) = space.run("list", "--space", "dev", "--json").json["backups"]
    assert row["note"] == "é" * 1000
