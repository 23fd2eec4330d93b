"""Operations as tasks of an app: what the container sees, how the log is followed, every way that a task can end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fac_backup.hosting.cloudfoundry.bindings import Patience
from fac_backup.hosting.cloudfoundry.login import Account
from fac_backup.hosting.cloudfoundry.space import Order, Place, Settings, SpaceResult, run_in_space
from fac_backup.hosting.cloudfoundry.tasks import Limits
from fac_backup.plain.errors import ActNowError, FacBackupError, FailedError
from tests.support.cloudfoundry import CloudFoundry, Fault
from tests.support.cloudfoundry.fac import APP, ORG, Fac
from tests.support.cloudfoundry.fixtures import QUICK, cloud, fac, s3_users  # noqa: F401
from tests.support.cloudfoundry.small_bundle import write

LIMITS = Limits(memory_mb=256, disk_mb=256, start_seconds=20, seconds=60, cancel_seconds=3, drain_seconds=3)


class Space:
    """Runs operations in staging and keeps the lines of the log."""

    def __init__(self, cloud: CloudFoundry, fac: Fac, bundle: Path) -> None:  # noqa: F811
        self.cloud, self.fac, self.lines = cloud, fac, [""][:0]
        self.settings = Settings(
            cloud.address, Account(fac.user.name or "", fac.user.password),
            Place(ORG, "staging", APP, "backups", "staging"), "run 1", (bundle,), LIMITS, pace=QUICK,
            patience=Patience(job=5, accepted=5, other_run=1, release=5), alive=lambda run: False,
        )  # fmt: skip

    def run(self, *arguments: str, when_unknown: Any = None, **settings: Any) -> SpaceResult:
        order = Order("backup", ("backup", *arguments), {"FAC_BACKUP_NOTE": "a note", "PATH": "/nowhere"},
                      {"action-matrix.yml": "version: 1\n"}, when_unknown)  # fmt: skip
        return run_in_space(order, replace(self.settings, **settings), on_line=self.lines.append)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def space(cloud: CloudFoundry, fac: Fac, bundle: Path) -> Space:  # noqa: F811
    return Space(cloud, fac, bundle)


def test_an_operation_runs_isolated_with_the_backups_bound_and_returns_its_document(space: Space) -> None:
    result = space.run()
    assert (result.exit_code, result.document) == (0, {
        "operation": "backup", "got": {}, "files": ["action-matrix.yml"], "isolated": 1, "said": "a note",
        "bound": ["backups", "fac-db", "fac-private-s3", "fac-public-s3"],
    })  # fmt: skip
    assert space.lines == ["The task has started", "working on backup"]
    assert space.cloud.world.temporary() == []


def test_no_secret_travels_in_the_command_nor_leaves_the_store(space: Space, s3_users: Any) -> None:  # noqa: F811
    space.run()
    command = space.cloud.world.tasks[0].command
    assert len(command) <= 4096
    bucket = space.fac.instances["staging"]["backups"].bucket
    left = [found["Key"] for found in s3_users.client().list_objects_v2(Bucket=bucket).get("Contents", [])]
    assert [key.split("/")[:3] for key in left] == [["staging", "handover", "bundles"]]
    made = [call for call in space.cloud.calls if "details" in call]
    assert made
    from fac_backup.hosting.cloudfoundry.command import decode

    shown = str(decode(command.rsplit(" ", 1)[1]))
    assert "secret_access_key" not in shown
    assert "a note" not in shown


def test_the_services_may_come_in_a_file(space: Space) -> None:
    space.fac.apps["staging"].file_based_services = True
    assert "backups" in space.run().document["bound"]


def test_the_exit_code_of_the_operation_is_the_result(space: Space) -> None:
    result = space.run("--exit", "6")
    assert (result.exit_code, result.document["operation"]) == (6, "backup")


def test_late_repeated_and_lost_lines_are_told_apart(space: Space, caplog: pytest.LogCaptureFixture) -> None:
    tasks = space.cloud.tasks
    tasks.late_every, tasks.repeat_every, tasks.lose_every = 7, 3, 50
    space.run("--lines", "120")
    shown = [line for line in space.lines if line.startswith("line ")]
    assert len(shown) == len(set(shown))
    assert len(shown) in (117, 118)
    assert "lines of the task's log did not arrive" in caplog.text


def test_the_lines_of_an_app_that_logs_much_do_not_hide_the_tasks(space: Space) -> None:
    app = space.fac.apps["staging"]

    def busy(_: int) -> None:
        for number in range(2500):  # more than a page, in less than a moment
            space.cloud.tasks.log(app, "APP/PROC/WEB", f"GET /{number}".encode())

    space.cloud.faults = [Fault(busy, match="POST /v3/apps/.*/tasks")]
    space.run("--lines", "1500", limits=replace(LIMITS, start_seconds=5))
    assert space.lines[-1] == "line 1499"
    assert len(space.lines) == 1502


def test_the_operation_succeeds_with_log_cache_down(space: Space, caplog: pytest.LogCaptureFixture) -> None:
    space.cloud.log_cache_down = True
    space.settings = replace(space.settings, limits=replace(LIMITS, start_seconds=0.1))
    assert space.run("--sleep", "0.5").exit_code == 0
    assert caplog.text.count("cannot be read at the moment") == 1


def test_a_token_that_expires_while_the_log_is_followed_is_renewed(space: Space) -> None:
    timer = threading.Timer(1.5, space.cloud.expire_tokens)
    timer.start()
    space.run("--sleep", "2.5", "--lines", "3")
    assert "line 2" in space.lines


def test_a_task_that_is_killed_for_memory_says_what_to_raise(space: Space) -> None:
    space.cloud.tasks.fate = "oom"
    with pytest.raises(FailedError, match="killed for memory") as caught:
        space.run("--sleep", "5")
    assert "raise task-memory-mb" in caught.value.line()
    assert space.cloud.world.temporary() == []


def test_a_task_that_never_starts_is_cancelled_and_reported(space: Space) -> None:
    space.cloud.tasks.fate = "never"
    with pytest.raises(FailedError, match="no sign of life"):
        space.run(limits=replace(LIMITS, start_seconds=0.5))
    assert space.cloud.world.temporary() == []
    assert space.cloud.world.tasks[0].failure_reason == "task was cancelled"


def test_a_task_that_outlives_its_limit_is_cancelled(space: Space) -> None:
    with pytest.raises(FailedError, match="was not over after"):
        space.run("--sleep", "30", limits=replace(LIMITS, seconds=1.5))
    assert space.cloud.world.temporary() == []


@pytest.mark.parametrize("what", [500, "drop", "drop after"])
def test_a_task_whose_post_failed_runs_exactly_once(space: Space, what: int | str) -> None:
    space.cloud.faults = [Fault(what, match="POST /v3/apps/.*/tasks")]
    assert space.run().exit_code == 0
    assert len(space.cloud.world.tasks) == 1


def test_a_quota_that_is_too_small_names_the_inputs(space: Space) -> None:
    space.fac.spaces["staging"].memory_quota_mb = 100
    with pytest.raises(FacBackupError, match="quota") as caught:
        space.run()
    assert "task-memory-mb" in caught.value.line()
    assert space.cloud.world.temporary() == []


def test_an_app_without_a_droplet_is_reported_in_cloud_foundrys_words(space: Space) -> None:
    space.fac.apps["staging"].staged = False
    with pytest.raises(FacBackupError, match="droplet"):
        space.run()


def test_an_unknown_outcome_is_settled_by_the_result_in_the_store(space: Space) -> None:
    space.cloud.tasks.fate = "unknown"
    assert space.run().exit_code == 0


def test_an_unknown_outcome_without_a_result_asks_the_store(space: Space) -> None:
    space.cloud.tasks.fate = "unknown"
    asked: list[str] = []
    result = space.run("--crash", when_unknown=lambda bucket, reason: asked.append(reason) or 3)
    assert (result.exit_code, asked) == (3, ["Unable to determine completion status"])


def test_a_crash_of_a_restore_is_never_called_harmless(space: Space) -> None:
    order = Order("restore", ("restore", "--crash"))
    with pytest.raises(ActNowError, match="unknown how the task ended: Exited with status 139"):
        run_in_space(order, space.settings)


def test_a_bundle_that_is_not_the_ordered_one_is_not_run(
    space: Space, monkeypatch: pytest.MonkeyPatch, s3_users: Any  # noqa: F811
) -> None:  # fmt: skip
    from fac_backup.hosting.cloudfoundry import s3

    def tamper(address: Any, key: str, path: Path) -> None:
        s3.leave(address, key, b"#" * path.stat().st_size)

    monkeypatch.setattr("fac_backup.hosting.cloudfoundry.s3.leave_file", tamper)
    with pytest.raises(FacBackupError):
        raise_unless(space.run("--x"))
    assert "The bundle is not the one that was ordered" in space.lines


def raise_unless(result: SpaceResult) -> None:
    if result.exit_code:
        raise FailedError(f"exit code {result.exit_code}")


def test_a_cancelled_run_cancels_its_task_and_takes_the_binding_away(space: Space) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise FailedError("Interrupted")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        timer = threading.Timer(2.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(FailedError, match="Interrupted"):
            space.run("--sleep", "40")
    finally:
        signal.signal(signal.SIGINT, before)
    assert space.cloud.world.tasks[0].failure_reason == "task was cancelled"
    assert space.cloud.world.temporary() == []


def test_a_deployment_in_the_middle_gets_credentials_that_are_worth_nothing_afterwards(space: Space) -> None:
    app = space.fac.apps["staging"]
    timer = threading.Timer(1.5, space.cloud.world.start, (app,))
    timer.start()
    assert space.run("--sleep", "2").exit_code == 0
    leaked = [entry for entry in app.started_with[-1]["s3"] if entry["name"] == "backups"]
    from fac_backup.hosting.cloudfoundry import s3

    for entry in leaked:
        assert not s3.accepted(s3.address_of(entry["credentials"]))


@pytest.mark.parametrize("how", ["rolling", "stop"])
def test_the_app_is_started_again_after_the_unbind_and_without_the_backups(space: Space, how: str) -> None:
    app = space.fac.apps["staging"]
    assert space.run(restart=how).exit_code == 0
    assert app.state == "STARTED"
    assert len(app.started_with) == 2
    assert all(entry["name"] != "backups" for started in app.started_with for entry in started["s3"])


def test_a_stopped_app_is_started_again_when_the_operation_fails(space: Space) -> None:
    space.cloud.tasks.fate = "oom"
    with pytest.raises(FailedError, match="memory"):
        space.run("--sleep", "5", restart="stop")
    assert space.fac.apps["staging"].state == "STARTED"


def test_an_app_that_was_stopped_stays_stopped(space: Space) -> None:
    space.fac.apps["staging"].state = "STOPPED"
    assert space.run(restart="rolling").exit_code == 0
    assert space.fac.apps["staging"].state == "STOPPED"


def test_commands_around_an_operation_run_as_tasks_without_the_backups(space: Space) -> None:
    show = f"{sys.executable} -c \"import os; print('backups' in os.environ['VCAP_SERVICES'])\""
    assert space.run(before=(show,), after=(show,)).exit_code == 0
    assert space.lines == ["False", "The task has started", "working on backup", "False"]


def test_a_command_before_that_fails_stops_the_operation(space: Space) -> None:
    with pytest.raises(FailedError, match="Command 1 before the operation failed"):
        space.run(before=("exit 3",))
    assert len(space.cloud.world.tasks) == 1


def test_a_line_of_the_task_cannot_speak_to_the_runner(space: Space) -> None:
    from fac_backup.plain.text import for_log

    space.run("--command")
    said = [for_log(line) for line in space.lines if "forged" in line]
    assert said
    assert all("::" not in line and "##[" not in line for line in said)


def test_a_task_that_takes_long_keeps_its_lease(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fac_backup.hosting.cloudfoundry.tasks.RENEW_SECONDS", 0.2)
    space.run("--sleep", "1")
    assert any(call.startswith("PATCH /v3/service_credential_bindings") for call in space.cloud.calls)
    assert any(call.startswith("PATCH /v3/tasks") for call in space.cloud.calls)
