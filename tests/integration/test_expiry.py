"""Objects that a bucket is about to delete by age: told before, and renewed by every backup. Time here is simulated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg2
import pytest

from fac_backup.operations import adopt, backup, doctor, verify
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import IntegrityError
from fac_backup.policy.matrix import load
from fac_backup.store.signing import new_private_pem
from tests.renewal_months import MATRIX, Clock, ageing_s3, world
from tests.support.github_api import Token, serve
from tests.support.plain_s3 import Thing
from tests.support.postgres import PostgresServer
from tests.unit.hosting.world import consumer


class Bucket:
    """A space in a bucket that deletes at 60 days, with one signed backup."""

    def __init__(self, objects: dict[str, Thing], clock: Clock, around: Surroundings) -> None:
        self.objects, self.clock, self.around = objects, clock, around
        adopt.run("dev", "", around)
        self.first = self.backup()

    def backup(self) -> str:
        return str(backup.run(backup.BackupRequest("dev", "daily"), self.around).data["backup_id"])

    def verify(self, backup_id: str = "") -> Result:
        return verify.run(verify.VerifyRequest("dev", backup_id), self.around)

    def doctor(self, matrix: str = MATRIX % 60) -> list[dict[str, Any]]:
        """What it finds of the store's expiry."""
        github = consumer()
        github.tokens["job"] = Token(permissions={"metadata", "actions", "contents"})
        with serve(github) as url:
            env = {**self.around.env, "GITHUB_TOKEN": "job", "GITHUB_API_URL": url}
            result = doctor.run(replace(self.around, matrix=load(matrix), env=env), "octo/app")
        return [one for one in result.data["findings"] if one["name"] == "expiry in dev"]

    def keys(self, folder: str) -> list[str]:
        return [key for key in self.objects if key.startswith(f"dev/{folder}")]

    def age(self, days: float, *keys: str) -> None:
        """Let objects be so old."""
        for key in keys:
            self.objects[key].modified = self.clock() - timedelta(days=days)

    def days_old(self, key: str) -> int:
        return (self.clock() - self.objects[key].modified).days


@pytest.fixture
def bucket(pg18: PostgresServer, unique: str) -> Iterator[Bucket]:
    url = pg18.create_database(unique)
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 500) g")
    connection.close()
    clock = Clock()
    with ageing_s3(clock) as server:
        around = world(server, clock, url, FAC_BACKUP_SIGNING_KEY=new_private_pem())
        yield Bucket(server.buckets["backups"], clock, around)


def expiry_in(result: Result) -> str:
    (found,) = [one["sentence"] for one in result.data["checks"] if one["name"] == "expiry"]
    return str(found)


@pytest.mark.parametrize(
    "needed", ["objects/", "documents/", "backups/{}/documents-uploads", "catalog/{}.json", "catalog/{}.json.sig"]
)
def test_verify_tells_of_each_object_of_the_backup_that_its_bucket_is_about_to_delete(
    bucket: Bucket, needed: str
) -> None:
    assert "would be deleted in 60 days" in expiry_in(bucket.verify())
    key = bucket.keys(needed.format(bucket.first))[-1]
    bucket.age(50, key)
    assert "would be deleted in 10 days" in expiry_in(bucket.verify())
    bucket.age(57, key)
    with pytest.raises(IntegrityError, match="its bucket will delete objects of it in 3 days"):
        bucket.verify()


def test_what_another_backup_alone_needs_does_not_count(bucket: Bucket) -> None:
    bucket.clock.now += timedelta(hours=1)
    second = bucket.backup()
    bucket.age(59, *bucket.keys(f"catalog/{bucket.first}"), *bucket.keys(f"backups/{bucket.first}/"))
    assert "would be deleted in" in expiry_in(bucket.verify(second))
    with pytest.raises(IntegrityError, match="will delete"):
        bucket.verify(bucket.first)


def test_each_backup_renews_what_is_due_of_all_records_and_listings_in_the_catalog_and_nothing_else(
    bucket: Bucket,
) -> None:
    own = bucket.keys(f"backups/{bucket.first}/")
    records = bucket.keys(f"catalog/{bucket.first}")
    assert [key for key in own if "documents-uploads" in key]
    assert len(records) == 2
    left = "dev/backups/dev_20260101T000000Z_daily/begun"
    bucket.objects[left] = Thing(b"killed\n", {})
    bucket.age(10, left, *own, *records)
    bucket.clock.now += timedelta(hours=1)
    bucket.backup()
    assert {bucket.days_old(key) for key in (*own, *records)} == {10}, "not due yet"
    bucket.age(40, left, *own, *records)
    bucket.clock.now += timedelta(hours=1)
    bucket.backup()
    assert {bucket.days_old(key) for key in (*own, *records)} == {0}
    assert bucket.days_old(left) == 40


def test_doctor_tells_what_will_expire_of_any_backup_that_counts_and_says_nothing_where_nothing_does(
    bucket: Bucket,
) -> None:
    bucket.clock.now += timedelta(hours=1)
    bucket.backup()
    (fine,) = bucket.doctor()
    assert fine["passed"] is True
    assert "would be deleted in 59 days" in fine["sentence"]
    bucket.age(57, *bucket.keys(f"backups/{bucket.first}/documents-uploads"))
    (late,) = bucket.doctor()
    assert (late["passed"], late["matters"]) == (False, False)
    assert late["sentence"] == "The bucket will delete objects that are needed in 3 days."
    assert bucket.doctor(MATRIX.replace("max_object_age_days: %s, ", "")) == []
    for key in bucket.keys(f"backups/{bucket.first}/documents-uploads"):
        del bucket.objects[key]
    (unknown,) = bucket.doctor()
    assert unknown["passed"] is None
    assert "cannot be told" in unknown["sentence"]
    for key in bucket.keys("catalog/"):
        del bucket.objects[key]
    (none,) = bucket.doctor()
    assert (none["passed"], none["sentence"]) == (True, "There are no objects to expire.")
