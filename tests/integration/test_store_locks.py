"""Leases on a real SeaweedFS, under fire."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import pytest

from fac_backup.plain.errors import LockedError
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import Bucket
from fac_backup.store.locks import Holder, Locks, State
from tests.support.faults import S3Front
from tests.support.s3 import S3Server

LEASE = 2.0


@pytest.fixture(scope="module")
def bucket_name(s3: S3Server) -> Iterator[str]:
    """One bucket for all tests here, each with a prefix of its own: every bucket costs the server some volumes."""
    name = s3.bucket("store")
    yield name
    s3.client().delete_bucket(Bucket=name)


@pytest.fixture
def bucket(s3: S3Server, bucket_name: str) -> Bucket:
    given = S3Credentials(s3.access_key, s3.secret_key, endpoint=s3.endpoint)
    return Bucket(BucketAddress(bucket_name, f"{token_hex(4)}/", given), role="the backups bucket")


def locks(bucket: Bucket, owner: str, lease: float = 60) -> Locks:
    return Locks(bucket, owner=owner, lease=lease, slack=1.0)


def test_shared_leases_coexist_and_exclude_an_exclusive_one(bucket: Bucket) -> None:
    one, two, three = (locks(bucket, name) for name in ("backup", "restore elsewhere", "purge"))
    with one.acquire("store", "shared"), two.acquire("store", "shared"):
        with pytest.raises(LockedError, match=r"The store is locked by backup since 20\d\d-"):
            three.acquire("store", "exclusive")
        assert {holder.owner for holder in three.holders("store")} == {"backup", "restore elsewhere"}
        with three.acquire("space", "exclusive"):
            pass
    with three.acquire("store", "exclusive"), pytest.raises(LockedError, match="locked by purge"):
        one.acquire("store", "shared")
    assert three.holders("store") == ()


def test_a_lock_is_given_back_though_the_store_refuses_three_times_on_end(s3: S3Server, bucket: Bucket) -> None:
    refusals = 0

    def fault(_method: str, _path: str) -> str:
        nonlocal refusals
        refusals -= 1
        return "503" if refusals >= 0 else ""

    with S3Front(s3.port, fault) as front:
        given = replace(bucket.address.credentials, endpoint=front.endpoint)
        there = Bucket(replace(bucket.address, credentials=given), role="the backups bucket")
        lease = locks(there, "backup").acquire("space", "shared")
        refusals = 3
        lease.release()
    assert locks(bucket, "next").holders("space") == ()


def test_one_of_sixty_four_contenders_wins_an_exclusive_lock(bucket: Bucket) -> None:
    contenders = locks(bucket, "one of many")
    contenders.acquire("store", "exclusive").release()
    held = []

    def contend(number: int) -> bool:
        with suppress(LockedError):
            held.append(contenders.acquire("store", "exclusive"))
            return True
        return False

    with ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(contend, range(64))) == 1
    held[0].release()


def test_many_that_wait_hold_it_one_after_the_other_and_never_two_at_once(bucket: Bucket) -> None:
    inside, most = [], []

    def work(number: int) -> None:
        with locks(bucket, f"worker {number}", lease=4).acquire("store", "exclusive", wait=60):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.02)
            inside.remove(number)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))
    assert most == [1] * 5


def test_a_lease_is_renewed_while_its_holder_lives(bucket: Bucket) -> None:
    with locks(bucket, "long", lease=LEASE).acquire("store", "exclusive") as lease:
        time.sleep(LEASE + 2)
        lease.check()
        with pytest.raises(LockedError):
            locks(bucket, "other", lease=LEASE).acquire("store", "exclusive")


def test_the_wait_for_a_lock_is_bounded(bucket: Bucket) -> None:
    with locks(bucket, "long").acquire("store", "shared"):
        began = time.monotonic()
        with pytest.raises(LockedError):
            locks(bucket, "other").acquire("store", "exclusive", wait=1)
        assert 0.9 < time.monotonic() - began < 10


HOLD = """
import json, os, sys, time
from fac_backup.plain.errors import LockedError
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import Bucket
from fac_backup.store.locks import Locks
key, secret, endpoint, name, prefix, lease = json.loads(os.environ["HOLD"])
bucket = Bucket(BucketAddress(name, prefix, S3Credentials(key, secret, endpoint=endpoint)), role="the backups bucket")
lease = Locks(bucket, owner="the child", lease=lease, slack=1.0).acquire("store", "exclusive")
print("held", flush=True)
sys.stdin.readline()
try:
    lease.check()
    print("still mine")
