"""The manifest: what one backup consists of. Its PUT into the catalog is the commit of a backup (docs/format.md).

A manifest read from a bucket is input, not trusted text: names are checked by these models when it is parsed, and
identifiers reach SQL only through psycopg2's quoting.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fac_backup.plain.backup_id import NAME_PATTERN, BackupId
from fac_backup.plain.errors import IntegrityError, UsageError

FORMAT = 1
"""Version of the bucket's layout and of the manifest. A program refuses a number that it does not know."""

MAX_PIECE_BYTES = 64 * 1024 * 1024
"""No piece is larger than this before compression, so a reader's memory is bounded whatever a manifest says."""

NOTE = 1000
"""Characters that a note may have."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
Identifier = Annotated[str, Field(min_length=1, max_length=63 * 4)]
Bytes = Annotated[int, Field(ge=0)]


class Plain(BaseModel):
    """A frozen value that knows its fields and refuses others."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Piece(Plain):
    """A run of bytes, stored once as ``objects/<aa>/<sha256>.zst``."""

    sha256: Sha256
    """Of the bytes before compression."""
    size: Annotated[int, Field(gt=0, le=MAX_PIECE_BYTES)]
    """Bytes before compression."""
    stored: Bytes
    """Bytes of the object as stored (compressed)."""


class Archive(Plain):
    """A ``pg_dump --format=custom`` archive, cut into pieces."""

    pieces: tuple[Piece, ...]
    size: Bytes
    sha256: Sha256
    """Of the whole archive: all pieces in order."""


class RangedTable(Plain):
    """A big table that left the archive: its COPY text, in page ranges that are pieces (docs/format.md, "Tables by
    ranges").
    """

    schema_name: Identifier
    table: Identifier
    columns: tuple[Identifier, ...]
    """In the order of the COPY text; dropped and generated columns are not among them."""
    rows: Annotated[int, Field(ge=0)]
    ranges: tuple[tuple[Piece, ...], ...]
    """One entry a page range, in page order; a range wider than a piece is several pieces. Empty ranges are left
    out.
    """


class TableRows(Plain):
    """How many rows a table had in the snapshot, those that inherit from it not counted (``SELECT … FROM ONLY``).

    A partitioned table is listed, with the rows of all its partitions, where pg_dump restores these through it (a hash
    partitioning on an enum): its leaves are not. Materialized views are not listed: a restore fills them anew.
    """

    schema_name: Identifier
    table: Identifier
    rows: Annotated[int, Field(ge=0)]


class SequenceValue(Plain):
    """Where a sequence stood; those that moved while the dump was made are left out, for sequences know no
    snapshots.
    """

    schema_name: Identifier
    sequence: Identifier
    last_value: int
    is_called: bool


class Database(Plain):
    """The database of one backup."""

    engine: Literal["pg_dump", "import", "django-dbbackup"] = "pg_dump"
    """Who read the data: this program, or django-dbbackup, now or once (import). The archive is pg_dump's."""
    server_version: int
    """As ``server_version_num``: 150018 for 15.18."""
    dumped_with: int
    """Major version of the pg_dump that wrote the archive."""
    encoding: str
    collate: str
    ctype: str
    locale_provider: Literal["c", "i", "b"] = "c"
    locale: str | None = None
    owner: str
    """The role that owned the database; grants of its own are mapped to the target's owner."""
    size: Bytes
    """``pg_database_size`` at the snapshot, in bytes: what a restore must find room for."""
    archive: Archive
    tables: tuple[RangedTable, ...] = ()
    rows: tuple[TableRows, ...] = ()
    sequences: tuple[SequenceValue, ...] = ()
    not_valid: tuple[str, ...] | None = None
    """Constraints that were not valid in the source (``NOT VALID``, ``NOT ENFORCED``), as ``schema.table.constraint``;
    a restored database has no others. None where it was not asked."""
    excluded_data: tuple[str, ...] = ()
    """Tables whose rows the matrix leaves out, as ``schema.table``."""
    extensions: tuple[str, ...] = ()


