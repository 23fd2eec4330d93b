"""Errors as people meet them: one line that says what happened, what state things are in now, and what to do next.

The exit codes are part of the command line's contract (docs/format.md, "Exit codes").
"""

from __future__ import annotations

from typing import Any, ClassVar

TARGET_AS_BEFORE = "Nothing was changed."
STOPPED_THERE = "It stopped there; what it had done by then stays."
"""After a signal, where nobody knows more."""


class FacBackupError(Exception):
    """A failure that is told to the operator in one line, and nothing else.

    ``what`` happened, the ``state`` things are in now, and what to do ``next_step``. Each is a sentence that carries no
    secret and no row of data. Exit code 1: failed, the target is as it was before.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, state: str = TARGET_AS_BEFORE, next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.state = state
        self.next_step = next_step
        self.data: dict[str, Any] = {}
        """Figures for programs that are known although the operation failed, such as the undo id."""
        self.outcome: object = None
        """A view for people (``report.views.Outcome``) that shows more than the line, such as every check."""

    def line(self) -> str:
        """The one line for the operator: control characters become spaces, whatever they came from."""
        parts = [part.strip() for part in (self.what, self.state, self.next_step) if part.strip()]
        text = " ".join(part if part[-1] in ".!?" else part + "." for part in parts)
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())


class FailedError(FacBackupError):
    """The operation failed and the target is as before (also: interrupted, and put back). Exit code 1."""


class UsageError(FacBackupError):
    """Wrong usage, a missing setting or an invalid matrix. Exit code 2."""

    exit_code = 2


class RefusedError(FacBackupError):
    """The policy says no: path, person, confirmation, marker. Exit code 3."""

    exit_code = 3


class NoSuchBackupError(FacBackupError):
    """The backup id names no complete backup of that store. Exit code 4."""

    exit_code = 4


class IntegrityError(FacBackupError):
    """Something read from the bucket is not what the manifest says it is. Exit code 5."""

    exit_code = 5


class LockedError(FacBackupError):
    """Somebody else works on this store, or our own lease was lost. Exit code 6."""

    exit_code = 6


class ActNowError(FacBackupError):
    """The operation failed after the target was touched, and a person must act now. Exit code 7."""

    exit_code = 7


class Stopped(BaseException):
    """A signal asked for the end (SIGINT, SIGTERM). ``told`` is what the operator is told once everything is put back.

    It is no Exception, like KeyboardInterrupt: code that goes on after a failure, ours or a library's, must not go on
    after this. A signal comes once: swallowed, nothing would ever stop us but a kill.
    """

    def __init__(self, told: FacBackupError) -> None:
        super().__init__(told.what)
        self.told = told


def told(error: BaseException) -> FacBackupError | None:
    """The failure as the operator is told it, where ``error`` is one of ours; None for a foreign one."""
    return error.told if isinstance(error, Stopped) else error if isinstance(error, FacBackupError) else None
