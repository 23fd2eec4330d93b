"""The catalog as one self-contained page: no network, no text from outside that could act, readable without scripts.

The policy in its head names the one style sheet and the one script by their hashes (w3.org/TR/CSP3), so that nothing
else would run even if something got in; what gets in is escaped by ``markup`` all the same.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime
from importlib.resources import files
from string import Template

from fac_backup.plain.text import plural, size
from fac_backup.report import charts, words
from fac_backup.report.markup import Html, join, tag
from fac_backup.report.summary import strike_out
from fac_backup.report.views import BackupRow, CatalogView, Form, SpaceView, Target, forms_for


def render(view: CatalogView, *, hidden: Iterable[str] = ()) -> str:
    """The page's HTML (UTF-8 when written). ``hidden`` strings, such as bucket names, are struck out."""
    css, script = _asset("page.css"), _asset("page.js")
    body = join(_header(view), *(_space(space, view) for space in view.spaces))
    return Template(_asset("page.html")).substitute(
        style_hash=_sha256(css),
        script_hash=_sha256(script),
        style=css,
        script=script,
        title=tag("title", view.title),
        body=strike_out(body, hidden),
    )


def _header(view: CatalogView) -> Html:
    serious = sum(notice.serious for space in view.spaces for notice in space.notices)
    chip = tag("span", plural(serious, "thing") + " to look at", class_="chip bad") if serious else tag(
        "span", "all well", class_="chip good"
    )  # fmt: skip
    links = [
        tag("a", space.name, tag("span", plural(len(space.backups), "backup"), class_="quiet"), href=f"#space-{index}",
            class_="worry" if any(notice.serious for notice in space.notices) else None)
        for index, space in _numbered(view)
    ]  # fmt: skip
    return tag(
        "header",
        tag("div", tag("h1", view.title), chip, class_="title"),
        tag("p", "As of ", _time(view.made), tag("span", id="stale", hidden=True), class_="quiet"),
        tag("nav", *links, aria_label="Spaces") if len(links) > 1 else None,
        tag("p", tag("label", "Show only backups with", for_="filter"), " ",
            tag("input", id="filter", type="search", placeholder="a kind, a date, a note …", autocomplete="off"), " ",
            tag("span", id="found", role="status", class_="quiet"), class_="filter", hidden=True),
    )  # fmt: skip


def _space(space: SpaceView, view: CatalogView) -> Html:
    number = next(index for index, other in _numbered(view) if other is space)
    newest = next((row for row in space.backups if forms_for(row)), None)
    facts: list[str | Html] = [plural(len(space.backups), "backup")]
    if space.backups:
        facts.append(join(" · newest ", _age(space.backups[0])))
    if space.stored_bytes is not None:
        facts.append(f" · {size(space.stored_bytes)} stored")
    figures = [figure for figure in (charts.growth(space), charts.uploads(space)) if figure]
    return tag(
        "section",
        tag("div", tag("h2", space.name, id=f"h-{number}"), tag("p", *facts, class_="quiet"),
            class_="title"),
        _notices(space),
        join(charts.timeline(space, view.made), charts.signs(space)) if space.backups else None,
        tag("div", *figures, class_="figures") if figures else None,
        _restore(newest, view.restore_url),
        _rules(space),
        tag("h3", "Backups, the newest first"),
        tag("ol", *(_backup(row, space, view.made) for row in space.backups), class_="backups")
        if space.backups else tag("p", "No backups."),
        id=f"space-{number}", aria_labelledby=f"h-{number}",
    )  # fmt: skip


def _notices(space: SpaceView) -> Html | None:
    if not space.notices:
        return None
    items = [
        tag("li", tag("span", "Warning: " if notice.serious else "Note: ", class_="weight"), notice.text,
            class_="serious" if notice.serious else None)
        for notice in space.notices
    ]  # fmt: skip
    return tag("ul", *items, class_="notices", aria_label=f"Warnings for {space.name}")


def _restore(newest: BackupRow | None, url: str) -> Html | None:
    """The newest backup's id, and what to type for each target."""
    if newest is None:
        return None
    where = tag("a", "the restore workflow", href=url, rel="noreferrer") if url.startswith("https://") else None
    return tag(
        "div",
        tag("h3", "Restore the newest"),
        tag("p", "Open ", where or "the restore workflow", ", press ", tag("em", "Run workflow"), " and fill in:"),
        _forms(forms_for(newest)),
        class_="restore",
    )


