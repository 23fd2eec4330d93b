"""Byte streams: chunks from a file or pipe, gunzip in bounded memory, and chunks as something that can be read."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from fac_backup.plain.errors import IntegrityError

CHUNK = 1 << 20
GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31


class Readable(Protocol):
    """What can be read in order, and nothing else: a file, a pipe, a body from S3."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; empty at the end."""
        ...


def chunks(source: Readable) -> Iterator[bytes]:
    """``source`` in chunks of at most 1 MiB."""
    while chunk := source.read(CHUNK):
        yield chunk


def gunzipped(source: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a gzip stream (RFC 1952, several members too), at most 1 MiB at a time.

    Raises IntegrityError if it is damaged or ends too early.
    """
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    begun = False
    for chunk in source:
        left = chunk
        while left:
            if inflater.eof:
                if not left.strip(b"\0"):
                    break  # padding after the last member, as tapes and some tools leave it
                inflater = zlib.decompressobj(_GZIP_WINDOW)
            begun = True
            try:
                data = inflater.decompress(left, CHUNK)
            except zlib.error:
                raise _damaged("is damaged") from None
            left = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            if data:
                yield data
    while begun and not inflater.eof:
        try:
            data = inflater.decompress(b"", CHUNK)
        except zlib.error:
            raise _damaged("is damaged") from None
        if not data:
            raise _damaged("ends too early")
        yield data


def gzipped(source: Iterable[bytes]) -> Iterator[bytes]:
    """``source`` as one gzip member, without name or time."""
    deflater = zlib.compressobj(level=6, wbits=_GZIP_WINDOW)
    for chunk in source:
        if data := deflater.compress(chunk):
            yield data
    yield deflater.flush()


class Reader:
    """Chunks as a file that can only be read forward."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self._source = iter(source)
        self._left = b""

    def read(self, size: int, /) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end."""
        while len(self._left) < size:
            chunk = next(self._source, None)
            if chunk is None:
                break
            self._left += chunk
        data, self._left = self._left[:size], self._left[size:]
        return data

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes, still to be read."""
        data = self.read(size)
        self._left = data + self._left
        return data

    def rest(self) -> Iterator[bytes]:
        """Everything that is still to be read, in chunks."""
        if self._left:
            data, self._left = self._left, b""
            yield data
        yield from self._source


def _damaged(how: str) -> IntegrityError:
    return IntegrityError(f"The gzip stream {how}", next_step="Fetch the archive again, or choose another one.")
