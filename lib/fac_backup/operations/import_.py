"""Take archives of django-dbbackup into the catalog, as a backup like any other (docs/migrating.md).

The steps; a failure at any of them leaves no backup, and nothing of the space's own database or documents is touched:

1. may this run do it;  2. open the archives, and see what they are;  3. open the store, take the locks;
4. scratch database and staging prefix are filled from them (``archives``);  5. an ordinary backup is taken of these.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from fac_backup.documents.source import Source
from fac_backup.operations import archives, backup, engine, gate, markers, opening, views
from fac_backup.operations.archives import LIVE
from fac_backup.operations.opening import Opened
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import UsageError
from fac_backup.plain.text import plural, verb


@dataclass(frozen=True)
class ImportRequest:
    """What is asked for. Paths are files; ``-`` is standard input."""

    space: str
    database: str
    media: tuple[str, ...] = ()
    """``label=FILE`` or, with one label, ``FILE``; ``live`` instead of a file: the documents as they are now."""
    note: str = ""
    confirm: str = ""


def run(request: ImportRequest, around: Surroundings) -> Result:
    """Carry out the steps above. Raises FacBackupError; then no backup was made."""
    began = time.monotonic()
    space = around.one_space(request.space)
    gate.admit(gate.Wish("import", space=space, kind="manual", confirm=request.confirm), around)
    opened = opening.open_space(around, space)
    media = _media_of(request, opened)
    markers.refuse_another_space(opened)
    committing: list[BackupId] = []
    note = backup.fitting(request.note or "imported")
    with ExitStack() as stack:
        stack.enter_context(backup.telling(opened.store, committing))
        archive = stack.enter_context(archives.open_database(request.database))
        opened.store.open_for_writing()
        lease = stack.enter_context(opened.store.locks.acquire("store", "shared", wait=backup.LOCK_WAIT))
        lent, left_out = stack.enter_context(archives.lent(opened, archive, media, around))
        wanted = backup.BackupRequest(space=space, kind="manual", note=note, engine=engine.IMPORT)
        manifest = backup.take(lent, around, wanted, lease, began=began, committing=committing)
    result = views.backup_result(manifest, opened, around)
    warnings = result.outcome.warnings
    if left_out:
        statements = f"{plural(left_out, 'statement')} about roles that this server lacks"
        warnings += (f"{statements} {verb(left_out, 'was', 'were')} left out.",)
    outcome = replace(
        result.outcome, operation="import", title=f"The archive is a backup of {space} now", warnings=warnings
    )
    return replace(result, outcome=outcome, data=result.data | {"left_out": left_out})


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
