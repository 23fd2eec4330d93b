"""One line of a listing: one document, which version of it, and where the store keeps its bytes."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError

from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import Bytes, Plain, Sha256

MAX_KEY_BYTES = 1024
"""S3's own limit, of the UTF-8 form (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html)."""

ETag = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21\x23-\x7e]+$")]


class Entry(Plain):
    """One document of a backup. Keys are any UTF-8; nothing of it is safe to show without ``plain.text``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: Annotated[str, Field(min_length=1, max_length=MAX_KEY_BYTES)]
    """Below the label's prefix in the source."""
    size: Bytes
    etag: ETag
    """The source's ETag, without quotes."""
    modified: Annotated[int, Field(ge=0, le=1 << 40)]
    """When this version was written, as the source's LIST says it: whole seconds since 1970, UTC."""
    object: Sha256
    """Name of the stored object: ``documents/<label>/<first two>/<all 64>`` below the space's prefix."""
    stored_etag: ETag | None = None
    """The stored object's ETag, where it is another one than the source's."""
    sha256: Sha256 | None = None
    """Of the document's bytes, where they passed through us or the store told it."""
    young: bool | None = None
    """True if the document was written less than two seconds before it was listed: time, size and ETag alone do not
    tell then whether it was written once more in that second, with another content type."""

    @property
    def expected_etag(self) -> str:
        """The ETag that the stored object must have."""
        return self.stored_etag or self.etag

    def line(self) -> bytes:
        """The listing's line, with its line feed."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"


def parse(line: bytes) -> Entry:
    """Read one line. Raises IntegrityError if it is not exactly an entry."""
    try:
        entry = Entry.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise damaged(f"{'.'.join(str(part) for part in first['loc'])} {first['msg']}") from None
    if len(entry.key) > MAX_KEY_BYTES // 4 and len(entry.key.encode()) > MAX_KEY_BYTES:
        raise damaged("key is longer than S3 allows")
    return entry


def damaged(how: str) -> IntegrityError:
    """The error for a listing that is not what was written; ``how`` must not hold anything of its content."""
    return IntegrityError(
        f"A listing of documents is damaged ({how})",
        next_step="Choose another backup (`fac-backup list`), and keep this bucket as it is for the analysis.",
    )


def object_name(key: str, etag: str, size: int, modified: int, salt: str = "") -> str:
    """The stored name of one version of one document: the same version gets the same name on every day.

    ``salt`` makes a name of its own for a version that these four may not tell from another (see ``Entry.young``).
    """
    identity = "\n".join((str(len(key.encode())), key, etag, str(size), str(modified), salt))
    return hashlib.sha256(identity.encode()).hexdigest()


def bare(etag: str) -> str:
    """An ETag without the quotes that S3 puts around it."""
    return etag.strip('"')


def quoted(etag: str) -> str:
    """An ETag as a condition (``If-Match``) wants it."""
    return f'"{etag}"'


def object_key(label: str, name: str) -> str:
    """Where a stored document lies below the space's prefix."""
    return f"documents/{label}/{name[:2]}/{name}"


def handle(key: str) -> str:
    """How logs and errors call a document without showing its key: the first 12 digits of the key's SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]
