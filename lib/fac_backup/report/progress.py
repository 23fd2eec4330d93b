"""How far a long operation is: bars on a terminal, a line now and then in Actions, silence elsewhere.

All of them say the same: what is done of how much, at which rate, and how long it will still take. Threads may advance
a task at any time; advancing costs a lock and an addition, what is shown is decided by the clock.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TextIO

from fac_backup.plain.text import duration, for_log, plural, size

Unit = Literal["bytes", "documents", "pieces", "rows", "steps"]
LINE_SECONDS = 10.0


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


def figures(count: Count, unit: Unit, now: float) -> str:
    """``1.2 GB of 4.2 GB (29 %), 210 MB/s, 14 s left``."""
    shown = amount(count.done, unit)
    if count.total:
        percent = min(100, count.done * 100 // count.total)
        of = size(count.total) if unit == "bytes" else f"{count.total:,}"
        shown += f" of {of} ({percent} %)"
    rate = count.rate(now)
    if rate:
        shown += f", {size(round(rate))}/s" if unit == "bytes" else f", {rate:,.0f}/s" if rate >= 1 else ""
    left = count.left(now)
    if left is not None and count.total and count.done < count.total:
        shown += f", {duration(left)} left"
    return shown


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
    """Bars of rich on a terminal; they vanish when their task is over, so that the log above stays readable."""

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
            handle = bars.add_task("", total=total, words=for_log(words, 40), count=count, unit=unit)
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
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Words(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(task.fields["words"])

    class Figures(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(figures(task.fields["count"], task.fields["unit"], time.monotonic()), style="dim")

    console = Console(file=stream)
    return RichProgress(
        Words(), BarColumn(bar_width=24), Figures(), console=console, transient=True, refresh_per_second=5,
        redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip


def choose(
    *, in_actions: bool, stream: TextIO | None = None, write: Callable[[str], None] | None = None
) -> Bars | Lines | Silent:
    """Lines through ``write`` in Actions, bars if ``stream`` (default stderr) is a terminal, else nothing."""
    stream = stream or sys.stderr
    if in_actions:
        return Lines(write or (lambda line: print(line, file=stream, flush=True)))
    return Bars(stream) if stream.isatty() else Silent()