except LockedError as error:
    print(error.what)
lease.release()
"""


def _child(bucket: Bucket, s3: S3Server) -> subprocess.Popen[str]:
    where = [s3.access_key, s3.secret_key, s3.endpoint, bucket.address.name, bucket.address.prefix, LEASE]
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD], env={**os.environ, "HOLD": json.dumps(where)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_killed_holder_is_taken_over_after_its_lease_by_one_of_two(bucket: Bucket, s3: S3Server) -> None:
    child = _child(bucket, s3)
    child.kill()
    child.wait()
    with pytest.raises(LockedError, match="locked by the child"):
        locks(bucket, "early").acquire("store", "exclusive")
    time.sleep(LEASE + 2.1)
    assert [holder.owner for holder in locks(bucket, "x").expired("store")] == ["the child"]
    held = []

    def take(number: int) -> None:
        with suppress(LockedError):
            held.append(locks(bucket, f"{number}").acquire("store", "exclusive"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, range(8)))
    assert len(held) == 1
    held[0].check()
    held[0].release()


def test_a_paused_holder_that_wakes_up_notices_and_leaves_the_new_holder_alone(bucket: Bucket, s3: S3Server) -> None:
    child = _child(bucket, s3)
    child.send_signal(signal.SIGSTOP)
    try:
        with locks(bucket, "heir").acquire("store", "exclusive", wait=30) as heir:
            child.send_signal(signal.SIGCONT)
            assert "was lost" in child.communicate("\n", timeout=30)[0]
            heir.renew()
            heir.check()
            assert [holder.owner for holder in heir._locks.holders("store")] == ["heir"]
    finally:
        child.send_signal(signal.SIGCONT)
        child.kill()
        child.wait()


def test_a_lease_that_cannot_be_renewed_is_given_up_before_others_may_take_it(bucket: Bucket) -> None:
    now = [100.0]
    mine = Locks(bucket, owner="mine", lease=60, ticks=lambda: now[0])
    with mine.acquire("store", "exclusive") as lease:
        now[0] += 44
        lease.check()
        now[0] += 2
        with pytest.raises(LockedError, match="could not be renewed in time"):
            lease.check()


def test_wrong_wall_clocks_neither_keep_a_dead_lock_nor_break_a_living_one(bucket: Bucket) -> None:
    def wrong(owner: str, days: int) -> Locks:
        return Locks(bucket, owner=owner, clock=lambda: datetime.now(UTC) + timedelta(days=days))

    with wrong("past", -400).acquire("store", "exclusive"), pytest.raises(LockedError, match="locked by past"):
        wrong("future", 400).acquire("store", "exclusive")
    with wrong("future", 400).acquire("store", "exclusive"), pytest.raises(LockedError, match="locked by future"):
        wrong("past", -400).acquire("store", "exclusive")


def test_an_entry_whose_server_time_cannot_be_judged_is_watched_until_it_has_not_moved_for_a_lease(
    bucket: Bucket,
) -> None:
    now = datetime.now(UTC)
    for renewed in (None, now + timedelta(days=30)):
        dead = Holder(token="a" * 32, mode="exclusive", owner="?", since=now, lease=1, renewed=renewed, beat=3)
        bucket.put("locks/store.json", State(holders=(dead,)).model_dump_json().encode())
        began = time.monotonic()
        locks(bucket, "heir", lease=1).acquire("store", "exclusive", wait=30).release()
        assert time.monotonic() - began > 1.9


def test_unlock_removes_one_holder_or_all_and_even_a_damaged_lock(bucket: Bucket) -> None:
    one, two = locks(bucket, "one"), locks(bucket, "two")
    first, second = one.acquire("store", "shared"), two.acquire("store", "shared")
    assert one.break_lock("store", first.token) == 1
    assert [holder.owner for holder in one.holders("store")] == ["two"]
    first.renew()
    with pytest.raises(LockedError, match="taken it over or removed"):
        first.check()
    second.check()
    bucket.put("locks/store.json", b"{damaged")
    with pytest.raises(LockedError, match="damaged"):
        one.acquire("store", "shared")
    assert one.break_lock("store") == 1
    one.acquire("store", "exclusive").release()
    first.release()
    second.release()
