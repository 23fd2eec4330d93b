"""How far a long operation is: bars on a terminal, a line now and then in Actions, silence elsewhere.

All of them say the same: what is done of how much, at which rate, and how long it will still take. Threads may advance
a task at any time; advancing costs a lock and an addition, what is shown is decided by the clock.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, TextIO

from fac_backup.plain.text import duration, for_log, plural, size

Unit = Literal["bytes", "documents", "pieces", "rows", "steps"]
LINE_SECONDS = 10.0

WORDS = 24
"""Characters of a bar's words; narrow terminals show fewer."""


class Task(Protocol):
    """One thing that takes long."""

    def advance(self, amount: int = 1) -> None:
        """``amount`` more units are done. Safe and cheap to call from several threads."""
        ...

    def set_total(self, total: int) -> None:
        """How much there is in all, once it is known (or known better)."""
        ...


class Progress(Protocol):
    """Shows tasks while they run."""

    def task(self, words: str, total: int | None = None, unit: Unit = "bytes") -> AbstractContextManager[Task]:
        """Show a task called ``words`` (ours, or made safe here) for as long as the context lasts.

        ``total`` is None while nobody knows it.
        """
        ...


@dataclass
class Count:
    """What is done of a task, by the clock given; the arithmetic that bars and lines share."""

    total: int | None
    started: float
    done: int = 0

    def rate(self, now: float) -> float:
        """Units a second since the start; 0 before anything can be said."""
        passed = now - self.started
        return self.done / passed if passed > 0 else 0.0

    def left(self, now: float) -> float | None:
        """Seconds still to go at this rate; None if unknown."""
        rate = self.rate(now)
        return (self.total - self.done) / rate if self.total is not None and self.done <= self.total and rate else None


def amount(count: int, unit: Unit) -> str:
    """``1.5 GB`` or ``2,310 documents``."""
    return size(count) if unit == "bytes" else plural(count, unit.removesuffix("s"))


def figures(count: Count, unit: Unit, now: float, room: int | None = None) -> str:
    """``1.2 GB of 4.2 GB (29 %), 210 MB/s, 14 s left``; less of it where that is longer than ``room`` characters."""
    rate = count.rate(now)
    pace = (f"{size(round(rate))}/s" if unit == "bytes" else f"{rate:,.0f}/s" if rate >= 1 else "") if rate else ""
    left = count.left(now)
    still = f"{duration(left)} left" if left is not None and count.total and count.done < count.total else ""
    done, bare = amount(count.done, unit), size(count.done) if unit == "bytes" else f"{count.done:,}"
    if not count.total:
        shown = [_listed(done, pace), _listed(bare, pace), bare]
    else:
        of = size(count.total) if unit == "bytes" else f"{count.total:,}"
        percent = f"{min(100, count.done * 100 // count.total)} %"
        shown = [
            _listed(f"{done} of {of} ({percent})", pace, still), _listed(f"{bare} of {of} ({percent})", pace, still),
            _listed(f"{bare} of {of}", pace, still), _listed(percent, pace, still), _listed(percent, still), percent,
        ]  # fmt: skip
    return next((text for text in shown if room is None or len(text) <= room), shown[-1])


