"""Verify, and keep an issue for each space and kind of check, so that a failure does not stay unseen."""

from __future__ import annotations

from collections.abc import Callable

from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.operations.verify import VerifyRequest
from fac_backup.plain.errors import FacBackupError, RefusedError, UsageError


def reported(around: Surroundings, request: VerifyRequest, verify: Callable[[], Result]) -> Result:
    """What ``verify`` returns or raises; its failure opens or continues the issue of this space and kind of check, its
    success closes that one and no other. That a backup is missing has an issue of its own, whatever was checked.

    A refusal or wrong usage says nothing about the backups, and leaves the issues alone.
    """
    try:
        result = verify()
    except (RefusedError, UsageError):
        raise
    except FacBackupError as error:
        _tell(around, request, request.check, failed=True)
        if error.data.get("missing"):
            _tell(around, request, "catalog", failed=True)
        raise
    _tell(around, request, request.check, failed=False)
    _tell(around, request, "catalog", failed=bool(result.data.get("missing")))
    return result


def _tell(around: Surroundings, request: VerifyRequest, check: str, *, failed: bool) -> None:
    if not around.inside_actions:
        return
    from fac_backup.hosting.github.issues import report
    from fac_backup.hosting.github.run import run_from

    token = around.env.get("FAC_BACKUP_GITHUB_TOKEN", "")
    report(run_from(around.env), token, around.one_space(request.space), check, failed=failed)
