"""How documents are copied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

Progress = Callable[[int, "int | None", int], None]
"""Called with documents done, documents expected (None: unknown) and bytes copied so far."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _silent(_done: int, _total: int | None, _size: int) -> None:
    """The progress of those who don't ask."""


@dataclass(frozen=True)
class Options:
    """How documents are copied: ``jobs`` at a time; ``clock`` gives aware UTC."""

    jobs: int = 16
    progress: Progress = _silent
    clock: Callable[[], datetime] = _utc_now
