"""What documents a store holds, as one LIST of ``documents/<label>/`` tells it, in 24 bytes a stored document."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from contextlib import closing
from datetime import UTC, datetime
from hashlib import blake2b

from fac_backup.documents.entry import bare
from fac_backup.documents.window import Ahead
from fac_backup.store.bucket import Bucket


class Known:
    """The stored documents of one label. Asked by name, it says whether that object is there with that size and ETag.

    Names are 256-bit hashes in the order of the LIST, so their first 64 bits in a sorted array find them; a second
    array holds 64 bits of hash of name, size and ETag, a third the time. Nobody who only writes objects can hit
    another object's 64 bits by chance.
    """

    def __init__(self, store: Bucket, label: str) -> None:
        """LIST the store (1,000 objects a request)."""
        self._names = array("Q")
        self._proofs = array("Q")
        self._times = array("Q")
        prefix = f"documents/{label}/"
        matches = re.compile(rf"{prefix}([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})").fullmatch
        with closing(Ahead(store.list(prefix))) as listed:
            for found in listed:
                match = matches(found.key)
                if match:
                    name = match[2]
                    self._names.append(int(name[:16], 16))
                    self._proofs.append(_proof(name, found.size, bare(found.etag)))
                    self._times.append(max(0, int(found.modified.timestamp())))

    def __len__(self) -> int:
        return len(self._names)

    def has(self, name: str, size: int, etag: str) -> bool:
        """Whether the stored object ``name`` (64 hex digits) is there, with this size and this ETag."""
        at = self._find(name)
        return at is not None and self._proof_at(at, name, size, etag)

    def holds(self, name: str) -> bool:
        """Whether a stored object of this name is there, whatever its size and ETag."""
        return self._find(name) is not None

    def written(self, name: str) -> datetime | None:
        """When the stored object was written (UTC), None if it is not there."""
        at = self._find(name)
        return None if at is None else datetime.fromtimestamp(self._times[at], UTC)

    def _find(self, name: str) -> int | None:
        short = int(name[:16], 16)
        at = bisect_left(self._names, short)
        return at if at < len(self._names) and self._names[at] == short else None

    def _proof_at(self, at: int, name: str, size: int, etag: str) -> bool:
        proof = _proof(name, size, etag)
        while at < len(self._names) and self._names[at] == int(name[:16], 16):
            if self._proofs[at] == proof:
                return True
            at += 1
        return False


def _proof(name: str, size: int, etag: str) -> int:
    return int.from_bytes(blake2b(f"{name} {size} {etag}".encode(), digest_size=8).digest(), "big")
