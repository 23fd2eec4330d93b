"""Pieces: runs of bytes, each stored once under the hash of what it holds, compressed, verified when read."""

from __future__ import annotations

import hashlib
import os
import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from queue import LifoQueue

import zstandard

from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import MAX_PIECE_BYTES, Piece

from . import layout
from .bucket import Bucket, NotFoundError, TooLargeError

LEVEL = 1
"""zstd level 1: on the FAC's text it gives most of what higher levels give, at the speed of the network."""

NEXT_STEP = "Choose another backup (`fac-backup list`), and keep this bucket as it is for the analysis."


@dataclass
class Figures:
    """What has been added so far. Bytes are those stored (compressed)."""

    uploaded: int = 0
    uploaded_pieces: int = 0
    reused: int = 0
    reused_pieces: int = 0
    renewed_pieces: int = 0
    """Of the uploaded, those that the store had but that were about to grow too old."""


@dataclass(frozen=True)
class _Packed:
    """See :class:`fac_backup.plain.protocols.Packed`."""

    held: int
    send: Callable[[], Piece]
    drop: Callable[[], None]


class Pieces:
    """The pieces of one store; ``bucket`` is seen from the space's prefix. Safe to use from several threads.

    ``due(sha256, modified)`` says whether a piece that the store has should be uploaded again because it ages.
    ``handed_over``: the bucket is an index of addresses to read from, and has no fast lane for small objects.
    """

    def __init__(
        self, bucket: Bucket, *, due: Callable[[str, datetime], bool] | None = None, handed_over: bool = False
    ) -> None:
        self.bucket = bucket
        self.figures = Figures()
        self._due = due
        self._handed_over = handed_over
        # Sorted, 44 bytes a piece, because a big store has a million: a dict would take five times that.
        self._digests = bytearray()
        self._stored = array("Q")
        self._modified = array("d")
        self._added: dict[bytes, int] = {}
        self._under_way: dict[bytes, threading.Event] = {}
        self._lock = threading.Lock()
        # As many as can run, however many threads upload.
        self._compressors: LifoQueue[zstandard.ZstdCompressor] = LifoQueue()
        for _ in range((os.cpu_count() or 1) + 1):
            self._compressors.put(zstandard.ZstdCompressor(level=LEVEL))

    def load_known(self) -> int:
        """Learn by LIST which pieces the store has (about 0.04 s a thousand); how many there are."""
        digests, stored, modified = bytearray(), array("Q"), array("d")
        for info in self.bucket.list(layout.OBJECTS):
            digest = layout.piece_hash(info.key)
            if digest is not None and info.size:
                digests += bytes.fromhex(digest)
                stored.append(info.size)
                modified.append(info.modified.timestamp())
        self._digests, self._stored, self._modified = digests, stored, modified
        return len(stored)

    def _known(self, digest: bytes) -> tuple[int, datetime] | None:
        count = len(self._stored)
        at = bisect_left(range(count), digest, key=lambda index: bytes(self._digests[index * 32 : index * 32 + 32]))
        if at == count or self._digests[at * 32 : at * 32 + 32] != digest:
            return None
        return self._stored[at], datetime.fromtimestamp(self._modified[at], UTC)

    def missing(self, wanted: Iterable[Piece]) -> list[Piece]:
        """Those of ``wanted`` that the store does not have with the stored size that they name, by the last LIST."""
        found = ((piece, self._known(bytes.fromhex(piece.sha256))) for piece in wanted)
        return [piece for piece, known in found if known is None or known[0] != piece.stored]

    def add(self, data: bytes) -> Piece:
        """Keep ``data`` (1 byte to ``MAX_PIECE_BYTES``); compressed and uploaded only if the store lacks it."""
        return self.pack(data).send()

    def pack(self, data: bytes | memoryview, *, wait: bool = True) -> _Packed:
        """The first half of :meth:`add`, after which ``data`` is no longer needed; the result is sent or dropped.

        Not to ``wait`` for another thread that sends the same bytes is for who would keep it from sending them.
        """
        if not 0 < len(data) <= MAX_PIECE_BYTES:
            raise ValueError("a piece has 1 byte to 64 MiB")
        digest = hashlib.sha256(data).digest()
        stored, event = self._mine(digest, wait=wait)
        if stored is not None:
            return _Packed(0, partial(self._reused, digest, len(data), stored), lambda: None)
        try:
            packed = self._compress(data)
        except BaseException:
            self._let_go(digest, event)
            raise
        send = partial(self._upload, digest, len(data), packed, event)
        return _Packed(len(packed), send, partial(self._let_go, digest, event))

    def _mine(self, digest: bytes, *, wait: bool) -> tuple[int | None, threading.Event | None]:
        """(the stored size if the store has the piece, what to set once we have sent it if nobody else is)."""
        while True:
            with self._lock:
                if digest in self._added:
                    return self._added[digest], None
                known = self._known(digest)
                if known is not None and not (self._due and self._due(digest.hex(), known[1])):
                    self._added[digest] = known[0]
                    return known[0], None
                under_way = self._under_way.get(digest)
                if under_way is None:
                    event = self._under_way[digest] = threading.Event()
                    return None, event
            if not wait:
                return None, None
            under_way.wait()  # if it failed, we try ourselves

    def _let_go(self, digest: bytes, event: threading.Event | None) -> None:
        if event is not None:
            with self._lock:
                del self._under_way[digest]
            event.set()

    def _upload(self, digest: bytes, size: int, packed: bytes, event: threading.Event | None) -> Piece:
        name = digest.hex()
        try:
            self._put(layout.piece_key(name), packed)
            with self._lock:
                self._added[digest] = len(packed)
                self.figures.uploaded += len(packed)
                self.figures.uploaded_pieces += 1
                self.figures.renewed_pieces += self._known(digest) is not None
        finally:
            self._let_go(digest, event)
        return Piece(sha256=name, size=size, stored=len(packed))

    def _put(self, key: str, packed: bytes) -> None:
        if not self.bucket.wire.express.put(self.bucket.full(key), packed):
            self.bucket.put(key, packed)

    def _get(self, key: str, limit: int) -> bytes:
        packed = None if self._handed_over else self.bucket.wire.express.get(self.bucket.full(key), limit=limit)
        return self.bucket.get(key, limit=limit) if packed is None else packed

    def _reused(self, digest: bytes, size: int, stored: int) -> Piece:
        with self._lock:
            self.figures.reused += stored
            self.figures.reused_pieces += 1
        return Piece(sha256=digest.hex(), size=size, stored=stored)

    def _compress(self, data: bytes | memoryview) -> bytes:
        compressor = self._compressors.get()
        try:
            return compressor.compress(data)
        finally:
            self._compressors.put(compressor)

    def read(self, piece: Piece) -> bytes:
        """The piece's bytes, verified. Raises IntegrityError if it is missing, larger than it says, or not itself."""
        try:
            packed = self._get(layout.piece_key(piece.sha256), most_packed(piece.size))
        except NotFoundError:
            raise IntegrityError("A piece of the backup is missing in its store", next_step=NEXT_STEP) from None
        except TooLargeError:
            raise IntegrityError("A piece of the backup is larger than it may be", next_step=NEXT_STEP) from None
        data = unpack(packed, piece.size)
        if hashlib.sha256(data).hexdigest() != piece.sha256:
            raise IntegrityError("A piece of the backup does not have the content that it should", next_step=NEXT_STEP)
        return data


def most_packed(size: int) -> int:
    """What ``size`` bytes can at most become in zstd (zstd.h, ZSTD_COMPRESSBOUND), and some room."""
    return size + size // 256 + 65536


def pack(data: bytes) -> bytes:
    """``data`` as one zstd frame that states its size."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(data)


def unpack(packed: bytes, size: int) -> bytes:
    """The ``size`` bytes in one zstd frame; never more memory than that. Raises IntegrityError for anything else."""
    try:
        if zstandard.get_frame_parameters(packed).content_size == size:
            data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size, allow_extra_data=False)
            if len(data) == size:
                return data
    except zstandard.ZstdError:
        pass
    raise IntegrityError("A part of the backup is damaged: it cannot be decompressed", next_step=NEXT_STEP)
