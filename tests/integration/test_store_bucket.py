"""Buckets on a real SeaweedFS; what it does not have, on moto."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import Any
from urllib.parse import unquote

import pytest

from fac_backup.plain.errors import FacBackupError
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import AlreadyThere, Bucket, Changed, DeniedError, NotFoundError, TooLargeError, Tuning
from tests.support.faults import S3Front
from tests.support.s3 import S3Server

HOSTILE = [
    "a b", "a+b", "new\nline", "cr\rx", "tab\tz", "::error::x", "##[group]", "%41", "a%2Fb", "q?x=1&y=#h", "ünï",
    "日本", "e\u0301", "emoji😀", "\x01ctl", "\x7f", "*", "a|b", '"q"', "<x>&amp;", "a-b", "a/b", "a0", "plain",
    "d" * 200 + "/f",
]  # fmt: skip
"""Keys that both servers hold. SeaweedFS stands on folders and cannot hold the rest as they are."""
TRUE_S3_ONLY = ["/lead", "a//b", "a//", "//", "trail/", "back\\slash", "k" * 1024, "é" * 512, "../up", "./dot", "x/."]


_NAMES: dict[int, str] = {}


def _bucket(server: S3Server) -> str:
    """One bucket for all tests here, each with a prefix of its own: every bucket costs the server some volumes."""
    if server.port not in _NAMES:
        _NAMES[server.port] = server.bucket("store")
    return _NAMES[server.port]


@pytest.fixture(scope="module", autouse=True)
def _no_leftovers(s3: S3Server) -> Iterator[None]:
    yield
    if s3.port in _NAMES:
        s3.client().delete_bucket(Bucket=_NAMES.pop(s3.port))


def address(server: S3Server, prefix: str = "", **other: str) -> BucketAddress:
    given = {"access_key_id": server.access_key, "secret_access_key": server.secret_key, "endpoint": server.endpoint}
    return BucketAddress.parse(f"s3://{_bucket(server)}/{token_hex(4)}{prefix}", S3Credentials(**{**given, **other}))


@pytest.fixture
def bucket(s3: S3Server) -> Iterator[Bucket]:
    made = Bucket(address(s3, "/some prefix"), role="the backups bucket", jobs=8)
    yield made
    made.delete_many(info.key for info in made.list())


class _Moto:
    """Takes the place of the HTTP session and hands requests to moto, which has S3's own ideas of keys and tags."""

    def send(self, request: Any) -> Any:
        from moto.core.models import botocore_stubber

        answer = botocore_stubber("before-send.s3.Any", request)
        answer.raw.release_conn = lambda: None
        answer.raw.stream = lambda chunk=0, decode_content=False: iter([bytes(answer.raw.read())])
        return answer


@pytest.fixture
def on_moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    import boto3
    from moto import mock_aws

    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    with mock_aws():
        name = f"store-{token_hex(4)}"
        boto3.client("s3", aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1").create_bucket(
            Bucket=name
        )
        made = Bucket(BucketAddress(name, "", S3Credentials("a", "b", region="us-east-1")), role="the backups bucket")
        assert made.client()
        made.wire._http = _Moto()
        yield made


def _round_trip(bucket: Bucket, keys: list[str]) -> None:
    for key in keys:
        bucket.put(key, key.encode())
    found = list(bucket.list())
    assert [info.key for info in found] == sorted(keys, key=str.encode)
    assert [info.size for info in found] == [len(info.key.encode()) for info in found]
    for key in keys:
        assert bucket.get(key) == key.encode()
        head = bucket.head(key)
        assert head is not None
        assert head.size == len(key.encode())
        assert bucket.copy_from(bucket, key, "copies of " + key[:1].replace("é", "e") + token_hex(4)).etag == head.etag
    assert bucket.delete_many(keys) == len(keys)
    assert len(list(bucket.list())) == len(keys)  # the copies
    assert not [info for info in bucket.list() if not info.key.startswith("copies of ")]


def test_hostile_keys_survive_put_list_get_copy_and_delete(bucket: Bucket) -> None:
    _round_trip(bucket, HOSTILE)


def test_keys_that_only_a_true_s3_holds_survive_as_well(on_moto: Bucket) -> None:
    _round_trip(on_moto, [key for key in HOSTILE + TRUE_S3_ONLY if key not in ("cr\rx", "\x01ctl")])


