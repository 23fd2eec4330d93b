"""The app around a restore: stopped before and started after, or restarted without a gap; never while we are bound.

A process that starts while the backups instance is bound gets its credentials, so these blocks lie outside a binding.
An app that we stopped carries the label of the run: what a killed run left stopped, the next sweep starts.
The FAC's app migrates its database when instance 0 starts: a restart after a restore brings an older backup up to date.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fac_backup.hosting.cloudfoundry import mark
from fac_backup.hosting.cloudfoundry.client import App, Client
from fac_backup.hosting.cloudfoundry.errors import UncertainError
from fac_backup.hosting.cloudfoundry.http import Reply
from fac_backup.plain.errors import FacBackupError, FailedError, told

_log = logging.getLogger(__name__)
SECONDS = 900.0


@dataclass(frozen=True)
class Stopped:
    """An app that we stop and start again, marked as long as it is stopped."""

    client: Client
    app: App
    labels: Callable[[], Mapping[str, str]]
    """The labels of this run, with a lease from now on."""

    def renew(self) -> None:
        """Say that somebody still looks after the stopped app."""
        try:
            _label(self.client, self.app, self.labels())
        except FacBackupError as error:
            _log.warning("%s", error.what)

    def stop(self) -> None:
        """Mark it, then stop it: a kill in between leaves a mark too many, never a stopped app without one."""
        _label(self.client, self.app, self.labels())
        _act(self.client, self.app, "stop")

    def start(self, seconds: float = SECONDS) -> None:
        """Start it and wait until it runs; then the mark goes. Raises FailedError with the command to type."""
        start(self.client, self.app, seconds)
        _label(self.client, self.app, dict.fromkeys((mark.RUN, mark.UNTIL)))


@contextmanager
def around(
    stopped: Stopped, how: str, worth_it: Callable[[], bool], seconds: float = SECONDS
) -> Iterator[Callable[[], None]]:
    """The app during a restore; gives what must be called now and then while it is stopped.

    ``none`` leaves it alone; ``rolling`` restarts it afterwards if ``worth_it()`` (the data was replaced, whatever went
    wrong after that); ``stop`` stops it before and starts it again whatever happened.

    An app that somebody else has stopped stays stopped. Raises FailedError with the command to type if it does not
    come up.
    """
    client, app = stopped.client, stopped.app
    shown = client.get(f"/v3/apps/{app.guid}", what=f"Looking at {app.name}")
    theirs = shown.get("state") != "STARTED" and not mark.run_of(shown)
    if how == "none" or theirs:
        if how != "none":
            _log.warning("%s in %s is stopped and stays so", app.name, app.space.name)
        yield _nothing
        return
    if how == "rolling":
        with _afterwards(lambda: rolling(client, app, seconds) if worth_it() else None):
            yield _nothing
        return
    with _afterwards(lambda: stopped.start(seconds)):
        stopped.stop()
        yield stopped.renew


@contextmanager
def _afterwards(act: Callable[[], None]) -> Iterator[None]:
    """Do ``act`` after the block whatever happened; what the block raised is not lost over trouble with that."""
    try:
        yield
    except BaseException as error:
        try:
            act()
        except FacBackupError as trouble:
            _log.error("%s", trouble.line())
            if failure := told(error):
                failure.next_step = f"{failure.next_step} {trouble.line()}".strip()
        raise
    act()


def _nothing() -> None:
    """An app that was not stopped needs nobody to look after it."""


def rolling(client: Client, app: App, seconds: float = SECONDS) -> None:
    """Restart all processes one after the other; returns when the new ones serve. Raises FailedError."""
    what = f"The restart of {app.name} in {app.space.name}"
    body = {"strategy": "rolling", "relationships": {"app": {"data": {"guid": app.guid}}}}
    guid = str(_insist(client, "/v3/deployments", body, what).body["guid"])
    deadline = client.pace.clock() + seconds
    turn = 0
    while True:
        status = client.get(f"/v3/deployments/{guid}", what=what).get("status") or {}
        if status.get("value") == "FINALIZED":
            if status.get("reason") in ("DEPLOYED", "SUPERSEDED"):  # superseded: somebody's newer deployment starts it
                _log.info("%s is done", what)
                return
            raise _not_up(app, f"{what} ended as {status.get('reason')}", "rolling")
        if client.pace.clock() > deadline:
            raise _not_up(app, f"{what} was not over after {seconds:.0f} s", "rolling")
        client.pace.poll(turn)
        turn += 1


def start(client: Client, app: App, seconds: float = SECONDS) -> None:
    """Start the app and wait until an instance of its web process runs. Raises FailedError."""
    _act(client, app, "start")
    deadline = client.pace.clock() + seconds
    turn = 0
    while True:
        what = f"Looking at {app.name} in {app.space.name}"
        found = client.get(f"/v3/apps/{app.guid}/processes/web/stats", what=what).get("resources") or []
        states = {str(process.get("state")) for process in found}
        if not states or "RUNNING" in states:
            return
        if client.pace.clock() > deadline:
            raise _not_up(app, f"{app.name} in {app.space.name} does not run after {seconds:.0f} s", "start")
        client.pace.poll(turn)
        turn += 1


def _act(client: Client, app: App, action: str) -> None:
    _insist(client, f"/v3/apps/{app.guid}/actions/{action}", None, f"To {action} {app.name} in {app.space.name}")


def _insist(client: Client, path: str, body: dict[str, Any] | None, what: str) -> Reply:
    """POST what may be done twice: starting what is started changes nothing, a newer deployment replaces an older."""
    for attempt in (1, 2):
        try:
            return client.request("POST", path, body, what=what)
        except UncertainError:
            client.pace.wait(attempt)
    return client.request("POST", path, body, what=what)


def _label(client: Client, app: App, labels: Mapping[str, str | None]) -> None:
    """Set labels of the app; None removes one."""
    body = {"metadata": {"labels": dict(labels)}}
    client.request("PATCH", f"/v3/apps/{app.guid}", body, what=f"Marking {app.name} in {app.space.name}")


def _not_up(app: App, what: str, how: str) -> FailedError:
    command = f"cf restart {app.name} --strategy rolling" if how == "rolling" else f"cf start {app.name}"
    return FailedError(
        what,
        state="The data is in place, the app may not serve it.",
        next_step=f"Look at `cf logs {app.name} --recent`, then type: cf target -o {app.space.org} "
        f"-s {app.space.name}; {command}",
    )
