"""An operation as a task of the app: posted once, followed, cancelled with us, never believed to have failed unseen."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fac_backup.hosting.cloudfoundry.client import App, Client
from fac_backup.hosting.cloudfoundry.errors import ApiRefusedError, UncertainError, UnreachableError
from fac_backup.hosting.cloudfoundry.logs import TaskLog
from fac_backup.hosting.cloudfoundry.mark import Mark
from fac_backup.plain.errors import FacBackupError, FailedError
from fac_backup.plain.text import duration, one_line

_log = logging.getLogger(__name__)
_STATUS = re.compile(r"\bstatus (\d{1,3})\b")
RENEW_SECONDS = 240.0
"""How often labels are renewed; a lease (``mark.LEASE``) is several times as long."""
COMMAND_LIMIT = 4096
"""Characters of a task's command (cloud_controller_ng, ``TaskModel``)."""


@dataclass(frozen=True)
class Limits:
    """What a task may use and how long it may take."""

    memory_mb: int = 3072
    disk_mb: int = 7168
    start_seconds: float = 600.0
    """Until its first line must have come, where the log can be read."""
    seconds: float = 6 * 3600.0
    """Until it is cancelled."""
    cancel_seconds: float = 5.0
    """How long we wait for a cancelled task to end; GitHub gives a cancelled step about ten seconds for everything."""
    drain_seconds: float = 10.0
    """How long after the end late lines are waited for."""


@dataclass(frozen=True)
class Ended:
    """How a task ended. ``status`` is its exit status; None: unknown, so ask the store."""

    status: int | None
    reason: str = ""


