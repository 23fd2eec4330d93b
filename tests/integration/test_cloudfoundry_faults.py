"""Fail, and kill the runner, at each API call in turn: after the following run nothing is left.

``FAC_TEST_EVERY=1`` tries every call (some minutes); by default a sample is drawn. The seed is printed (``-s``).
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from fac_backup.hosting.cloudfoundry.bindings import Patience
from fac_backup.hosting.cloudfoundry.handover import Listed
from fac_backup.hosting.cloudfoundry.http import Pace
from fac_backup.hosting.cloudfoundry.login import Account
from fac_backup.hosting.cloudfoundry.space import Order, Place, Settings, Source, run_in_space
from fac_backup.hosting.cloudfoundry.tasks import Limits
from fac_backup.plain.errors import FacBackupError
from fac_backup.plain.locations import BucketAddress
from tests.support.cloudfoundry import CloudFoundry, Fault
from tests.support.cloudfoundry.fac import APP, ORG, Fac, build
from tests.support.cloudfoundry.small_bundle import write

SEED = int(os.environ.get("FAC_TEST_SEED") or random.randrange(10**6))
SAMPLE = 10**6 if os.environ.get("FAC_TEST_EVERY") else 6
PACE = Pace(first_wait=0.001, longest_wait=0.005, poll_first=0.02, poll_longest=0.05, read=5, connect=2, attempts=2)
LIMITS = Limits(memory_mb=64, disk_mb=64, start_seconds=20, seconds=30, cancel_seconds=2, drain_seconds=0.05)
PATIENCE = Patience(job=3, accepted=3, other_run=2, release=3)
pytestmark = pytest.mark.timeout(2 * 3600 if os.environ.get("FAC_TEST_EVERY") else 300)
OPERATIONS = ("backup", "restore")
FAULTS: tuple[int | str, ...] = (500, 429, "drop", "drop after")
Case = TypeVar("Case")


def settings_of(cloud: CloudFoundry, fac: Fac, space: str, bundle: Path, run: str) -> Settings:
    return Settings(
        cloud.address, Account(fac.user.name or "", fac.user.password), Place(ORG, space, APP, "backups", space), run,
        (bundle,), LIMITS, pace=PACE, patience=PATIENCE, alive=lambda run: False,
        restart="stop" if space == "staging" else "none",
    )  # fmt: skip


def listed(address: BucketAddress) -> list[Listed]:
    return []


def operate(settings: Settings, operation: str) -> None:
    """A backup of staging, or a restore of staging from production's store."""
    order = Order(operation, (operation,), when_unknown=lambda bucket, reason: 1)
    source = None
    if operation == "restore":
        source = Source(settings.account, replace(settings.place, space="production", store="production"), listed)
    run_in_space(order, settings, source)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def cloud() -> Iterator[CloudFoundry]:
    """Without S3 behind it: what happens in the store is stubbed, the calls of the API are what counts here."""
    with CloudFoundry() as running:
        yield running


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    here = "fac_backup.hosting.cloudfoundry.s3."
    for name, value in (
        ("leave", lambda *a: None), ("leave_file", lambda *a: None), ("remove", lambda *a: None),
        ("older_than", lambda *a: []), ("fetch", lambda *a: b'{"exit_code": 0, "document": {}}'),
        ("presign", lambda *a: "https://s3.invalid/bundle"),
    ):  # fmt: skip
        monkeypatch.setattr(here + name, value)
    monkeypatch.setattr("fac_backup.hosting.cloudfoundry.space.Bindings", _bindings)
    monkeypatch.setattr("fac_backup.hosting.cloudfoundry.space.command", lambda *a: "sleep 0.1")


def _bindings(*arguments: object, **settings: object) -> object:
    from fac_backup.hosting.cloudfoundry.bindings import Bindings

    return Bindings(*arguments, probe=lambda address: True, **settings)  # type: ignore[arg-type]


def calls_of(cloud: CloudFoundry, fac: Fac, operation: str, bundle: Path) -> int:
    """How many calls an undisturbed run makes."""
    operate(settings_of(cloud, fac, "staging", bundle, "undisturbed"), operation)
    assert cloud.world.temporary() == []
    count = len(cloud.calls)
    cloud.calls.clear()
    return count


