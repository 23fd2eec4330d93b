"""Handing one backup from a higher space to a lower one: an index of addresses to read exactly its objects, and no key.

The runner, which may read the source's bucket, signs an address for each object of that one backup and leaves the index
in the *target's* store. The task reads the objects through it. The signatures end by themselves, die with the key that
signed them, and are renewed (a new index under the same name) while the task works.
"""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import urllib3
import zstandard

from fac_backup.hosting.cloudfoundry import s3
from fac_backup.hosting.cloudfoundry.http import pool_for
from fac_backup.hosting.cloudfoundry.presigned import Signer
from fac_backup.plain.errors import FailedError, IntegrityError
from fac_backup.plain.locations import BucketAddress
from fac_backup.store.bucket import (
    GET_LIMIT,
    KEPT_HEADERS,
    Changed,
    NotFoundError,
    ObjectHead,
    ObjectInfo,
    TooLargeError,
)

_log = logging.getLogger(__name__)
FORMAT = 1
SECONDS = 4 * 3600
"""How long the signatures of one index last; renewed at half of that."""
INDEX_LIMIT = 1 << 30
"""Bytes of an index when unpacked."""
_SLICE = 1 << 16
_UNKNOWN = datetime.fromtimestamp(0, UTC)
RENEWALS = 12
"""How often at most: two days, then a restore has to be asked for again."""


@dataclass(frozen=True)
class Listed:
    """One object of the backup: key relative to the address that signs it, and bytes."""

    key: str
    size: int


def write_index(signer: Signer, objects: Iterable[Listed]) -> bytes:
    """The index: one JSON line that all addresses share, then one a object (key, bytes, signature); zstd."""
    out = io.BytesIO()
    with zstandard.ZstdCompressor(level=3).stream_writer(out, closefd=False) as packed:
        head = {"format": FORMAT, "base": signer.base, "query": signer.query, "until": signer.until.isoformat()}
        packed.write(json.dumps(head).encode() + b"\n")
        for found in objects:
            line = json.dumps([found.key, found.size, signer.signature(found.key)])
            packed.write(line.encode() + b"\n")
    return out.getvalue()


