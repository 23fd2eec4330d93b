"""Small records beside the catalog: holds, tombstones, the audit trail, the journal of unfinished restores, pins."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FacBackupError, FailedError, IntegrityError
from fac_backup.plain.manifest import Plain

from . import layout
from .bucket import Bucket, Changed, NotFoundError, ObjectInfo
from .signing import Signer, TrustedKeys

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
SMALL = 4 * 1024**2
"""No record is larger."""

R = TypeVar("R", bound=Plain)


def dump(record: Plain) -> bytes:
    """The bytes that are stored, and signed where signatures are used."""
    return (record.model_dump_json(indent=1) + "\n").encode()


def parse(model: type[R], data: bytes, what: str) -> R:
    """Read a stored record. Raises IntegrityError if it is damaged."""
    try:
        return model.model_validate_json(data)
    except ValidationError:
        raise IntegrityError(f"{what} is damaged", next_step="Keep the bucket as it is for the analysis.") from None


class Hold(Plain):
    """Purge leaves a held backup alone."""

    id: str
    at: AwareDatetime
    by: str = Field(max_length=500)
    reason: str = Field(default="", max_length=1000)


class Holds:
    """Which backups are held."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self._bucket = bucket
        self._clock = clock

    def held(self) -> frozenset[BackupId]:
        """The ids that are held. The object's presence holds, whatever it contains."""
        found = (layout.id_in(info.key, layout.HOLDS) for info in self._bucket.list(layout.HOLDS))
        return frozenset(backup_id for backup_id in found if backup_id is not None)

    def hold(self, backup_id: BackupId, *, by: str, reason: str = "") -> None:
        """Hold a backup, again if it is held already."""
        record = Hold(id=str(backup_id), at=self._clock(), by=by[:500], reason=reason[:1000])
        self._bucket.put(layout.hold_key(backup_id), dump(record))

    def release(self, backup_id: BackupId) -> None:
        """Let purge have it again."""
        self._bucket.delete(layout.hold_key(backup_id))


class Tombstone(Plain):
    """That a backup was purged, so that one which was merely removed shows."""

    tombstone: str
    """The backup id. The field's name keeps a signed tombstone from ever passing as a manifest, and the reverse."""
    at: AwareDatetime
    by: str = Field(max_length=500)
    rule: str = Field(max_length=1000)


class Tombstones:
    """The purged backups of a store."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self._bucket = bucket
        self._clock = clock

    def put(self, backup_id: BackupId, *, by: str, rule: str, signer: Signer | None = None) -> None:
        """Write a tombstone before the backup's manifest is removed."""
        key = layout.tombstone_key(backup_id)
        data = dump(Tombstone(tombstone=str(backup_id), at=self._clock(), by=by[:500], rule=rule[:1000]))
        if signer is not None:
            self._bucket.put(layout.signature_key(key), signer.sign(data))
        self._bucket.put(key, data)

    def ids(self) -> list[BackupId]:
        """All ids that have a tombstone, sorted."""
        found = (layout.id_in(info.key, layout.TOMBSTONES) for info in self._bucket.list(layout.TOMBSTONES))
        return sorted(backup_id for backup_id in found if backup_id is not None)

    def read(self, backup_id: BackupId, keys: TrustedKeys | None = None) -> Tombstone:
        """One tombstone. Raises NotFoundError, and IntegrityError if it is another backup's, or, with ``keys``, unless
        one of them signed it."""
        key = layout.tombstone_key(backup_id)
        data = self._bucket.get(key, limit=SMALL)
        if keys is not None:
            try:
                valid = keys.verify(data, self._bucket.get(layout.signature_key(key), limit=1024))
            except NotFoundError:
                valid = False
            if not valid:
                raise IntegrityError(f"The tombstone of {backup_id} is not validly signed")
        found = parse(Tombstone, data, f"The tombstone of {backup_id}")
        if found.tombstone != str(backup_id):
            raise IntegrityError(f"What lies in the place of the tombstone of {backup_id} is another one's")
        return found


