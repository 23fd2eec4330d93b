"""Rows and results for tests of tables, summaries and the page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fac_backup.report.views import BackupRow, Target

NOW = datetime(2026, 11, 22, 22, 20, tzinfo=UTC)

HOSTILE = [
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "\"'><svg onload=window.pwned=1>",
    "]]><!--",
    "::error::pwned",
    "##[error]pwned",
    "| a | **b** | [c](javascript:window.pwned=1) @octocat #12",
    "line one\nline two\r\u2028line three",
    "\u202egnp.exe \x1b[31mred",
    "{{constructor}} ${window.pwned=1} %3Cscript%3E",
]


def row(space: str = "production", kind: str = "daily", hours: float = 2, **changes: Any) -> BackupRow:
    """A sound backup, ``hours`` old."""
    created = NOW - timedelta(hours=hours)
    fields: dict[str, Any] = {
        "database_bytes": 1_500_000_000,
        "documents_count": 2310,
        "documents_bytes": 4_200_000_000,
        "uploaded_bytes": 12_300_000,
        "restorable_to": (
            Target("staging", "unattended or by hand", "daily refresh"),
            Target("production", "by hand", "recovery"),
            Target("preview", "unattended"),
        ),
        "expires": NOW + timedelta(days=6),
        "rule": "keep 7 days",
        **changes,
    }
    return BackupRow(f"{space}_{created:%Y%m%dT%H%M%SZ}_{kind}", space, kind, created, hours * 3600, **fields)
