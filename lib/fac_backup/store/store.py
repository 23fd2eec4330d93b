"""One space's store: the prefix ``<space>/`` in a backups bucket, and everything in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from fac_backup.plain.errors import FailedError, IntegrityError
from fac_backup.plain.manifest import FORMAT

from . import layout
from .bucket import AlreadyThere, Bucket, NotFoundError
from .catalog import Catalog
from .locks import LEASE, Locks
from .pieces import Pieces
from .records import Audit, Holds, Journal, Pins, Tombstones
from .renewal import Ageing
from .signing import TrustedKeys


class Store:
    """Ties the parts together. Nothing is read or written before a method is called.

    ``bucket`` is the backups bucket; ``owner`` is what others see while we hold a lock; ``max_object_age_days`` is what
    the matrix says of buckets that expire objects; ``trusted_keys`` are the public keys of signatures, in PEM form.
    """

    def __init__(
        self,
        bucket: Bucket,
        space: str,
        *,
        owner: str = "fac-backup",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        lease: float = LEASE,
        max_object_age_days: float | None = None,
        trusted_keys: tuple[str, ...] = (),
        require_signed: bool = False,
    ) -> None:
        self.space = space
        self.clock = clock
        self.bucket = bucket.below(f"{space}/")
        self.ageing = Ageing(max_object_age_days) if max_object_age_days else None
        self.keys = TrustedKeys(trusted_keys) if trusted_keys or require_signed else None
        self.pieces = Pieces(self.bucket, due=self._is_due if self.ageing else None)
        self.catalog = Catalog(self.bucket, space, clock=clock, keys=self.keys, require_signed=require_signed)
        self.locks = Locks(self.bucket, owner=owner, lease=lease, clock=clock)
        self.holds = Holds(self.bucket, clock)
        self.tombstones = Tombstones(self.bucket, clock)
        self.journal = Journal(self.bucket, clock)
        self.audit = Audit(self.bucket, clock)
        self.pins = Pins(self.bucket, clock)

    def _is_due(self, sha256: str, modified: datetime) -> bool:
        return self.ageing is not None and self.ageing.is_due(layout.piece_key(sha256), modified, self.clock())

    def open_for_reading(self) -> bool:
        """Check that this program understands the store; whether there is one at all.

        Raises FailedError for a newer format, IntegrityError for a damaged ``format.json``, BucketError.
        """
        try:
            data = self.bucket.get(layout.FORMAT_KEY, limit=4096)
        except NotFoundError:
            return False
        try:
            known = json.loads(data)["format"]
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"The file that tells the format of {self.space}'s store is damaged") from None
        if known != FORMAT:
            raise FailedError(
                f"The store of {self.space} has another format than the {FORMAT} that this version knows",
                next_step="Use the version of fac-backup that wrote it, or a newer one.",
            )
        return True

    def open_for_writing(self) -> None:
        """As ``open_for_reading``; makes the store where there is none, and renews ``format.json`` once a day."""
        data = (json.dumps({"format": FORMAT, "space": self.space}) + "\n").encode()
        if not self.open_for_reading():
            try:
                self.bucket.put_new(layout.FORMAT_KEY, data)
            except AlreadyThere:
                self.open_for_reading()
            return
        found = self.bucket.head(layout.FORMAT_KEY)
        if found is not None and self.clock() - found.modified > timedelta(days=1):
            self.bucket.put(layout.FORMAT_KEY, data)

    def now(self) -> datetime:
        """The server's time, ours if it does not tell: what ages are judged by."""
        return self.bucket.server_now() or self.clock()
