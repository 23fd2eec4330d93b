"""What one room needs of another, without importing it."""

from __future__ import annotations

from typing import Protocol

from fac_backup.plain.manifest import Piece


class Packed(Protocol):
    """A run of bytes that is hashed and, if the store lacks it, compressed: the bytes themselves are not needed now."""

    @property
    def held(self) -> int:
        """How many bytes it holds in memory until it is sent."""
        ...

    def send(self) -> Piece:
        """Upload it, if the store lacks it. This or :meth:`drop` must be called, once: others may wait for it."""
        ...

    def drop(self) -> None:
        """It is not sent after all: who waits for it may send the same bytes."""
        ...


class PieceSink(Protocol):
    """Takes runs of bytes and keeps each distinct one once. Safe to call from several threads."""

    def pack(self, data: bytes | memoryview, *, wait: bool) -> Packed:
        """Hash ``data`` (1 byte to ``MAX_PIECE_BYTES``); compress it only if the store lacks it.

        ``wait`` for somebody else who is sending the same bytes; otherwise they may be sent twice.
        """
        ...


class PieceSource(Protocol):
    """Gives the bytes of pieces. Safe to call from several threads."""

    def read(self, piece: Piece) -> bytes:
        """The piece's bytes, verified against its SHA-256 and size. Raises IntegrityError otherwise."""
        ...
