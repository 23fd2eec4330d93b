"""What people did between a restore that was killed and the next one is lost by neither; nor is the truth."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_put_back import begin, restore, store_of, stored_document
from tests.support.faults import S3Front
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space
from tests.torture.world import journal_step

NAME = "SELECT name FROM parent LIMIT 1"


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique).fill(100, 8)
    yield made
    made.close()


def killed_at(space: Space, step: str, backup_id: str) -> None:
    """A restore that was killed right after its journal came to ``step``; its locks are gone."""
    begun: list[int] = []
    killing: list[threading.Timer] = []
    seen = [""]

    def watch(method: str, path: str, body: bytes) -> bool:
        if method == "PUT" and "/journal/" in path:
            seen[0] = journal_step(body)
        return True

    def fault(method: str, path: str) -> str:
        if method == "PUT" and "/journal/" in path and seen[0] == step:
            if not killing:
                killing.append(threading.Timer(0.05, os.killpg, (begun[0], signal.SIGKILL)))
                killing[0].start()
            return "dropped"
        return ""

    with S3Front(space.s3.port, fault=fault, watch=watch) as front:
        process = begin(space, front, *restore(backup_id))
        begun.append(process.pid)
        process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert len(space.stored("journal/")) == 1
    unlock(space)


def unlock(space: Space) -> None:
    for holder in space.run("unlock", "--space", "dev", "--json").json["holders"]:
        space.run("unlock", "--space", "dev", "--owner", holder["token"], "--confirm", "dev")


def people_go_on(space: Space) -> None:
    space.sql("UPDATE parent SET name = 'since the kill'")
    space.put("folder/0004.txt", b"since the kill")


def test_one_that_was_killed_before_its_swap_has_no_undo_for_the_next(space: Space) -> None:
    backup_id = space.backup()
    space.sql("UPDATE parent SET name = 'before the kill'")
    killed_at(space, "swapping", backup_id)
    people_go_on(space)
    before = space.state()
    done = space.restore(backup_id)
    assert done.code == 0, done.err
    assert space.restore(done.json["undo_id"]).code == 0
    assert space.state() == before


def test_one_that_fails_after_another_was_killed_before_its_swap_leaves_what_people_did_since(space: Space) -> None:
    backup_id = space.backup()
    space.put("folder/0002.txt", b"newer")
    killed_at(space, "swapping", backup_id)
    people_go_on(space)
    before = space.state()
    lost = stored_document(space, backup_id, "folder/0002.txt")

    def watch(method: str, path: str, _body: bytes) -> bool:
        if method == "PUT" and "/journal/" in path:
            space.s3.client().delete_object(Bucket=space.backups, Key=lost)
        return True

    with S3Front(space.s3.port, watch=watch) as front:
        done = space.restore(backup_id, env={"AWS_ENDPOINT_URL_S3": front.endpoint})
    assert done.code == 5, done.err
    assert "as before" in done.last
    assert space.state() == before


@pytest.mark.parametrize("how", ["--resume", "the same again"])
def test_going_on_after_the_swap_keeps_what_people_did_since(space: Space, how: str) -> None:
    backup_id = space.backup()
    wanted = space.state()
    space.sql("UPDATE parent SET name = 'before the kill'")
    first = space.state()
    killed_at(space, "swapped", backup_id)
    assert space.value(NAME) != "before the kill"
    people_go_on(space)
    since = space.state()
    if how == "--resume":
        done = space.run("restore", "--target", "dev", "--resume", "--confirm", "dev", "--json")
    else:
        done = space.restore(backup_id)
    assert done.code == 0, done.err
    assert space.all_documents() == wanted[1]
    kept = next(word for line in done.json["warnings"] for word in line.split() if word.endswith("_pre-restore."))
    assert space.restore(kept.rstrip(".")).code == 0
    assert space.state() == since
    assert space.restore(done.json["undo_id"]).code == 0
    assert space.state() == first


def test_another_backup_after_a_swap_whose_restore_was_killed_is_undone_to_what_it_replaced(space: Space) -> None:
    one = space.backup()
    space.sql("UPDATE parent SET name = 'two'")
    two = space.backup()
    killed_at(space, "swapped", one)
    people_go_on(space)
    since = space.state()
    done = space.restore(two)
    assert done.code == 0, done.err
    assert space.value(NAME) == "two"
    assert any(f"A restore of {one} was killed" in line for line in done.json["warnings"])
    assert space.restore(done.json["undo_id"]).code == 0
    assert space.state() == since


def test_a_failure_of_another_backup_leaves_the_killed_restore_to_be_gone_on_with(space: Space) -> None:
    one = space.backup()
    wanted = space.state()
    space.sql("UPDATE parent SET name = 'two'")
    two = space.backup()
    killed_at(space, "swapped", one)
    space.sql("UPDATE parent SET name = 'since the kill'")
    since = space.state()
    broken = space.folder / "broken.sql"
    broken.write_text("SELECT 1 / 0")
    done = space.restore(two, "--before-swap-sql", str(broken))
    assert done.code == 1, done.err
    assert "--resume" in done.last
    assert space.state() == since
    done = space.run("restore", "--target", "dev", "--resume", "--confirm", "dev", "--json")
    assert done.code == 0, done.err
    assert (space.value(NAME), space.all_documents()) == ("since the kill", wanted[1])


def test_a_signal_when_the_target_is_the_backup_already_makes_no_failure_of_it(space: Space) -> None:
    backup_id = space.backup()
    wanted = space.state()
    space.sql("UPDATE parent SET name = 'before'")
    begun: list[int] = []

    def watch(method: str, path: str, body: bytes) -> bool:
        if method == "PUT" and "/audit/" in path and b'"done"' in body and "_restore_" in path:
            os.kill(begun[0], signal.SIGTERM)
            time.sleep(0.3)
        return True

    with S3Front(space.s3.port, watch=watch) as front:
        process = begin(space, front, *restore(backup_id))
        begun.append(process.pid)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "it was interrupted" in out
    assert space.state() == wanted
    assert space.stored("journal/") == []


def test_without_an_undo_a_failure_after_the_swap_is_not_told_as_put_back(space: Space) -> None:
    text = space.matrix.read_text()
    assert "when: [manual, unattended]}" in text
    space.matrix.write_text(text.replace("when: [manual, unattended]}", "when: [manual, unattended], undo: none}"))
    backup_id = space.backup()
    wanted = space.state()
    for key in ("folder/0002.txt", "folder/0005.txt"):
        space.put(key, b"newer")
    space.sql("UPDATE parent SET name = 'newer'")
    lost = stored_document(space, backup_id, "folder/0005.txt")
    held = space.s3.client().get_object(Bucket=space.backups, Key=lost)
    body, described = held["Body"].read(), {"ContentType": held["ContentType"], "Metadata": held["Metadata"]}

    def watch(method: str, path: str, sent: bytes) -> bool:
        if method == "PUT" and "/journal/" in path and journal_step(sent) == "swapping":
            space.s3.client().delete_object(Bucket=space.backups, Key=lost)
        return True

    with S3Front(space.s3.port, watch=watch) as front:
        done = space.restore(backup_id, env={"AWS_ENDPOINT_URL_S3": front.endpoint})
    assert done.code == 7, done.err
    assert "--resume" in done.last
    assert "with the id" not in done.last
    space.s3.client().put_object(Bucket=space.backups, Key=lost, Body=body, **described)
    done = space.run("restore", "--target", "dev", "--resume", "--confirm", "dev", "--json")
    assert done.code == 0, done.err
    assert space.state() == wanted


def test_a_forged_journal_makes_no_restore_succeed_that_has_replaced_nothing(space: Space) -> None:
    backup_id = space.backup()
    wanted = space.state()
    space.sql("UPDATE parent SET name = 'broken'")
    told = {
        "source": "dev", "backup_id": backup_id, "undo_id": "", "mode": "beside", "before_swap": "", "new": "nope",
        "kept": "postgres", "in_new": backup_id, "before_swap_in_new": "",
    }  # fmt: skip
    for step in ("begun", "swapped"):
        store_of(space).journal.begin("restore", owner="somebody", step=step, data=dict(told))
        done = space.restore(backup_id)
        assert done.code == 0, done.err
        assert space.state() == wanted
        space.sql("UPDATE parent SET name = 'broken'")


def test_a_forged_journal_that_names_a_kept_database_makes_no_restore_succeed_either(space: Space) -> None:
    text = space.matrix.read_text()
    assert "  dev: {" in text
    space.matrix.write_text(text.replace("  dev: {", "  dev: {keep_previous: 24, ", 1))
    backup_id = space.backup()
    wanted = space.state()
    space.sql("UPDATE parent SET name = 'another'")
    another = space.backup()
    assert space.restore(another).code == 0
    kept = next(name for name in space.databases() if "_fac_old_" in name)
    told = {"source": "dev", "backup_id": backup_id, "undo_id": "", "mode": "beside", "before_swap": "", "new": "nope",
            "kept": kept}  # fmt: skip
    store_of(space).journal.begin("restore", owner="somebody", step="swapped", data=told)
    done = space.restore(backup_id)
    assert done.code == 0, done.err
    assert space.state() == wanted


def test_a_damaged_way_back_is_noticed_before_an_in_place_restore_wipes(
    pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str
) -> None:
    space = Space(pg18, s3, tmp_path, unique, createdb=False).fill(100, 8)
    backup_id = space.backup()
    known = set(space.stored("objects/"))
    space.sql("UPDATE child SET note = 'x' || id")
    before = space.state()
    client = s3.client()

    def watch(method: str, path: str, _body: bytes) -> bool:
        if method == "PUT" and "/journal/" in path:  # the undo is complete
            for key in set(space.stored("objects/")) - known:
                whole = client.get_object(Bucket=space.backups, Key=key)["Body"].read()
                client.put_object(Bucket=space.backups, Key=key, Body=whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        return True

    with S3Front(s3.port, watch=watch) as front:
        done = space.restore(backup_id, env={"AWS_ENDPOINT_URL_S3": front.endpoint})
    assert done.code == 5, done.err
    assert space.state() == before
    space.close()


def test_a_backup_that_was_purged_while_a_restore_waited_is_noticed_before_anything_changes(space: Space) -> None:
    backup_id = space.backup()
    space.put("folder/0005.txt", b"newer")
    before = space.state()
    store = store_of(space)
    with store.locks.acquire("store", "exclusive"):
        process = space.start(*restore(backup_id))
        time.sleep(4)
        client = space.s3.client()
        for key in space.stored("catalog/"):
            client.delete_object(Bucket=space.backups, Key=key)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 4, err
    assert "Swapped" not in err
    assert space.state() == before
