"""What an operation returns: values for programs, a view for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fac_backup.report.views import Outcome

OUTPUTS = (
    "backup-id", "database-bytes", "documents-count", "documents-bytes", "uploaded-bytes", "duration-seconds",
    "age-seconds",
)  # fmt: skip
"""The outputs of every action besides ``result`` and ``exit-code``; empty where an operation has no such figure."""


@dataclass(frozen=True)
class Result:
    """The result of one operation, also of one that found something wrong (``exit_code`` other than 0)."""

    outcome: Outcome
    data: dict[str, Any]
    """JSON values by snake_case names; sizes in bytes, durations and ages in seconds, moments as ISO 8601 in UTC."""
    exit_code: int = 0
    printed: str = field(default="", repr=False)
    """Text for stdout instead of the view's table, where an operation has a form of its own."""

    def as_json(self) -> dict[str, Any]:
        """The whole as one JSON document."""
        return {"operation": self.outcome.operation, "exit_code": self.exit_code, **self.data}

    def outputs(self) -> dict[str, str]:
        """The figures that the actions offer as outputs."""
        return {name: str(self.data.get(name.replace("-", "_"), "")) for name in OUTPUTS}
