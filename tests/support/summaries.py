"""Step summaries as GitHub shows them: rendered by markdown-it in GitHub's own style sheet, one of each sort.

``python -m tests.support.summaries DIR`` writes screenshots of all of them, and of the catalog page, to be looked at.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from markdown_it import MarkdownIt

from fac_backup.operations.views import facts_of
from fac_backup.report import page, summary
from fac_backup.report.views import (
    CatalogView,
    CheckRow,
    Fact,
    Failure,
    Form,
    Notice,
    Outcome,
    PlanRow,
    SpaceView,
    Verified,
    forms_for,
)
from tests.support import browser
from tests.unit.report.samples import NOW, row

ALERT = re.compile(r"<blockquote>\n<p>\[!(\w+)\]\n(.*?)</blockquote>", re.S)


def shown(markdown: str) -> str:
    """A page with the summary as GitHub lays it out in a run: its width, its style sheet, its coloured boxes."""
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    body = ALERT.sub(
        lambda found: (
            f'<div class="markdown-alert markdown-alert-{found[1].lower()}">'
            f'<p class="markdown-alert-title">{found[1].capitalize()}</p>\n<p>{found[2]}</div>'
        ),
        body,
    )
    # What GitHub's element markdown-accessiblity-table does for tables that scroll.
    body = body.replace("<table>", '<table tabindex="0">')
    css = (browser.modules() / "node_modules/github-markdown-css/github-markdown.css").read_text()
    # GitHub underlines links in text unless somebody switches that off (Settings, Accessibility).
    frame = (
        ".markdown-body a{text-decoration:underline} body{margin:0;background:var(--bgColor-default)}"
        "main{max-width:960px;margin:0 auto;padding:16px}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Summary</title><style>{css}{frame}</style></head>"
        '<body class="markdown-body"><main class="markdown-body"><h1>Summary</h1><h2>The job</h2>'
        f"{body}</main></body></html>"
    )


def outcomes() -> dict[str, Outcome]:
    """One of each sort of summary."""
    made = row(hours=0.01, note="release 2026-11-22")
    facts = (
        Fact("space", "production"), Fact("kind", "pre-deploy"), Fact("note", "release 2026-11-22"),
        Fact("database", "1.5 GB"), Fact("documents", "2,310 documents, 4.2 GB"),
        Fact("uploaded", "12.3 MB (database 11.1 MB, documents 1.2 MB)"), Fact("took", "41 s"),
        Fact("kept", "by the rule `keep the 2 newest`, and as long as it is the newest pre-deploy one"),
    )  # fmt: skip
    backup = Outcome(
        "backup", "Backup of production is complete", backup_id=made.id, facts=facts, forms=forms_for(made),
        links=(("Open the restore workflow", "https://github.com/o/r/actions/workflows/restore.yml"),),
    )  # fmt: skip
    undo = "preview_20261122T221500Z_pre-restore"
    checks = (
        CheckRow("path", True, "The matrix lists production to preview, by hand"),
        CheckRow("person", True, "alice is a member of GSA-TTS/fac-admins"),
        CheckRow("marker", True, "The target's database is marked as preview's"),
        CheckRow("room", None, "Not asked: the server does not say"),
    )
    restored = Outcome(
        "restore", "preview was restored", backup_id=made.id, undo_id=undo,
        facts=(Fact("from", made.id), Fact("database", "1.5 GB"), Fact("documents", "2,300 stay, 10 are added"),
               Fact("took", "3 min 20 s")),
        checks=checks, forms=(Form("preview", "preview", undo, "undo"),),
        next_steps=("Look at the application before you tell people that it is back.",),
    )  # fmt: skip
    refused = Outcome(
        "restore", "Restore was refused",
        checks=(
            *checks[:1], CheckRow("person", False, "mallory is no active member of GSA-TTS/fac-admins"),
            CheckRow("environment", False, "The environment preview-restore has no required reviewers",
                     "https://github.com/o/r/settings/environments"),
        ),
        failure=Failure("Refused: mallory is no active member of GSA-TTS/fac-admins.",
                        "Nothing was read and nothing was changed.", "The policy is action-matrix.yml.", 3),
    )  # fmt: skip
    act_now = Outcome(
        "restore", "Restore failed", undo_id=undo,
        failure=Failure("The restore into preview failed after the swap, and could not be put back",
                        "The database is the new one, 40 of 2,310 documents are still the old ones.",
                        "Keep the application away, then `fac-backup restore --target preview --resume`.", 7),
    )  # fmt: skip
    purge = Outcome(
        "purge", "Purged production",
        plan=(
            PlanRow(row(hours=2).id, True, "newest", "It is the newest daily one.", None),
            *(PlanRow(row(hours=2 + 24 * day).id, True, "keep 7 days", f"{day} of the last 7 dates.",
                      NOW + timedelta(days=7 - day)) for day in (1, 2)),
            PlanRow(row(hours=220).id, False, "keep 7 days", "Its date is not one of the last 7."),
            PlanRow(row(kind="manual", hours=300).id, True, "held", "Somebody holds it."),
        ),
        facts=(Fact("objects removed", "1,204"), Fact("freed", "310 MB")),
    )  # fmt: skip
    listed = Outcome("list", "Backups of production", spaces=(production(),))
    verified = Outcome(
        "verify", "The backup is whole", backup_id=made.id,
        checks=(CheckRow("pieces", True, "Every piece of the database has its hash (812 pieces)."),
                CheckRow("rehearsal", True, "Restored into a scratch database: every table is equal (94 tables).")),
        facts=(Fact("age", "2 h 0 min"), Fact("took", "2 min 4 s")),
    )  # fmt: skip
    figures: dict[str, object] = {
        "space": "staging",
        "engine": "pg_dump",
        "age_seconds": 900,
        "database_bytes": 1_503_000_000,
        "documents_count": 2310,
        "documents_bytes": 4_200_000_000,
        "duration_seconds": 203.4,
        "source": "production",
        "target": "staging",
        "rows": 1_204_311,
        "documents_added": 1,
        "swap_seconds": 0.051,
        "mode": "beside",
    }
    task = Outcome(
        "restore", "staging was restored", backup_id=made.id, undo_id=undo.replace("preview", "staging"),
        facts=(Fact("where", "as a task of the app in staging"), *facts_of(figures)),
        forms=(Form("staging", "staging", undo.replace("preview", "staging"), "undo"),),
    )  # fmt: skip
    old = replace(
        listed, failure=Failure("The newest daily backup of production is older than 26 hours", "Nothing was changed.",
                                "Look at the runs of the daily workflow: docs/operations.md, `cron is red`.", 1),
    )  # fmt: skip
    return {
        "backup": backup, "restore": restored, "refused": refused, "act-now": act_now, "purge": purge, "list": listed,
        "verify": verified, "list-too-old": old, "task": task,
    }  # fmt: skip


def production() -> SpaceView:
    """A space with everything that may be said of one."""
    rows = sorted(
        (
            *(row(hours=2 + 24 * day, documents_bytes=4_200_000_000 - day * 60_000_000) for day in range(7)),
            row(kind="pre-deploy", hours=5, note="release 2026-11-22", expires=None, rule="newest"),
            row(kind="pre-deploy", hours=77, note="release 2026-11-19", expires=None, rule="keep the 2 newest"),
            row(kind="manual", hours=100, held=True),
            row(kind="pre-restore", hours=75, verified=Verified(NOW, "objects", False)),
            row(kind="daily", hours=200, damaged="its manifest is cut"),
            row(kind="daily", hours=210, signed=False),
            row(kind="daily", hours=220, objects_expire=NOW + timedelta(days=2)),
        ),
        key=lambda one: one.age_seconds,
    )
    notices = (
        Notice(f"{rows[-3].id} is damaged: its manifest is cut", True),
        Notice("1 backup without a valid signature cannot be restored.", True),
        Notice("The bucket will delete objects that backups need from 2026-11-24 22:20 UTC on.", True),
    )
    rules = (("pre-deploy", "keep the 2 newest"), ("daily", "keep 7 days"))
    return SpaceView("production", tuple(rows), notices, rules, 8_900_000_000)


def catalog() -> CatalogView:
    """What the page shows."""
    dev = SpaceView("dev", (row("dev", hours=3), row("dev", hours=30)), (), (("daily", "keep 1 day"),), 81_000_000)
    return CatalogView(NOW, (production(), dev), restore_url="https://github.com/o/r/actions")


def main() -> None:
    """Screenshots of everything, at phone and desktop width, light and dark."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    pages = {name: shown(summary.render(outcome, NOW)) for name, outcome in outcomes().items()}
    pages["catalog"] = page.render(catalog())
    for name, text in pages.items():
        path = folder / f"{name}.html"
        path.write_text(text, encoding="utf-8")
        views = tuple(
            replace(view, screenshot=str(folder / f"{name}-{view.name.replace(', ', '-')}.png"))
            for view in browser.VIEWS
        )
        browser.look(path, views, axe=False)
        print(name)


if __name__ == "__main__":
    main()
