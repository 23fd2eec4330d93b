"""What can go wrong with Cloud Foundry's API, told apart so that callers can act on it."""

from __future__ import annotations

from fac_backup.plain.errors import FailedError


class ApiRefusedError(FailedError):
    """The API answered and said no: HTTP ``status``, and ``detail``, its own words (for people, never parsed)."""

    def __init__(self, what: str, *, status: int, detail: str = "", next_step: str = "") -> None:
        super().__init__(what, next_step=next_step)
        self.status = status
        self.detail = detail


class UnreachableError(FailedError):
    """No usable answer came, however often we asked."""


class UncertainError(UnreachableError):
    """A request that makes something may or may not have been carried out: look before asking again."""


class LeftBehindError(FailedError):
    """Something that we made could not be taken away again. ``commands`` are what a person types to do it."""

    def __init__(self, what: str, *, commands: tuple[str, ...], state: str = "") -> None:
        super().__init__(
            what,
            state=state or "The credentials made for this run may still be valid.",
            next_step=f"Type: {'; '.join(commands)}; the next run, and `fac-backup sweep`, try it again as well.",
        )
        self.commands = commands
