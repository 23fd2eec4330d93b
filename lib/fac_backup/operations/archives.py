"""Archives of django-dbbackup as something that an ordinary backup can be taken of.

The database's is restored into an empty scratch database beside the space's, so that one which does not restore is
found now; documents go, as a stream, into a staging prefix of the store. Both are removed at the end (what a kill
leaves, the next sweep finds by its name).
"""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from fac_backup.database import scratch, swap
from fac_backup.database.clients import find_clients, for_restore, with_installed
from fac_backup.database.connection import Database
from fac_backup.database.inventory import facts
from fac_backup.dbbackup.archive import DatabaseArchive, open_database_archive
from fac_backup.dbbackup.media import content_headers, iter_media
from fac_backup.dbbackup.sql import Restored, restore_custom, restore_plain
from fac_backup.documents.source import Source
from fac_backup.operations.opening import Opened
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import UsageError
from fac_backup.plain.manifest import Archive
from fac_backup.plain.manifest import Database as Part
from fac_backup.plain.text import plural
from fac_backup.store import layout

log = logging.getLogger(__name__)

LIVE = "live"
"""Instead of a media archive: the documents as they are now."""

SESSION = {
    "default_transaction_read_only": "off", "statement_timeout": "0", "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0", "row_security": "off",
}  # fmt: skip


@contextmanager
def lent(
    opened: Opened, archive: DatabaseArchive, media: Sequence[tuple[Source, str]], around: Surroundings
) -> Iterator[tuple[Opened, int]]:
    """``opened`` with the database and the documents of archives in the place of its own, and how many statements
    about roles that this server lacks were left out. ``media`` gives each label's file. The store must be open."""
    with ExitStack() as stack:
        database = stack.enter_context(_scratch(opened.database, around))
        left_out = _fill(database, archive, around).left_out
        sources = tuple(stack.enter_context(_staged(source, path, opened)) for source, path in media)
        yield replace(opened, database=database, sources=sources), left_out


def open_database(path: str) -> DatabaseArchive:
    """The archive at ``path``; ``-`` is standard input. Raises UsageError, FailedError."""
    if path == "-":
        return open_database_archive(sys.stdin.buffer)
    try:
        return open_database_archive(Path(path))
    except OSError as error:
        raise UsageError(f"The archive cannot be read ({error.strerror})", next_step="Check its path.") from None


@contextmanager
def _scratch(database: Database, around: Surroundings) -> Iterator[Database]:
    """An empty database beside ``database``, with its encoding and locale; dropped at the end."""
    token = f"{int(around.clock().timestamp()):08x}{secrets.token_hex(2)}"
    name = scratch.scratch_name(database.name, "new", token)
    swap.create_beside(database, name, _like(database))
    try:
        yield database.with_name(name, called="the scratch database")
    finally:
        scratch.drop(database, name)


def _like(database: Database) -> Part:
    """A part of a manifest that says no more than how the scratch database is made."""
    session = database.connect(autocommit=True)
    try:
        found = facts(session)
    finally:
        session.close()
    return Part(
        server_version=database.server_version, dumped_with=database.server_major, encoding=found.encoding,
        collate=found.collate, ctype=found.ctype, locale_provider=found.locale_provider, locale=found.locale,
        owner=found.owner, size=0, archive=Archive(pieces=(), size=0, sha256="0" * 64),
    )  # fmt: skip


def _fill(database: Database, archive: DatabaseArchive, around: Surroundings) -> Restored:
    needs = archive.needs_major or database.server_major
    clients = find_clients(inside_actions=around.inside_actions)
    clients = with_installed(clients, [max(needs, database.server_major)], inside_actions=around.inside_actions)
    client = for_restore(clients, database.server_major, needs)
    env = database.env(options=SESSION)
    log.info("Restoring the archive (%s) into a scratch database", archive.format)
    if archive.format == "plain":
        return restore_plain(client.program("psql"), env, archive.chunks)
    return restore_custom(client.program("pg_restore"), env, archive.chunks)


@contextmanager
def _staged(source: Source, path: str, opened: Opened) -> Iterator[Source]:
    """The documents of a media archive, below a prefix of the store that is emptied at the end."""
    if path == LIVE:
        yield source
        return
    token = secrets.token_hex(8)
    staging = opened.bucket.below(f"{layout.BACKUPS}import-{token}/{source.label}/")
    try:
        with _media(path) as stream:
            count = 0
            for entry in iter_media(stream):
                content_type, headers = content_headers(entry.key)
                staging.upload_stream(entry.key, entry.chunks(), content_type=content_type, headers=headers)
                count += 1
            log.info("Read %s of %s", plural(count, "document"), source.label)
        yield Source(source.label, staging)
    finally:
        staging.delete_many(found.key for found in staging.list())


@contextmanager
def _media(path: str) -> Iterator[IO[bytes]]:
    if path == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as opened:
        try:
            stream = opened.enter_context(Path(path).open("rb"))
        except OSError as error:
            what = f"The media archive cannot be read ({error.strerror})"
            raise UsageError(what, next_step="Check its path.") from None
        yield stream
