"""Open what an operation works with: database, documents, store, signing key."""

from __future__ import annotations

from dataclasses import dataclass

from fac_backup.database.connection import Database
from fac_backup.documents.source import Source, check_places
from fac_backup.hosting.settings import Places
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import UsageError
from fac_backup.plain.locations import BucketAddress
from fac_backup.store.bucket import Bucket
from fac_backup.store.signing import Signer, TrustedKeys
from fac_backup.store.store import Store


@dataclass(frozen=True)
class Opened:
    """One space, ready to be worked on. Opening connects to nothing yet."""

    space: str
    database: Database
    sources: tuple[Source, ...]
    store: Store
    signer: Signer | None

    @property
    def bucket(self) -> Bucket:
        """The backups bucket, seen from the space's prefix."""
        return self.store.bucket


def open_space(around: Surroundings, space: str, *, signing: bool = True) -> Opened:
    """Everything of ``space``; its signing key only where ``signing``, for what makes no backup must not ask for it.

    Raises UsageError for what is missing, malformed or overlapping.
    """
    places = around.places(space)
    bucket = places.need_bucket()
    documents = places.need_documents()
    check_places(documents, bucket)
    return Opened(
        space,
        Database(places.need_database(), called=f"{space}'s database"),
        tuple(Source(label, documents_bucket(around, label, address)) for label, address in documents),
        store_of(around, space, bucket),
        signer(around, space) if signing else None,
    )


def open_store(around: Surroundings, space: str) -> Store:
    """The store of ``space`` alone, for operations that need neither database nor documents."""
    return store_of(around, space, around.places(space).need_bucket())


def source_store(around: Surroundings, source: str, target: str) -> Store:
    """In a restore, the store that holds the source's backups: its own bucket if one is given, else the target's."""
    places: Places = around.places(target, source=True)
    return store_of(around, source, places.source_bucket or places.need_bucket())


def store_of(around: Surroundings, space: str, address: BucketAddress) -> Store:
    """A store at an address, with what the matrix says of it."""
    settings = around.matrix.space(space)
    return Store(
        Bucket(address, jobs=around.transfers, role=f"the backups bucket of {space}"),
        space,
        owner=f"{around.doing} {around.who}",
        clock=around.clock,
        max_object_age_days=settings.max_object_age_days,
        trusted_keys=tuple(_pem(key) for key in settings.public_keys),
        require_signed=settings.require_signatures,
    )


def documents_bucket(around: Surroundings, label: str, address: BucketAddress) -> Bucket:
    """The bucket of one documents label."""
    return Bucket(address, jobs=around.transfers, role=f"the documents bucket {label}")


def signer(around: Surroundings, space: str) -> Signer | None:
    """The key that signs the space's backups, None where none is given and none is required.

    Raises UsageError without one where the matrix requires it, and for one whose public key the matrix does not list:
    what it signed would count for nothing.
    """
    pem = around.env.get("FAC_BACKUP_SIGNING_KEY", "")
    if pem.strip():
        key = Signer.from_pem(pem)
        trusted = tuple(_pem(one) for one in around.matrix.space(space).public_keys)
        if trusted and not TrustedKeys(trusted).verify(b"which key", key.sign(b"which key")):
            raise UsageError(
                f"The matrix does not list the public key of the signing key for {space}",
                next_step="Add it to `public_keys` on the default branch, or use the key that is listed there.",
            )
        return key
    if around.matrix.space(space).require_signatures:
        raise UsageError(
            f"The matrix requires signatures for {space}, and no signing key is given",
            next_step="Set FAC_BACKUP_SIGNING_KEY (in a workflow: the input `signing-key`) from a secret.",
        )
    return None


def _pem(key: str) -> str:
    """The matrix keeps the base64 line of a public key."""
    return f"-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n"
