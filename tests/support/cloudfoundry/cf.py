"""What ``bin/fac-backup-task`` and people need of the ``cf`` command, on the stand-in (the real one wants more of it).

    export CF_API=http://127.0.0.1:… CF_USERNAME=… CF_PASSWORD=… CF_TARGET=gsa-tts-oros-fac/staging
    python -m tests.support.cloudfoundry.cf app gsa-fac --guid
    python -m tests.support.cloudfoundry.cf curl [-X METHOD] [-d JSON] /v3/…
    python -m tests.support.cloudfoundry.cf bind-service | unbind-service gsa-fac backups --wait
    python -m tests.support.cloudfoundry.cf run-task gsa-fac --command … --name … -m 3G -k 7G --wait

As the real one it ends with 1 if the task failed; unlike it, it shows the task's log, which ``cf logs --recent`` would.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from fac_backup.hosting.cloudfoundry.client import App, Client, Space
from fac_backup.hosting.cloudfoundry.http import Pace
from fac_backup.hosting.cloudfoundry.login import Account
from fac_backup.hosting.cloudfoundry.logs import TaskLog
from fac_backup.plain.errors import FacBackupError

BINDINGS = "/v3/service_credential_bindings"


def main() -> int:
    """Do what the arguments say; the exit code."""
    parser = argparse.ArgumentParser(prog="cf")
    commands = parser.add_subparsers(dest="command", required=True)
    app = commands.add_parser("app")
    app.add_argument("app")
    app.add_argument("--guid", action="store_true", required=True)
    curl = commands.add_parser("curl")
    curl.add_argument("path")
    curl.add_argument("-X", dest="method", default="GET")
    curl.add_argument("-d", dest="data")
    for name in ("bind-service", "unbind-service"):
        bind = commands.add_parser(name)
        bind.add_argument("app")
        bind.add_argument("instance")
        bind.add_argument("--wait", action="store_true", required=True)
    task = commands.add_parser("run-task")
    task.add_argument("app")
    task.add_argument("--command", dest="line", required=True)
    task.add_argument("--name", required=True)
    task.add_argument("-m", dest="memory", default="1G")
    task.add_argument("-k", dest="disk", default="1G")
    task.add_argument("--wait", action="store_true", required=True)
    chosen = parser.parse_args()
    account = Account(os.environ["CF_USERNAME"], os.environ["CF_PASSWORD"])
    client = Client(os.environ["CF_API"], account, Pace(poll_first=0.05, poll_longest=0.2))
    org, _, space_name = os.environ["CF_TARGET"].partition("/")
    try:
        return act(client, client.space(org, space_name), chosen)
    except FacBackupError as error:
        print(f"FAILED: {error.what}", file=sys.stderr)
        return 1


def act(client: Client, space: Space, chosen: argparse.Namespace) -> int:
    """One command."""
    if chosen.command == "curl":
        body = json.loads(chosen.data) if chosen.data else None
        print(json.dumps(client.request(chosen.method, chosen.path, body, what="cf curl").body, indent=1))
        return 0
    app = client.app(space, chosen.app)
    if chosen.command == "app":
        print(app.guid)
        return 0
    if chosen.command == "run-task":
        return run_task(client, app, chosen)
    instance = client.instance(space, chosen.instance)
    if chosen.command == "bind-service":
        related = {"app": {"data": {"guid": app.guid}}, "service_instance": {"data": {"guid": instance.guid}}}
        replies = [client.request("POST", BINDINGS, {"type": "app", "relationships": related}, what="bind")]
    else:
        found = client.resources(BINDINGS, what="list", app_guids=app.guid, service_instance_guids=instance.guid)
        replies = [client.request("DELETE", f"{BINDINGS}/{one['guid']}", what="unbind") for one in list(found)]
    for reply in replies:
        client.wait(reply, what=chosen.command, seconds=60)
    return 0


def run_task(client: Client, app: App, chosen: argparse.Namespace) -> int:
    """Post the task and wait for its end."""
    body = {
        "command": chosen.line, "name": chosen.name, "memory_in_mb": megabytes(chosen.memory),
        "disk_in_mb": megabytes(chosen.disk),
    }  # fmt: skip
    log = TaskLog(client, app, chosen.name, time.time_ns())
    guid = client.request("POST", f"/v3/apps/{app.guid}/tasks", body, what="run-task").body["guid"]
    while True:
        state = client.get(f"/v3/tasks/{guid}", what="task")["state"]
        for line in log.new_lines():
            print(line, flush=True)
        if state in ("SUCCEEDED", "FAILED"):
            return int(state == "FAILED")
        time.sleep(0.1)


def megabytes(text: str) -> int:
    """``3G`` or ``512M`` in MiB."""
    return int(text[:-1]) * (1024 if text.endswith("G") else 1)


if __name__ == "__main__":
    sys.exit(main())
