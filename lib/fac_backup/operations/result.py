"""What an operation returns: values for programs, a view for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fac_backup.hosting.github import inputs
from fac_backup.report.views import Outcome

OUTPUTS = tuple(name for name in inputs.OUTPUTS if name not in ("result", "exit-code"))
"""The outputs of every action besides ``result`` and ``exit-code``; empty where an operation has no such figure."""


def outputs_of(data: Mapping[str, Any]) -> dict[str, str]:
    """The figures in ``data`` (snake_case names) that the actions offer as outputs; truth is ``true`` or ``false``."""
    found = {}
    for name in OUTPUTS:
        value = data.get(name.replace("-", "_"))
        found[name] = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return found


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
        return outputs_of(self.data)