@dataclass(frozen=True)
class Index:
    """An index as the task read it. ``repr`` shows no address."""

    base: str = field(repr=False)
    query: str = field(repr=False)
    until: datetime
    objects: dict[str, tuple[int, bytes]] = field(repr=False)
    """Key to bytes and signature; the signature as 32 bytes, because there may be a million."""

    @classmethod
    def parse(cls, data: bytes) -> Index:
        """Read an index. Raises IntegrityError."""
        try:
            lines = _lines(data)
            head = json.loads(next(lines))
            if head["format"] != FORMAT:
                raise ValueError
            objects = {}
            for line in lines:
                key, size, signature = json.loads(line)
                objects[str(key)] = int(size), bytes.fromhex(signature)
            return cls(str(head["base"]), str(head["query"]), datetime.fromisoformat(head["until"]), objects)
        except (ValueError, KeyError, TypeError, StopIteration, zstandard.ZstdError):
            raise IntegrityError("The index of the handed-over backup is damaged", next_step="Run it again.") from None

    def url(self, key: str) -> str:
        """The address of one object. Raises KeyError if the backup has no such object."""
        return f"{self.base}{quote(key, safe='/~')}?{self.query}{self.objects[key][1].hex()}"


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines of a whole zstd frame, decompressed bit by bit. Raises ValueError, ZstdError."""
    unpack, rest, total = zstandard.ZstdDecompressor().decompressobj(), b"", 0
    for start in range(0, len(data), _SLICE):
        text = unpack.decompress(data[start : start + _SLICE])
        total += len(text)
        if total > INDEX_LIMIT:
            raise ValueError
        *lines, rest = (rest + text).split(b"\n")
        yield from lines
    if not unpack.eof or rest:
        raise ValueError


class UrlBucket:
    """The read half of a bucket, over an index: what a restore needs of its source, and nothing more.

    Safe for several threads. ``load`` fetches the index again when its signatures have ended. Raises what
    ``store.bucket.Bucket`` raises: NotFoundError, Changed, TooLargeError.
    """

    jobs = 16

    def __init__(self, load: Callable[[], bytes], *, connections: int = 16) -> None:
        self._source = _Renewed(load)
        self._prefix = ""
        retry = urllib3.Retry(total=6, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504), redirect=0,
                              raise_on_status=False)  # fmt: skip
        # The container's egress proxy, where S3 is not exempt from it, as for everything else that the task fetches.
        self._pool = pool_for(
            self._source.index.base, maxsize=connections, block=True, retries=retry, timeout=urllib3.Timeout(10, 60)
        )

    def __repr__(self) -> str:
        return f"UrlBucket({len(self._source.index.objects)} objects)"

    def below(self, prefix: str) -> UrlBucket:
        """The same backup, keys relative to ``prefix``."""
        view = copy(self)
        view._prefix = self._prefix + prefix
        return view

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        """The backup's objects below ``prefix``, sorted by key as UTF-8 bytes; ETag and time are not known."""
        begin = self._prefix + prefix
        keys = [key for key in self._source.index.objects if key.startswith(begin)]
        for key in sorted(keys, key=lambda key: key.encode()):
            name = key.removeprefix(self._prefix)
            if name > start_after:
                yield ObjectInfo(name, self._source.index.objects[key][0], "", _UNKNOWN)

    def head(self, key: str) -> ObjectHead | None:
        """What S3 says of an object: by a GET of its first byte, because the addresses are signed for GET."""
        try:
            response = self._open(key, {"Range": "bytes=0-0"})
        except NotFoundError:
            return None
        try:
            return _head_of(response, self._source.index.objects[self._prefix + key][0])
        finally:
            response.drain_conn()
            response.release_conn()

    def get(self, key: str, *, limit: int = GET_LIMIT) -> bytes:
        """A whole object of at most ``limit`` bytes."""
        if self._source.index.objects.get(self._prefix + key, (0, b""))[0] > limit:
            raise TooLargeError("An object of the handed-over backup is larger than it may be")
        parts, size = [], 0
        for chunk in self.stream(key):
            size += len(chunk)
            if size > limit:
                raise TooLargeError("An object of the handed-over backup is larger than it may be")
            parts.append(chunk)
        return b"".join(parts)

    def stream(self, key: str, *, chunk: int = 1 << 20, if_match: str | None = None) -> Iterator[bytes]:
        """An object in pieces of ``chunk`` bytes, in bounded memory. Raises IntegrityError for another size."""
        response = self._open(key, {"If-Match": if_match} if if_match else {})
        expected, got = self._source.index.objects[self._prefix + key][0], 0
        try:
            for part in response.stream(chunk, decode_content=False):
                got += len(part)
                yield part
        except (urllib3.exceptions.HTTPError, OSError):
            raise FailedError("Reading the handed-over backup was interrupted", next_step="Run it again.") from None
        finally:
            response.close()  # a connection that was read to its end is in the pool already
        if got != expected:
            raise IntegrityError("An object of the handed-over backup has another size than its index says")

    def _open(self, key: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        full = self._prefix + key
        if full not in self._source.index.objects:
            raise NotFoundError("The handed-over backup has no object of that name")
        for turn in (1, 2):
            index = self._source.index
            try:
                response = self._pool.request(
                    "GET", index.url(full), headers=headers, preload_content=False, redirect=False
                )
            except urllib3.exceptions.HTTPError:
                raise FailedError("The handed-over backup cannot be reached", next_step="Run it again.") from None
            if response.status in (200, 206, 416):
                return response
            response.drain_conn()
            if response.status == 404:
                raise NotFoundError("An object of the handed-over backup is gone", next_step="Choose another backup.")
            if response.status == 412:
                raise Changed("An object of the handed-over backup is not the one that was stored")
            if turn == 1:
                self._source.renew(index)
        raise FailedError(
            f"The handed-over backup is refused (HTTP {response.status}), also with a new index",
            next_step="The run that handed it over is over, or its key was taken away: run it again.",
        )


class _Renewed:
    """The index that holds now, shared by all views and threads."""

    def __init__(self, load: Callable[[], bytes]) -> None:
        self._load = load
        self.index = Index.parse(load())
        self._renewals = 0
        self._lock = threading.Lock()

    def renew(self, old: Index) -> None:
        with self._lock:
            if self.index is not old:
                return  # another thread was faster
            self._renewals += 1
            if self._renewals > RENEWALS:
                raise FailedError("The signatures of the handed-over backup were renewed too often")
            self.index = Index.parse(self._load())


def _head_of(response: urllib3.BaseHTTPResponse, size: int) -> ObjectHead:
    headers = {name.lower(): value for name, value in response.headers.items()}
    total = headers.get("content-range", "").rpartition("/")[2]
    try:
        modified = parsedate_to_datetime(headers.get("last-modified", "")).astimezone(UTC)
    except ValueError:
        modified = _UNKNOWN
    return ObjectHead(
        size=int(total) if total.isdigit() else size,
        etag=headers.get("etag", ""),
        modified=modified,
        content_type=headers.get("content-type", ""),
        headers={name: headers[name] for name in KEPT_HEADERS if name in headers},
        metadata={k.removeprefix("x-amz-meta-"): v for k, v in headers.items() if k.startswith("x-amz-meta-")},
        tag_count=int(headers.get("x-amz-tagging-count") or 0),
    )


class Handover:
    """The runner's side: leaves the index in the target's store, renews it, removes it."""

    def __init__(
        self, source: BucketAddress, target: BucketAddress, key: str, objects: Callable[[], Iterable[Listed]], *,
        seconds: int = SECONDS, now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self._source, self._target, self._key, self._objects = source, target, key, objects
        self._seconds, self._now = seconds, now
        self._renewals = 0
        self._signed: datetime | None = None

    def leave(self) -> None:
        """Sign all objects now and leave the index. Raises FailedError."""
        signer = Signer(self._source, self._now(), self._seconds)
        s3.leave(self._target, self._key, write_index(signer, self._objects()))
        self._signed = signer.moment

    def renew_if_due(self) -> None:
        """Sign again once half of the time has passed, a bounded number of times. Trouble is logged: there is time."""
        if self._signed is None or (self._now() - self._signed).total_seconds() < self._seconds / 2:
            return
        if self._renewals >= RENEWALS:
            return
        self._renewals += 1
        try:
            self.leave()
            _log.info("The signatures of the handed-over backup were renewed")
        except FailedError as error:
            _log.warning("The signatures of the handed-over backup could not be renewed: %s", error.what)

    def remove(self) -> None:
        """Remove the index. Raises FailedError."""
        s3.remove(self._target, self._key)


def opened(target: BucketAddress, key: str) -> UrlBucket:
    """The task's side: the backup that the index at ``key`` of the target's store hands over. Raises FailedError."""

    def load() -> bytes:
        data = s3.fetch(target, key)
        if data is None:
            raise FailedError("The index of the handed-over backup is not there", next_step="Run it again.")
        return data

    return UrlBucket(load)
