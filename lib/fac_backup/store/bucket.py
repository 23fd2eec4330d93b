"""One bucket, or a prefix in it, as the rest of the program sees it: a dozen verbs, clear errors, any key.

Keys given and returned are relative to the address's prefix and reach the server exactly as they are: with spaces,
newlines, a leading slash, ``//``, 1,024 bytes. What a particular server cannot hold it refuses itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from fac_backup.plain.errors import TARGET_AS_BEFORE
from fac_backup.plain.locations import BucketAddress

from . import listing, transfers
from .listing import ObjectInfo
from .s3_errors import AlreadyThere, BucketError, Changed, DeniedError, NotFoundError, TooLargeError, for_exception
from .wire import Reply, Tuning, Wire

__all__ = [
    "AlreadyThere", "Bucket", "BucketError", "Changed", "CopyResult", "DeniedError", "NotFoundError", "ObjectHead",
    "ObjectInfo", "TooLargeError", "Tuning",
]  # fmt: skip

DELETE_BATCH = 1000
"""DeleteObjects takes no more keys (docs.aws.amazon.com, API DeleteObjects)."""

GET_LIMIT = 512 * 1024**2
"""What ``get`` is prepared to hold in memory unless told otherwise."""

KEPT_HEADERS = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")


@dataclass(frozen=True)
class ObjectHead:
    """What S3 says of one object. ``headers`` holds those of ``KEPT_HEADERS`` that are set."""

    size: int
    etag: str
    modified: datetime
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata, names in lower case without ``x-amz-meta-``."""
    version_id: str = ""
    tag_count: int = 0


@dataclass(frozen=True)
class CopyResult:
    """A finished server-side copy. ``sha256`` (hex) where it was asked for and the server computes it, else None."""

    etag: str
    sha256: str | None = None
    version_id: str = ""