def test_only_the_prefix_is_seen_and_keys_are_relative_to_it(bucket: Bucket, s3: S3Server) -> None:
    s3.client().put_object(Bucket=bucket.address.name, Key=bucket.address.prefix[:-1] + "ed", Body=b"x")
    bucket.put("in", b"1")
    assert [info.key for info in bucket.list()] == ["in"]
    assert bucket.below("sub/").full("k").endswith("/some prefix/sub/k")
    s3.client().delete_object(Bucket=bucket.address.name, Key=bucket.address.prefix[:-1] + "ed")


def test_a_listing_of_many_pages_is_complete_and_in_order_from_any_start(bucket: Bucket) -> None:
    keys = [f"{i // 500:02}-x/{i:05}" for i in range(2300)] + ["00-a", "00-x-y", "00-x!"]
    with bucket.parallel() as pool:
        list(pool.map(lambda key: bucket.put(key, b""), keys))
    assert [info.key for info in bucket.list()] == sorted(keys)
    assert [info.key for info in bucket.list("03-", start_after="03-x/01900")] == sorted(
        key for key in keys if key.startswith("03-") and key > "03-x/01900"
    )


def test_a_conditional_write_has_one_winner_of_sixty_four(bucket: Bucket) -> None:
    def contend(number: int) -> bool:
        try:
            bucket.put_new("lock", f"{number}".encode())
        except AlreadyThere:
            return False
        return True

    with ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(contend, range(64))) == 1


def test_a_conditional_write_that_breaks_off_before_its_body_is_written_by_its_next_attempt(s3: S3Server) -> None:
    """SeaweedFS keeps an empty object of it, which then looks as if somebody else had been first."""
    to_break = 1

    def fault(method: str, _path: str) -> str:
        nonlocal to_break
        if method != "PUT" or not to_break:
            return ""
        to_break -= 1
        return "head only"

    with S3Front(s3.port, fault) as front:
        bucket = Bucket(address(s3, endpoint=front.endpoint), role="the backups bucket", jobs=8)
        first = bucket.put_new("manifest", b"whole")
        assert bucket.get_with_etag("manifest") == (b"whole", first)
        to_break = 1
        second = bucket.replace("manifest", b"new", first)
        assert bucket.get_with_etag("manifest") == (b"new", second)
        bucket.delete("manifest")
    assert front.done == ["head only", "head only"]


def test_replace_and_delete_if_hold_only_for_the_etag_that_was_seen(bucket: Bucket) -> None:
    first = bucket.put_new("x", b"1")
    second = bucket.replace("x", b"2", first)
    with pytest.raises(Changed):
        bucket.replace("x", b"3", first)
    assert bucket.get_with_etag("x") == (b"2", second)
    assert not bucket.delete_if("x", first)
    assert bucket.delete_if("x", second)
    assert bucket.head("x") is None
    with pytest.raises(Changed):
        bucket.replace("x", b"3", second)
    assert bucket.conditional_writes()
    assert list(bucket.list()) == []


def test_a_missing_object_a_large_one_and_an_empty_one(bucket: Bucket) -> None:
    with pytest.raises(NotFoundError):
        bucket.get("no")
    with pytest.raises(NotFoundError):
        bucket.copy_from(bucket, "no", "x", size=1)
    bucket.delete("no")
    bucket.put("large", b"x" * 1000)
    with pytest.raises(TooLargeError):
        bucket.get("large", limit=999)
    bucket.put("empty", b"")
    assert bucket.get("empty") == b""


def test_type_and_metadata_survive_copy_renewal_and_streaming(bucket: Bucket) -> None:
    headers = {
        "cache-control": "max-age=5",
        "content-disposition": 'attachment; filename="a b.pdf"',
        "content-language": "de",
    }
    bucket.put("a", b"body", content_type="application/x-thing", metadata={"who": "me"}, headers=headers)
    before = bucket.head("a")
    assert before is not None
    assert before.content_type == "application/x-thing"
    assert before.metadata == {"who": "me"}
    assert headers.items() <= before.headers.items()
    bucket.copy_from(bucket, "a", "b", if_match=before.etag, size=4)
    time.sleep(1.1)
    bucket.renew("a")
    renewed, copied = bucket.head("a"), bucket.head("b")
    assert renewed is not None
    assert copied is not None
    assert renewed.modified > before.modified
    for other in (renewed, copied):
        assert (other.content_type, other.metadata, other.headers) == (
            before.content_type,
            before.metadata,
            before.headers,
        )
    with pytest.raises(Changed):
        bucket.copy_from(bucket, "a", "c", if_match='"0123456789abcdef0123456789abcdef"', size=4)
    assert bucket.get("a") == b"body"


