"""Write a backup as the archives that django-dbbackup reads, with its names (docs/migrating.md).

The steps; whatever fails, no file is left under its final name:

1. may this run do it;  2. read the manifest, under the store's shared lock;  3. the database: the archive's pieces one
after the other or, where big tables left the archive, a scratch database that is filled and dumped by stock pg_dump;
4. the documents, one tar a label, as a stream;  5. one line of audit.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fac_backup.database import scratch, swap
from fac_backup.database.clients import find_clients, for_dump, with_installed
from fac_backup.database.connection import Database
from fac_backup.database.load import LoadOptions, load
from fac_backup.dbbackup import names
from fac_backup.dbbackup.media import write_media_tar
from fac_backup.dbbackup.sql import dump_custom
from fac_backup.dbbackup.stream import gzipped
from fac_backup.documents.entry import Entry, object_key
from fac_backup.documents.listing import Listing
from fac_backup.operations import gate, opening
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FailedError, IntegrityError
from fac_backup.plain.manifest import Documents, Manifest
from fac_backup.plain.text import plural, size, verb
from fac_backup.report.views import Fact, Outcome
from fac_backup.store.store import Store


@dataclass(frozen=True)
class ExportRequest:
    """What is asked for."""

    space: str
    backup_id: str
    to: str
    """A folder; made if it is not there."""
    compress: bool = False
    server: str = ""
    """The server's name in the file names; the space's by default."""
    confirm: str = ""


def run(request: ExportRequest, around: Surroundings) -> Result:
    """Carry out the steps above. Raises FacBackupError."""
    space = around.one_space(request.space)
    gate.admit(gate.Wish("export", space=space, backup_id=request.backup_id, confirm=request.confirm), around)
    named = BackupId.parse(request.backup_id)
    store = opening.open_store(around, space)
    store.open_for_reading()
    folder = Path(request.to)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FailedError(f"The folder cannot be made ({error.strerror})", next_step="Name another one.") from None
    with store.locks.acquire("store", "shared", wait=300.0):
        manifest = store.catalog.read(named)
        made = manifest.created.astimezone(around.matrix.zone).replace(tzinfo=None)
        server = request.server or space
        name = names.database_name("default", server, made, gzipped=request.compress)
        data = _database(manifest, store, around)
        written = {name: _write(folder / name, gzipped(data) if request.compress else data)}
        (folder / names.metadata_name(name)).write_bytes(names.metadata())
        unsafe: list[str] = []
        for part in manifest.documents:
            called = server if len(manifest.documents) == 1 else f"{server}-{part.label}"
            name = names.media_name(called, made, gzipped=request.compress)
            tar = write_media_tar(_documents(part, store), compress=request.compress, on_unsafe=unsafe.append)
            written[name] = _write(folder / name, tar)
    store.audit.record("export", "done", actor=around.run.actor, run=around.run.url, facts={"backup_id": manifest.id})
    left_out = f"{plural(len(unsafe), 'document')} with keys that Django refuses {verb(len(unsafe), 'was', 'were')}"
    warnings = (f"{left_out} left out.",) if unsafe else ()
    outcome = Outcome(
        "export", "The backup is written as archives of django-dbbackup", backup_id=manifest.id, warnings=warnings,
        facts=tuple(Fact(name, size(count), private=True) for name, count in written.items()),
        next_steps=("Copy them into the storage that STORAGES['dbbackup'] names, then run manage.py dbrestore.",),
    )  # fmt: skip
    return Result(outcome, {"backup_id": manifest.id, "files": written, "left_out": len(unsafe)})


def _database(manifest: Manifest, store: Store, around: Surroundings) -> Iterator[bytes]:
    part = manifest.database
    if not part.tables:
        yield from (store.pieces.read(piece) for piece in part.archive.pieces)
        return
    database = Database(around.places(manifest.space).need_database(), called=f"{manifest.space}'s database")
    token = f"{int(around.clock().timestamp()):08x}{secrets.token_hex(2)}"
    name = scratch.scratch_name(database.name, "new", token)
    swap.create_beside(database, name, part)
    try:
        load(database, name, part, store.pieces, LoadOptions(jobs=around.jobs, inside_actions=around.inside_actions))
        clients = find_clients(inside_actions=around.inside_actions)
        clients = with_installed(clients, [database.server_major], inside_actions=around.inside_actions)
        pg_dump = for_dump(clients, database.server_major).program("pg_dump")
        yield from dump_custom(pg_dump, database.with_name(name).env())
    finally:
        scratch.drop(database, name)


def _documents(part: Documents, store: Store) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    for entry in Listing.of(store.bucket, part).entries():
        yield entry.key, entry.size, _checked(store, part.label, entry)


def _checked(store: Store, label: str, entry: Entry) -> Iterator[bytes]:
    """A stored document. Raises IntegrityError at its end if it is not what the listing says."""
    digest, seen = hashlib.sha256(), 0
    for chunk in store.bucket.stream(object_key(label, entry.object)):
        digest.update(chunk)
        seen += len(chunk)
        yield chunk
    if seen != entry.size or (entry.sha256 is not None and digest.hexdigest() != entry.sha256):
        raise IntegrityError("A stored document is not what its listing says", next_step="Choose another backup.")


def _write(path: Path, chunks: Iterable[bytes]) -> int:
    """Write a file that bears its name only once it is whole; its size."""
    with _replacing(path) as file:
        for chunk in chunks:
            file.write(chunk)
        return file.tell()


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    except OSError as error:
        raise FailedError(
            f"Writing failed ({error.strerror})", next_step="Make room, or name another folder."
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)