class Documents(Plain):
    """The documents of one label: a listing, itself stored under ``backups/<backup id>/``."""

    label: Name
    listing: str
    """Key of the listing below the space's prefix."""
    listing_sha256: Sha256
    """Of the listing before compression."""
    listing_size: Bytes
    """Bytes of the listing before compression."""
    listing_stored_sha256: Sha256 | None = None
    """Of the listing as stored: some bits of a compressed frame may be flipped without changing what it holds."""
    count: Annotated[int, Field(ge=0)]
    size: Bytes
    """Bytes of all documents."""
    vanished: Annotated[int, Field(ge=0)] = 0
    """Documents that were listed and gone before they could be copied; they are not in the backup."""


class Run(Plain):
    """Who and what made the backup, as far as it is public: never a host or a secret."""

    tool: str
    """Version of fac-backup."""
    actor: str = ""
    url: str = ""
    """Address of the workflow run, empty outside GitHub Actions."""


class Figures(Plain):
    """What making the backup cost."""

    uploaded: Bytes
    """Bytes that were new in the store (pieces, documents copied or streamed, listings)."""
    uploaded_database: Bytes = 0
    """Of these, pieces of the database, as stored (compressed)."""
    uploaded_documents: Bytes = 0
    seconds: Annotated[float, Field(ge=0)]


class Previous(Plain):
    """The newest backup of the space when a backup was made. If it is gone without a tombstone, nobody purged it."""

    id: str
    manifest_sha256: Sha256
    """Of the bytes of its manifest."""


class Manifest(Plain):
    """One backup, complete: without its manifest there is no backup."""

    format: Literal[1] = 1
    id: str
    space: Name
    kind: Name
    created: AwareDatetime
    """The snapshot's moment, UTC."""
    finished: AwareDatetime
    note: Annotated[str, Field(max_length=NOTE)] = ""
    run: Run
    previous: Previous | None = None
    """None where the space had no backup yet."""
    figures: Figures
    database: Database
    documents: tuple[Documents, ...] = ()

    @model_validator(mode="after")
    def _id_agrees(self) -> Manifest:
        try:
            parsed = BackupId.parse(self.id)
            before = BackupId.parse(self.previous.id) if self.previous else parsed
        except UsageError as error:
            raise ValueError(error.what) from None
        if (parsed.space, parsed.kind) != (self.space, self.kind):
            raise ValueError("the id names another space or kind")
        if before.space != self.space or (self.previous and before == parsed):
            raise ValueError("the previous backup is not one of this space")
        if len({part.label for part in self.documents}) != len(self.documents):
            raise ValueError("a documents label stands twice")
        return self

    @property
    def backup_id(self) -> BackupId:
        """The id, parsed."""
        return BackupId.parse(self.id)

    def undoes_a_restore_into(self, space: str) -> bool:
        """Whether it is what a restore into ``space`` replaced, so that to restore it there is that one's undo."""
        return self.space == space and self.kind == "pre-restore"

    @property
    def documents_count(self) -> int:
        """Documents of all labels."""
        return sum(part.count for part in self.documents)

    @property
    def documents_size(self) -> int:
        """Bytes of the documents of all labels."""
        return sum(part.size for part in self.documents)

    def pieces(self) -> tuple[Piece, ...]:
        """Every piece that the backup needs, in order, repeats included."""
        ranged = tuple(piece for table in self.database.tables for run in table.ranges for piece in run)
        return self.database.archive.pieces + ranged

    def to_json(self) -> bytes:
        """The bytes that are stored, and signed where signatures are used."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, expected_id: str) -> Manifest:
        """Parse a stored manifest. Raises IntegrityError if it is damaged or is not the manifest of ``expected_id``."""
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the document"
            raise IntegrityError(
                f"The manifest of {expected_id} is damaged at {where}: {first['msg']}",
                next_step="Choose another backup (`fac-backup list`), and keep this bucket as it is for the analysis.",
            ) from None
        if manifest.id != expected_id:
            raise IntegrityError(
                f"The manifest stored as {expected_id} calls itself {manifest.id}",
                next_step="Choose another backup (`fac-backup list`), and keep this bucket as it is for the analysis.",
            )
        return manifest


def utc_text(moment: datetime) -> str:
    """``2026-11-22 20:16 UTC``: how moments are shown to people."""
    from datetime import UTC

    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
