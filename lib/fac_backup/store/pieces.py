"""Pieces: runs of bytes, each stored once under the hash of what it holds, compressed, verified when read."""

from __future__ import annotations

import hashlib
import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

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
        self._own = threading.local()

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
        if not 0 < len(data) <= MAX_PIECE_BYTES:
            raise ValueError("a piece has 1 byte to 64 MiB")
        digest = hashlib.sha256(data).digest()
        while True:
            with self._lock:
                added = self._added.get(digest)
                event = self._under_way.get(digest)
                if added is None and event is None:
                    event = self._under_way[digest] = threading.Event()
                    break
            if added is not None:
                return self._reused(digest, len(data), added)
            if event is not None:
                event.wait()  # another thread uploads the same bytes; if it failed, we try ourselves
        try:
            return self._store(digest, data)
        finally:
            with self._lock:
                del self._under_way[digest]
            event.set()

    def _store(self, digest: bytes, data: bytes) -> Piece:
        name = digest.hex()
        known = self._known(digest)
        if known is not None and not (self._due and self._due(name, known[1])):
            with self._lock:
                self._added[digest] = known[0]
            return self._reused(digest, len(data), known[0])
        packed = self._compressor().compress(data)
        self._put(layout.piece_key(name), packed)
        with self._lock:
            self._added[digest] = len(packed)
            self.figures.uploaded += len(packed)
            self.figures.uploaded_pieces += 1
            self.figures.renewed_pieces += known is not None
        return Piece(sha256=name, size=len(data), stored=len(packed))

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

    def _compressor(self) -> zstandard.ZstdCompressor:
        if not hasattr(self._own, "compressor"):
            self._own.compressor = zstandard.ZstdCompressor(level=LEVEL)
        made: zstandard.ZstdCompressor = self._own.compressor
        return made

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
