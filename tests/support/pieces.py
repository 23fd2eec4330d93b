"""A store for tests that keeps pieces in memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import MAX_PIECE_BYTES, Piece


@dataclass(frozen=True)
class Packed:
    held: int
    send: Callable[[], Piece]
    drop: Callable[[], None] = lambda: None


class MemoryPieces:
    """A PieceSink and PieceSource; counts what was new."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.new: list[str] = []
        self._lock = threading.Lock()

    def add(self, data: bytes) -> Piece:
        assert isinstance(data, bytes)
        assert 0 < len(data) <= MAX_PIECE_BYTES
        name = hashlib.sha256(data).hexdigest()
        with self._lock:
            if name not in self.kept:
                self.kept[name] = data
                self.new.append(name)
        return Piece(sha256=name, size=len(data), stored=len(data))

    def pack(self, data: bytes | memoryview, *, wait: bool) -> Packed:
        del wait
        kept = bytes(data)
        return Packed(len(kept), lambda: self.add(kept))

    def read(self, piece: Piece) -> bytes:
        data = self.kept.get(piece.sha256)
        if data is None or len(data) != piece.size:
            raise IntegrityError("the piece is missing")
        return data