class Bucket:
    """The verbs. Safe to use from several threads; makes its first connection when first used.

    ``role`` names the bucket in every message ("the backups bucket"); its real name and host appear in none.
    ``jobs`` is how many requests a caller may have in flight.
    """

    def __init__(
        self, address: BucketAddress, *, jobs: int = 16, role: str = "the bucket", tuning: Tuning | None = None
    ) -> None:
        self.address = address
        self.jobs = jobs
        self.role = role
        self.tuning = tuning or Tuning()
        self.wire = Wire(address, role=role, jobs=jobs, tuning=self.tuning)

    def __repr__(self) -> str:
        return f"Bucket({self.role})"

    def full(self, key: str) -> str:
        """The key as the server knows it."""
        return self.address.prefix + key

    def below(self, prefix: str) -> Bucket:
        """The same bucket seen from ``prefix`` (which ends with ``/``); connections are shared."""
        other = Bucket(
            BucketAddress(self.address.name, self.address.prefix + prefix, self.address.credentials),
            jobs=self.jobs, role=self.role, tuning=self.tuning,
        )  # fmt: skip
        other.wire = self.wire
        return other

    def check(self) -> None:
        """Raise a FacBackupError unless the bucket is there and lists its objects for these credentials.

        For the first contact: nothing was changed yet, and the error says so.
        """
        query = [("list-type", "2"), ("max-keys", "1"), ("prefix", self.full(""))]
        try:
            self.wire.request("GET", "", "list objects", query=query)
        except BucketError as error:
            error.state = TARGET_AS_BEFORE
            raise

    def get(self, key: str, *, limit: int = GET_LIMIT) -> bytes:
        """The object's bytes. Raises NotFoundError, or TooLargeError for more than ``limit`` bytes."""
        return self.get_with_etag(key, limit=limit)[0]

    def get_with_etag(self, key: str, *, limit: int = GET_LIMIT) -> tuple[bytes, str]:
        """The object's bytes and its ETag, of one and the same state."""
        state = {"etag": ""}
        parts, size = [], 0
        for part in self._read(key, 1 << 20, state):
            size += len(part)
            if size > limit:
                raise TooLargeError(f"An object in {self.role} is larger than the {limit} bytes that it may have")
            parts.append(part)
        return b"".join(parts), state["etag"]

    def get_dated(self, key: str) -> tuple[bytes | None, str, datetime | None]:
        """A small object's bytes (None if there is none), its ETag, and what time it is for the server, if it says."""
        reply = self.wire.request("GET", self.full(key), "read an object", accept=(404,))
        date = reply.headers.get("date", "")
        now = _http_date(date) if date else None
        return (None, "", now) if reply.status == 404 else (reply.body, reply.headers.get("etag", ""), now)

    def server_now(self) -> datetime | None:
        """What time it is for the server, by its Date header; None if it does not say."""
        date = self.wire.request("HEAD", "", "look at the bucket", accept=(403, 404)).headers.get("date", "")
        return _http_date(date) if date else None

    def stream(self, key: str, *, chunk: int = 1 << 20, if_match: str | None = None) -> Iterator[bytes]:
        """The object's bytes in runs of at most ``chunk``; a broken connection is continued where it broke.

        Raises NotFoundError; Changed if the object is not (or is no longer) the one with ETag ``if_match``.
        """
        return self._read(key, chunk, {"etag": if_match or ""})

    def _read(self, key: str, chunk: int, state: dict[str, str]) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        done, failures = 0, 0
        while True:
            headers = {"Range": f"bytes={done}-"} if done else {}
            if state["etag"]:
                headers["If-Match"] = state["etag"]
            reply = self.wire.request("GET", self.full(key), "read an object", headers=headers, stream=True)
            if done and reply.status != 206:
                raise BucketError(f"A connection to {self.role} broke, and it cannot continue where it broke")
            state["etag"] = reply.headers.get("etag", "")
            length = reply.headers.get("content-length", "")
            end = done + int(length) if length.isdigit() else -1
            try:
                for part in reply.raw.stream(chunk, decode_content=False):
                    done += len(part)
                    yield part
                if end not in (-1, done):
                    raise ConnectionError("the body was cut short")
                return
            except (HTTPError, OSError) as error:
                failures += 1
                if failures >= self.tuning.attempts:
                    raise for_exception(error, self.role, "read an object", failures) from None
            finally:
                # Where the reader left before the end, what is unread must not be taken for the next answer.
                reply.raw.release_conn() if done == end else reply.raw.close()

    def head(self, key: str) -> ObjectHead | None:
        """What S3 says of the object, None if there is none."""
        reply = self.wire.request("HEAD", self.full(key), "look at an object", accept=(404,))
        if reply.status == 404:
            return None
        found = reply.headers
        return ObjectHead(
            size=int(found.get("content-length", 0)),
            etag=found.get("etag", ""),
            modified=_http_date(found.get("last-modified", "")),
            content_type=found.get("content-type", ""),
            headers={name: found[name] for name in KEPT_HEADERS if found.get(name)},
            metadata={name[11:]: value for name, value in found.items() if name.startswith("x-amz-meta-")},
            version_id=found.get("x-amz-version-id", ""),
            tag_count=int(found.get("x-amz-tagging-count", 0) or 0),
        )

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Write the object, whatever was there; its ETag."""
        return self._put(key, data, transfers.write_headers(content_type, metadata, headers)).headers.get("etag", "")

    def _put(self, key: str, data: bytes, headers: Mapping[str, str]) -> Reply:
        return self.wire.request("PUT", self.full(key), "write an object", headers=headers, body=data)

    def put_new(self, key: str, data: bytes) -> str:
        """Write the object only if there is none; its ETag. Raises AlreadyThere.

        If the answer to a first attempt was lost, a second one finds our own bytes there: that counts as written. Where
        two writers must not both win, their bytes must differ (a random owner in a lock).
        """
        try:
            return self._conditional(key, data, {"If-None-Match": "*"})
        except Changed:
            raise AlreadyThere(f"{self.role[:1].upper()}{self.role[1:]} already has that object") from None

    def replace(self, key: str, data: bytes, etag: str) -> str:
        """Write the object only if it still has ``etag``; the new ETag. Raises Changed, also if the object is gone."""
        try:
            return self._conditional(key, data, {"If-Match": etag})
        except NotFoundError:
            raise Changed(f"An object in {self.role} is gone") from None

    def _conditional(self, key: str, data: bytes, condition: Mapping[str, str], *, over_empty: bool = True) -> str:
        reply = self.wire.request("PUT", self.full(key), "write an object", headers=condition, body=data, accept=(412,))
        if reply.status != 412:
            return reply.headers.get("etag", "")
        if reply.attempts > 1:
            with suppress(NotFoundError):
                found, etag = self.get_with_etag(key)
                if found == data:
                    return etag
                if not found and data and over_empty:
                    # Some servers (SeaweedFS) keep an empty object of a PUT that broke off between its head and its
                    # body. Whoever left it, one of those who now write over it wins.
                    return self._conditional(key, data, {"If-Match": etag}, over_empty=False)
        raise Changed(f"An object in {self.role} is not the expected one any more")

    def delete(self, key: str) -> None:
        """Remove the object; no fault if there is none."""
        self.wire.request("DELETE", self.full(key), "delete an object", accept=(404,))

    def delete_if(self, key: str, etag: str) -> bool:
        """Remove the object only if it still has ``etag``; whether it was removed.

        Not for what must be safe in a race: R2 has no conditional delete, and there this compares first, then deletes.
        """
        reply = self.wire.request(
            "DELETE", self.full(key), "delete an object", headers={"If-Match": etag}, accept=(404, 412, 400, 501)
        )
        if reply.status < 300:
            return True
        if reply.status in (404, 412):
            return False
        found = self.head(key)
        if found is None or found.etag != etag:
            return False
        self.delete(key)
        return True

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove objects, 1,000 a request and several requests at once; how many keys were asked for."""
        return transfers.delete_many(self, keys)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        """The objects whose keys begin with ``prefix``, after ``start_after``, sorted by key in UTF-8 byte order."""
        return listing.objects(self.wire, self.address.prefix, prefix, start_after)

    def copy_from(
        self,
        source: Bucket,
        source_key: str,
        key: str,
        *,
        if_match: str | None = None,
        size: int | None = None,
        sha256: bool = False,
        version_id: str = "",
    ) -> CopyResult:
        """Copy on the server, with content type, metadata and (where allowed) tags.

        ``size`` saves a request where the caller knows it; above 5 GiB the copy is made in parts. ``if_match`` is the
        source's expected ETag: raises Changed if it has another. Raises NotFoundError if the source is gone,
        DeniedError if our credentials may not read it (then: ``stream``, ``upload_stream``). ``sha256`` asks the server
        for the content's hash; many do not compute it.
        """
        if size is None:
            found = source.head(source_key)
            if found is None:
                raise NotFoundError(f"{source.role[:1].upper()}{source.role[1:]} has no such object any more")
            size = found.size
        if size > self.tuning.copy_limit:
            return CopyResult(
                transfers.copy_in_parts(self, source, source_key, key, if_match=if_match, version_id=version_id)
            )
        headers = {"x-amz-copy-source": _copy_source(source, source_key, version_id)}
        if if_match:
            headers["x-amz-copy-source-if-match"] = if_match
        if sha256:
            headers["x-amz-checksum-algorithm"] = "SHA256"
        return self._copied(self.wire.request("PUT", self.full(key), "copy an object", headers=headers))

    def _copied(self, reply: Reply) -> CopyResult:
        etag, digest = listing.copy_answer(reply.body, self.role)
        return CopyResult(etag, digest, reply.headers.get("x-amz-version-id", ""))

    def renew(self, key: str) -> None:
        """Make the object young again: copied onto itself with everything it has. Raises NotFoundError."""
        found = self.head(key)
        if found is None:
            raise NotFoundError(f"{self.role[:1].upper()}{self.role[1:]} has no such object")
        if found.size > self.tuning.copy_limit:
            transfers.copy_in_parts(self, self, key, key, if_match=found.etag, version_id="")
            return
        # AWS refuses a copy onto itself that changes nothing, so metadata is "replaced" by the same.
        headers = transfers.write_headers(found.content_type, found.metadata, found.headers)
        headers |= {
            "x-amz-copy-source": _copy_source(self, key, ""),
            "x-amz-copy-source-if-match": found.etag,
            "x-amz-metadata-directive": "REPLACE",
        }
        self._copied(self.wire.request("PUT", self.full(key), "renew an object", headers=headers))

    def upload_stream(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Write an object of unknown size from ``chunks``, holding a few parts of 16 MiB in memory; its ETag.

        Anything that goes wrong, in ``chunks`` too, leaves no object and no unfinished upload.
        """
        return transfers.upload(self, key, chunks, transfers.write_headers(content_type, metadata, headers))

    def tags(self, key: str) -> dict[str, str] | None:
        """The object's tags; None where the store has none or does not let us see them (cloud.gov)."""
        return transfers.tags(self, key)

    def put_tags(self, key: str, tags: Mapping[str, str]) -> bool:
        """Set the object's tags; False where that is not allowed."""
        return transfers.put_tags(self, key, tags)

    def presign_get(self, key: str, seconds: int) -> str:
        """An address that reads this object for ``seconds``: at most 7 days, and while the credentials live."""
        try:
            return str(
                self.wire.client.generate_presigned_url(
                    "get_object", Params={"Bucket": self.address.name, "Key": self.full(key)}, ExpiresIn=seconds
                )
            )
        except Exception as error:
            raise for_exception(error, self.role, "sign an address") from None

    def conditional_writes(self, prefix: str = "locks/") -> bool:
        """Whether this store honours conditional writes, on which every lock stands. Leaves nothing behind."""
        key = f"{prefix}probe-{secrets.token_hex(8)}"
        etag = self.put_new(key, b"1")
        try:
            with suppress(AlreadyThere):
                self.put_new(key, b"2")
                return False
            with suppress(Changed):
                self.replace(key, b"3", '"00000000000000000000000000000000"')
                return False
            self.replace(key, b"4", etag)
            return True
        except (Changed, BucketError):
            return False
        finally:
            self.delete(key)

    def parallel(self) -> ThreadPoolExecutor:
        """A pool of as many threads as this bucket takes requests at once."""
        return ThreadPoolExecutor(self.jobs, thread_name_prefix="bucket")

    def at_once(self, count: int) -> ThreadPoolExecutor:
        """A pool that reads ``count`` small objects in one round trip, up to 128 of them."""
        return ThreadPoolExecutor(min(max(count, 1), 128), thread_name_prefix="bucket")

    def client(self) -> Any:
        """The boto3 client, for what has no verb here."""
        return self.wire.client


def _copy_source(source: Bucket, key: str, version_id: str) -> str:
    text = f"/{source.address.name}/" + quote(source.full(key), safe="/-_.~")
    return f"{text}?versionId={quote(version_id, safe='')}" if version_id else text


def _http_date(text: str) -> datetime:
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (TypeError, ValueError):
        return datetime.fromtimestamp(0, UTC)
