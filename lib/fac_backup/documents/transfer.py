"""Copying one document: by the server where one key reaches both buckets, through us where not."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from fac_backup.documents.entry import bare, damaged, quoted
from fac_backup.documents.source import ReadSource
from fac_backup.store.bucket import Bucket, Changed, CopyResult, DeniedError, NotFoundError, ObjectHead

MD5_DIGITS = 32

STREAMED_BYTES = 128 * 1024 * 1024
"""What all documents that pass through us at a time may hold in memory; a single larger one goes alone."""


@dataclass(frozen=True)
class Copied:
    """A finished copy: its ETag (without quotes), and the content's SHA-256 where it is known."""

    etag: str
    sha256: str | None
    streamed: bool


class Transfer:
    """Copies from one place to another. Safe to use from several threads.

    It first asks the server to copy. If the target's key may not read the source, or another server holds it, the
    bytes pass through us instead, with everything that S3 keeps beside them.
    """

    def __init__(self, source: ReadSource, target: Bucket, *, ask_sha256: bool = False) -> None:
        self.source = source
        self.target = target
        self._ask_sha256 = ask_sha256
        self._lock = threading.Lock()
        self._room = Room(STREAMED_BYTES)
        self._succeeded = False
        self._by_server: bool | None = None

    def copy(self, source_key: str, key: str, *, etag: str, size: int, sha256: str | None = None) -> Copied:
        """Copy the version with ``etag`` (no quotes) and ``size``; raises Changed if the source has another one now,
        NotFoundError if it has none, IntegrityError if what was read is not what ``sha256`` or the ETag say."""
        # Some servers (SeaweedFS) keep a key that ends with a slash as a folder: they read and write it, but find none
        # to copy from, and a copy to it they answer with success and list nothing.
        folder = source_key.endswith("/") or key.endswith("/")
        if not folder and self._asks_server():
            assert isinstance(self.source, Bucket)  # noqa: S101 - for the type checker: _asks_server has looked
            try:
                done = self._by_the_server(self.source, source_key, key, quoted(etag), size)
            except DeniedError:
                self._refused()
            else:
                self._succeeded = True
                return Copied(bare(done.etag), done.sha256 or sha256, streamed=False)
        return self.stream(source_key, key, etag=etag, size=size, sha256=sha256)

    def copy_version(self, source_key: str, key: str, *, version_id: str, size: int) -> Copied:
        """Copy an older version by its id, on the server. Raises BucketError where that is not possible."""
        if not isinstance(self.source, Bucket):
            raise NotFoundError("Versions cannot be read there")
        done = self.target.copy_from(self.source, source_key, key, version_id=version_id, size=size)
        return Copied(bare(done.etag), done.sha256, streamed=False)

    def _by_the_server(self, source: Bucket, source_key: str, key: str, if_match: str, size: int) -> CopyResult:
        sha256 = self._ask_sha256
        done = None
        if size <= self.target.tuning.copy_limit:
            told = self.target.wire.express.copy(
                source.address.name, source.full(source_key), self.target.full(key), if_match=if_match, sha256=sha256
            )
            done = CopyResult(*told) if told else None
        return done or self.target.copy_from(source, source_key, key, if_match=if_match, size=size, sha256=sha256)

    def close(self) -> None:
        """Close the connections that were kept for copies."""
        self.target.wire.express.close()

    def _asks_server(self) -> bool:
        if self._by_server is None:
            self._by_server = isinstance(self.source, Bucket) and _same_server(self.source, self.target)
        return self._by_server

    def _refused(self) -> None:
        """Where the very first copies are refused, all will be: don't ask again for each."""
        with self._lock:
            if not self._succeeded:
                self._by_server = False

    def stream(self, source_key: str, key: str, *, etag: str, size: int, sha256: str | None = None) -> Copied:
        """``copy`` through us, whoever could do it otherwise."""
        head = self.source.head(source_key)
        if head is None:
            raise NotFoundError("A document is gone")
        if bare(head.etag) != etag or head.size != size:
            raise Changed("A document is not the expected one any more")
        digest = hashlib.sha256()
        with self._room.taken(min(size, 4 * self.target.tuning.upload_part)):  # an upload holds up to four parts
            chunks = _checked(self.source.stream(source_key, if_match=quoted(etag)), digest, size, sha256)
            written = self.target.upload_stream(
                key, chunks, content_type=head.content_type or None, metadata=head.metadata, headers=head.headers
            )
        self._tags(source_key, key, head)
        return Copied(bare(written), digest.hexdigest(), streamed=True)

    def _tags(self, source_key: str, key: str, head: ObjectHead) -> None:
        if head.tag_count and isinstance(self.source, Bucket):
            tags = self.source.tags(source_key)
            if tags:
                self.target.put_tags(key, tags)


class Room:
    """So many bytes for several threads. Who asks for more than there is waits until it is alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Hold ``size`` bytes."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._size)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()


def _checked(chunks: Iterator[bytes], digest: hashlib._Hash, size: int, sha256: str | None) -> Iterator[bytes]:
    """Pass the bytes on; raise before the last of them where they are not the expected, so no upload ends."""
    seen = 0
    held: bytes | None = None
    for chunk in chunks:
        if held is not None:
            yield held
        held = chunk
        seen += len(chunk)
        digest.update(chunk)
    if seen != size:
        raise Changed("A document was cut short or grew while it was read")
    if sha256 is not None and digest.hexdigest() != sha256:
        raise damaged("a stored document does not have its SHA-256")
    if held is not None:
        yield held


def _same_server(source: Bucket, target: Bucket) -> bool:
    """Whether one server can see both buckets: the same endpoint, or both of AWS's."""
    one, other = (urlsplit(str(bucket.client().meta.endpoint_url)) for bucket in (source, target))
    aws = all((place.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")) for place in (one, other))
    return aws or (one.hostname, one.port) == (other.hostname, other.port)


def same_description(one: ObjectHead, other: ObjectHead) -> bool:
    """Whether two objects have the same content type, metadata and kept headers."""
    return (one.content_type, dict(one.metadata), dict(one.headers)) == (
        other.content_type,
        dict(other.metadata),
        dict(other.headers),
    )


def content_sha256(source: ReadSource, key: str) -> str:
    """The SHA-256 (hex) of an object's bytes, read as a stream. Raises NotFoundError."""
    digest = hashlib.sha256()
    for chunk in source.stream(key):
        digest.update(chunk)
    return digest.hexdigest()
