"""Take archives of django-dbbackup into the catalog, as a backup like any other (docs/migrating.md).

The steps; a failure at any of them leaves no backup, and nothing of the space's own database or documents is touched:

1. may this run do it;  2. open the archives, and see what they are;  3. open the store, take the locks;
4. an empty scratch database beside the space's is filled from the archive: one that does not restore is found now;
5. documents go, as a stream, into a staging prefix of the store;  6. from these two an ordinary backup is taken;
7. scratch database and staging prefix are removed (what a kill leaves, the next sweep finds by its name).
"""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from fac_backup.database import scratch, swap
from fac_backup.database.clients import find_clients, for_restore, with_installed
from fac_backup.database.connection import Database
from fac_backup.database.inventory import facts
from fac_backup.dbbackup.archive import DatabaseArchive, open_database_archive
from fac_backup.dbbackup.library import run_dbbackup
from fac_backup.dbbackup.media import content_headers, iter_media
from fac_backup.dbbackup.sql import Restored, restore_custom, restore_plain
from fac_backup.documents.source import Source
from fac_backup.operations import backup, gate, markers, opening, views
from fac_backup.operations.opening import Opened
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import UsageError
from fac_backup.plain.manifest import Archive
from fac_backup.plain.manifest import Database as Part
from fac_backup.plain.text import plural
from fac_backup.store import layout

log = logging.getLogger(__name__)

LIVE = "live"
SESSION = {
    "default_transaction_read_only": "off", "statement_timeout": "0", "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0", "row_security": "off",
}  # fmt: skip


@dataclass(frozen=True)
class ImportRequest:
    """What is asked for. Paths are files; ``-`` is standard input."""

    space: str
    database: str
    media: tuple[str, ...] = ()
    """``label=FILE`` or, with one label, ``FILE``; ``live`` instead of a file: the documents as they are now."""
    note: str = ""
    confirm: str = ""
    manage_py: str = ""
    """Instead of ``database`` and ``media``: the application's ``manage.py``, whose django-dbbackup makes them."""


def run(request: ImportRequest, around: Surroundings) -> Result:
    """Carry out the steps above. Raises FacBackupError; then no backup was made."""
    began = time.monotonic()
    space = around.one_space(request.space)
    gate.admit(gate.Wish("import", space=space, kind="manual", confirm=request.confirm), around)
    opened = opening.open_space(around, space)
    with ExitStack() as stack:
        if request.manage_py:
            request = _made_by_the_library(request, stack, around)
        media = _media_of(request, opened)
        markers.refuse_another_space(opened)
        archive = stack.enter_context(_open(request.database))
        opened.store.open_for_writing()
        lease = stack.enter_context(opened.store.locks.acquire("store", "shared", wait=backup.LOCK_WAIT))
        database = stack.enter_context(_scratch(opened.database, around))
        left_out = _fill(database, archive, around).left_out
        sources = tuple(stack.enter_context(_staged(source, path, opened)) for source, path in media)
        lent = replace(opened, database=database, sources=sources)
        wanted = backup.BackupRequest(space=space, kind="manual", note=request.note or "imported")
        manifest = backup.take(lent, around, wanted, lease, began=began)
    result = views.backup_result(manifest, opened, around)
    warnings = result.outcome.warnings
    if left_out:
        warnings += (f"{plural(left_out, 'statement')} about roles that this server lacks were left out.",)
    outcome = replace(
        result.outcome, operation="import", title=f"The archive is a backup of {space} now", warnings=warnings
    )
    return replace(result, outcome=outcome, data=result.data | {"left_out": left_out})


def _made_by_the_library(request: ImportRequest, stack: ExitStack, around: Surroundings) -> ImportRequest:
    """Let django-dbbackup make the archives; they lie in a temporary folder until the import is over."""
    if around.inside_actions:
        raise UsageError(
            "--manage-py is refused inside GitHub Actions: it names a program",
            next_step="Run `manage.py dbbackup` and `mediabackup` in a step of their own, and import what they wrote.",
        )
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="fac-backup-")))
    env = {key: value for key, value in around.env.items() if not key.startswith("FAC_BACKUP_")}
    made = run_dbbackup(Path(request.manage_py).resolve(), env, folder, media=not request.media)
    return replace(request, database=str(made.database), media=request.media or (str(made.media),))


def _media_of(request: ImportRequest, opened: Opened) -> Sequence[tuple[Source, str]]:
    """Each label's source with the file that its documents come from. A label without one is refused: a restore of the
    backup would delete its documents."""
    labels = {source.label: source for source in opened.sources}
    given = {}
    for text in request.media:
        label, found, path = text.partition("=")
        if not found and len(labels) == 1:
            label, path = next(iter(labels)), text
        if label not in labels or not path or label in given:
            raise UsageError(
                "A media archive belongs to no label, or two to one",
                next_step=f"Write --media LABEL=FILE; labels are: {', '.join(labels) or 'none'}.",
            )
        given[label] = path
    if missing := [label for label in labels if label not in given]:
        raise UsageError(
            f"No documents are given for {', '.join(missing)}",
            next_step=f"Write --media {missing[0]}=FILE, or {missing[0]}={LIVE} for the documents as they are now.",
        )
    if [request.database, *given.values()].count("-") > 1:
        raise UsageError("Standard input can be read once only", next_step="Give a file for one of the archives.")
    return [(labels[label], path) for label, path in given.items()]


def _open(path: str) -> DatabaseArchive:
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
