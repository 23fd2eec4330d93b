"""The app around a restore: stopped before and started after, or restarted without a gap; never while we are bound.

A process that starts while the backups instance is bound gets its credentials, so these blocks lie outside a binding.
The FAC's app migrates its database when instance 0 starts: a restart after a restore brings an older backup up to date.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fac_backup.hosting.cloudfoundry.client import App, Client
from fac_backup.plain.errors import FacBackupError, FailedError

_log = logging.getLogger(__name__)
SECONDS = 900.0


@contextmanager
def around(
    client: Client, app: App, how: str, worth_it: Callable[[], bool], seconds: float = SECONDS
) -> Iterator[None]:
    """The app during a restore.

    ``none`` leaves it alone; ``rolling`` restarts it afterwards if ``worth_it()`` (the data was replaced); ``stop``
    stops it before and starts it again whatever happened.

    An app that was stopped before stays stopped. Raises FailedError with the command to type if it does not come up.
    """
    if how == "none" or _state(client, app) != "STARTED":
        if how != "none":
            _log.warning("%s in %s is stopped and stays so", app.name, app.space.name)
        yield
        return
    if how == "rolling":
        yield
        if worth_it():
            rolling(client, app, seconds)
        return
    try:
        _act(client, app, "stop")
        yield
    except BaseException as error:
        try:
            start(client, app, seconds)
        except FacBackupError as trouble:
            _log.error("%s", trouble.line())
            if isinstance(error, FacBackupError):
                error.next_step = f"{error.next_step} {trouble.line()}".strip()
        raise
    start(client, app, seconds)


def rolling(client: Client, app: App, seconds: float = SECONDS) -> None:
    """Restart all processes one after the other; returns when the new ones serve. Raises FailedError."""
    what = f"The restart of {app.name} in {app.space.name}"
    body = {"strategy": "rolling", "relationships": {"app": {"data": {"guid": app.guid}}}}
    guid = str(client.request("POST", "/v3/deployments", body, what=what).body["guid"])
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


def _state(client: Client, app: App) -> str:
    return str(client.get(f"/v3/apps/{app.guid}", what=f"Looking at {app.name}").get("state"))


def _act(client: Client, app: App, action: str) -> None:
    what = f"To {action} {app.name} in {app.space.name}"
    for attempt in (1, 2, 3):
        try:
            client.request("POST", f"/v3/apps/{app.guid}/actions/{action}", what=what)
        except FacBackupError as error:
            # Starting what is started changes nothing, so an unknown outcome may simply be asked for again.
            if attempt == 3 or getattr(error, "status", 500) < 500:
                raise
            client.pace.wait(attempt)
        else:
            return


def _not_up(app: App, what: str, how: str) -> FailedError:
    command = f"cf restart {app.name} --strategy rolling" if how == "rolling" else f"cf start {app.name}"
    return FailedError(
        what,
        state="The data is in place, the app may not serve it.",
        next_step=f"Look at `cf logs {app.name} --recent`, then type: cf target -o {app.space.org} "
        f"-s {app.space.name}; {command}",
    )
