"""Step summaries: GitHub's Markdown, safe against whatever names a bucket or a database holds.

In a public repository everyone reads them: with ``public`` private facts are left out, and every string in ``hidden``
(bucket names, hosts) is struck out wherever it stands.
GitHub takes at most 1 MiB a step (docs.github.com, "Workflow commands", "Step isolation and limits"): long tables are
cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from fac_backup.plain.text import duration, for_html, for_markdown, one_line, plural, size
from fac_backup.report import words
from fac_backup.report.views import BackupRow, CheckRow, Fact, Form, Outcome, PlanRow, SpaceView, forms_for

RUNBOOK = "https://github.com/fac/backup-actions/blob/main/docs/operations.md"
MAX_ROWS = 200
MAX_TEXT = 1000
STRUCK_OUT = "(not shown)"
ID_LABELS = {"backup": "Its id", "restore": "From the backup", "authorize": "For the backup"}


def render(
    outcome: Outcome,
    now: datetime | None = None,
    *,
    public: bool = True,
    hidden: Iterable[str] = (),
    runbook: str = RUNBOOK,
) -> str:
    """The Markdown of one result, ready to be appended to ``GITHUB_STEP_SUMMARY``; ends with an empty line."""
    now = now or datetime.now(UTC)
    parts = [_heading(outcome)]
    if outcome.failure:
        parts.append(_failure(outcome, runbook))
    if outcome.backup_id:
        parts.append(f"{ID_LABELS.get(outcome.operation, 'Backup')}:\n\n{_code(outcome.backup_id)}")
    shown = [fact for fact in outcome.facts if not (public and fact.private)]
    if shown:
        parts.append(facts(shown))
    parts += [_alert("WARNING", [_prose(warning)]) for warning in outcome.warnings]
    if outcome.checks:
        parts.append(checks(outcome.checks))
    if outcome.plan:
        parts.append(plan(outcome.plan, now, dry_run=outcome.dry_run) + f"\n\n{words.tally(outcome)}.")
    parts += [space(view, now, heading=len(outcome.spaces) > 1) for view in outcome.spaces]
    if outcome.undo_id:
        parts.append(
            "#### To undo it\n\nThe state before this restore is a backup of its own:\n\n" + _code(outcome.undo_id)
        )
    elif outcome.forms:
        parts.append("#### To restore it")
    if outcome.forms:
        parts.append(forms(outcome.forms))
    if outcome.next_steps:
        parts.append("#### What to do next\n\n" + "\n".join(f"1. {_prose(step)}" for step in outcome.next_steps))
    links = [_link(text, address) for text, address in outcome.links]
    if any(links):
        parts.append(" · ".join(link for link in links if link))
    text = "\n\n".join(parts) + "\n\n"
    return strike_out(text, hidden) if public else text


def strike_out(text: str, hidden: Iterable[str]) -> str:
    """``text`` without the strings in ``hidden``, as they are or escaped. Shorter ones than 6 characters are words."""
    for name in sorted({name for name in hidden if len(name) >= 6}, key=len, reverse=True):
        for form in (name, _text(name, MAX_TEXT), for_html(name)):
            text = text.replace(form, STRUCK_OUT)
    return text


def facts(rows: Sequence[Fact]) -> str:
    """What was done, as two columns. HTML, because a Markdown table cannot do without an (empty) header."""
    lines = [f'<tr><th align="left">{_text(row.what)}</th><td>{_text(row.value, MAX_TEXT)}</td></tr>' for row in rows]
    return "\n".join(["<table>", *lines, "</table>"])


def forms(rows: Sequence[Form]) -> str:
    """What to fill into the restore workflow's form, one line a target."""
    with_purpose = any(row.purpose for row in rows)
    header = ("source", "target", "backup-id", "confirm", *(("for",) if with_purpose else ()))
    body = [
        (_inline(row.source), _inline(row.target), _inline(row.backup_id), _inline(row.confirm),
         *((_text(row.purpose),) if with_purpose else ()))
        for row in rows
    ]  # fmt: skip
    line = "this line" if len(body) == 1 else "one of these lines"
    return f"Open the restore workflow, press *Run workflow* and fill in {line}:\n\n" + _table(header, body)


def plan(rows: Sequence[PlanRow], now: datetime, *, dry_run: bool = False) -> str:
    """What is kept and what goes, with the rule and the reason for each; what goes comes first."""
    go = "would go" if dry_run else "goes"
    ordered = sorted(rows, key=lambda row: row.keep)
    return _table(
        ("plan", "backup", "rule", "why", "goes"),
        [
            ("✅ keep" if row.keep else f"🗑️ **{go}**", _inline(row.id), _text(row.rule), _text(row.reason, MAX_TEXT),
             "now" if not row.keep else _in(row.expires, now))
            for row in ordered
        ],
        MAX_ROWS,
    )  # fmt: skip


def checks(rows: Sequence[CheckRow]) -> str:
    """Every check of a decision, passed or not: the ones that failed first."""
    marks = {True: "✅&nbsp;yes", False: "❌&nbsp;**no**", None: "➖"}
    ordered = sorted(rows, key=lambda row: row.passed is not False)
    return _table(
        ("passed", "check", "result"),
        [
            (marks[row.passed], _text(row.name),
             " ".join(part for part in (_text(row.sentence, MAX_TEXT), _link("Set it", row.url)) if part))
            for row in ordered
        ],
        MAX_ROWS,
    )  # fmt: skip