def _listed(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


class _CountedTask:
    def __init__(self, count: Count, changed: Callable[[], None] | None) -> None:
        self._count = count
        self._changed = changed
        self._lock = threading.Lock()

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._count.done += amount
        if self._changed:
            self._changed()

    def set_total(self, total: int) -> None:
        with self._lock:
            self._count.total = total


class Silent:
    """Shows nothing: output goes to a file or to another program."""

    @contextmanager
    def task(self, words: str, total: int | None = None, unit: Unit = "bytes") -> Iterator[Task]:
        """Count, and show nothing."""
        del words, unit
        yield _CountedTask(Count(total, 0.0), None)


class Lines:
    """One line a task every ``every`` seconds, and one at its end if it took that long: for a job's log.

    ``write`` gets lines that no runner takes for commands.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        every: float = LINE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._every = every
        self._clock = clock

    @contextmanager
    def task(self, words: str, total: int | None = None, unit: Unit = "bytes") -> Iterator[Task]:
        """Write a line whenever the task advances and the last line is old enough."""
        started = self._clock()
        count = Count(total, started)
        lock = threading.Lock()
        next_line = started + self._every

        def changed() -> None:
            nonlocal next_line
            now = self._clock()
            if now < next_line:
                return
            with lock:
                if now < next_line:
                    return
                next_line = now + self._every
            self._write(for_log(f"{words}: {figures(count, unit, now)}"))

        yield _CountedTask(count, changed)
        now = self._clock()
        if now - started >= self._every:
            shown = amount(count.done, unit)
            self._write(for_log(f"{words}: done, {shown} in {duration(now - started)}"))


class Bars:
    """Bars of rich on a terminal; they vanish when their task is over, so that the log above stays readable.

    One for a terminal (``choose``): two that draw at its foot at once would tear each other.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._bars: Any = None
        self._running = 0

    @contextmanager
    def task(self, words: str, total: int | None = None, unit: Unit = "bytes") -> Iterator[Task]:
        """Show one bar; several at once share one place at the foot of the terminal."""
        count = Count(total, time.monotonic())
        with self._lock:
            if self._bars is None:
                self._bars = _rich_bars(self._stream)
                self._bars.start()
            bars = self._bars
            self._running += 1
            # Words are given as a value, not as markup: brackets in them mean nothing.
            handle = bars.add_task("", total=total, words=for_log(words, WORDS), count=count, unit=unit)
        task = _CountedTask(count, lambda: bars.update(handle, completed=count.done, total=count.total))
        try:
            yield task
        finally:
            with self._lock:
                bars.remove_task(handle)
                self._running -= 1
                if not self._running:
                    bars.stop()
                    self._bars = None

    def write(self, line: str) -> None:
        """A log line, above the bars if any are shown: writing to the stream directly would tear them."""
        with self._lock:
            if self._bars is None:
                print(line, file=self._stream, flush=True)
            else:
                self._bars.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _rich_bars(stream: TextIO) -> Any:
    """One line a task, whatever the terminal's width: what does not fit is said in fewer words."""
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column
    from rich.text import Text

    console = Console(file=stream)
    bar = 24 if console.width >= 100 else 12 if console.width >= 60 else 0
    words = min(WORDS, console.width // 2)

    class Words(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(task.fields["words"])

    class Figures(ProgressColumn):
        def render(self, task: Any) -> Text:
            room = console.width - words - (bar + 1 if bar else 0) - 2
            return Text(figures(task.fields["count"], task.fields["unit"], time.monotonic(), room), style="dim")

    def one_line(width: int | None = None) -> Column:
        return Column(no_wrap=True, overflow="ellipsis", width=width)

    columns = [Words(one_line(words)), *([BarColumn(bar)] if bar else []), Figures(one_line())]
    return RichProgress(
        *columns, console=console, transient=True, refresh_per_second=5, redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip


def choose(
    *, in_actions: bool, stream: TextIO | None = None, write: Callable[[str], None] | None = None
) -> Bars | Lines | Silent:
    """Lines through ``write`` in Actions, bars if ``stream`` (default stderr) is a terminal, else nothing."""
    stream = stream or sys.stderr
    lines = Lines(write or (lambda line: print(line, file=stream, flush=True)))
    if in_actions:
        return lines
    if not stream.isatty():
        return Silent()
    # A terminal that cannot move its cursor would show each state of a bar below the last.
    return lines if os.environ.get("TERM", "dumb") in ("dumb", "unknown") else _bars(stream)


@cache
def _bars(stream: TextIO) -> Bars:
    return Bars(stream)


def above(line: str, stream: TextIO) -> None:
    """Write a log line to ``stream``, above the bars that are shown there, if any are."""
    _bars(stream).write(line)
