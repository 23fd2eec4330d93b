"""Verify, and keep one issue a space about it, so that a failure that nobody looks at does not stay unseen."""

from __future__ import annotations

from collections.abc import Callable

from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import FacBackupError, RefusedError, UsageError


def reported(around: Surroundings, space: str, verify: Callable[[], Result]) -> Result:
    """What ``verify`` returns or raises; its failure opens or continues the issue of ``space``, its success closes it.

    A refusal or wrong usage says nothing about the backups, and leaves the issues alone.
    """
    try:
        result = verify()
    except (RefusedError, UsageError):
        raise
    except FacBackupError as error:
        _tell(around, space, error.line())
        raise
    _tell(around, space, "")
    return result


def _tell(around: Surroundings, space: str, failure: str) -> None:
    if not around.inside_actions:
        return
    from fac_backup.hosting.github.issues import report
    from fac_backup.hosting.github.run import run_from

    report(run_from(around.env), around.env.get("FAC_BACKUP_GITHUB_TOKEN", ""), space or "default", failure)
