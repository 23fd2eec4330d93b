"""What the last restore left in a target, kept in the target's own store: so that tomorrow's need not ask after each.

``restored/<label>.jsonl.zst`` is a listing of the target: key, size, ETag and time as the target's LIST shows them, and
the stored object that the document was made of. ``restored/<label>.json`` says its size, count and SHA-256. Losing or
damaging them costs time, nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from pydantic import ValidationError

from fac_backup.documents.listing import Listing, write
from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import Bytes, Plain, Sha256
from fac_backup.store.bucket import Bucket, NotFoundError, TooLargeError

log = logging.getLogger(__name__)


class _Stated(Plain):
    """What the record is, as it was written."""

    sha256: Sha256
    size: Bytes
    count: Bytes


def save(store: Bucket, label: str, lines: Iterable[bytes]) -> None:
    """Write the record. Until its second object is there, it counts for nothing."""
    listing, _ = write(store, _key(label), label, lines)
    stated = {"sha256": listing.sha256, "size": listing.size, "count": listing.count}
    store.put(f"restored/{label}.json", json.dumps(stated).encode(), content_type="application/json")


def load(store: Bucket, label: str) -> Listing | None:
    """The record of the last restore into this target, None if there is none that is whole."""
    try:
        stated = _Stated.model_validate_json(store.get(f"restored/{label}.json", limit=4096))
        listing = Listing(store, _key(label), label, stated.sha256, stated.size, stated.count)
        listing.verify()
    except NotFoundError:
        return None
    except (ValidationError, TooLargeError, IntegrityError):
        log.warning("The record of the last restore of %s is damaged: every document is looked at", label)
        return None
    return listing


def _key(label: str) -> str:
    return f"restored/{label}.jsonl.zst"