class AuditRecord(Plain):
    """One operation: who, what, from where, result. Nothing secret, nothing of the data."""

    operation: str = Field(max_length=40)
    at: AwareDatetime
    actor: str = Field(default="", max_length=500)
    run: str = Field(default="", max_length=500)
    result: str = Field(max_length=2000)
    facts: dict[str, JsonValue] = Field(default_factory=dict)


class Audit:
    """The trail of operations, one object each."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self._bucket = bucket
        self._clock = clock

    def record(
        self, operation: str, result: str, *, actor: str = "", run: str = "", facts: dict[str, JsonValue] | None = None
    ) -> str:
        """Write one record; its key."""
        now = self._clock()
        made = AuditRecord(
            operation=operation, at=now, actor=actor[:500], run=run[:500], result=result[:2000], facts=facts or {}
        )
        key = f"{layout.AUDIT}{now.astimezone(UTC):%Y%m%dT%H%M%SZ}_{operation}_{secrets.token_hex(4)}.json"
        self._bucket.put_new(key, dump(made))
        return key

    def since(self, moment: datetime, operation: str = "") -> list[AuditRecord]:
        """The records since ``moment`` (of ``operation``), oldest first; damaged ones are left out."""
        start = f"{layout.AUDIT}{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        months = _months(moment.astimezone(UTC), self._clock().astimezone(UTC))
        with self._bucket.at_once(len(months)) as pool:
            listed = pool.map(lambda month: list(self._bucket.list(f"{layout.AUDIT}{month}")), months)
            keys = [info.key for found in listed for info in found]
        keys = [key for key in keys if key > start and (not operation or key.split("_")[1:2] == [operation])]
        with self._bucket.at_once(len(keys)) as pool:
            stored = pool.map(lambda key: self._bucket.get(key, limit=SMALL), keys)
            found = []
            for data in stored:
                try:
                    found.append(parse(AuditRecord, data, "An audit record"))
                except IntegrityError:
                    continue
        return found


def _months(first: datetime, last: datetime) -> list[str]:
    """The months from ``first`` to ``last``, and the one after, for clocks that are ahead.

    >>> _months(datetime(2026, 11, 30), datetime(2026, 12, 1))
    ['202611', '202612', '202701']
    """
    count = max(0, (last.year - first.year) * 12 + last.month - first.month) + 2
    ordinals = range(first.year * 12 + first.month - 1, first.year * 12 + first.month - 1 + count)
    return [f"{ordinal // 12:04}{ordinal % 12 + 1:02}" for ordinal in ordinals]


class JournalEntry(Plain):
    """An unfinished restore: which step is done, and what the next program needs to finish or undo it."""

    id: str = Field(pattern=r"^[0-9A-Za-z_-]{1,120}$")
    operation: str = Field(max_length=40)
    started: AwareDatetime
    owner: str = Field(max_length=500)
    step: str = Field(max_length=80)
    data: dict[str, JsonValue] = Field(default_factory=dict)


class Journal:
    """Unfinished restores of this space. Each step replaces exactly what was read: two who resume collide visibly."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self._bucket = bucket
        self._clock = clock

    @staticmethod
    def _key(entry_id: str) -> str:
        return f"{layout.JOURNAL}{entry_id}.json"

    def begin(
        self, operation: str, *, owner: str, step: str, data: dict[str, JsonValue] | None = None
    ) -> tuple[JournalEntry, str]:
        """A new entry and its ETag, which ``advance`` and ``finish`` want."""
        now = self._clock()
        entry = JournalEntry(
            id=f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}_{secrets.token_hex(4)}", operation=operation, started=now,
            owner=owner[:500], step=step, data=data or {},
        )  # fmt: skip
        return entry, self._bucket.put_new(self._key(entry.id), dump(entry))

    def advance(
        self, entry: JournalEntry, etag: str, step: str, data: dict[str, JsonValue] | None = None
    ) -> tuple[JournalEntry, str]:
        """Note that ``step`` is reached; ``data`` is merged into the entry's. Raises FailedError on a collision."""
        moved = entry.model_copy(update={"step": step, "data": {**entry.data, **(data or {})}})
        try:
            return moved, self._bucket.replace(self._key(entry.id), dump(moved), etag)
        except Changed:
            raise FailedError(
                "Somebody else has continued this restore at the same time", state="",
                next_step="Let the other one finish, then look with `fac-backup doctor`.",
            ) from None  # fmt: skip

    def finish(self, entry: JournalEntry) -> None:
        """The restore is done or undone: forget it."""
        self._bucket.delete(self._key(entry.id))

    def unfinished(self) -> list[tuple[JournalEntry, str]]:
        """Entries and their ETags, oldest first. Raises IntegrityError for a damaged one: a person must look."""

        def read(key: str) -> tuple[bytes, str] | None:
            try:
                return self._bucket.get_with_etag(key, limit=SMALL)
            except NotFoundError:
                return None

        keys = [info.key for info in self._bucket.list(layout.JOURNAL)]
        with self._bucket.at_once(len(keys)) as pool:
            stored = [found for found in pool.map(read, keys) if found is not None]
        what = "The journal of an unfinished restore"
        return [(parse(JournalEntry, data, what), etag) for data, etag in stored]


