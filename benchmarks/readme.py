"""The ratios of ``latest.json`` as README.md shows them.

``python -m benchmarks.readme`` writes them between the markers; the exit code of ``--check`` says whether they stand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LATEST = HERE / "latest.json"
PAGE = HERE.parent / "README.md"
BEGIN = "<!-- made by `python -m benchmarks.readme` from benchmarks/latest.json: begin -->"
END = "<!-- end -->"
NOT_YET = "Not measured yet on this release: `make bench` writes the table here."


def markdown(latest: Sequence[Mapping[str, Any]] | None) -> str:
    """What stands between the markers: one line a measure, its ratio beside each program that people would run."""
    if latest is None:
        return NOT_YET
    beside: dict[str, list[str]] = {}
    for row in latest:
        if row["ratio"] is not None and row["peer"] and "reading alone" not in row["peer"]:
            beside.setdefault(row["measure"], []).append(f"{row['peer']}: **{row['ratio']:.2g}**")
    lines = ["| what | its time (or bytes) as a share of |", "|---|---|"]
    return "\n".join(lines + [f"| {measure} | {'<br>'.join(shares)} |" for measure, shares in beside.items()])


def filled(page: str, latest: Sequence[Mapping[str, Any]] | None) -> str:
    """``page`` with the part between the markers as it should be."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("README.md has lost its markers")
    return f"{before}{BEGIN}\n{markdown(latest)}\n{END}{after}"


def main() -> int:
    """Write, or compare."""
    made = filled(PAGE.read_text(), json.loads(LATEST.read_text()) if LATEST.exists() else None)
    if "--check" not in sys.argv:
        PAGE.write_text(made)
        return 0
    return 0 if made == PAGE.read_text() else 1


if __name__ == "__main__":
    sys.exit(main())
