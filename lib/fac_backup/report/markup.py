"""HTML from Python values: whatever is not already HTML is escaped, so that no caller can forget it."""

from __future__ import annotations

from fac_backup.plain.text import for_html


class Html(str):
    """Text that is HTML already: made by ``tag`` and ``join``, or a file of this package."""

    __slots__ = ()


VOID = frozenset({"br", "circle", "hr", "input", "line", "link", "meta", "path", "polygon", "polyline", "rect", "wbr"})


def tag(name: str, /, *children: str | Html | None, **attributes: str | float | bool | None) -> Html:
    """One element.

    Children that are not ``Html`` are escaped, and so are attribute values; None and False leave an attribute out, True
    gives it no value. ``class_`` is ``class``, ``data_id`` is ``data-id``; names of elements and attributes are ours.
    """
    shown = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        text = f"{value:g}" if isinstance(value, float) else str(value)
        shown.append(f" {word}" if value is True else f' {word}="{for_html(text)}"')
    start = f"<{name}{''.join(shown)}"
    # Inside SVG only the slash closes an element without content; in HTML it does no harm.
    return Html(f"{start}/>" if name in VOID and not children else f"{start}>{join(*children)}</{name}>")


def join(*children: str | Html | None) -> Html:
    """Several children one after the other; those that are not ``Html`` are escaped, None is nothing."""
    return Html("".join(child if isinstance(child, Html) else for_html(child or "") for child in children))
