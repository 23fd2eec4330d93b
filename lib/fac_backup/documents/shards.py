"""Splitting one label's documents over several machines: key ranges, partial listings, and one listing of them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from fac_backup.documents.entry import MAX_KEY_BYTES, damaged
from fac_backup.documents.listing import Listing, listing_key, write
from fac_backup.documents.source import KeyRange, documents
from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import Documents, Plain
from fac_backup.store.bucket import Bucket

_SAMPLES = 4096

Key = Annotated[str, Field(max_length=MAX_KEY_BYTES)]


class Shards(Plain):
    """The keys at which a label's documents are split: shard ``n`` ends with the ``n``-th of them, the last with none.

    Document keys belong in no public log, so this is kept in the store, and jobs pass each other numbers only.
    """

    cuts: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Shards:
        if list(self.cuts) != sorted(set(self.cuts)) or "" in self.cuts:
            raise ValueError("the cuts are not in order")
        return self

    def ranges(self) -> tuple[KeyRange, ...]:
        """The key ranges: all keys, each once."""
        return tuple(KeyRange(*pair) for pair in zip(("", *self.cuts), (*self.cuts, None), strict=True))

    def nth(self, shard: int) -> KeyRange | None:
        """The keys of a shard, counted from 1; None where there are so few documents that nothing is left for it."""
        ranges = self.ranges()
        return ranges[shard - 1] if shard <= len(ranges) else None

    def to_json(self) -> bytes:
        """What is kept in the store."""
        return self.model_dump_json().encode()

    @classmethod
    def from_json(cls, data: bytes) -> Shards:
        """Read it back. Raises IntegrityError."""
        try:
            return cls.model_validate_json(data)
        except ValidationError:
            raise damaged("the plan of its shards") from None


def plan(keys: Iterable[str], shards: int) -> Shards:
    """Split sorted keys into at most ``shards`` runs of about the same number, holding a few thousand keys at most."""
    samples: list[str] = []
    step = 1
    for at, key in enumerate(keys):
        if at % step == 0:
            samples.append(key)
            if len(samples) >= _SAMPLES:
                samples, step = samples[::2], step * 2
    ends = {len(samples) * at // shards for at in range(1, shards)} - {0}
    return Shards(cuts=tuple(samples[end - 1] for end in sorted(ends)))


def plan_of(source: Bucket | Listing, shards: int) -> Shards:
    """Split a label's documents as its last listing (cheaper) or a LIST of its bucket shows them."""
    keys: Iterator[str] = (
        (entry.key for entry in source.entries())
        if isinstance(source, Listing)
        else (found.key for found in documents(source))
    )
    return plan(keys, shards)


def part_key(backup_id: str, label: str, shard: int, what: str = "documents") -> str:
    """Where a shard's partial listing is kept below the space's prefix."""
    return f"backups/{backup_id}/{what}-{label}.part-{shard:04d}.jsonl.zst"


def joined(store: Bucket, parts: Sequence[Documents]) -> Iterator[bytes]:
    """The lines of partial listings of one label, given in the order of their ranges. Raises IntegrityError."""
    if any(part.label != parts[0].label for part in parts):
        raise IntegrityError("Partial listings of several labels cannot be joined")
    last = ""
    for part in parts:
        for line, entry in Listing.of(store, part).pairs():
            if entry.key <= last:
                raise damaged("its shards overlap")
            last = entry.key
            yield line


def join(store: Bucket, backup_id: str, parts: Sequence[Documents]) -> Documents:
    """Make one listing of partial ones, given in the order of their ranges. The partial ones stay: until the backup is
    committed, whoever is killed here begins again with them.

    Raises IntegrityError if they are not what was written, or not in order.
    """
    label = parts[0].label
    whole, _ = write(store, listing_key(backup_id, label), label, joined(store, parts))
    return Documents(
        label=label,
        listing=whole.key,
        listing_sha256=whole.sha256,
        listing_size=whole.size,
        listing_stored_sha256=whole.stored_sha256,
        count=whole.count,
        size=sum(part.size for part in parts),
        vanished=sum(part.vanished for part in parts),
    )
