"""A set of many texts in 11 bytes each (at most 20 while they repeat), where Python's own takes more than a hundred."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b

_PARTS = 256
_FEW = 128
"""New digests of a part that may wait unsorted beside half as many again as are sorted."""


class Digests:
    """Which texts have been added, as 64 bits of hash of each. Not to be used from several threads without a lock.

    A text that was never added is found with a chance of one in 2^64 for each that was: use it where that only keeps
    or renews an object too much, or where whoever names the texts gains nothing by a collision.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        # In parts, so that sorting, which makes 40 bytes of each digest for a while, takes little at a time.
        self._parts = [array("Q") for _ in range(_PARTS)]
        self._sorted = [0] * _PARTS
        """How many digests at the beginning of each part are in order, each once."""
        self.update(texts)

    def add(self, text: str) -> None:
        """Remember one text."""
        digest = _digest(text)
        at = digest % _PARTS
        part = self._parts[at]
        part.append(digest)
        if len(part) > _FEW + 1.5 * self._sorted[at]:
            self._settle(at)

    def update(self, texts: Iterable[str]) -> None:
        """Remember all of these."""
        for text in texts:
            self.add(text)

    def __contains__(self, text: str) -> bool:
        digest = _digest(text)
        at = digest % _PARTS
        if len(self._parts[at]) != self._sorted[at]:
            self._settle(at)
        part = self._parts[at]
        found = bisect_left(part, digest)
        return found < len(part) and part[found] == digest

    def __len__(self) -> int:
        for at in range(_PARTS):
            self._settle(at)
        return sum(self._sorted)

    def _settle(self, at: int) -> None:
        """Put a part in order, and leave out what is there twice: backups share most of their documents."""
        self._parts[at] = array("Q", sorted(set(self._parts[at])))
        self._sorted[at] = len(self._parts[at])


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
