"""What documents a store holds, as one LIST of ``documents/<label>/`` tells it, in 24 bytes a stored document."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from itertools import islice

from fac_backup.documents.entry import bare
from fac_backup.documents.window import Ahead, Task, in_order
from fac_backup.store.bucket import Bucket, ObjectInfo

FEW = 200_000
"""Stored documents up to which one page after the other is good enough."""

AT_ONCE = 8
"""LISTs under way: each waits for the server a tenth of a second, and is parsed in a fiftieth."""

_Columns = tuple["array[int]", "array[int]", "array[int]", str]
"""Names, proofs and times of a run of objects, and the key of its last."""


class Known:
    """The stored documents of one label. Asked by name, it says whether that object is there with that size and ETag.

    Names are 256-bit hashes in the order of the LIST, so their first 64 bits in a sorted array find them; a second
    array holds 64 bits of hash of name, size and ETag, a third the time. Nobody who only writes objects can hit
    another object's 64 bits by chance.
    """

    def __init__(self, store: Bucket, label: str) -> None:
        """LIST the store (1,000 objects a request), folder by folder and several at once where they are many."""
        self._names = array("Q")
        self._proofs = array("Q")
        self._times = array("Q")
        prefix = f"documents/{label}/"
        matches = re.compile(rf"{prefix}([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})").fullmatch

        def read(listed: Iterable[ObjectInfo]) -> _Columns:
            names, proofs, times, last = array("Q"), array("Q"), array("Q"), ""
            for found in listed:
                last = found.key
                match = matches(last)
                if match:
                    name = match[2]
                    names.append(int(name[:16], 16))
                    proofs.append(_proof(name, found.size, bare(found.etag)))
                    times.append(max(0, int(found.modified.timestamp())))
            return names, proofs, times, last

        def folder(name: str, last: str) -> _Columns:
            here = f"{prefix}{name}/"
            return read(store.list(here, start_after=last if last.startswith(here) else ""))

        with closing(Ahead(store.list(prefix))) as listed:
            one_by_one = iter(listed)
            first = read(islice(one_by_one, FEW))
            more = next(one_by_one, None) is not None
        steps: list[_Columns | Task[_Columns]] = [first]
        if more:
            last = first[3]
            names = (f"{number:02x}" for number in range(256))
            steps += [Task(partial(folder, name, last)) for name in names if f"{prefix}{name}/~" > last]
        with closing(in_order(steps, AT_ONCE)) as columns:
            for names_, proofs, times, _ in columns:
                self._names += names_
                self._proofs += proofs
                self._times += times

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