def test_a_stream_of_any_length_is_uploaded_in_parts_and_read_back_in_chunks(s3: S3Server) -> None:
    small = Bucket(address(s3), role="the backups bucket", tuning=Tuning(upload_part=5 << 20))
    data = [bytes([i]) * 700_000 for i in range(20)]
    small.upload_stream("many", iter(data), content_type="text/x", metadata={"k": "v"})
    head = small.head("many")
    assert head is not None
    assert (head.size, head.content_type, head.metadata) == (14_000_000, "text/x", {"k": "v"})
    assert b"".join(small.stream("many", chunk=100_000)) == b"".join(data)
    small.upload_stream("one", iter([b"x"]))
    small.upload_stream("none", iter([]))
    assert (small.get("one"), small.get("none")) == (b"x", b"")


def test_an_upload_whose_source_fails_leaves_nothing(s3: S3Server) -> None:
    small = Bucket(address(s3), role="the backups bucket", tuning=Tuning(upload_part=5 << 20))

    def source() -> Iterator[bytes]:
        yield b"x" * (16 << 20)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        small.upload_stream("x", source())
    assert small.head("x") is None
    assert not s3.client().list_multipart_uploads(Bucket=small.address.name).get("Uploads")


def test_a_copy_above_the_limit_is_made_in_parts_and_keeps_everything(s3: S3Server) -> None:
    tuned = Tuning(copy_limit=6 << 20, copy_part=5 << 20)
    one, two = (Bucket(address(s3), role=role, tuning=tuned) for role in ("the documents bucket", "the backups bucket"))
    body = token_hex(7 << 19).encode()
    one.put("a b", body, content_type="x/y", metadata={"k": "v"}, headers={"content-language": "fr"})
    two.copy_from(one, "a b", "c d")
    head = two.head("c d")
    assert head is not None
    assert (head.content_type, head.metadata, head.headers["content-language"]) == ("x/y", {"k": "v"}, "fr")
    assert two.get("c d") == body
    two.renew("c d")
    assert two.get("c d") == body
    with pytest.raises(FacBackupError):
        two.copy_from(one, "a b", "e", if_match='"0123456789abcdef0123456789abcdef"')


def test_a_copy_returns_the_content_hash_and_tags_where_the_server_has_them(on_moto: Bucket) -> None:
    from hashlib import sha256

    on_moto.put("a", b"body")
    assert on_moto.put_tags("a", {"one": "two + three=3"})
    assert on_moto.copy_from(on_moto, "a", "b", sha256=True).sha256 == sha256(b"body").hexdigest()
    assert on_moto.tags("b") == {"one": "two + three=3"}


def test_a_presigned_address_reads_the_object(bucket: Bucket) -> None:
    from urllib.request import urlopen

    bucket.put("a b", b"body")
    with urlopen(bucket.presign_get("a b", 60)) as answer:
        assert answer.read() == b"body"


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"access_key_id": "AKNOBODY"}, "does not know the access key"),
        ({"secret_access_key": "wrong"}, "refuses the secret key"),
        ({"endpoint": "http://127.0.0.1:9"}, "connection refused"),
    ],
)
def test_what_is_wrong_with_a_bucket_is_one_sentence_without_its_name(
    s3: S3Server, other: dict[str, str], sentence: str
) -> None:
    where = address(s3, **other)
    with pytest.raises(FacBackupError, match=sentence) as caught:
        Bucket(where, role="the backups bucket", tuning=Tuning(attempts=2, first_pause=0.01)).check()
    assert where.name not in caught.value.line()
    assert "127.0.0.1" not in caught.value.line()
    assert caught.value.__cause__ is None


def test_a_missing_bucket_says_so(s3: S3Server) -> None:
    where = address(s3)
    with pytest.raises(FacBackupError, match="The backups bucket does not exist"):
        Bucket(BucketAddress("nowhere-" + token_hex(4), "", where.credentials), role="the backups bucket").check()


def test_credentials_come_from_the_environment_where_none_are_given(aws: S3Server) -> None:
    found = Bucket(BucketAddress(_bucket(aws), "env/"), role="the backups bucket")
    found.check()
    found.put("x", b"1")
    assert unquote(found.wire.url("a b")).endswith("/a b")


def test_without_any_credentials_the_error_says_so(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(DeniedError, match="no usable credentials"):
        Bucket(BucketAddress("somewhere", "", S3Credentials(endpoint=s3.endpoint)), role="the bucket").check()
