"""Listings: ``documents-<label>.jsonl.zst``, one JSON object a line, sorted by key in UTF-8 byte order.

They are written and read as streams, so memory does not grow with the number of documents. (Python compares strings by
code point, which is the order of their UTF-8 bytes.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import zstandard

from fac_backup.documents.entry import Entry, damaged, parse
from fac_backup.documents.source import ReadSource
from fac_backup.plain.manifest import Documents
from fac_backup.store.bucket import Bucket

MAX_LINE = 16 * 1024
"""A key of 1,024 bytes takes at most six times as many in JSON; the rest of a line is below 600 bytes."""

_CHUNK = 256 * 1024
_LEVEL = 6
_SLICE = 512
"""Compressed bytes given to zstd at a time: a block of 128 KiB may hide in 4 bytes, so this bounds memory to 16 MiB."""

_MAX_WINDOW = 8 * 1024 * 1024


def listing_key(backup_id: str, label: str) -> str:
    """Where the listing of a label lies below the space's prefix."""
    return f"backups/{backup_id}/documents-{label}.jsonl.zst"


@dataclass(frozen=True)
class Listing:
    """A stored listing: where it is, and what the manifest says that it is."""

    store: ReadSource
    key: str
    label: str
    sha256: str
    size: int
    """Bytes before compression."""
    count: int
    stored_sha256: str | None = None
    """Of the object as stored, where it is known."""

    @classmethod
    def of(cls, store: ReadSource, part: Documents) -> Listing:
        """The listing that a manifest names."""
        return cls(
            store,
            part.listing,
            part.label,
            part.listing_sha256,
            part.listing_size,
            part.count,
            part.listing_stored_sha256,
        )

    def lines(self) -> Iterator[bytes]:
        """The raw lines, each with its line feed. Raises IntegrityError at the first sign of damage, at the latest
        after the last line, when the size and SHA-256 of the whole are known."""
        digest, stored = hashlib.sha256(), hashlib.sha256()
        seen = count = 0
        rest = b""
        for block in _decompress(_hashed(self.store.stream(self.key), stored)):
            seen += len(block)
            if seen > self.size:
                raise damaged("longer than its manifest says")
            digest.update(block)
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > MAX_LINE:
                raise damaged("a line without end")
            count += len(lines)
            for line in lines:
                yield line + b"\n"
        if rest or seen != self.size or count != self.count or digest.hexdigest() != self.sha256:
            raise damaged("its size, count or SHA-256 is not the manifest's")
        if self.stored_sha256 not in (None, stored.hexdigest()):
            raise damaged("it is not stored as it was written")

    def entries(self) -> Iterator[Entry]:
        """The entries in order. Raises IntegrityError like ``lines``, and for a line that is no entry or misplaced."""
        for _, entry in self.pairs():
            yield entry

    def pairs(self) -> Iterator[tuple[bytes, Entry]]:
        """Each raw line with its entry."""
        last = ""
        for line in self.lines():
            entry = parse(line)
            if entry.key <= last:
                raise damaged("keys are not in order")
            last = entry.key
            yield line, entry

    def verify(self) -> None:
        """Read all of it once and compare size, count and SHA-256. Raises IntegrityError."""
        for _ in self.lines():
            pass


@dataclass
class Written:
    """What has gone through ``compress`` so far."""

    count: int = 0
    size: int = 0
    """Bytes before compression."""
    stored: int = 0
    """Bytes after it."""
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)
    _stored_digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    @property
    def sha256(self) -> str:
        """Of the bytes before compression."""
        return self._digest.hexdigest()

    def listing(self, store: ReadSource, key: str, label: str) -> Listing:
        """The listing that was written, once it is stored under ``key``."""
        return Listing(store, key, label, self.sha256, self.size, self.count, self._stored_digest.hexdigest())


def compress(lines: Iterable[bytes], written: Written) -> Iterator[bytes]:
    """Compress lines to chunks for an upload, and keep account of them in ``written``."""
    packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
    block: list[bytes] = []
    waiting = 0

    def pack() -> bytes:
        data = b"".join(block)
        written.count += len(block)
        written.size += len(data)
        written._digest.update(data)
        return stored(packer.compress(data))

    def stored(packed: bytes) -> bytes:
        written.stored += len(packed)
        written._stored_digest.update(packed)
        return packed

    for line in lines:
        block.append(line)
        waiting += len(line)
        if waiting >= _CHUNK:
            packed = pack()
            block, waiting = [], 0
            if packed:
                yield packed
    yield pack() + stored(packer.flush())


def write(store: Bucket, key: str, label: str, lines: Iterable[bytes]) -> tuple[Listing, int]:
    """Upload ``lines`` as a listing; returns it and its bytes as stored. If ``lines`` raises, nothing is stored."""
    written = Written()
    store.upload_stream(key, compress(lines, written), content_type="application/zstd")
    return written.listing(store, key, label), written.stored


def _hashed(chunks: Iterable[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _decompress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress one whole frame in bounded steps, whatever it claims to hold. A frame that is cut short or has
    something behind it is damaged, even where no content is lost."""
    frame = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj()
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _SLICE):
                if frame.eof:
                    raise damaged("something stands behind its end")
                block = frame.decompress(chunk[start : start + _SLICE])
                if block:
                    yield block
    except zstandard.ZstdError:
        raise damaged("not zstd") from None
    if not frame.eof or frame.unused_data:
        raise damaged("cut short" if not frame.eof else "something stands behind its end")
