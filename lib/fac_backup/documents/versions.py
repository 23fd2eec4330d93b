"""Older versions of documents, where the source's bucket keeps them."""

from __future__ import annotations

from fac_backup.documents.entry import bare
from fac_backup.store.bucket import Bucket


def find(bucket: Bucket, key: str, etag: str) -> str:
    """The id of the newest version of ``key`` with that ETag (no quotes); "" where there is none or we may not look.

    Looks at the first 1,000 versions only: this is for a document that was deleted a moment ago.
    """
    full = bucket.full(key)
    try:
        answer = bucket.client().list_object_versions(Bucket=bucket.address.name, Prefix=full)
    except Exception:
        return ""
    for version in answer.get("Versions", ()):
        if version.get("Key") == full and bare(str(version.get("ETag", ""))) == etag:
            found = str(version.get("VersionId") or "")
            return "" if found == "null" else found
    return ""