def sample(cases: list[Case], seed: int) -> list[Case]:
    return random.Random(seed).sample(cases, min(SAMPLE, len(cases)))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_is_left_after_the_run_that_follows_a_failure_at_any_call(
    cloud: CloudFoundry, bundle: Path, operation: str
) -> None:
    fac = build(cloud, None, None, ("production", "staging"))
    cases = [(n, what) for n in range(1, calls_of(cloud, fac, operation, bundle) + 1) for what in FAULTS]
    chosen = sample(cases, SEED)
    for number, what in chosen:
        told = f"seed {SEED}: {operation}, {what} at call {number}"
        cloud.faults = [Fault(what, nth=number, times=3)]  # more than the client repeats
        with suppress(FacBackupError):  # anything else is a failure of this test
            operate(settings_of(cloud, fac, "staging", bundle, f"faulty {number}"), operation)
        cloud.faults = []
        operate(settings_of(cloud, fac, "staging", bundle, "following"), operation)
        assert cloud.world.temporary() == [], told
        assert fac.apps["staging"].state == "STARTED", told
    print(f"{operation}: {len(chosen)} of {len(cases)} failures (seed {SEED}); leftovers after the following run: 0")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_is_left_after_the_run_that_follows_a_kill_at_any_call(
    cloud: CloudFoundry, bundle: Path, operation: str
) -> None:
    fac = build(cloud, None, None, ("production", "staging"))
    survived = 0
    calls = list(range(1, calls_of(cloud, fac, operation, bundle) + 1))
    chosen = sample(calls, SEED + 1)
    for number in chosen:
        told = f"seed {SEED}: {operation}, killed at call {number}"
        victim = multiprocessing.get_context("fork").Process(
            target=operate, args=(settings_of(cloud, fac, "staging", bundle, f"killed {number}"), operation)
        )

        def kill(_: int, victim: multiprocessing.process.BaseProcess = victim) -> None:
            os.kill(victim.pid or 0, signal.SIGKILL)

        cloud.faults = [Fault(kill, nth=number)]
        victim.start()
        victim.join(30)
        # How often a job or a task is asked after depends on the machine: a run may end before its last number comes.
        assert victim.exitcode in (-signal.SIGKILL, 0), told
        survived += victim.exitcode == 0
        assert survived <= 2, told
        cloud.faults = []
        operate(settings_of(cloud, fac, "staging", bundle, "following"), operation)
        assert cloud.world.temporary() == [], told
        assert fac.apps["staging"].state == "STARTED", told
        leaked = [s for a in cloud.world.apps for started in a.started_with for s in started["s3"]]
        assert all(service["name"] != "backups" for service in leaked), told
    print(f"{operation}: {len(chosen)} of {len(calls)} kills (seed {SEED}); leftovers after the following run: 0")


def test_everything_is_gone_once_a_lease_has_passed_even_if_nobody_can_say_who_lives(
    cloud: CloudFoundry, bundle: Path
) -> None:
    from datetime import timedelta

    from fac_backup.hosting.cloudfoundry.bindings import utc_now
    from fac_backup.hosting.cloudfoundry.client import Client
    from fac_backup.hosting.cloudfoundry.sweep import sweep

    fac = build(cloud, None, None, ("production", "staging"))
    settings = replace(settings_of(cloud, fac, "staging", bundle, "killed"), alive=None)
    cloud.faults = [Fault(500, match="DELETE|cancel|PATCH /v3/[st]|actions/start", times=10**6)]
    with pytest.raises(FacBackupError):
        operate(settings, "restore")
    cloud.faults = []
    assert len(cloud.world.temporary()) == 3  # a binding, a key, and the app that it had stopped
    client = Client(cloud.address, settings.account, PACE)
    spaces = [client.space(ORG, name) for name in ("production", "staging")]
    assert [found.removed for found in sweep(client, spaces, utc_now())] == [False] * 3
    assert len(cloud.world.temporary()) == 3
    assert [found.removed for found in sweep(client, spaces, utc_now() + timedelta(minutes=16))] == [True] * 3
    assert cloud.world.temporary() == []
    assert fac.apps["staging"].state == "STARTED"