@dataclass(frozen=True)
class Runner:
    """Runs tasks of one app for one run. ``tick`` is called every few seconds while one runs (leases, signatures)."""

    client: Client
    app: App
    mark: Mark
    labels: Callable[[], dict[str, str]]
    limits: Limits = Limits()
    tick: Callable[[], None] = lambda: None

    def run(self, command: str, purpose: str, on_line: Callable[[str], None]) -> Ended:
        """Run ``command`` in the app's container and follow it to its end.

        Raises FailedError where it was refused (quota, no droplet), never started or took too long; on any exception,
        a signal's too, the task is cancelled first.
        """
        name = f"fac-backup-{purpose}-{self.mark.run}"
        since = time.time_ns() - 60 * 10**9
        guid = ""
        try:
            guid = self._post(command, name)
            return self._follow(guid, TaskLog(self.client, self.app, name, since), on_line)
        except BaseException:
            self._cancel(guid or self._find(name, quiet=True))
            raise

    def _post(self, command: str, name: str) -> str:
        if len(command) > COMMAND_LIMIT:
            raise FailedError(f"The task's command has {len(command)} characters; Cloud Foundry takes {COMMAND_LIMIT}")
        body: dict[str, Any] = {
            "name": name, "command": command, "memory_in_mb": self.limits.memory_mb,
            "disk_in_mb": self.limits.disk_mb, "metadata": {"labels": self.labels()},
        }  # fmt: skip
        for attempt in (1, 2, 3):
            try:
                path = f"/v3/apps/{self.app.guid}/tasks"
                reply = self.client.request("POST", path, body, what=f"Starting the task in {self.app.space.name}")
                return str(reply.body["guid"])
            except UncertainError:
                found = self._find(name)
                if found:
                    return found
                if attempt == 3:
                    raise
                self.client.pace.poll(attempt)
            except ApiRefusedError as error:
                if error.status == 422 and "quota" in error.detail:
                    error.next_step = (
                        f"It asks for {self.limits.memory_mb} MB of memory and {self.limits.disk_mb} MB of disk: lower "
                        "the inputs task-memory-mb and task-disk-mb, or raise the space's quota."
                    )
                raise
        raise AssertionError("unreachable")

    def _find(self, name: str, *, quiet: bool = False) -> str:
        try:
            path = f"/v3/apps/{self.app.guid}/tasks"
            for task in self.client.resources(path, what="Looking for the task", names=name):
                return str(task["guid"])
        except FacBackupError:
            if not quiet:
                raise
        return ""

    def _follow(self, guid: str, log: TaskLog, on_line: Callable[[str], None]) -> Ended:
        clock = self.client.pace.clock
        began = renewed = clock()
        turn = troubles = 0
        _log.info("The task was accepted by Cloud Foundry in space %s", self.app.space.name)
        while True:
            for line in log.new_lines():
                on_line(line)
            try:
                task = self.client.get(f"/v3/tasks/{guid}", what="Looking at the task")
                troubles = 0
            except UnreachableError:
                troubles += 1
                if troubles > 5:
                    return Ended(None, "Cloud Foundry's API could not be asked any more")
                task = {}
            state = task.get("state")
            if state in ("SUCCEEDED", "FAILED"):
                self._drain(log, on_line)
                return self._ended(task)
            passed = clock() - began
            if not log.any and not log.silent and passed > self.limits.start_seconds:
                raise FailedError(
                    f"The task gave no sign of life within {duration(self.limits.start_seconds)}",
                    next_step="RUNNING means accepted, not started: see `cf events` and the space's free memory.",
                )
            if passed > self.limits.seconds:
                raise FailedError(
                    f"The task was not over after {duration(self.limits.seconds)} and was cancelled",
                    next_step="Give it more time if it worked all the time; its log says how far it came.",
                )
            if clock() - renewed > RENEW_SECONDS:
                renewed = clock()
                self._renew(guid)
            self.tick()
            self.client.pace.poll(turn)
            turn += 1

    def _renew(self, guid: str) -> None:
        """Say that this run still looks after its task."""
        body = {"metadata": {"labels": self.labels()}}
        try:
            self.client.request("PATCH", f"/v3/tasks/{guid}", body, what="Renewing the lease of the task")
        except FacBackupError as error:
            _log.warning("%s", error.what)

    def _drain(self, log: TaskLog, on_line: Callable[[str], None]) -> None:
        pace = self.client.pace
        deadline, quiet = pace.clock() + self.limits.drain_seconds, 0
        while quiet < 3 and pace.clock() < deadline and not log.silent:
            lines = list(log.new_lines())
            for line in lines:
                on_line(line)
            quiet = 0 if lines or log.missing else quiet + 1
            pace.poll(quiet)
        if log.missing:
            _log.warning("%d lines of the task's log did not arrive", log.missing)

    def _ended(self, task: dict[str, Any]) -> Ended:
        if task.get("state") == "SUCCEEDED":
            return Ended(0)
        reason = one_line(str((task.get("result") or {}).get("failure_reason") or "no reason was given"), 300)
        if "memory" in reason:
            raise FailedError(
                f"The task was killed for memory ({reason})",
                state="The operation did not end by itself.",
                next_step=f"It had {self.limits.memory_mb} MB: raise task-memory-mb, and run it again.",
            )
        status = _STATUS.search(reason)
        return Ended(int(status[1]) if status else None, reason)

    def _cancel(self, guid: str) -> None:
        """Cancel and wait a little for the end. Failures are logged: what is left is swept by the next run."""
        if not guid:
            return
        pace = self.client.pace
        deadline = pace.clock() + self.limits.cancel_seconds
        try:
            self.client.request("POST", f"/v3/tasks/{guid}/actions/cancel", what="Cancelling the task")
            turn = 0
            while pace.clock() < deadline:
                task = self.client.get(f"/v3/tasks/{guid}", what="Looking at the cancelled task")
                if task.get("state") in ("SUCCEEDED", "FAILED"):
                    return
                pace.poll(turn)
                turn += 1
        except ApiRefusedError:
            return  # over already
        except FacBackupError as error:
            _log.error("The task could not be cancelled: %s", error.line())
