"""How we know again what we made: labels with the run and with the moment until which somebody looks after it.

Cloud Foundry's labels are at most 63 characters of ``[A-Za-z0-9._-]``, begin and end with a letter or digit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex

RUN = "fac-backup-run"
UNTIL = "fac-backup-until"
_TIME = "%Y%m%dT%H%M%SZ"
LEASE = timedelta(minutes=15)
"""How long a sign of life lasts; renewed every few minutes while a run works."""

Alive = Callable[[str], bool | None]
"""Whether the run of that name still goes on; None: nobody can say, so the lease decides."""


@dataclass(frozen=True)
class Mark:
    """The mark of one run."""

    run: str

    @classmethod
    def of(cls, name: str) -> Mark:
        """The mark of the run that ``name`` describes (say, run id and attempt), told apart by chance too."""
        words = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[-40:].strip("-")
        return cls(f"{words}-{token_hex(4)}" if words else f"r-{token_hex(8)}")

    def labels(self, now: datetime) -> dict[str, str]:
        """The labels of something that is looked after from ``now`` on."""
        return {RUN: self.run, UNTIL: (now + LEASE).astimezone(UTC).strftime(_TIME)}


def run_of(resource: Mapping[str, object]) -> str:
    """The run that made a resource; empty if it is not ours."""
    return _labels(resource).get(RUN) or ""


def outlived(resource: Mapping[str, object], now: datetime, alive: Alive | None) -> bool:
    """Whether a resource of ours has lost its run: it is known to be over, or its lease has passed."""
    run = run_of(resource)
    if not run:
        return False
    known = alive(run) if alive else None
    if known is not None:
        return not known
    try:
        until = datetime.strptime(_labels(resource).get(UNTIL, ""), _TIME).replace(tzinfo=UTC)
    except ValueError:
        return True  # ours, and without a readable lease: nobody looks after it
    return until < now


def _labels(resource: Mapping[str, object]) -> Mapping[str, str]:
    metadata = resource.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return labels if isinstance(labels, dict) else {}
