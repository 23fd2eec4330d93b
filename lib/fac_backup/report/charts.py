"""Small charts as inline SVG: no script, no style attribute (the page's policy forbids them), readable at any width.

Horizontal positions are percentages, so that a chart fills a phone as well as a desk while its text keeps its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from fac_backup.plain.text import plural, size
from fac_backup.report import words
from fac_backup.report.markup import Html, join, tag
from fac_backup.report.views import BackupRow, SpaceView

LANE = 44
TICKS = 5
COLOURS = 6
"""How many colours the style sheet has for kinds: ``.k0`` to ``.k5``."""


def kinds(view: SpaceView) -> tuple[str, ...]:
    """The kinds of a space in the order of its rules, then the others as they come; each keeps its colour."""
    return tuple(dict.fromkeys([*(kind for kind, _ in view.rules), *(row.kind for row in view.backups)]))


def timeline(view: SpaceView, now: datetime) -> Html:
    """When which backup was made, one lane a kind. For eyes and mice; the list below says the same to everyone."""
    rows = [row for row in view.backups if row.kind]
    first = min((row.created for row in rows), default=now)
    begin, end = min(first, now - timedelta(days=1)), now
    lanes = kinds(view)
    height = LANE * len(lanes) + 26
    parts: list[Html] = []
    for share in range(TICKS):
        moment = begin + (end - begin) * share / (TICKS - 1)
        x = f"{_x(moment, begin, end):.2f}%"
        anchor = "start" if share == 0 else "end" if share == TICKS - 1 else "middle"
        label = (
            "now"
            if share == TICKS - 1
            else f"{moment:%d %b}"
            if end - begin > timedelta(days=3)
            else f"{moment:%d %b %H:%M}"
        )
        # On a phone there is room for every other label only.
        small = "tick odd" if share % 2 else "tick"
        parts.append(tag("line", x1=x, x2=x, y1=0, y2=height - 22, class_="grid"))
        parts.append(tag("text", label, x=x, y=height - 6, text_anchor=anchor, class_=small))
    for index, kind in enumerate(lanes):
        y = LANE * index + 30
        parts.append(tag("text", kind, x=0, y=y - 16, class_="lane"))
        parts.append(tag("line", x1="1%", x2="99%", y1=y, y2=y, class_="axis"))
        parts += [
            _mark(row, index, y, f"{_x(row.created, begin, end):.2f}%", now)
            for row in reversed(rows)
            if row.kind == kind
        ]
    counts = ", ".join(plural(sum(row.kind == kind for row in rows), f"{kind} backup") for kind in lanes)
    label = f"Timeline of {view.name} from {words.moment(begin)} to now: {counts or 'no backups'}"
    return tag("svg", *parts, class_="timeline", width="100%", height=height, role="img", aria_label=label)


def signs(view: SpaceView) -> Html | None:
    """What the special marks of a timeline mean, if it has any."""
    bad = any(doubtful(row) for row in view.backups)
    held = any(row.held for row in view.backups)
    shown = [
        _key("bad", "not to be relied on", "sign") if bad else None,
        _key("held", "held", "sign") if held else None,
    ]
    return tag("p", *shown, class_="legend") if bad or held else None


def growth(view: SpaceView) -> Html | None:
    """How big database and documents were, over time; None with fewer than two sound backups."""
    rows = sorted((row for row in view.backups if not row.damaged), key=lambda row: row.created)
    if len(rows) < 2:
        return None
    begin, end = rows[0].created, rows[-1].created
    top = max(row.total_bytes for row in rows) or 1
    xs = [100 * (row.created - begin) / (end - begin) if end > begin else 100.0 for row in rows]
    documents = [(x, 100 - 92 * row.total_bytes / top) for x, row in zip(xs, rows, strict=True)]
    database = [(x, 100 - 92 * row.database_bytes / top) for x, row in zip(xs, rows, strict=True)]
    chart = tag(
        "svg",
        tag("path", d=_area(documents), class_="area documents"),
        tag("path", d=_area(database), class_="area database"),
        tag("path", d=_line(documents), class_="line documents", vector_effect="non-scaling-stroke"),
        tag("path", d=_line(database), class_="line database", vector_effect="non-scaling-stroke"),
        class_="chart", viewBox="0 0 100 100", preserveAspectRatio="none", role="img",
        aria_label=f"Size of the data over time: {size(rows[0].total_bytes)} on {words.moment(begin)}, "
        f"{size(rows[-1].total_bytes)} on {words.moment(end)}, at most {size(top)}",
    )  # fmt: skip
    legend = join(_key("database", f"database {size(rows[-1].database_bytes)}"), " ",
                  _key("documents", f"documents {size(rows[-1].documents_bytes)}"))  # fmt: skip
    return _figure("Size of the data", _change(rows), chart, legend)


def uploads(view: SpaceView) -> Html | None:
    """What each backup added to the store, the newest on the right; None with fewer than two sound backups."""
    rows = sorted((row for row in view.backups if not row.damaged), key=lambda row: row.created)[-60:]
    if len(rows) < 2:
        return None
    top = max(row.uploaded_bytes for row in rows) or 1
    lanes = kinds(view)
    wide = 100 / len(rows)
    bars = []
    for index, row in enumerate(rows):
        high = max(1.5, 92 * row.uploaded_bytes / top)
        gap = min(wide * 0.25, 1.5)
        bars.append(
            tag("rect", tag("title", f"{row.id}: {size(row.uploaded_bytes)} new"), x=round(wide * index + gap / 2, 3),
                y=round(100 - high, 3), width=round(wide - gap, 3), height=round(high, 3),
                class_=f"bar k{lanes.index(row.kind) % COLOURS}")
        )  # fmt: skip
    total = sum(row.uploaded_bytes for row in rows)
    chart = tag(
        "svg", *bars, class_="chart", viewBox="0 0 100 100", preserveAspectRatio="none", role="img",
        aria_label=f"New bytes per backup: {size(total)} in {plural(len(rows), 'backup')}, at most {size(top)} in one",
    )  # fmt: skip
    caption = f"{size(rows[-1].uploaded_bytes)} in the newest, {size(top)} at most"
    return _figure("New bytes per backup", caption, chart, join(f"{size(total)} in {plural(len(rows), 'backup')}"))


def _mark(row: BackupRow, lane: int, y: int, x: str, now: datetime) -> Html:
    special = "; ".join(words.flags(row, now))
    title = tag("title", f"{row.id}, {words.age(row.age_seconds)} old" + (f" ({special})" if special else ""))
    colour = f"k{lane % COLOURS}"
    state = "bad" if doubtful(row) else colour
    held = tag("circle", cx=x, cy=y, r=11, class_=f"ring {colour}") if row.held else None
    return tag("g", title, held, tag("circle", cx=x, cy=y, r=7, class_=f"mark {state}"), data_jump=anchor(row))


def doubtful(row: BackupRow) -> bool:
    """Whether nobody should count on this backup."""
    failed = row.verified is not None and not row.verified.passed
    return failed or not row.usable


def anchor(row: BackupRow) -> str:
    """The id of a backup's entry on the page: letters that every browser takes, whatever the backup is called."""
    return "b-" + "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "." for char in row.id)


