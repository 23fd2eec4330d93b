"""From runs to the rows of ``latest.json``, the table on the terminal and the one in docs/performance.md.

``python -m benchmarks.table`` writes the latter anew from ``latest.json`` and ``latest-runs.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .measure import Run, Spread
from .scenes import OURS, ROWS, Row

HERE = Path(__file__).parent
LATEST = HERE / "latest.json"
RUNS = HERE / "latest-runs.json"
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN = "<!-- made by `python -m benchmarks.table` from benchmarks/latest.json: begin -->"
END = "<!-- end -->"
NO_RUN = "There is no `benchmarks/latest.json` yet: `make bench` writes it, and this table from it."
PEAK = "peak memory, any of these (MB)"
PEAK_BAR = 300.0

Series = Mapping[tuple[str, str], Sequence[Run]]


def rows(series: Series) -> list[dict[str, Any]]:
    """A row for each pair that was measured. ``ratio`` of a row of bytes is that of bytes; of the peak, MB."""
    made = [_row(row, series) for row in ROWS if (row.scene, row.ours) in series and (row.scene, row.peer) in series]
    ours = [run.peak_rss_mb for (_, name), runs in series.items() if name == OURS for run in runs]
    if ours:
        peak = round(max(ours), 1)
        made.append(
            _as_json(
                PEAK,
                ours_s=None,
                peer=None,
                peer_s=None,
                ratio=peak,
                peak_rss_mb=peak,
                bytes_uploaded=None,
                bar=PEAK_BAR,
            )
        )
    return made


def _row(row: Row, series: Series) -> dict[str, Any]:
    ours, peer = series[row.scene, row.ours], series[row.scene, row.peer]
    seconds = Spread.of([run.seconds for run in ours]).median
    theirs = Spread.of([run.seconds for run in peer]).median
    uploaded = _bytes(ours)
    if row.of == "bytes":
        ratio = uploaded / base if uploaded is not None and (base := _bytes(peer)) else None
    else:
        ratio = seconds / theirs
    peak = max(run.peak_rss_mb for run in ours)
    return _as_json(
        row.measure,
        ours_s=seconds,
        peer=row.peer,
        peer_s=theirs,
        ratio=ratio,
        peak_rss_mb=peak,
        bytes_uploaded=uploaded,
        bar=row.bar,
    )


def _bytes(runs: Sequence[Run]) -> int | None:
    known = [run.bytes_uploaded for run in runs if run.bytes_uploaded is not None]
    return round(Spread.of(known).median) if known else None


def _as_json(
    measure: str,
    *,
    ours_s: float | None,
    peer: str | None,
    peer_s: float | None,
    ratio: float | None,
    peak_rss_mb: float,
    bytes_uploaded: int | None,
    bar: float | None,
) -> dict[str, Any]:
    def rounded(value: float | None, digits: int) -> float | None:
        return None if value is None else round(value, digits)

    return {
        "measure": measure,
        "ours_s": rounded(ours_s, 3),
        "peer": peer,
        "peer_s": rounded(peer_s, 3),
        "ratio": rounded(ratio, 5),
        "peak_rss_mb": rounded(peak_rss_mb, 1),
        "bytes_uploaded": bytes_uploaded,
        "bar": bar,
    }


def merged(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """``new`` rows in the place of the ``old`` ones of the same measure and peer; for runs of some measures only. The
    peak is that of all of them."""
    fresh = {(row["measure"], row["peer"]): row for row in new}
    known = [fresh.pop((row["measure"], row["peer"]), row) for row in old]
    rows = known + list(fresh.values())
    peak = max((row["peak_rss_mb"] for row in rows if row["measure"] != PEAK), default=None)
    return [row if row["measure"] != PEAK else {**row, "ratio": peak, "peak_rss_mb": peak} for row in rows]


def verdict(row: Mapping[str, Any]) -> str:
    """How a row stands to its bar."""
    if row["bar"] is None or row["ratio"] is None:
        return ""
    return "reached" if row["ratio"] <= row["bar"] else "NOT REACHED"


def markdown(latest: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """The part of docs/performance.md between the markers."""
    lines = [
        f"Scale {about['scale']:g} ({about['database_mb']:,.0f} MB of database), {about['cores']} cores, "
        f"{about['rounds']} rounds, medians; {about['when']}. "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        + ".",
        "",
        "| measure | ours | beside | it takes | ratio | bar | |",
        "|---|---:|---|---:|---:|---:|---|",
    ]
    for row in latest:
        ours = f"{row['peak_rss_mb']:,.0f} MB" if row["measure"] == PEAK else _amount(row, "ours_s")
        ratio = "" if row["ratio"] is None or row["measure"] == PEAK else f"{row['ratio']:.4g}"
        bar = "" if row["bar"] is None else f"{row['bar']:g}"
        lines.append(
            f"| {row['measure']} | {ours} | {row['peer'] or ''} | {_amount(row, 'peer_s')} | {ratio} | {bar} "
            f"| {verdict(row)} |"
        )
    lines += ["", "All runs, smallest / median / largest:", ""]
    lines += [
        "| scene | contender | wall s | processor s | of the servers | MB at the peak |",
        "|---|---|---|---|---|---:|",
    ]
    for item in about["runs"]:
        wall, cpu, served = (Spread.of(item[key]) for key in ("seconds", "cpu_seconds", "server_cpu_seconds"))
        peak = f"{max(item['peak_rss_mb']):,.0f}"
        lines.append(f"| {item['scene']} | {item['contender']} | {wall} | {cpu} | {served} | {peak} |")
    return "\n".join(lines)


def _amount(row: Mapping[str, Any], key: str) -> str:
    if "bytes" in row["measure"] and key == "ours_s" and row["bytes_uploaded"] is not None:
        return f"{row['bytes_uploaded'] / 1e6:,.2f} MB"
    if "bytes" in row["measure"] and key == "peer_s" and row["ratio"]:
        return f"{row['bytes_uploaded'] / row['ratio'] / 1e6:,.1f} MB"
    return "" if row[key] is None else f"{row[key]:.2f} s"


def put_between(page: str, part: str) -> str:
    """``page`` with what stands between the markers replaced. Raises ValueError if they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has lost its markers")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"


def text(latest: Sequence[Mapping[str, Any]]) -> str:
    """The table on the terminal."""
    lines = [f"{'measure':<56} {'ours':>12}  {'beside':<48} {'takes':>10} {'ratio':>8} {'bar':>6}"]
    for row in latest:
        ours = f"{row['peak_rss_mb']:,.0f} MB" if row["measure"] == PEAK else _amount(row, "ours_s")
        ratio = "" if row["ratio"] is None or row["measure"] == PEAK else f"{row['ratio']:.4g}"
        bar = "" if row["bar"] is None else f"{row['bar']:g}"
        lines.append(
            f"{row['measure']:<56} {ours:>12}  {row['peer'] or '':<48} {_amount(row, 'peer_s'):>10} "
            f"{ratio:>8} {bar:>6} {verdict(row)}".rstrip()
        )
    return "\n".join(lines)


def page() -> str:
    """docs/performance.md as ``latest.json`` and ``latest-runs.json`` make it; without them the table says so."""
    if not LATEST.exists():
        return put_between(PAGE.read_text(), NO_RUN)
    return put_between(PAGE.read_text(), markdown(json.loads(LATEST.read_text()), json.loads(RUNS.read_text())))


def write_page() -> None:
    """Write the generated part of docs/performance.md."""
    PAGE.write_text(page())


if __name__ == "__main__":
    write_page()