def space(view: SpaceView, now: datetime, *, heading: bool = True) -> str:
    """One space of the catalog: warnings, a table, and the newest backup's id and forms to copy."""
    parts = [f"### {_text(view.name)}"] if heading else []
    serious = [_text(notice.text, MAX_TEXT) for notice in view.notices if notice.serious]
    others = [_text(notice.text, MAX_TEXT) for notice in view.notices if not notice.serious]
    if serious:
        parts.append(_alert("WARNING", serious))
    if others:
        parts.append(_alert("NOTE", others))
    if not view.backups:
        return "\n\n".join([*parts, "No backups."])
    stored = f", {size(view.stored_bytes)} stored" if view.stored_bytes is not None else ""
    parts.append(f"{plural(len(view.backups), 'backup')}{stored}.")
    parts.append(
        _table(
            ("backup", "age", "database, documents", "restore to", "kept"),
            [_backup(row, now) for row in view.backups],
            MAX_ROWS,
        )
    )
    newest = next((row for row in view.backups if forms_for(row)), None)
    if newest:
        parts.append(
            f"#### To restore the newest, {words.old(newest.age_seconds)}\n\n{_code(newest.id)}\n\n"
            + forms(forms_for(newest))
        )
    return "\n\n".join(parts)


def _backup(row: BackupRow, now: datetime) -> tuple[str, ...]:
    remarks = [f"**{_text(flag, MAX_TEXT)}**" for flag in words.flags(row, now)]
    remarks += [_text(row.note)] if row.note else []
    documents = _unbroken(f"{size(row.documents_bytes)} in {row.documents_count:,}")
    return (
        "<br>".join((_inline(row.id), *remarks)),
        _unbroken(words.age(row.age_seconds)),
        f"{_unbroken(size(row.database_bytes))}<br>{documents}",
        ", ".join(_text(words.target_briefly(to)) for to in row.restorable_to)
        if row.usable and row.restorable_to
        else _text(words.targets(row)),
        _text(words.until(row, now), MAX_TEXT),
    )


def _heading(outcome: Outcome) -> str:
    if outcome.failure is None:
        worry = outcome.warnings or any(notice.serious for view in outcome.spaces for notice in view.notices)
        mark = "🔎" if outcome.dry_run else "⚠️" if worry else "✅"
    else:
        mark = "🚨" if outcome.failure.exit_code == 7 else "⛔" if outcome.failure.exit_code == 3 else "❌"
    return f"### {mark} {_text(outcome.title)}"


def _failure(outcome: Outcome, runbook: str) -> str:
    failure = outcome.failure
    assert failure is not None  # noqa: S101  the caller has looked
    rows = (("What happened", failure.what), ("State now", failure.state), ("What to do", failure.next_step))
    lines = [f"**{what}:** {_prose(value)}" for what, value in rows if value.strip()]
    meaning = words.EXIT_CODES.get(failure.exit_code, "failed")
    link = _link(f"the runbook on exit code {failure.exit_code}", f"{runbook}#{failure.anchor}")
    return _alert("CAUTION", [*lines, f"Exit code {failure.exit_code} ({meaning}): see {link}"])


def _alert(kind: str, paragraphs: Sequence[str]) -> str:
    """GitHub's coloured box; each paragraph is one line of Markdown."""
    return f"> [!{kind}]\n> " + "\n>\n> ".join(paragraphs)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], limit: int | None = None) -> str:
    """Cells are Markdown already; rows beyond ``limit`` become one line that counts them."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows[:limit]]
    left = len(rows) - len(rows[:limit])
    return "\n".join(lines) + (f"\n\n… and {left:,} more." if left else "")


def _in(expires: datetime | None, now: datetime) -> str:
    if expires is None:
        return "not foreseeable"
    left = (expires - now).total_seconds()
    return "with the next purge" if left <= 0 else f"in {duration(left)}"


def _text(text: str, limit: int = 200) -> str:
    return for_markdown(text, limit)


def _prose(text: str) -> str:
    """A sentence; what stands between two backticks in it is shown as code, and is as safe as the rest."""
    pieces = one_line(text, MAX_TEXT).split("`")
    if len(pieces) % 2 == 0:  # one has no partner
        return _text(text, MAX_TEXT)
    return "".join(
        f"<code>{_text(piece, MAX_TEXT)}</code>" if index % 2 else _text(piece, MAX_TEXT)
        for index, piece in enumerate(pieces)
    )


def _inline(text: str) -> str:
    """Outside text in a monospaced font."""
    return f"<code>{for_markdown(text)}</code>"


def _unbroken(text: str) -> str:
    """Our own short text, kept on one line in a narrow column."""
    return text.replace(" ", "&nbsp;")


def _code(text: str) -> str:
    """One line in a code block of its own: GitHub puts a copy button on it. No backtick can end it."""
    return f"```text\n{one_line(text).replace('`', chr(39)).strip()}\n```"


def _link(text: str, address: str) -> str:
    """A link, only to https addresses without anything that could end it."""
    plain = address.isascii() and not any(c.isspace() or c in "()<>[]\\\"'`|" for c in address)
    return f"[{_text(text)}]({address})" if plain and address.startswith("https://") else ""