def _x(moment: datetime, begin: datetime, end: datetime) -> float:
    share = (moment - begin) / (end - begin) if end > begin else 1.0
    return 1.5 + 97 * min(1.0, max(0.0, share))


def _line(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)


def _area(points: Sequence[tuple[float, float]]) -> str:
    return f"{_line(points)}L{points[-1][0]:.2f} 100L{points[0][0]:.2f} 100Z"


def _change(rows: Sequence[BackupRow]) -> str:
    week = [row for row in rows if rows[-1].created - row.created <= timedelta(days=7, hours=2)]
    grown = rows[-1].total_bytes - week[0].total_bytes
    days = max(1, round((rows[-1].created - week[0].created).total_seconds() / words.DAY))
    sign = "+" if grown >= 0 else "−"
    return f"{size(rows[-1].total_bytes)}, {sign}{size(abs(grown))} in {plural(days, 'day')}"


def _key(class_: str, label: str, shape: str = "swatch") -> Html:
    return tag("span", tag("span", class_=f"{shape} {class_}", aria_hidden="true"), label, class_="key")


def _figure(title: str, caption: str, chart: Html, legend: Html) -> Html:
    return tag("figure", tag("figcaption", tag("strong", title), tag("span", caption)), chart,
               tag("p", legend, class_="legend"))  # fmt: skip
