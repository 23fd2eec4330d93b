"""What takes several requests: uploads and copies in parts, deletes in batches; and tags. Through boto3."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from .listing import quoted
from .s3_errors import BucketError, DeniedError, NotFoundError, for_answer, for_exception

if TYPE_CHECKING:
    from .bucket import Bucket

MOST_PARTS = 10_000
"""Parts of one upload (docs.aws.amazon.com, "Amazon S3 multipart upload limits")."""

_BOTO_NAMES = {
    "content-type": "ContentType", "cache-control": "CacheControl", "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding", "content-language": "ContentLanguage", "expires": "Expires",
}  # fmt: skip
_NOT_XML = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What an XML 1.0 document cannot hold, or what a parser may change on the way."""


def write_headers(
    content_type: str | None, metadata: Mapping[str, str] | None, headers: Mapping[str, str] | None
) -> dict[str, str]:
    """The request headers that give an object its type, metadata and further headers."""
    written = {name.lower(): value for name, value in (headers or {}).items()}
    if content_type:
        written["content-type"] = content_type
    return written | {f"x-amz-meta-{name}": value for name, value in (metadata or {}).items()}


def upload(bucket: Bucket, key: str, chunks: Iterable[bytes], headers: Mapping[str, str]) -> str:
    """Write ``chunks`` as one object: one PUT if it fits into a part, else in parts, two of them in flight."""
    parts = _parts(chunks, bucket.tuning.upload_part)
    first = next(parts, b"")
    second = next(parts, None)
    if second is None:
        reply = bucket.wire.request("PUT", bucket.full(key), "write an object", headers=headers, body=first)
        return reply.headers.get("etag", "")
    with _Multipart(bucket, key, headers) as multipart, ThreadPoolExecutor(2, thread_name_prefix="upload") as pool:
        flying: deque[Future[None]] = deque()
        for data in (part for group in ((first, second), parts) for part in group):
            if len(flying) == 2:
                flying.popleft().result()
            flying.append(pool.submit(multipart.put, multipart.next_number(), data))
        for future in flying:
            future.result()
        return multipart.complete()


