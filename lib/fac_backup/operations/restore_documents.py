"""The documents' part of a restore: add before the swap, overwrite and delete after it, or put back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fac_backup.documents import put_back, records
from fac_backup.documents import restore as document_restore
from fac_backup.documents.listing import Listing
from fac_backup.documents.options import Options
from fac_backup.documents.source import EVERYTHING, KeyRange, ReadSource, Source
from fac_backup.operations.opening import Opened
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import Manifest
from fac_backup.plain.text import plural

if TYPE_CHECKING:
    from fac_backup.operations.restore_plan import Chosen

log = logging.getLogger(__name__)


class Documents:
    """All labels of one restore."""

    def __init__(
        self, chosen: Chosen, target: Opened, around: Surroundings, alive: Callable[[], None] = lambda: None
    ) -> None:
        """``alive`` is called before each change; it raises LockedError if the lease is lost."""
        self._alive = alive
        self._chosen = chosen
        self._target = target
        self._around = around
        self._added: dict[str, document_restore.Added] = {}
        self._plans: dict[str, document_restore.Plan] = {}
        self._touched = False
        self.replaced = False
        """Whether documents may have been overwritten or deleted."""

    def half_replaced(self, *, replaced: bool) -> None:
        """A restore that was killed has added documents, and, with ``replaced``, begun with what ``finish`` does."""
        self._touched = True
        self.replaced = replaced

    def add(self) -> None:
        """Give the target what it lacks. The application sees more documents, and none that changed."""
        self._touched = True
        for source in self._target.sources:
            with self._around.progress().task(f"Adding documents of {source.label}", None, "documents") as task:
                work = self._work(self._chosen.manifest, self._chosen.stored, source, task)
                document_restore.add(work, self._added.setdefault(source.label, document_restore.Added()))

    def finish(self) -> None:
        """Overwrite what differs, delete what is too much, and look that nothing differs any more."""
        self.replaced = True
        for source in self._target.sources:
            with self._around.progress().task(f"Documents of {source.label}", None, "documents") as task:
                work = self._work(self._chosen.manifest, self._chosen.stored, source, task)
                added = self._added.get(source.label)
                self._plans[source.label] = document_restore.finish(work, added, record=self._target.bucket)

    def put_back(self, undo: Manifest | None) -> None:
        """Undo what this restore did. Without a pre-restore backup, what was added stays: nothing refers to it."""
        if not self._touched:
            return
        if undo is None:
            log.warning("Documents that were added stay: without a pre-restore backup nobody knows which those were")
            return
        for source in self._target.sources:
            with self._around.progress().task(f"Putting back documents of {source.label}", None, "documents") as task:
                work = self._work(undo, self._target.bucket, source, task)
                put = put_back.put_back if self.replaced else put_back.take_away
                put(work, self._given(source), self._added.get(source.label))

    def take_away(self, undo: Manifest) -> None:
        """Delete what a killed restore of the same backup had added: it is no part of the state before ours."""
        for source in self._target.sources:
            count = put_back.take_away(self._work(undo, self._target.bucket, source, None), self._given(source))
            if count:
                log.info(
                    "%s that a killed restore had added to %s are removed", plural(count, "document"), source.label
                )

    def _given(self, source: Source) -> Listing:
        part = next(part for part in self._chosen.manifest.documents if part.label == source.label)
        return Listing.of(self._chosen.stored, part)

    def facts(self) -> dict[str, Any]:
        """What was done, in numbers."""
        plans = self._plans.values()
        return {
            "documents_added": sum(len(added) for added in self._added.values()) + sum(plan.add for plan in plans),
            "documents_overwritten": sum(plan.overwrite for plan in plans),
            "documents_deleted": sum(plan.delete for plan in plans),
        }

    def _work(self, manifest: Manifest, stored: ReadSource, source: Source, task: Any) -> document_restore.Restore:
        return work_for(manifest, stored, source, self._target, self._around, task, self._alive)


def work_for(
    manifest: Manifest,
    stored: ReadSource,
    source: Source,
    target: Opened,
    around: Surroundings,
    task: Any = None,
    alive: Callable[[], None] = lambda: None,
    between: KeyRange = EVERYTHING,
) -> document_restore.Restore:
    """One label's restore, with what is known of the target to save requests."""
    part = next((part for part in manifest.documents if part.label == source.label), None)
    if part is None:
        raise IntegrityError(f"The backup {manifest.id} has no documents of {source.label}")
    seen = 0

    def progress(done: int, total: int | None, _size: int) -> None:
        nonlocal seen
        if task is not None:
            if total is not None:
                task.set_total(total)
            task.advance(done - seen)
            seen = done

    return document_restore.Restore(
        listing=Listing.of(stored, part),
        stored=stored,
        target=source.bucket,
        own=manifest.space == target.space,
        last=records.load(target.bucket, source.label),
        options=Options(jobs=around.transfers, progress=progress, clock=around.clock),
        between=between,
        alive=alive,
    )
