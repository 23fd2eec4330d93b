"""The catalog: which complete backups a store has. A backup is there when, and only when, its manifest is."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FailedError, IntegrityError, LockedError, NoSuchBackupError
from fac_backup.plain.manifest import Manifest, utc_text
from fac_backup.plain.words import IDS, did_you_mean

from . import layout, note
from .bucket import AlreadyThere, Bucket, NotFoundError, ObjectInfo, TooLargeError
from .locks import Lease
from .records import Tombstones
from .signing import Signer, TrustedKeys

FUTURE = timedelta(minutes=5)
"""A manifest dated further ahead than this counts for nothing: somebody's clock is wrong, or somebody forges."""

Signature = Literal["none", "valid", "invalid", "unchecked"]


@dataclass(frozen=True)
class Damaged:
    """A manifest that cannot be used, and ``why`` in a sentence."""

    id: BackupId
    why: str


@dataclass(frozen=True)
class Entry:
    """One line of the catalog with what is to be known before trusting it."""

    id: BackupId
    manifest: Manifest | None
    why: str
    """Why there is no manifest, empty if there is."""
    signature: Signature
    """``unchecked``: no public keys were given."""
    future: bool
    modified: datetime
    sha256: str = ""
    """Of the manifest's bytes; empty if it went while the catalog was read."""
    pieces_size: int = 0
    """Bytes of all its pieces before compression, also where they are left out of ``manifest``."""

    @property
    def damaged(self) -> Damaged | None:
        """The same as Damaged, None if the manifest could be read."""
        return None if self.manifest is not None else Damaged(self.id, self.why)


