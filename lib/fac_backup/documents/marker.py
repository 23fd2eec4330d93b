"""Markers: ``.fac-backup/space.json`` says which space (and label) the documents of a prefix belong to.

A restore into documents that are not marked as the target's is refused; markers are never backed up nor restored.
"""

from __future__ import annotations

from pydantic import ValidationError

from fac_backup.documents.source import RESERVED
from fac_backup.plain.errors import RefusedError
from fac_backup.plain.manifest import Name, Plain
from fac_backup.store.bucket import AlreadyThere, Bucket, NotFoundError, TooLargeError

KEY = f"{RESERVED}space.json"
_LIMIT = 4096


class Marker(Plain):
    """Whose documents these are."""

    space: Name
    label: Name


def read(bucket: Bucket) -> Marker | None:
    """The marker, None if there is none. Raises RefusedError for one that cannot be read as a marker."""
    try:
        return Marker.model_validate_json(bucket.get(KEY, limit=_LIMIT))
    except NotFoundError:
        return None
    except (ValidationError, TooLargeError):
        raise RefusedError(
            f"The marker of {bucket.role} is damaged, so nothing says whose documents these are",
            next_step=f"Look at the object {KEY} there; remove it if it is not ours, then `fac-backup adopt`.",
        ) from None


def require(bucket: Bucket, space: str, label: str) -> None:
    """Raise RefusedError (exit code 3) unless these documents are marked as this space's, under this label."""
    found = read(bucket)
    if found is None:
        raise RefusedError(
            f"{_role(bucket)} is not marked as {space}'s",
            next_step=f"If it is, say so once: `fac-backup adopt --space {space}`.",
        )
    if found != Marker(space=space, label=label):
        raise RefusedError(
            f"{_role(bucket)} is marked as {found.space}'s ({found.label}), not as {space}'s ({label})",
            next_step="Check which bucket the settings name.",
        )


def adopt(bucket: Bucket, space: str, label: str) -> None:
    """Mark these documents as this space's. Raises RefusedError if another space, or label, has marked them."""
    marker = Marker(space=space, label=label)
    try:
        bucket.put_new(KEY, marker.model_dump_json().encode())
    except AlreadyThere:
        require(bucket, space, label)


def renew(bucket: Bucket, space: str, label: str) -> None:
    """Make the marker young again, so that a bucket that expires objects by age keeps it. Raises RefusedError where it
    is missing or another's."""
    require(bucket, space, label)
    bucket.renew(KEY)


def _role(bucket: Bucket) -> str:
    return bucket.role[:1].upper() + bucket.role[1:]
