"""What a row has tried and lost, and the table at the end, on the screen and on a page."""

from __future__ import annotations

import os
import platform
import random
import re
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path


class Lost(AssertionError):  # noqa: N818 - reads as what happened
    """Something is not what it must be."""


@dataclass
class Row:
    """One line of the table, filled while it runs."""

    name: str
    seed: int
    unit: str = "attempts"
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """Of all processes together."""
    first: int = 0
    """The number with which its world began."""

    def attempt(self, number: int, work: Callable[[random.Random], None]) -> bool:
        """Try once with a generator of its own; whether nothing was lost."""
        self.tried += 1
        try:
            work(random.Random(f"{self.seed}:{self.name}:{number}"))
        except Exception as found:
            if not isinstance(found, Lost):  # the harness itself: counted too, so that nobody overlooks it
                traceback.print_exc()
            self.lost.append(f"{self.name}:{number}: {found or type(found).__name__}")
            again = f"{self.first}-{number}" if self.first < number else number
            print(f"LOST  {self.lost[-1]}", flush=True)
            print(f"      TORTURE_SEED={self.seed} TORTURE_ONLY='{self.name}:{again}' make torture", flush=True)
            return False
        return True

    def add(self, part: Row) -> None:
        """Count what another process has tried of this row."""
        self.unit = part.unit
        self.tried += part.tried
        self.lost += part.lost
        self.counts.update(part.counts)
        self.notes += part.notes
        self.seconds += part.seconds

    def line(self) -> tuple[str, str, str, str, str]:
        """Name, tried, lost, what else was counted, time."""
        more = [f"{count:,} {what}" for what, count in sorted(self.counts.items())] + self.notes
        return self.name, f"{self.tried:,} {self.unit}", f"{len(self.lost):,}", "; ".join(more), f"{self.seconds:.0f} s"


def require(fact: bool, what: str) -> None:
    """Raise Lost unless ``fact``."""
    if not fact:
        raise Lost(what)


def table(rows: list[Row]) -> list[str]:
    """The rows as lines of Markdown."""
    lines = [("what", "tried", "lost", "of which", "work"), *(row.line() for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(5)]
    cells = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return [f"| {cells[0]} |", "|" + "|".join("-" * (width + 2) for width in widths) + "|",
            *(f"| {line} |" for line in cells[1:])]  # fmt: skip


BEGIN, END = "<!-- made by `make torture`: begin -->\n", "<!-- end -->"


def write_page(path: Path, rows: list[Row], seed: int, scale: float, seconds: float, jobs: int) -> None:
    """Put the table between the marks of a page."""
    when = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), {jobs} processes"
    said = (
        f"{when}: {'the full numbers' if scale == 1 else f'{scale:g} of the full numbers'} in"
        f" {seconds / 60:.0f} minutes, seed {seed},"
        f" **{sum(len(row.lost) for row in rows)} lost**. *Work* is the time of all processes together."
    )
    text = path.read_text()
    lost = [f"- lost: `{what.replace('`', '')}`" for row in rows for what in row.lost]
    made = "\n".join([said, "", *table(rows), "", *lost, *[""] * bool(lost)])
    changed, count = re.subn(
        re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: BEGIN + made + END, text, count=1, flags=re.S
    )
    if not count:
        raise ValueError(f"{path.name} has no marks for the table")
    path.write_text(changed)