def _parts(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """``chunks`` regrouped into parts of ``size`` bytes, twice as large after every 2,000: 10,000 parts hold 5 TiB."""
    held, held_size, count = [], 0, 0
    for chunk in chunks:
        held.append(chunk)
        held_size += len(chunk)
        while held_size >= (wanted := size << min(count // 2000, 5)):
            whole = b"".join(held)
            yield whole[:wanted]
            count += 1
            held, held_size = [whole[wanted:]], held_size - wanted
    if held_size:
        yield b"".join(held)


def copy_in_parts(
    bucket: Bucket, source: Bucket, source_key: str, key: str, *, if_match: str | None, version_id: str
) -> str:
    """A server-side copy of more than CopyObject takes; content type, metadata and tags are carried over by hand."""
    found = source.head(source_key)
    if found is None:
        raise NotFoundError(f"{source.role[:1].upper()}{source.role[1:]} has no such object any more")
    etag = if_match or found.etag
    tags = source.tags(source_key) if found.tag_count else None
    headers = write_headers(found.content_type, found.metadata, found.headers)
    origin = {"Bucket": source.address.name, "Key": source.full(source_key)}
    if version_id:
        origin["VersionId"] = version_id
    size = max(bucket.tuning.copy_part, -(-found.size // MOST_PARTS))
    with (
        _Multipart(bucket, key, headers, tags) as multipart,
        ThreadPoolExecutor(min(8, bucket.jobs), thread_name_prefix="copy") as pool,
    ):
        flying = [
            pool.submit(multipart.copy, multipart.next_number(), origin, etag, start, min(start + size, found.size) - 1)
            for start in range(0, found.size, size)
        ]
        for future in flying:
            future.result()
        return multipart.complete()


class _Multipart:
    """One multipart upload, aborted unless completed."""

    def __init__(
        self, bucket: Bucket, key: str, headers: Mapping[str, str], tags: Mapping[str, str] | None = None
    ) -> None:
        self._bucket = bucket
        self._client: Any = bucket.wire.client
        self._where = {"Bucket": bucket.address.name, "Key": bucket.full(key)}
        self._etags: dict[int, str] = {}
        self._number = 0
        self._done = False
        asked: dict[str, Any] = {_BOTO_NAMES[name]: value for name, value in headers.items() if name in _BOTO_NAMES}
        asked["Metadata"] = {name[11:]: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
        if tags:
            asked["Tagging"] = urlencode(tags)
        self._where["UploadId"] = self._call("create_multipart_upload", **self._where, **asked)["UploadId"]

    def _call(self, name: str, **asked: Any) -> Any:
        try:
            return getattr(self._client, name)(**asked)
        except Exception as error:
            raise for_exception(
                error, self._bucket.role, "write a large object", self._bucket.tuning.attempts
            ) from None

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def put(self, number: int, data: bytes) -> None:
        self._etags[number] = self._call("upload_part", **self._where, PartNumber=number, Body=data)["ETag"]

    def copy(self, number: int, origin: Mapping[str, str], etag: str, first: int, last: int) -> None:
        answer = self._call(
            "upload_part_copy", **self._where, PartNumber=number, CopySource=origin, CopySourceIfMatch=etag,
            CopySourceRange=f"bytes={first}-{last}",
        )  # fmt: skip
        self._etags[number] = answer["CopyPartResult"]["ETag"]

    def complete(self) -> str:
        parts = [{"PartNumber": number, "ETag": self._etags[number]} for number in sorted(self._etags)]
        answer = self._call("complete_multipart_upload", **self._where, MultipartUpload={"Parts": parts})
        self._done = True
        return quoted(str(answer.get("ETag", "")))

    def __enter__(self) -> _Multipart:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._done:
            with suppress(Exception):  # the first failure is the one to tell; an abandoned upload costs only room
                self._client.abort_multipart_upload(**self._where)


def delete_many(bucket: Bucket, keys: Iterable[str]) -> int:
    """Remove ``keys`` by DeleteObjects, eight requests at once; keys that XML cannot hold one by one."""
    from .bucket import DELETE_BATCH

    rest = iter(keys)
    count = 0
    with ThreadPoolExecutor(min(8, bucket.jobs), thread_name_prefix="delete") as pool:
        flying: deque[Future[None]] = deque()
        while batch := list(islice(rest, DELETE_BATCH)):
            count += len(batch)
            if len(flying) == 8:
                flying.popleft().result()
            flying.append(pool.submit(_delete_batch, bucket, batch))
        for future in flying:
            future.result()
    return count


def _delete_batch(bucket: Bucket, batch: list[str]) -> None:
    plain = [key for key in batch if not _NOT_XML.search(bucket.full(key))]
    for key in set(batch).difference(plain):
        bucket.delete(key)
    if not plain:
        return
    listed = [{"Key": bucket.full(key)} for key in plain]
    try:
        answer = bucket.wire.client.delete_objects(
            Bucket=bucket.address.name, Delete={"Objects": listed, "Quiet": True}
        )
    except Exception as error:
        raise for_exception(error, bucket.role, "delete objects", bucket.tuning.attempts) from None
    failed = [item for item in answer.get("Errors", ()) if item.get("Code") != "NoSuchKey"]
    if failed:
        code = str(failed[0].get("Code", ""))
        if code not in ("InternalError", "SlowDown", "ServiceUnavailable"):
            raise for_answer(403 if "Denied" in code else 500, code, bucket.role, "delete objects")
        cut = len(bucket.address.prefix)
        for item in failed:  # one by one, each with the wire's own retries
            bucket.delete(str(item.get("Key", ""))[cut:])


def tags(bucket: Bucket, key: str) -> dict[str, str] | None:
    """The object's tags, None where the store does not know or show them."""
    try:
        answer = bucket.wire.client.get_object_tagging(Bucket=bucket.address.name, Key=bucket.full(key))
    except Exception as error:
        _not_allowed(for_exception(error, bucket.role, "read tags"))
        return None
    return {item["Key"]: item["Value"] for item in answer.get("TagSet", ())}


def put_tags(bucket: Bucket, key: str, wanted: Mapping[str, str]) -> bool:
    """Set the object's tags; False where the store does not let us."""
    tagging = {"TagSet": [{"Key": name, "Value": value} for name, value in wanted.items()]}
    try:
        bucket.wire.client.put_object_tagging(Bucket=bucket.address.name, Key=bucket.full(key), Tagging=tagging)
    except Exception as error:
        _not_allowed(for_exception(error, bucket.role, "write tags"))
        return False
    return True


def _not_allowed(error: Exception) -> None:
    """None for "may not" and "does not know tags"; any other failure is raised."""
    denied = isinstance(error, DeniedError)
    unknown = isinstance(error, BucketError) and any(text in str(error) for text in ("NotImplemented", "HTTP 501"))
    if not (denied or unknown):
        raise error from None