class Catalog:
    """The manifests of one store; ``bucket`` is seen from the space's prefix.

    With ``keys`` signatures are checked; with ``require_signed`` too, what is not validly signed does not exist for
    ``ids``, ``read`` and ``read_all`` (``entries`` still shows it).
    """

    def __init__(
        self,
        bucket: Bucket,
        space: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        keys: TrustedKeys | None = None,
        require_signed: bool = False,
    ) -> None:
        self._bucket = bucket
        self.space = space
        self._clock = clock
        self._keys = keys
        self.require_signed = require_signed

    def _listed(self) -> tuple[list[tuple[BackupId, ObjectInfo]], set[str]]:
        found, signatures = [], set()
        for info in self._bucket.list(layout.CATALOG):
            backup_id = layout.id_in(info.key, layout.CATALOG)
            if backup_id is not None and backup_id.space == self.space:
                found.append((backup_id, info))
            elif info.key.endswith(".json.sig"):
                signatures.add(info.key)
        return sorted(found, key=lambda item: item[0]), signatures

    def ids(self) -> list[BackupId]:
        """The ids of all backups, oldest first; with ``require_signed`` the manifests are read for it."""
        if self.require_signed:
            return [entry.id for entry in self.summaries() if self.counts(entry)]
        return [backup_id for backup_id, _ in self._listed()[0]]

    def counts(self, entry: Entry) -> bool:
        """Whether the entry is signed as it must be here."""
        return not self.require_signed or entry.signature == "valid"

    def entries(self) -> list[Entry]:
        """Everything in the catalog, oldest first: one LIST, then all manifests at once. No content makes it fail."""
        return list(self._each(self._bucket.jobs, whole=True))

    def summaries(self) -> list[Entry]:
        """As ``entries``, but the manifests come without their pieces: a hundred of a big database fit into memory.

        Two round trips for up to 128 backups.
        """
        return list(self._each(128, whole=False))

    def each(self) -> Iterator[Entry]:
        """As ``entries``, one after the other, so that few manifests are in memory at a time."""
        return self._each(4, whole=True)

    def _each(self, jobs: int, *, whole: bool) -> Iterator[Entry]:
        listed, signatures = self._listed()
        rest = iter(listed)
        jobs = min(jobs, max(1, len(listed)))
        with ThreadPoolExecutor(jobs, thread_name_prefix="catalog") as pool:
            flying = deque(pool.submit(self._entry, *item, signatures, whole) for item in islice(rest, jobs))
            while flying:
                yield flying.popleft().result()
                flying.extend(pool.submit(self._entry, *item, signatures, whole) for item in islice(rest, 1))

    def _entry(self, backup_id: BackupId, info: ObjectInfo, signatures: set[str], whole: bool) -> Entry:
        manifest: Manifest | None = None
        signature: Signature = "unchecked"
        why = sha256 = ""
        key = layout.manifest_key(backup_id)
        try:
            data = self._bucket.get(key)
            sha256 = hashlib.sha256(data).hexdigest()
            if self._keys is not None:
                signature = self._verify(key, data) if layout.signature_key(key) in signatures else "none"
            manifest = Manifest.from_json(data, str(backup_id))
        except NotFoundError:
            why = "It was removed while the catalog was read"
        except TooLargeError:
            why = f"The manifest of {backup_id} is too large to be one"
        except IntegrityError as error:
            why = error.what
        size = sum(piece.size for piece in manifest.pieces()) if manifest is not None else 0
        if manifest is not None and not whole:
            database = manifest.database
            archive = database.archive.model_copy(update={"pieces": ()})
            database = database.model_copy(update={"archive": archive, "tables": ()})
            manifest = manifest.model_copy(update={"database": database})
        future = self._is_future(backup_id, manifest)
        return Entry(backup_id, manifest, why, signature, future, info.modified, sha256, size)

    def _verify(self, key: str, data: bytes) -> Signature:
        if self._keys is None:
            return "unchecked"
        try:
            signature = self._bucket.get(layout.signature_key(key), limit=1024)
        except NotFoundError:
            return "none"
        except TooLargeError:
            return "invalid"
        return "valid" if self._keys.verify(data, signature) else "invalid"

    def _is_future(self, backup_id: BackupId, manifest: Manifest | None) -> bool:
        limit = self._clock() + FUTURE
        return backup_id.time > limit or (manifest is not None and manifest.created > limit)

    def read_all(self) -> list[Manifest | Damaged]:
        """Every manifest, oldest first, or why it cannot be used; in about two round trips."""
        return [
            entry.manifest if entry.manifest is not None else Damaged(entry.id, entry.why)
            for entry in self.entries()
            if self.counts(entry)
        ]

    def read(self, backup_id: BackupId, *, future_too: bool = False) -> Manifest:
        """One manifest, its signature checked before it is parsed. ``future_too`` is for what restores nothing of it.

        Raises NoSuchBackupError; IntegrityError if it is damaged, dated in the future or, where signatures are
        required, not validly signed.
        """
        key = layout.manifest_key(backup_id)
        if backup_id.space != self.space:
            raise NoSuchBackupError(
                f"{backup_id} is a backup of {backup_id.space}, not of {self.space}", next_step=_LIST.format(self.space)
            )
        try:
            data = self._bucket.get(key)
        except NotFoundError:
            near = did_you_mean(str(backup_id), (str(known) for known, _ in self._listed()[0]), IDS)
            raise NoSuchBackupError(
                f"There is no backup {backup_id}{near}", next_step=_LIST.format(self.space)
            ) from None
        except TooLargeError:
            raise IntegrityError(f"The manifest of {backup_id} is too large to be one") from None
        if self._keys is not None:
            signature = self._verify(key, data)
            if signature == "invalid" or (self.require_signed and signature != "valid"):
                problem = "has no signature" if signature == "none" else "is not signed by a key that the matrix trusts"
                raise IntegrityError(
                    f"The manifest of {backup_id} {problem}",
                    next_step="Choose another backup, and find out who wrote this one.",
                )
        elif self.require_signed:
            raise IntegrityError("Signatures are required, but no public key is known to check them with")
        manifest = Manifest.from_json(data, str(backup_id))
        if not future_too and self._is_future(backup_id, manifest):
            raise IntegrityError(
                f"The backup {backup_id} is dated in the future ({utc_text(max(backup_id.time, manifest.created))}): a "
                "clock is wrong, or it was planted",
                next_step="Check this machine's clock; if it is right, choose another backup, and find out who wrote "
                "this one.",
            )
        return manifest

    def reserve(self, backup_id: BackupId, *, owner: str = "") -> BackupId:
        """The id under which a new backup is made: ``backup_id``, or the next second that is free.

        Safe against others who do the same: the id is taken by the conditional PUT of ``backups/<id>/begun``.
        """
        for _ in range(600):
            taken = any(
                self._bucket.head(key) is not None
                for key in (layout.manifest_key(backup_id), layout.tombstone_key(backup_id))
            )
            if not taken:
                try:
                    self._bucket.put_new(layout.own_key(backup_id, "begun"), f"{owner}\n".encode())
                except AlreadyThere:
                    pass
                else:
                    return backup_id
            backup_id = backup_id.next_second()
        raise FailedError("No backup id is free in the next ten minutes", next_step="Check this machine's clock.")

    def commit(self, manifest: Manifest, lease: Lease | None, *, signer: Signer | None = None) -> None:
        """Make the backup exist. The manifest's PUT is the last write; ``lease`` is checked just before it, and after:
        of a process that was paused between the two a purge may have swept the pieces, so its manifest goes again.

        Raises LockedError if the lease is lost, FailedError if the id is taken.
        """
        key = layout.manifest_key(manifest.backup_id)
        data = manifest.to_json()
        self._bucket.put(layout.own_key(manifest.backup_id, note.NAME), note.text(manifest.backup_id))
        if signer is not None:
            self._bucket.put(layout.signature_key(key), signer.sign(data))
        if lease is not None:
            lease.check()
        try:
            self._bucket.put_new(key, data)
        except AlreadyThere:
            raise FailedError(f"There is a backup {manifest.id} already", next_step="Run the backup again.") from None
        if lease is not None:
            try:
                lease.check()
            except LockedError:
                # Another backup may have seen it, and name it: the tombstone says why it is gone.
                tombstones = Tombstones(self._bucket, self._clock)
                tombstones.put(manifest.backup_id, by="backup", rule="lease lost at its commit", signer=signer)
                self.remove(manifest.backup_id)
                raise

    def remove(self, backup_id: BackupId) -> None:
        """Make a backup not exist. Write its tombstone before; what it alone needed is swept after."""
        key = layout.manifest_key(backup_id)
        self._bucket.delete(key)
        self._bucket.delete(layout.signature_key(key))


_LIST = "`fac-backup list --space {}` shows which there are."
