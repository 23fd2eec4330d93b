"""What a row has tried and lost, and the table at the end."""

from __future__ import annotations

import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


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

    def attempt(self, number: int, work: Callable[[random.Random], None]) -> bool:
        """Try once with a generator of its own; whether nothing was lost."""
        self.tried += 1
        try:
            work(random.Random(f"{self.seed}:{self.name}:{number}"))
        except Exception as found:
            if not isinstance(found, Lost):  # the harness itself: counted too, so that nobody overlooks it
                traceback.print_exc()
            self.lost.append(f"{self.name}:{number}: {found or type(found).__name__}")
            print(f"LOST  {self.lost[-1]}  (TORTURE_SEED={self.seed} TORTURE_ONLY='{self.name}:{number}')", flush=True)
            return False
        return True

    def line(self) -> tuple[str, str, str, str, str]:
        """Name, tried, lost, what else was counted, time."""
        more = [f"{count:,} {what}" for what, count in sorted(self.counts.items())] + self.notes
        return self.name, f"{self.tried:,} {self.unit}", f"{len(self.lost):,}", "; ".join(more), f"{self.seconds:.0f} s"


def require(fact: bool, what: str) -> None:
    """Raise Lost unless ``fact``."""
    if not fact:
        raise Lost(what)


def print_table(rows: list[Row], seed: int, began: float) -> None:
    """Everything on one page, as Markdown."""
    lines = [("what", "tried", "lost", "of which", "time"), *(row.line() for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(5)]
    for number, line in enumerate(lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if not number:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    lost = sum(len(row.lost) for row in rows)
    print(f"\nseed {seed} · {time.monotonic() - began:.0f} s · {lost} lost")
    for row in rows:
        for what in row.lost:
            print(f"  lost: {what}")
