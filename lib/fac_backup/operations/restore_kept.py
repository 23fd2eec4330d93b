"""The undo of a restore within ``keep_previous``: the database that it replaced is swapped back instead of loaded.

Only for a restore by which exactly the pre-restore backup goes back into its own space, and only while the kept
database is as it was left (``database.kept``); otherwise the undo loads the backup as every restore does. What was
written between the backup and the swap is in the kept database too, and comes back with it. Documents are restored as
ever.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fac_backup.database import kept, scratch, swap
from fac_backup.database.kept import Kept
from fac_backup.operations import restore_database
from fac_backup.operations.opening import Opened
from fac_backup.operations.own_sql import BeforeSwap
from fac_backup.operations.restore_database import Beside, Replacement, Step
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.manifest import Manifest

if TYPE_CHECKING:
    from fac_backup.operations.restore_plan import Chosen, Mode

log = logging.getLogger(__name__)


def choose(mode: Mode, chosen: Chosen, target: Opened, around: Surroundings, before: BeforeSwap) -> Replacement:
    """The replacement for a mode of the plan. What must be changed before the swap is loaded, never swapped back."""
    if mode == "beside" and chosen.manifest.undoes_a_restore_into(target.space) and not before.digest:
        return KeptBack(chosen, target, around)
    return restore_database.choose(mode, chosen, target, around)


class KeptBack(Beside):
    """Swaps the kept database back where it is as it was left; else as ``Beside``."""

    def __init__(self, chosen: Chosen, target: Opened, around: Surroundings) -> None:
        super().__init__(chosen, target, around)
        self._found = Kept("", "")

    @property
    def _back(self) -> bool:
        """Whether what is swapped in is a kept database: its name says so, in the journal of a killed undo too."""
        return scratch.is_old(self._new)

    def remembers(self, journal: dict[str, Any]) -> dict[str, Any]:
        """The two names; the first is the kept database's, where it can be swapped back."""
        if not self._swapped:
            self._found = kept.find(self._database, self._target.space, self._chosen.manifest.id)
            if self._found.name:
                self._new = self._found.name
            else:
                log.info("The backup is loaded: %s", self._found.reason)
        return super().remembers(journal)

    def build(self, before: BeforeSwap, undo: Manifest | None, step: Step) -> None:
        """Nothing, where the kept database is swapped back: it has been built once."""
        if self._back:
            step("building")
        else:
            super().build(before, undo, step)

    def _verify(self) -> None:
        """The kept database says now that it is this backup, for whoever must go on with a killed undo."""
        if self._back:
            restore_database.mark(self._database, self._database.name, self._target, self._chosen)
        super()._verify()

    def put_back(self, undo: Manifest | None) -> bool:
        """Swap once more, so that both databases have their names again; nothing is dropped."""
        if not self._back:
            return super().put_back(undo)
        if self._swapped or swap.state(self._database, self._new, self._kept) == "after":
            swap.swap(self._database, self._kept, self._new)
            self._swapped = False
        return True

    def facts(self) -> dict[str, Any]:
        """As ``Beside``, and which of the two it was."""
        if not self._back:
            return super().facts() | {"how": f"built beside, then swapped in: {self._found.reason}"}
        found = super().facts()
        del found["rows"]
        return found | {"how": "the kept database was swapped back"}