def _forms(forms: Iterable[Form]) -> Html:
    """The form's fields. Source and target are choices in the form, so only the typed ones can be copied."""
    shown = []
    for form in forms:
        typed = (("backup-id", form.backup_id), ("confirm", form.confirm))
        fields = [
            _pair("source", tag("code", form.source)),
            _pair("target", tag("code", form.target)),
            *(
                _pair(name, join(tag("code", _breakable(value)), _copy(value, f"{name} for {form.target}")))
                for name, value in typed
            ),
        ]
        name = tag("p", f"to {form.target}", tag("span", form.purpose, class_="quiet"), class_="formname")
        shown.append(tag("div", name, tag("dl", *fields), class_="form"))
    return tag("div", *shown, class_="forms")


def _rules(space: SpaceView) -> Html | None:
    if not space.rules:
        return None
    lanes = charts.kinds(space)
    rows = [tag("div", tag("dt", _kind(kind, lanes)), tag("dd", rule)) for kind, rule in space.rules]
    return join(tag("h3", "How long they are kept"), tag("dl", *rows, class_="rules"))


def _backup(row: BackupRow, space: SpaceView, now: datetime) -> Html:
    special = words.flags(row, now)
    forms = forms_for(row)
    return tag(
        "li",
        tag("div", _kind(row.kind, charts.kinds(space)), tag("code", _breakable(row.id), class_="id"),
            _copy(row.id, "this id"), class_="name"),
        tag("p", _time(row.created), ", ", _age(row), class_="quiet"),
        tag("p", row.note, class_="note") if row.note else None,
        tag("ul", *(tag("li", flag, class_=_weight(flag)) for flag in special), class_="flags") if special else None,
        tag("dl",
            _pair("database", size(row.database_bytes)),
            _pair("documents", words.documents(row)),
            _pair("new in the store", size(row.uploaded_bytes)),
            _pair("kept", words.until(row, now)),
            _pair("restore to", _targets(row))),
        tag("details", tag("summary", "Fill in the restore form"), _forms(forms)) if forms else None,
        id=charts.anchor(row), class_="bad" if charts.doubtful(row) else None, tabindex="-1",
    )  # fmt: skip


def _age(row: BackupRow) -> Html:
    if row.future:
        return join("in the future")
    return join(tag("span", words.age(row.age_seconds), data_age=row.created.isoformat()), " old")


def _targets(row: BackupRow) -> Html:
    if not row.usable or not row.restorable_to:
        return join(words.targets(row))
    return join(*(_chip(to) for to in row.restorable_to))


def _chip(to: Target) -> Html:
    return tag("span", to.space, tag("span", f" {to.when}", class_="quiet"), class_="chip target")


def _pair(name: str, value: str | Html) -> Html:
    return tag("div", tag("dt", name), tag("dd", value))


def _kind(kind: str, lanes: tuple[str, ...]) -> Html:
    colour = f"k{lanes.index(kind) % charts.COLOURS}"
    return tag("span", tag("span", class_=f"dot {colour}", aria_hidden="true"), kind, class_="kind")


def _weight(flag: str) -> str | None:
    return "good" if flag in ("verified", "rehearsed") else None if flag == "held" else "serious"


def _copy(value: str, what: str) -> Html:
    """Hidden until the script that makes it work has started."""
    return tag("button", "Copy", type="button", data_copy=value, aria_label=f"Copy {what}", hidden=True)


def _breakable(text: str) -> Html:
    """An id that a narrow screen breaks between its parts; selecting and copying it gives the id."""
    parts = text.split("_")
    return join(*(join(part, "_", tag("wbr")) for part in parts[:-1]), parts[-1])


def _time(moment: datetime) -> Html:
    return tag("time", words.moment(moment), datetime=moment.isoformat())


def _numbered(view: CatalogView) -> list[tuple[int, SpaceView]]:
    return list(enumerate(view.spaces))


def _asset(name: str) -> str:
    return files("fac_backup.report").joinpath(name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
