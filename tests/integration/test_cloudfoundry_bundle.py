"""The bundle: reproducible, chosen by wheels' tags for each Python, blind to the app's packages; and its wrapper."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tools import bundle

from tests.support.cloudfoundry import Binding, CloudFoundry
from tests.support.cloudfoundry.fac import APP, ORG, Fac, build
from tests.support.cloudfoundry.small_bundle import write as small_bundle

ROOT = Path(__file__).parents[2]
CF = """#!/bin/sh
cd {root} && exec {python} -m tests.support.cloudfoundry.cf "$@"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle for the Python that runs the tests, from the locked wheels."""
    folder = tmp_path_factory.mktemp("dist")
    try:
        return bundle.build(f"{sys.version_info[0]}.{sys.version_info[1]}", folder)
    except subprocess.CalledProcessError:
        pytest.skip("the locked wheels cannot be downloaded here")


@pytest.mark.slow
def test_the_bundle_runs_isolated_and_sees_its_own_packages_only(built: Path, tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text("raise SystemExit('the application\\'s boto3 was imported')")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    for _ in range(2):  # the second time from the folder that the first one unpacked
        shown = subprocess.run(
            [sys.executable, "-ISB", built, "--version"], env=environment, cwd=tmp_path, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert shown.stdout.startswith("fac-backup, version ")
    assert len(list(tmp_path.glob("fac-backup-*"))) == 1


@pytest.mark.slow
def test_a_folder_that_others_may_write_is_not_run_from(built: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-ISB", built, "--version"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    next(tmp_path.glob("fac-backup-*")).chmod(0o777)
    refused = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert (refused.returncode, "is not ours alone" in refused.stderr) == (1, True)


def test_the_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    contents = {"b.py": b"2", "a.py": b"1"}
    first = bundle.write(contents, "3.12", tmp_path / "one.pyz")
    second = bundle.write(dict(reversed(contents.items())), "3.12", tmp_path / "two.pyz")
    assert first == second == hashlib.sha256((tmp_path / "two.pyz").read_bytes()).hexdigest()
    assert bundle.write(contents | {"c.py": b""}, "3.12", tmp_path / "three.pyz") != first


def test_another_python_than_the_bundles_is_told_so(tmp_path: Path) -> None:
    bundle.write({}, "3.9", tmp_path / "x.pyz")
    told = subprocess.run([sys.executable, "-ISB", tmp_path / "x.pyz"], check=False, capture_output=True, text=True)
    assert "This bundle is for Python 3.9" in told.stderr


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.12", "3.13", "3.14"])
def test_each_python_gets_wheels_of_its_own_tag_and_an_old_enough_glibc(python: str, tmp_path: Path) -> None:
    try:
        found = bundle.wheels(python, ROOT / "requirements.lock", tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip("the locked wheels cannot be downloaded here")
    locked = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    assert len(found) == len(locked)
    tag = f".cpython-{python.replace('.', '')}-"
    for wheel in found:
        with zipfile.ZipFile(wheel) as archive:
            modules = [name for name in archive.namelist() if re.search(r"\.(cpython-|abi3)[^/]*\.so$", name)]
        assert all(tag in name or ".abi3." in name for name in modules)
        assert "none-any" in wheel.name or "x86_64" in wheel.name


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A small bundle on a loopback server: address and SHA-256."""
    path = small_bundle(tmp_path)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield (
        f"http://127.0.0.1:{server.server_address[1]}/{path.name}",
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    server.shutdown()
    server.server_close()


@pytest.fixture
def by_hand(served: tuple[str, str], tmp_path: Path) -> Iterator[tuple[CloudFoundry, Fac, dict[str, str]]]:
    """The stand-in, a ``cf`` that is logged in there, and what a person exports."""
    (tmp_path / "cf").write_text(CF.format(root=ROOT, python=sys.executable))
    (tmp_path / "cf").chmod(0o755)
    with CloudFoundry() as cloud:
        fac = build(cloud, None, None, ("staging",))
        yield cloud, fac, os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "CF_API": cloud.address, "CF_TARGET": f"{ORG}/staging",
            "CF_USERNAME": str(fac.user.name), "CF_PASSWORD": fac.user.password,
            "FAC_BACKUP_BUNDLE_URL": served[0], "FAC_BACKUP_BUNDLE_SHA256": served[1],
            "FAC_BACKUP_MATRIX": str(ROOT / "action-matrix.yml"),
        }  # fmt: skip


@pytest.mark.parametrize("bound", [False, True])
def test_the_wrapper_binds_runs_and_unbinds_only_what_it_bound(
    by_hand: tuple[CloudFoundry, Fac, dict[str, str]], tmp_path: Path, bound: bool
) -> None:
    cloud, fac, environment = by_hand
    theirs = Binding(None, "app", fac.instances["staging"]["backups"], fac.apps["staging"], state="succeeded")
    cloud.world.bindings += [theirs] if bound else []
    done = subprocess.run(
        [ROOT / "bin/fac-backup-task", APP, "backup", "--exit", "6", "it's"], env=environment, check=False,
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr  # cf tells only that a task failed
    assert "working on backup" in done.stdout
    assert '"bound": ["backups"' in done.stdout
    (task,) = cloud.world.tasks
    assert (task.failure_reason, len(task.command) <= 4096) == ("Exited with status 6", True)
    assert (theirs in cloud.world.bindings) == bound
    assert cloud.world.temporary() == []


def test_ctrl_c_ends_the_task_and_the_binding_of_the_wrapper(
    by_hand: tuple[CloudFoundry, Fac, dict[str, str]], tmp_path: Path
) -> None:
    cloud, _, environment = by_hand
    # Where the tests run in the background, SIGINT is ignored, and bash cannot trap what was ignored when it began.
    process = subprocess.Popen(
        ["env", "--default-signal=INT", ROOT / "bin/fac-backup-task", APP, "backup", "--sleep", "60"],
        env=environment, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not cloud.world.tasks and time.monotonic() < deadline:
        time.sleep(0.1)
    (binding,) = (one for one in cloud.world.bindings if one.labels)
    assert binding.labels["fac-backup-until"] > time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert cloud.world.tasks[0].state in ("CANCELING", "FAILED")
    assert binding not in cloud.world.bindings
