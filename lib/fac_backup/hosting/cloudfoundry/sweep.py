"""Put right what a dead run left: tasks, bindings and keys whose lease has passed, and the app that it had stopped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fac_backup.hosting.cloudfoundry.bindings import Bindings
from fac_backup.hosting.cloudfoundry.client import App, Client, Space
from fac_backup.hosting.cloudfoundry.errors import ApiRefusedError
from fac_backup.hosting.cloudfoundry.mark import RUN, Alive, Mark, outlived, run_of
from fac_backup.hosting.cloudfoundry.restart import Stopped
from fac_backup.plain.errors import FacBackupError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """One thing with our label: removed (a stopped app: started), kept because its run lives, or ``trouble``."""

    what: str
    space: str
    run: str
    removed: bool
    trouble: str = ""


def sweep(client: Client, spaces: Sequence[Space], now: datetime, alive: Alive | None = None) -> tuple[Swept, ...]:
    """Remove what carries our label and outlived its lease in ``spaces``. Nothing else is ever touched.

    Tasks go first: they use what follows. Apps start last: whatever starts while we are bound gets our credentials.
    One thing that cannot be removed does not keep the next from being removed.
    """
    return tuple(found for space in spaces for found in _sweep_space(client, space, now, alive))


def _sweep_space(client: Client, space: Space, now: datetime, alive: Alive | None) -> list[Swept]:
    done: list[Swept] = []

    def remove(resource: dict[str, Any], what: str, act: Any) -> None:
        if not outlived(resource, now, alive):
            done.append(Swept(what, space.name, run_of(resource), False))
            return
        try:
            act()
        except FacBackupError as error:
            _log.warning("%s in %s, left by a dead run, could not be put right: %s", what, space.name, error.line())
            done.append(Swept(what, space.name, run_of(resource), False, error.what))
        else:
            _log.info("Put right what run %s left in %s: %s", run_of(resource), space.name, what)
            done.append(Swept(what, space.name, run_of(resource), True))

    tasks = client.resources("/v3/tasks", what="Listing tasks", space_guids=space.guid, label_selector=RUN,
                             states="PENDING,RUNNING,CANCELING")  # fmt: skip
    for task in list(tasks):
        remove(task, f"task {task.get('name')}", lambda task=task: _cancel(client, str(task["guid"])))

    bindings = Bindings(client, Mark("sweep"))
    for binding in _bindings_of(client, space):
        what = f"{binding.get('type')} binding {binding.get('name') or binding['guid']}"
        remove(binding, what, lambda b=binding, w=what: bindings.release(str(b["guid"]), what=f"Removing {w}"))

    apps = client.resources("/v3/apps", what="Listing apps", space_guids=space.guid, label_selector=RUN)
    for app in list(apps):
        stopped = Stopped(client, App(str(app["guid"]), str(app.get("name")), space), dict)
        remove(app, f"stopped app {app.get('name')}", stopped.start)
    return done


def _bindings_of(client: Client, space: Space) -> list[dict[str, Any]]:
    """Our bindings and keys of the instances that the space can use; the list of bindings knows no filter by space."""
    found = list(client.resources("/v3/service_credential_bindings", what="Listing bindings", label_selector=RUN))
    if not found:
        return []
    listed = client.resources("/v3/service_instances", what="Listing instances", space_guids=space.guid)
    instances = {str(instance["guid"]) for instance in listed}
    return [b for b in found if _related(b, "service_instance") in instances]


def _related(binding: dict[str, Any], name: str) -> str:
    related = (binding.get("relationships") or {}).get(name) or {}
    return str((related.get("data") or {}).get("guid"))


def _cancel(client: Client, guid: str) -> None:
    try:
        client.request("POST", f"/v3/tasks/{guid}/actions/cancel", what="Cancelling a task")
    except ApiRefusedError as error:
        if error.status not in (404, 422):  # over meanwhile
            raise
