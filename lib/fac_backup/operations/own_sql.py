"""What a team runs around a restore: before the swap in the new database, and after it (docs/operations.md).

Before the swap: the path's ``before_swap`` of the matrix and, at a terminal, ``--before-swap-sql`` and
``--before-swap-command``. After it: the space's ``after_restore``. The matrix's files come from where the matrix came
from (``Surroundings.script``), never from a checked-out tree.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fac_backup.database import running
from fac_backup.database.connection import Database
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import ActNowError, FacBackupError, RefusedError, Stopped, UsageError
from fac_backup.plain.manifest import Manifest
from fac_backup.plain.text import one_line
from fac_backup.policy.matrix import Path as RestorePath
from fac_backup.report.views import Fact
from fac_backup.store.records import JournalEntry

if TYPE_CHECKING:
    from fac_backup.operations.restore import RestoreRequest

KEY = "before_swap"
"""In the journal of a restore: the SHA-256 of all that runs before its swap, empty where nothing does."""


@dataclass(frozen=True)
class Script:
    """One SQL file."""

    name: str
    """As the matrix or the command line names it."""
    text: str = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of its text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def shown(self) -> str:
        """For people: which file, and which state of it."""
        return f"{self.name}, sha256 {self.sha256[:12]}"


@dataclass(frozen=True)
class BeforeSwap:
    """What runs in the new database before it serves, in this order: the scripts, then the command."""

    scripts: tuple[Script, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of all of it; empty where there is nothing."""
        if not self.scripts and not self.command:
            return ""
        whole = json.dumps([[script.sha256 for script in self.scripts], self.command])
        return hashlib.sha256(whole.encode()).hexdigest()

    def run(self, database: Database, name: str) -> None:
        """Run it in the database ``name`` on the server of ``database``. Raises FailedError."""
        for script in self.scripts:
            running.sql(database, name, script.text, "The SQL that was to run before the swap failed")
        if self.command:
            running.command(database, name, self.command, "The command that was to run before the swap")


@dataclass(frozen=True)
class OwnSql:
    """All of it, for one restore."""

    before: BeforeSwap = BeforeSwap()
    after: Script | None = None
    by_hand: bool = False
    """Whether some of it was named on the command line: a restore that is resumed must be given it again."""

    def facts(self) -> tuple[Fact, ...]:
        """For the plan and the result."""
        before = [script.shown for script in self.before.scripts] + (["a command"] if self.before.command else [])
        after = [self.after.shown] if self.after is not None else []
        return tuple(
            Fact(name, "; ".join(what)) for name, what in (("before the swap", before), ("after it", after)) if what
        )

    def run_after(self, database: Database, space: str) -> ActNowError | None:
        """Run what comes after the swap. Its failure is told, and cannot bring the old database back any more."""
        if self.after is None:
            return None
        try:
            running.sql(database, database.name, self.after.text, f"{self.after.name} failed")
        except FacBackupError as error:
            return self._not_after(space, error.what, "Nothing of that SQL has happened", "Correct")
        except Stopped as stopped:
            return self._not_after(space, stopped.told.what, "All of that SQL has happened, or nothing", "Look into")
        return None

    def _not_after(self, space: str, reason: str, happened: str, do: str) -> ActNowError:
        name = self.after.name if self.after is not None else ""
        return ActNowError(
            f"{space} was restored, but what runs after a restore did not: {reason}",
            state=f"Database and documents are as in the backup. {happened}: it is one transaction.",
            next_step=f"{do} {name} and run it by hand in the database.",
        )


def of(request: RestoreRequest, manifest: Manifest, around: Surroundings) -> OwnSql:
    """What this restore of ``manifest`` runs. Raises UsageError for a file that cannot be read."""
    files = [path.before_swap for path in _paths(manifest, request.target, around)]
    scripts = [Script(name, _some(name, around.script(name))) for name in files if name]
    if request.before_swap_sql:
        scripts.append(Script(Path(request.before_swap_sql).name, _read(request.before_swap_sql)))
    last = around.matrix.space(request.target).after_restore
    return OwnSql(
        BeforeSwap(tuple(scripts), _words(request.before_swap_command)),
        Script(last, _some(last, around.script(last))) if last else None,
        by_hand=bool(request.before_swap_sql or request.before_swap_command),
    )


def _paths(manifest: Manifest, target: str, around: Surroundings) -> tuple[RestorePath, ...]:
    """The path of the restore. An undo has none: it puts back what was there, which has passed its path already."""
    path = around.matrix.path(manifest.space, target)
    return () if path is None or manifest.undoes_a_restore_into(target) else (path,)


def refuse_inside_actions(request: RestoreRequest, around: Surroundings) -> None:
    """Raises UsageError: inside Actions no option chooses a program or SQL, the matrix of the default branch does."""
    if around.inside_actions and (request.before_swap_sql or request.before_swap_command):
        raise UsageError(
            "--before-swap-sql and --before-swap-command are refused inside GitHub Actions",
            next_step="Name an SQL file of the default branch in the matrix: `before_swap` of the restore path.",
        )


def require_the_same(killed: JournalEntry | None, own: OwnSql) -> None:
    """Raises RefusedError unless the killed restore that is resumed ran the same before its swap."""
    if killed is None or str(killed.data.get(KEY) or "") == own.before.digest:
        return
    raise RefusedError(
        "The killed restore ran other SQL, or another command, before the swap than this one would",
        state="Nothing was changed by this run.",
        next_step="Give --resume the same --before-swap-sql and --before-swap-command, and put back the path's "
        "before_swap as it was. Or start the restore again as a whole: it begins anew.",
    )


def carried(request: RestoreRequest, around: Surroundings) -> dict[str, str]:
    """Name to text of the files that a restore inside the space may need: they travel with its order."""
    matrix = around.matrix
    found = matrix.path(request.source, request.target)
    paths = matrix.paths_to(request.target) if request.resume else (found,) if found is not None else ()
    names = [path.before_swap for path in paths] + [matrix.space(request.target).after_restore]
    return {name: around.script(name) for name in names if name}


def _some(name: str, text: str) -> str:
    if not text.strip():
        raise UsageError(f"{name} is empty, so nothing would run", next_step="Write its SQL, or take it out.")
    return text


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The SQL file cannot be read ({type(error).__name__})", next_step="Name a UTF-8 file."
        ) from None


def _words(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError:
        raise UsageError("--before-swap-command has a quotation mark without its other half") from None
    if words and shutil.which(words[0]) is None:
        raise UsageError(
            f"--before-swap-command names no program that is here: {one_line(words[0], 100)}",
            next_step="Give its path, or one that PATH leads to.",
        )
    return words