class Pin(Plain):
    """A restore elsewhere still needs a backup of this store."""

    id: str
    by: str = Field(max_length=500)
    seconds: float = Field(gt=0, le=7 * 86400)


class Pins:
    """What running restores elsewhere need. A pin runs out by itself; its age is judged by the server's clock."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self._bucket = bucket
        self._clock = clock

    def put(self, backup_id: BackupId, *, by: str, seconds: float = 86400, token: str | None = None) -> str:
        """Pin a backup for ``seconds``; the token with which to refresh or remove the pin."""
        token = token or secrets.token_hex(8)
        self._bucket.put(self._key(backup_id, token), dump(Pin(id=str(backup_id), by=by[:500], seconds=seconds)))
        return token

    def remove(self, backup_id: BackupId, token: str) -> None:
        """The restore is over."""
        self._bucket.delete(self._key(backup_id, token))

    @contextmanager
    def pinned(self, backup_id: BackupId, *, by: str, seconds: float = 86400) -> Iterator[None]:
        """Pin a backup while a block runs. A pin that cannot be removed after it changes nothing: it runs out."""
        token = self.put(backup_id, by=by, seconds=seconds)
        try:
            yield
        finally:
            try:
                self.remove(backup_id, token)
            except FacBackupError as error:
                log.warning("The pin on %s is left, and runs out by itself: %s", backup_id, error.what)

    @staticmethod
    def _key(backup_id: BackupId, token: str) -> str:
        return f"{layout.PINS}{backup_id}/{token}.json"

    def active(self) -> frozenset[BackupId]:
        """The ids that are pinned now. A pin that cannot be read counts for a week, the longest there is."""
        listed = list(self._bucket.list(layout.PINS))
        if not listed:
            return frozenset()
        now = self._bucket.server_now() or self._clock()
        return frozenset(
            backup_id
            for info in listed
            if (backup_id := layout.id_in(info.key.rpartition("/")[0] + ".json", layout.PINS)) is not None
            and info.modified + self._lifetime(info) > now
        )

    def expired(self) -> list[str]:
        """Keys of pins that have run out: the next purge removes them."""
        now = self._bucket.server_now() or self._clock()
        return [info.key for info in self._bucket.list(layout.PINS) if info.modified + self._lifetime(info) <= now]

    def _lifetime(self, info: ObjectInfo) -> timedelta:
        try:
            return timedelta(seconds=parse(Pin, self._bucket.get(info.key, limit=SMALL), "A pin").seconds)
        except NotFoundError:
            return timedelta(0)
        except IntegrityError:
            return timedelta(days=7)
