"""Where documents are: labelled buckets or prefixes, and the few things asked of whatever documents are read from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fac_backup.plain.backup_id import is_name
from fac_backup.plain.errors import UsageError
from fac_backup.plain.locations import BucketAddress
from fac_backup.store.bucket import Bucket, ObjectHead, ObjectInfo

RESERVED = ".fac-backup/"
"""Below this, in every documents prefix, lie markers. Never part of a backup, never touched by a restore."""


class ReadSource(Protocol):
    """What stored documents and listings can be read from: a ``Bucket``, or an index of presigned addresses."""

    def stream(self, key: str, *, if_match: str | None = None) -> Iterator[bytes]:
        """The object's bytes. Raises the store's ``NotFoundError`` if there is none, ``Changed`` if it has another
        ETag than ``if_match`` (with quotes, as ``head`` gives it)."""
        ...

    def head(self, key: str) -> ObjectHead | None:
        """Size, ETag, content type and metadata; None if there is no such object."""
        ...


@dataclass(frozen=True)
class Source:
    """The documents of one label: all objects below one prefix of a bucket, but for ``.fac-backup/``."""

    label: str
    bucket: Bucket


@dataclass(frozen=True)
class KeyRange:
    """A run of keys in UTF-8 byte order: all after ``after``, up to and including ``until`` (None: to the end)."""

    after: str = ""
    until: str | None = None

    def __contains__(self, key: str) -> bool:
        return key > self.after and not self.ends_before(key)

    def ends_before(self, key: str) -> bool:
        """Whether the range is over when ``key`` comes."""
        return self.until is not None and key > self.until


EVERYTHING = KeyRange()


def documents(bucket: Bucket, between: KeyRange = EVERYTHING) -> Iterator[ObjectInfo]:
    """LIST the documents in key order, without what is reserved, and without the folder itself: a console that makes
    the folder ``media`` leaves an object ``media/``, whose key below the prefix is empty."""
    for found in bucket.list(start_after=between.after):
        if between.ends_before(found.key):
            return
        if found.key and not found.key.startswith(RESERVED):
            yield found


def check_places(labels: Sequence[tuple[str, BucketAddress]], store: BucketAddress | None = None) -> None:
    """Refuse labels that cannot be told apart: bad or repeated names, places that overlap each other or the store.

    Raises UsageError (exit code 2), before anything is read.
    """
    for label, _ in labels:
        if not is_name(label):
            raise UsageError(
                "A documents label must be lower-case letters, digits and '-', at most 31, beginning with a letter",
                next_step="Write FAC_BACKUP_DOCUMENTS as label=s3://bucket/prefix.",
            )
    for at, (label, address) in enumerate(labels):
        for other, place in labels[at + 1 :]:
            if label == other:
                raise UsageError(
                    f"The documents label {label} is given twice", next_step="Give each a name of its own."
                )
            if address.overlaps(place):
                raise UsageError(
                    f"The documents labels {label} and {other} overlap: one lies inside the other",
                    next_step="Give each label a bucket or prefix of its own.",
                )
        if store is not None and address.overlaps(store):
            raise UsageError(
                f"The documents label {label} overlaps the place where backups are kept",
                next_step="Keep backups in another bucket, or under a prefix beside the documents.",
            )
