"""Whoever interrupts a command is told the truth about what is there now."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_put_back import restore, store_of
from tests.support.faults import S3Front
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import FAC_BACKUP, Space

BACKUP = ("backup", "--space", "dev", "--kind", "daily")


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique).fill(100, 8)
    yield made
    made.close()


def interrupted(space: Space, method: str, part: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command gets ^C before the answer to its first request of ``method`` whose path has ``part`` in it."""
    begun: list[int] = []

    def fault(asked: str, path: str) -> str:
        if (asked, part in path) == (method, True) and begun:
            os.kill(begun.pop(), signal.SIGINT)
            time.sleep(0.3)
        return ""

    with S3Front(space.s3.port, fault=fault) as front:
        process = space.start(*arguments, env={"AWS_ENDPOINT_URL_S3": front.endpoint})
        begun.append(process.pid)
        out, err = process.communicate(timeout=120)
    assert not begun, "it came as far as that"
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def listed(space: Space) -> list[str]:
    return [row["id"] for row in space.run("list", "--space", "dev", "--json").json["backups"]]


def test_a_purge_that_is_interrupted_says_that_what_it_removed_stays_removed(space: Space) -> None:
    ids = [space.backup("hourly") for _ in range(4)]
    done = interrupted(space, "DELETE", "/catalog/", "purge", "--space", "dev")
    assert done.returncode == 1
    assert len(listed(space)) < len(ids)
    assert "What was removed by then stays removed" in done.stderr
    assert "put back" not in done.stderr
    assert "Run it again" in done.stderr
    assert space.run("purge", "--space", "dev").code == 0
    assert listed(space) == [ids[3], ids[2]]


def test_a_purge_that_is_interrupted_before_it_removes_anything_says_so(space: Space) -> None:
    ids = [space.backup("hourly") for _ in range(3)]
    done = interrupted(space, "GET", "/locks/", "purge", "--space", "dev")
    assert done.returncode == 1
    assert "No backup was removed." in done.stderr
    assert len(listed(space)) == len(ids)


def test_a_backup_that_is_interrupted_after_its_manifest_says_that_it_is_complete(space: Space) -> None:
    done = interrupted(space, "PUT", "/audit/", *BACKUP)
    assert done.returncode == 1
    (made,) = listed(space)
    assert f"The backup {made} is complete, and can be restored." in done.stderr
    assert space.restore(made).code == 0


def test_a_backup_that_is_interrupted_while_its_manifest_is_under_way_does_not_say_that_there_is_none(
    space: Space,
) -> None:
    done = interrupted(space, "PUT", "/catalog/", *BACKUP)
    assert done.returncode == 1
    (made,) = listed(space)
    assert f"Whether the backup {made} is complete is not known. See whether `fac-backup list" in done.stderr


def test_a_backup_that_is_interrupted_before_says_that_there_is_none(space: Space) -> None:
    done = interrupted(space, "PUT", "/objects/", *BACKUP)
    assert done.returncode == 1
    assert "Interrupted by SIGINT. No backup was made. Run it again" in done.stderr
    assert listed(space) == []


def test_a_backup_whose_bucket_fails_after_its_manifest_says_that_it_is_complete(space: Space) -> None:
    def fault(method: str, path: str) -> str:
        return "500" if method == "PUT" and "/audit/" in path else ""

    with S3Front(space.s3.port, fault=fault) as front:
        done = space.run(*BACKUP, "--json", env={"AWS_ENDPOINT_URL_S3": front.endpoint})
    assert done.code == 1
    assert listed(space) == [done.json["backup_id"]]
    assert f"The backup {done.json['backup_id']} is complete" in done.last


def test_a_list_that_is_interrupted_claims_nothing_of_putting_back(space: Space) -> None:
    done = interrupted(space, "GET", "list-type", "list", "--space", "dev")
    assert done.returncode == 1
    assert "Interrupted by SIGINT. It stopped there; what it had done by then stays." in done.stderr


def with_stdout(space: Space, where: str, *arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout is ``where``: "closed" (| true) or "full" (> /dev/full)."""
    words = shlex.join([FAC_BACKUP, *arguments])
    line = f"{words} | true; exit ${{PIPESTATUS[0]}}" if where == "closed" else f"{words} > /dev/full"
    done = subprocess.run(
        ["bash", "-c", line], env=space.env(), cwd=space.folder, text=True, stderr=subprocess.PIPE, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("where", ["closed", "full"])
def test_a_restore_whose_result_cannot_be_printed_is_done_and_names_its_undo(space: Space, where: str) -> None:
    made = space.backup()
    code, err = with_stdout(
        space, where, "restore", "--source", "dev", "--target", "dev", "--backup-id", made, "--confirm", "dev"
    )
    assert code == 0, err
    (undo,) = [one for one in listed(space) if one.endswith("pre-restore")]
    assert f"dev was restored. The backup id is {made}. The undo id is {undo}. The result" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize("where", ["closed", "full"])
@pytest.mark.parametrize("more", [("--space", "dev"), ("--space", "dev", "--max-age-hours", "1"), ("--space", "dve")])
def test_what_cannot_be_printed_changes_no_exit_code_and_shows_no_traceback(
    space: Space, where: str, more: tuple[str, ...]
) -> None:
    wanted = space.run("list", "--json", *more)
    code, err = with_stdout(space, where, "list", "--json", *more)
    assert code == wanted.code
    assert all(wrong not in err for wrong in ("Traceback", "Exception ignored", "Unexpected"))
    assert err.splitlines()[-1].startswith("fac-backup: ")


def test_a_restore_that_is_stopped_before_its_first_change_says_that_the_target_is_as_before(space: Space) -> None:
    backup_id = space.backup()
    with store_of(space).locks.acquire("store", "exclusive"):
        process = space.start(*restore(backup_id))
        time.sleep(4)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "The target is as before" in err.splitlines()[-1]
