"""Progress: the same figures as bars and as lines."""

from __future__ import annotations

import io
import re
import sys
import threading

import pytest

from fac_backup.report.progress import Bars, Count, Lines, Progress, Silent, Unit, choose, figures
from tests.support import terminal


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("done", "total", "unit", "seconds", "shown"),
    [
        (1_200_000_000, 4_200_000_000, "bytes", 6, "1.2 GB of 4.2 GB (28 %), 200 MB/s, 15 s left"),
        (2310, 2310, "documents", 10, "2,310 documents of 2,310 (100 %), 231/s"),
        (1, None, "documents", 10, "1 document"),
        (0, 10, "pieces", 0, "0 pieces of 10 (0 %)"),
        (15, 10, "pieces", 1, "15 pieces of 10 (100 %), 15/s"),
        (0, 0, "bytes", 1, "0 B"),
    ],
)
def test_figures_say_how_much_how_fast_and_how_long_still(
    done: int, total: int | None, unit: Unit, seconds: float, shown: str
) -> None:
    assert figures(Count(total, 50.0, done), unit, 50.0 + seconds) == shown


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (99, "2,310 documents of 4,620 (50 %), 231/s, 10 s left"), (48, "2,310 of 4,620 (50 %), 231/s, 10 s left"),
        (38, "2,310 of 4,620, 231/s, 10 s left"), (31, "50 %, 231/s, 10 s left"), (15, "50 %, 10 s left"), (3, "50 %"),
    ],
)  # fmt: skip
def test_figures_say_less_where_there_is_less_room(room: int, shown: str) -> None:
    assert figures(Count(4620, 50.0, 2310), "documents", 60.0, room) == shown


ON_A_TERMINAL = """
import sys
from fac_backup.report.progress import above, choose
bars = choose(in_actions=False)
with bars.task("Documents of private", 100_000, "documents") as one, choose(in_actions=False).task("Database") as two:
    for step in range(5):
        one.advance(10_000), two.advance(150_000_000)
        getattr(bars, "_bars", None) and bars._bars.refresh()
        if step == 2:
            above("warning: it was slow for a while", sys.stderr)
print("done", file=sys.stderr)
"""


@pytest.mark.parametrize(("columns", "env"), [(100, {}), (40, {"NO_COLOR": "1"}), (80, {"TERM": "dumb"})])
def test_on_a_terminal_bars_keep_to_a_line_each_and_leave_only_the_log(columns: int, env: dict[str, str]) -> None:
    shown = terminal.seen([sys.executable, "-c", ON_A_TERMINAL], env, columns=columns)
    assert shown.screen() == ["warning: it was slow for a while", "done", ""]
    assert all(len(line) <= columns for line in re.split(r"[\r\n]", shown.words))
    assert bool(re.search(r"50 %.*s left", shown.words)) == ("TERM" not in env)
    assert bool(re.search(r"━.*/s", shown.words)) == (columns == 100)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown.raw) or "NO_COLOR" not in env


def test_lines_come_every_ten_seconds_and_once_at_the_end() -> None:
    clock = Clock()
    lines: list[str] = []
    with Lines(lines.append, clock=clock).task("Documents", 100, "documents") as task:
        for _ in range(25):
            clock.now += 1
            task.advance(4)
    assert lines == [
        "Documents: 40 documents of 100 (40 %), 4/s, 15 s left",
        "Documents: 80 documents of 100 (80 %), 4/s, 5.0 s left",
        "Documents: done, 100 documents in 25 s",
    ]


def test_a_short_task_leaves_the_log_alone() -> None:
    lines: list[str] = []
    with Lines(lines.append, clock=Clock()).task("Quick", 3, "steps") as task:
        task.advance(3)
    assert lines == []


def test_words_from_outside_are_no_command() -> None:
    clock = Clock()
    lines: list[str] = []
    with Lines(lines.append, clock=clock).task("::error::x\n##[group]") as task:
        clock.now += 11
        task.advance()
    assert not any("::" in line or "##[" in line or "\n" in line for line in lines)


@pytest.mark.parametrize("progress", [Silent(), Lines(lambda line: None, every=0), Bars(Terminal())])
def test_threads_lose_no_count(progress: Progress) -> None:
    with progress.task("Pieces", None, "pieces") as task:
        threads = [threading.Thread(target=lambda: [task.advance() for _ in range(2000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        task.set_total(8000)
        assert task._count.done == task._count.total == 8000  # type: ignore[attr-defined]


def test_bars_show_the_words_literally_and_clear_up_after_an_error() -> None:
    terminal = Terminal()
    bars = Bars(terminal)

    def work() -> None:
        with bars.task("[red]a[/red]", 10) as task, bars.task("second", 5):
            task.advance(5)
            bars.write("[bold]a log line[/bold]")
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert "[red]a[/red]" in terminal.getvalue()
    assert "[bold]a log line[/bold]\n" in terminal.getvalue()
    assert bars._bars is None


def test_what_fits_is_chosen() -> None:
    assert isinstance(choose(in_actions=True, stream=Terminal()), Lines)
    assert isinstance(choose(in_actions=False, stream=Terminal()), Bars)
    assert isinstance(choose(in_actions=False, stream=io.StringIO()), Silent)
