"""``engine: django-dbbackup``: what that library wrote is backed up instead of what we would read (docs/migrating.md).

Its management commands run in the application: by us, where the matrix or the command line names its ``manage.py``; in
a step of the workflow's own before ours inside Actions, where no option may name a program. The result is a backup of
the kind that was asked for, restored by the same gate and the same swap.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fac_backup.dbbackup import names
from fac_backup.dbbackup.library import run_dbbackup
from fac_backup.documents.source import Source
from fac_backup.operations import archives
from fac_backup.operations.opening import Opened
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import UsageError

OURS = "fac-backup"
LIBRARY = "django-dbbackup"
IMPORT = "import"
IN_MANIFESTS = {OURS: "pg_dump", LIBRARY: "django-dbbackup", IMPORT: "import"}
"""What the manifest of a backup calls who read its data."""


def of(asked: str, space: str, around: Surroundings) -> str:
    """Which engine reads ``space``: what was asked for, else what the matrix says. Raises UsageError."""
    engine = asked or around.matrix.space(space).engine
    if engine not in (OURS, LIBRARY):
        raise UsageError(f"There is no engine {engine[:40]!r}", next_step=f"It is {OURS} or {LIBRARY}.")
    return engine


@contextmanager
def read_by(engine: str, opened: Opened, folder: str, manage_py: str, around: Surroundings) -> Iterator[Opened]:
    """What a backup of ``opened`` is taken of. ``folder`` holds what the commands wrote; empty: they are run here."""
    if engine == OURS:
        if folder or manage_py:
            raise UsageError("--archives and --manage-py belong to --engine django-dbbackup")
        yield opened
        return
    with ExitStack() as stack:
        database, media = _found(Path(folder)) if folder else _made(manage_py, stack, opened, around)
        archive = stack.enter_context(archives.open_database(str(database)))
        lent, _ = stack.enter_context(archives.lent(opened, archive, _media(media, opened), around))
        yield lent


def _found(folder: Path) -> tuple[Path, Path | None]:
    """The one database's archive and the one of documents, if any, in a folder. Raises UsageError."""
    try:
        files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".metadata"]
    except OSError as error:
        raise UsageError(f"The folder of archives cannot be read ({error.strerror})") from None
    of_kind = {kind: [path for path in files if names.parse(path.name).kind == kind] for kind in ("database", "media")}
    if len(of_kind["database"]) != 1 or len(of_kind["media"]) > 1:
        raise UsageError(
            f"The folder holds {len(of_kind['database'])} archives of databases, {len(of_kind['media'])} of media",
            next_step="It must hold exactly what this run's `manage.py dbbackup` and `mediabackup` wrote.",
        )
    return of_kind["database"][0], next(iter(of_kind["media"]), None)


def _made(manage_py: str, stack: ExitStack, opened: Opened, around: Surroundings) -> tuple[Path, Path | None]:
    """Let the application's commands make the archives; they lie in a temporary folder until the backup is over."""
    if around.inside_actions:
        raise UsageError(
            "The engine django-dbbackup needs the folder of what its commands wrote",
            next_step="Run `manage.py dbbackup` and `mediabackup` in a step before this one, and name the folder as "
            "`archives` (docs/migrating.md).",
        )
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="fac-backup-")))
    # A task on Cloud Foundry works in a folder of its own; the application lies in HOME there.
    base = Path(around.env.get("HOME", ".")) if around.env.get("VCAP_APPLICATION") else Path()
    script = base / (manage_py or around.matrix.space(opened.space).manage_py)
    if not script.is_file():
        raise UsageError(f"There is no {script.name} at the place that is named", next_step="Correct `manage_py`.")
    env = _for_the_application(folder, opened.space, around)
    made = run_dbbackup(script.resolve(), env, folder, python=_python(env), media=len(opened.sources) == 1)
    return made.database, made.media


def _python(env: dict[str, str]) -> str:
    """Ours if it has Django; else the application's, the first of PATH."""
    if importlib.util.find_spec("django") is not None:
        return sys.executable
    return shutil.which("python3", path=env.get("PATH")) or sys.executable


def _for_the_application(folder: Path, space: str, around: Surroundings) -> dict[str, str]:
    """The environment of its commands: nothing that is ours, and no key to the backups."""
    env = {key: value for key, value in around.env.items() if not key.startswith("FAC_BACKUP_")}
    backups = around.matrix.space(space).instances.backups
    path = env.get("VCAP_SERVICES_FILE_PATH")
    text = Path(path).read_text(encoding="utf-8") if path else env.get("VCAP_SERVICES", "")
    if backups and text:
        bound = json.loads(text)
        without = {
            label: [one for one in found if backups not in (one.get("instance_name"), one.get("name"))]
            for label, found in bound.items()
        }
        text = json.dumps(without)
        if path:
            env["VCAP_SERVICES_FILE_PATH"] = str(folder / "services.json")
            Path(env["VCAP_SERVICES_FILE_PATH"]).write_text(text, encoding="utf-8")
        else:
            env["VCAP_SERVICES"] = text
    return env


def _media(archive: Path | None, opened: Opened) -> Sequence[tuple[Source, str]]:
    """The library knows one place of documents. Where there are several labels we copy all, as they are now."""
    if len(opened.sources) == 1 and archive is not None:
        return [(opened.sources[0], str(archive))]
    if archive is not None:
        raise UsageError(
            f"There is an archive of media, and there are {len(opened.sources)} documents labels",
            next_step="Leave `mediabackup` out: documents of several labels, or of none, are copied by fac-backup.",
        )
    return [(source, archives.LIVE) for source in opened.sources]
