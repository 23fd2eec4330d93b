"""Step summaries."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from markdown_it import MarkdownIt

from fac_backup.operations import views
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import ActNowError
from fac_backup.report import summary
from fac_backup.report.views import (
    CheckRow,
    Fact,
    Failure,
    Notice,
    Outcome,
    PlanRow,
    SpaceView,
    forms_for,
)
from tests.policy_oracle import fac_matrix

from .samples import HOSTILE, NOW, row


def html(markdown: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)


def visible(markdown: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html(markdown)))


def tags(page: str) -> list[str]:
    return re.findall(r"<[^>]*>", page)


def full(text: str, link: str = "https://example.org/x") -> Outcome:
    """A result with ``text`` in every place that may hold text from outside."""
    return Outcome(
        "restore", text, backup_id=text, undo_id=text, facts=(Fact(text, text),),
        forms=forms_for(row(note=text)), plan=(PlanRow(text, False, text, text, NOW),),
        checks=(CheckRow(text, False, text, link),),
        spaces=(SpaceView(text, (row(note=text, rule=text), row(damaged=text)), (Notice(text), Notice(text, True))),),
        warnings=(text,), next_steps=(text,), failure=Failure(text, text, text, 7), links=((text, link),),
    )  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_nothing_but_text(text: str) -> None:
    assert tags(html(summary.render(full(text), NOW))) == tags(html(summary.render(full("harmless"), NOW)))


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "https://x.example/)[a](b", "https://x.example/ y", "http://x"]
)
def test_only_plain_https_addresses_become_links(link: str) -> None:
    page = html(summary.render(full("text", link), NOW))
    assert re.findall(r'href="([^"]*)"', page) == [f"{summary.RUNBOOK}#exit-code-7"]


def test_the_id_stands_alone_in_a_code_block_so_that_github_offers_to_copy_it() -> None:
    text = summary.render(Outcome("backup", "Backup of dev is complete", backup_id="dev_20261122T202000Z_daily"), NOW)
    assert "\n```text\ndev_20261122T202000Z_daily\n```\n" in text


def test_the_forms_name_each_target_that_a_person_may_restore_and_no_other() -> None:
    page = html(summary.forms(forms_for(row())))
    cells = [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", page)]
    backup = "production_20261122T202000Z_daily"
    assert cells == [
        "production", "staging", backup, "staging", "daily refresh",
        "production", "production", backup, "production", "recovery",
    ]  # fmt: skip


@pytest.mark.parametrize("flaw", [{"damaged": "cut"}, {"signed": False}, {"hours": -1}])
def test_no_form_is_offered_for_a_backup_that_counts_for_nothing(flaw: dict[str, Any]) -> None:
    assert forms_for(row(**flaw)) == ()


def test_a_failure_says_what_happened_the_state_the_next_step_and_where_the_runbook_is() -> None:
    error = ActNowError("The connection broke", state="Half of it is new", next_step="Run it again with --resume")
    text = summary.render(Outcome("restore", "Restore of dev failed", failure=Failure.of(error)), NOW)
    page = re.sub(r"<[^>]*>", "", html(text))
    for part in ("What happened: The connection broke", "State now: Half of it is new", "Run it again with --resume"):
        assert part in page
    assert "docs/operations.md#exit-code-7" in text
    assert text.startswith("### 🚨")


def test_a_public_summary_names_no_bucket_host_or_private_fact() -> None:
    outcome = Outcome(
        "backup", "Backup failed", facts=(Fact("Key", "audit/secret-report.pdf", private=True), Fact("Took", "2 s")),
        failure=Failure("cg-0a1b-bucket at db.internal.example refused the key.", "", ""),
    )  # fmt: skip
    hidden = ("cg-0a1b-bucket", "db.internal.example")
    text = summary.render(outcome, NOW, public=True, hidden=hidden)
    shown = visible(text)
    assert not any(word in shown for word in (*hidden, "secret-report"))
    assert "(not shown) at (not shown) refused" in shown
    private = visible(summary.render(outcome, NOW, public=False, hidden=hidden))
    assert "cg-0a1b-bucket" in private
    assert "audit/secret-report.pdf" in private


def test_checks_and_plans_show_first_what_people_look_for() -> None:
    checks = summary.checks((CheckRow("path", True, "fine"), CheckRow("person", False, "no member")))
    assert checks.index("person") < checks.index("path")
    plan = summary.plan((PlanRow("a", True, "newest", "x"), PlanRow("b", False, "keep 7 days", "y")), NOW)
    assert plan.index("<code>b</code>") < plan.index("<code>a</code>")


def test_a_long_list_stays_below_githubs_limit_and_says_what_it_left_out() -> None:
    rows = tuple(row(hours=h, note="x" * 200) for h in range(1, 3000))
    text = summary.render(Outcome("list", "A lot", spaces=(SpaceView("production", rows),)), NOW)
    assert len(text.encode()) < 1_000_000
    assert "… and 2,799 more." in text


def test_what_goes_soon_says_when() -> None:
    plan = summary.plan((PlanRow("a", True, "keep 7 days", "x", NOW + timedelta(days=3)),), NOW)
    assert "in 3 days" in plan


@pytest.mark.parametrize(
    ("backup_id", "fields"),
    [
        ("production_20261122T201653Z_daily", [("production", "production"), ("production", "staging")]),
        ("dev_20261122T201653Z_daily", [("dev", "dev"), ("dev", "preview")]),
        ("staging_20261122T201653Z_pre-restore", [("staging", "staging")]),
        ("preview_20261122T201653Z_manual", []),
    ],
)
def test_a_backup_comes_with_what_to_type_to_restore_it_by_hand(backup_id: str, fields: list[tuple[str, str]]) -> None:
    forms = views.forms_of(backup_id, Surroundings(fac_matrix(), "action-matrix.yml", True, False, {}))
    assert [(form.source, form.target) for form in forms] == fields
    assert {form.backup_id for form in forms} <= {backup_id}


def test_what_a_task_sent_back_is_shown_as_people_read_it() -> None:
    sent = {"space": "dev", "engine": "django-dbbackup", "backup_id": "x", "age_seconds": 3, "dry_run": False,
            "database_bytes": 8_100_000, "documents_count": 1, "documents_bytes": 512, "rows": 12_345,
            "duration_seconds": 65.2, "checks": [], "note": ""}  # fmt: skip
    assert [(fact.what, fact.value) for fact in views.facts_of(sent)] == [
        ("space", "dev"), ("read by", "django-dbbackup"), ("database", "8.1 MB"), ("documents", "1 document, 512 B"),
        ("rows", "12,345"), ("took", "1 min 5 s"),
    ]  # fmt: skip
