"""A database's archive as django-dbbackup leaves it: what it is, by its content, and its bytes as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fac_backup.dbbackup.names import parse
from fac_backup.dbbackup.stream import GZIP, Readable, Reader, chunks, gunzipped
from fac_backup.plain.errors import IntegrityError, UsageError

MAGIC = b"PGDMP"
"""How a custom-format archive begins (PostgreSQL, ``src/bin/pg_dump/pg_backup_archiver.c``, ``WriteHead``)."""

# Archive version to the oldest pg_restore that reads it (``pg_backup_archiver.h``, ``K_VERS_*``).
_NEEDS = {(1, 14): 12, (1, 15): 16, (1, 16): 17}
_NEWEST_KNOWN = (1, 16)

# How plain SQL by pg_dump begins, with or without a byte order mark; psql's scripts of other origin begin otherwise.
_PLAIN = (b"--\n-- PostgreSQL database dump", b"\n--\n-- PostgreSQL database dump", b"\\restrict ", b"SET ")


@dataclass
class DatabaseArchive:
    """An opened archive; a context manager that closes what it opened."""

    format: Literal["custom", "plain"]
    chunks: Iterator[bytes]
    """The archive, no longer gzipped, in chunks of at most about 1 MiB. Can be read once."""
    gzipped: bool
    needs_major: int | None
    """The oldest major version of pg_restore that reads it; None for plain SQL, or if it is newer than we know."""
    _opened: ExitStack = field(default_factory=ExitStack, repr=False)

    def __enter__(self) -> DatabaseArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def open_database_archive(source: Path | Readable, name: str = "") -> DatabaseArchive:
    """Open ``.psql.bin``, ``.psql`` or ``.dump``, gzipped or not; the content decides which of them it is.

    Raises UsageError for what cannot be imported (encrypted, a tar of media, JSON or SQLite, a directory), and
    IntegrityError for an empty or damaged file. Nothing is executed and nothing is written.
    """
    called = name or (source.name if isinstance(source, Path) else "")
    if parse(called).encrypted:
        raise UsageError(
            "This archive is encrypted", next_step="Decrypt it with `gpg --decrypt` and import the result."
        )
    with ExitStack() as opened:
        stream: Readable = opened.enter_context(source.open("rb")) if isinstance(source, Path) else source
        reader = Reader(chunks(stream))
        is_gzip = reader.peek(2) == GZIP
        if is_gzip:
            reader = Reader(gunzipped(reader.rest()))
        head = reader.peek(4096)
        needs, format_ = _recognize(head)
        return DatabaseArchive(format_, reader.rest(), is_gzip, needs, opened.pop_all())


def _recognize(head: bytes) -> tuple[int | None, Literal["custom", "plain"]]:
    if not head:
        raise IntegrityError("The archive is empty", next_step="Choose another one.")
    if head.startswith(MAGIC):
        return _needs_major(head), "custom"
    if head[257:262] == b"ustar":
        raise UsageError(
            "This is a tar archive",
            next_step="Documents are imported as media; of databases, custom format or plain SQL.",
        )
    text = head.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if text.startswith(_PLAIN):
        return None, "plain"
    raise UsageError(
        "This is no archive of a PostgreSQL database",
        next_step="What pg_dump writes can be imported, in custom format or as plain SQL, gzipped or not.",
    )


def _needs_major(head: bytes) -> int | None:
    if len(head) < 12 or head[10] != 1:  # a byte says the format: 1 custom, 3 tar, 5 directory
        raise IntegrityError("The archive's head is damaged", next_step="Choose another one.")
    version = (head[5], head[6])
    if version > _NEWEST_KNOWN:
        return None
    return _NEEDS.get(version, 9)
