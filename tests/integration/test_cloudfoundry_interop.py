"""Somebody else's client, unmodified, is answered by the stand-in: it speaks Cloud Foundry, not our dialect."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloudfoundry import CloudFoundry
from tests.support.cloudfoundry.fac import APP, ORG, Fac, build

VERSION = "1.40.4"
PROGRAM = """
import json, sys, time
from cloudfoundry_client.client import CloudFoundryClient
from cloudfoundry_client.errors import InvalidStatusCode

api, user, password, org, app_name = sys.argv[1:]
client = CloudFoundryClient(api)
client.init_with_user_credentials(user, password)
said = {}
said["organizations"] = [o["name"] for o in client.v3.organizations]
org_guid = client.v3.organizations.get_first(names=org)["guid"]
space = client.v3.spaces.get_first(organization_guids=org_guid, names="staging")
app = client.v3.apps.get_first(space_guids=space["guid"], names=app_name)
backups = client.v3.service_instances.get_first(space_guids=space["guid"], names="backups")
said["instances"] = sorted(i["name"] for i in client.v3.service_instances.list(space_guids=space["guid"], per_page=2))
bindings = client.v3.service_credential_bindings
key = bindings.create("a-key", "key", backups["guid"], None, None, {"fac": "x"}, None)
said["job"] = client.v3.jobs.wait_for_job_completion(key, step=0.1, step_function=lambda s: s)["state"]
bindings.create(None, "app", backups["guid"], app["guid"], None, None, None, asynchronous=False)
said["details"] = sorted(bindings.get(next(iter(bindings.list(names="a-key")))["guid"], "details")["credentials"])
try:
    bindings.create(None, "app", backups["guid"], app["guid"], None, None, None)
except InvalidStatusCode as error:
    said["again"] = [int(error.status_code), error.body["errors"][0]["code"]]
task = client.v3.tasks.create(app["guid"], "exit 4", name="a-task", memory_in_mb=64, disk_in_mb=64)
while client.v3.tasks.get(task["guid"])["state"] == "RUNNING":
    time.sleep(0.1)
said["task"] = client.v3.tasks.get(task["guid"])["result"]
said["tasks"] = [t["name"] for t in client.v3.tasks.list(names="a-task")]
long = client.v3.tasks.create(app["guid"], "sleep 60", name="long")
said["cancelled"] = client.v3.tasks.cancel(long["guid"])["state"]
for binding in list(bindings.list(service_instance_guids=backups["guid"])):
    bindings._remove(binding["guid"], asynchronous=False)
said["left"] = len(list(bindings.list(service_instance_guids=backups["guid"])))
made = client.v3.service_instances._create({"type": "user-provided", "name": "ours", "credentials": {"a": "b"},
    "relationships": {"space": {"data": {"guid": space["guid"]}}}})
client.v3.service_instances.remove(made["guid"])
said["app"] = client.v3.apps.get(app["guid"])["state"]
print(json.dumps(said))
"""


@pytest.fixture(scope="session")
def their_client() -> Path:
    """The package from PyPI, in a folder of its own: it pins versions that ours do not need."""
    folder = Path(tempfile.gettempdir(), f"fac-test-cloudfoundry-client-{VERSION}")
    if not (folder / "cloudfoundry_client").exists():
        installed = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, f"cloudfoundry-client=={VERSION}"],
            capture_output=True, check=False, timeout=250,
        )  # fmt: skip
        if installed.returncode:
            pytest.skip(f"cloudfoundry-client {VERSION} cannot be installed here")
    return folder


@pytest.fixture
def cloud() -> Iterator[CloudFoundry]:
    with CloudFoundry() as running:
        yield running


def test_cloudfoundry_client_is_answered(cloud: CloudFoundry, their_client: Path) -> None:
    fac: Fac = build(cloud, None, None, ("production", "staging"))
    arguments = [cloud.address, str(fac.user.name), fac.user.password, ORG, APP]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env={"PYTHONPATH": str(their_client), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, Any] = json.loads(done.stdout)
    keys = ["access_key_id", "additional_buckets", "bucket", "endpoint", "fips_endpoint", "insecure_skip_verify",
            "region", "secret_access_key", "uri"]  # fmt: skip
    assert said == {
        "organizations": [ORG], "instances": ["backups", "fac-db", "fac-private-s3", "fac-public-s3"],
        "job": "COMPLETE", "details": keys, "again": [422, 10008], "tasks": ["a-task"],
        "task": {"failure_reason": "Exited with status 4"}, "cancelled": "CANCELING", "left": 0,
        "app": "STARTED",
    }  # fmt: skip
