"""One backup handed to a lower space: exactly its objects, no key, for a bounded time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3

from fac_backup.hosting.cloudfoundry import s3 as runner_s3
from fac_backup.hosting.cloudfoundry.bindings import Patience
from fac_backup.hosting.cloudfoundry.handover import Handover, Index, Listed, UrlBucket, write_index
from fac_backup.hosting.cloudfoundry.login import Account
from fac_backup.hosting.cloudfoundry.presigned import Signer
from fac_backup.hosting.cloudfoundry.space import Order, Place, Settings, Source, run_in_space
from fac_backup.hosting.cloudfoundry.tasks import Limits
from fac_backup.plain.errors import FailedError, IntegrityError
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import Changed, NotFoundError, TooLargeError
from tests.support.cloudfoundry import CloudFoundry
from tests.support.cloudfoundry.fac import APP, ORG, Fac
from tests.support.cloudfoundry.fixtures import QUICK, cloud, fac, s3_users  # noqa: F401
from tests.support.cloudfoundry.small_bundle import write
from tests.support.s3 import S3Server

HOSTILE = "documents/private/it's 100% «ü» a+b&c=d?e#f~(1).pdf"


@pytest.fixture
def address(s3_users: S3Server) -> BucketAddress:  # noqa: F811
    keys = S3Credentials(s3_users.access_key, s3_users.secret_key, "", "us-east-1", s3_users.endpoint)
    found = BucketAddress(s3_users.bucket("source"), "production/", keys)
    for key, text in (("catalog/x.json", "{}"), (HOSTILE, "hello"), ("catalog/other.json", "no")):
        runner_s3.leave(found, key, text.encode())
    return found


def index_of(address: BucketAddress, *objects: Listed, seconds: int = 600, ago: timedelta = timedelta()) -> bytes:
    return write_index(Signer(address, datetime.now(UTC) - ago, seconds), objects)


def test_an_address_is_what_botocore_signs(address: BucketAddress) -> None:
    client = runner_s3.client_of(address)
    signer = Signer(address, datetime.now(UTC), 600)
    for key in ("catalog/x.json", HOSTILE):
        url = signer.url(key)
        assert urllib3.request("GET", url).status == 200
        theirs = client.generate_presigned_url(
            "get_object", Params={"Bucket": address.name, "Key": address.prefix + key}, ExpiresIn=600
        )
        assert theirs.split("?")[0] == url.split("?")[0]


def test_exactly_the_listed_objects_can_be_read(address: BucketAddress) -> None:
    source = UrlBucket(lambda: index_of(address, Listed("catalog/x.json", 2), Listed(HOSTILE, 5)))
    assert [(found.key, source.get(found.key)) for found in source.list()] == [
        ("catalog/x.json", b"{}"),
        (HOSTILE, b"hello"),
    ]
    assert source.head("catalog/other.json") is None
    with pytest.raises(NotFoundError, match="no object of that name"):
        source.get("catalog/other.json")


def test_an_object_of_another_size_is_an_integrity_error(address: BucketAddress) -> None:
    source = UrlBucket(lambda: index_of(address, Listed(HOSTILE, 6)))
    with pytest.raises(IntegrityError):
        source.get(HOSTILE)


def test_an_object_that_is_gone_is_told_from_one_that_is_refused(address: BucketAddress) -> None:
    source = UrlBucket(lambda: index_of(address, Listed("gone", 6)))
    with pytest.raises(NotFoundError, match="is gone"):
        source.get("gone")
    assert source.head("gone") is None


def test_a_head_says_what_s3_keeps_beside_the_bytes(address: BucketAddress) -> None:
    client = runner_s3.client_of(address)
    where = {"Bucket": address.name, "Key": address.prefix + "kept"}
    client.put_object(**where, Body=b"hello", ContentType="text/x-fac", Metadata={"a": "b"}, CacheControl="no-cache")
    client.put_object(Bucket=address.name, Key=address.prefix + "empty", Body=b"")
    source = UrlBucket(lambda: index_of(address, Listed("kept", 5), Listed("empty", 0)))
    head = source.head("kept")
    assert head is not None
    assert (head.size, head.content_type, dict(head.metadata)) == (5, "text/x-fac", {"a": "b"})
    assert head.headers["cache-control"] == "no-cache"
    assert head.etag == client.head_object(**where)["ETag"]
    empty = source.head("empty")
    assert empty is not None
    assert empty.size == 0
    assert source.get("empty") == b""
    assert source.get("kept", limit=5) == b"hello"
    with pytest.raises(TooLargeError):
        source.get("kept", limit=4)
    with pytest.raises(Changed):
        next(source.stream("kept", if_match='"0"'))


def test_signatures_that_have_ended_are_renewed_by_the_next_index(address: BucketAddress) -> None:
    indices = iter(
        [
            index_of(address, Listed(HOSTILE, 5), ago=timedelta(hours=2)),
            index_of(address, Listed(HOSTILE, 5)),
        ]
    )
    assert UrlBucket(lambda: next(indices)).get(HOSTILE) == b"hello"


def test_signatures_that_stay_ended_are_reported(address: BucketAddress) -> None:
    source = UrlBucket(lambda: index_of(address, Listed(HOSTILE, 5), ago=timedelta(hours=2)))
    with pytest.raises(FailedError, match="refused"):
        source.get(HOSTILE)


@pytest.mark.parametrize("damage", [b"", b"junk", b"\x28\xb5\x2f\xfd"])
def test_a_damaged_index_is_an_integrity_error(damage: bytes) -> None:
    with pytest.raises(IntegrityError):
        Index.parse(damage)


def test_an_index_cut_off_anywhere_is_an_integrity_error(address: BucketAddress) -> None:
    whole = index_of(address, *(Listed(f"objects/{number}", 5) for number in range(50)))
    assert len(Index.parse(whole).objects) == 50
    for length in range(0, len(whole), 37):
        with pytest.raises(IntegrityError):
            Index.parse(whole[:length])


def test_the_runner_renews_at_half_time_and_not_before(address: BucketAddress) -> None:
    now = [datetime.now(UTC)]
    target = replace(address, prefix="target/")
    handover = Handover(address, target, "index.zst", lambda: [Listed(HOSTILE, 5)], seconds=600, now=lambda: now[0])
    handover.leave()
    first = runner_s3.fetch(target, "index.zst")
    now[0] += timedelta(seconds=299)
    handover.renew_if_due()
    assert runner_s3.fetch(target, "index.zst") == first
    now[0] += timedelta(seconds=2)
    handover.renew_if_due()
    assert runner_s3.fetch(target, "index.zst") != first


def test_a_task_reads_productions_backup_without_its_key(
    cloud: CloudFoundry, fac: Fac, s3_users: S3Server, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    bucket = fac.instances["production"]["backups"].bucket
    admin = s3_users.client()
    for name in ("catalog/a.json", "objects/aa/piece.zst", "catalog/b.json"):
        admin.put_object(Bucket=bucket, Key=f"production/{name}", Body=name.encode())
    account = Account(fac.user.name or "", fac.user.password)
    settings = Settings(
        cloud.address, account, Place(ORG, "staging", APP, "backups", "staging"), "run", (write(tmp_path),),
        Limits(memory_mb=64, disk_mb=64, start_seconds=30, seconds=60), pace=QUICK, patience=Patience(5, 5, 5, 5),
    )  # fmt: skip
    seen: list[str] = []

    def objects(address: BucketAddress) -> list[Listed]:
        seen.append(address.credentials.access_key_id)
        wanted = ("production/catalog/a.json", "production/objects/aa/piece.zst")
        sizes = {key: runner_s3.head(address, key) or 0 for key in wanted}
        return [Listed(key, size) for key, size in sizes.items()]

    source = Source(account, Place(ORG, "production", APP, "backups", "production"), objects)
    result = run_in_space(Order("restore", ("restore", "--read")), settings, source)
    assert result.document["got"] == {f"production/{name}": name for name in ("catalog/a.json", "objects/aa/piece.zst")}
    task = cloud.world.tasks[0]
    assert seen
    assert all(key not in str((task.command, task.environment)) for key in seen)
    assert cloud.world.temporary() == []
    kept: Any = admin.list_objects_v2(Bucket=fac.instances["staging"]["backups"].bucket)["Contents"]
    assert ["bundles" in entry["Key"] for entry in kept] == [True]
