"""The one place that makes text from outside safe to show: keys, identifiers, notes, child programs' output, task logs.

GitHub's runner reads ``::command::`` after leading blanks, and ``##[command]`` anywhere in a line, as commands
(actions/runner, ``src/Runner.Common/ActionCommand.cs``); a step summary is Markdown with HTML.
"""

from __future__ import annotations

import html
import re
import unicodedata
from datetime import timedelta

_MARKDOWN = re.compile(r"""^ +|[\\`*_{}\[\]()#+\-.!|~<>@:&"'=$^]""")

_COMMAND = re.compile(r":(?=:)|#(?=#\[)")


def one_line(text: str, limit: int = 200) -> str:
    """``text`` as one printable line of at most ``limit`` characters; control, format characters become ``\\x..``."""
    shown = []
    for char in text[: limit + 1]:
        bad = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        shown.append(f"\\x{ord(char):02x}" if bad else char)
    line = "".join(shown)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def for_log(text: str, limit: int = 2000) -> str:
    """``text`` as one log line that no runner takes for a command: ``::`` and ``##[`` are broken up visibly."""
    return _COMMAND.sub(lambda match: match[0][0] + "\\", one_line(text, limit))


def for_markdown(text: str, limit: int = 200) -> str:
    """``text`` as literal Markdown, in a table cell or anywhere else in a line.

    No link, image, mention, HTML, cell border or indented code can come of it. Mentions, references (``#12``) and
    e-mail addresses are looked for *after* entities have been decoded (cmark-gfm, ``extensions/autolink.c``), so ``@``
    and ``#`` also get a zero-width space behind them.
    """
    return _MARKDOWN.sub(lambda match: "".join(map(_entity, match[0])), one_line(text, limit))


def _entity(char: str) -> str:
    return f"&#{ord(char)};" + ("&#8203;" if char in "@#" else "")


def for_html(text: str, limit: int = 2000) -> str:
    """``text`` as HTML text or as a quoted attribute value."""
    return html.escape(one_line(text, limit), quote=True)


def size(count: int) -> str:
    """Bytes for people, in powers of 1000 as S3 consoles and disks count: ``1.5 GB``, ``312 B``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.5 or unit == "TB":
            return f"{count} B" if unit == "B" else f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 days``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400 * 2:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{timedelta(seconds=whole).days} days"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 document``, ``2,310 documents``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def verb(count: int, one: str, many: str) -> str:
    """The verb that ``count`` things take: ``is`` or ``are``."""
    return one if count == 1 else many
