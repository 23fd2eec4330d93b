"""What one room needs of another, without importing it."""

from __future__ import annotations

from typing import Protocol

from fac_backup.plain.manifest import Piece


class PieceSink(Protocol):
    """Takes runs of bytes and keeps each distinct one once. Safe to call from several threads."""

    def add(self, data: bytes) -> Piece:
        """Hash ``data`` (1 byte to ``MAX_PIECE_BYTES``); compress and upload it only if the store lacks it."""
        ...


class PieceSource(Protocol):
    """Gives the bytes of pieces. Safe to call from several threads."""

    def read(self, piece: Piece) -> bytes:
        """The piece's bytes, verified against its SHA-256 and size. Raises IntegrityError otherwise."""
        ...
