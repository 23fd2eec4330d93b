"""Tables for a terminal."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from fac_backup.report import table
from fac_backup.report.views import CheckRow, Fact, Outcome, PlanRow, SpaceView

from .samples import HOSTILE, NOW, row


def test_columns_are_aligned_whatever_width_the_letters_have() -> None:
    shown = table.aligned(("NAME", "SIZE"), [("文書", "1"), ("e\u0301", "22"), ("plain", "333")], right=frozenset({1}))
    assert len({cell_len(line) for line in shown.split("\n")}) == 1


def full(text: str) -> Outcome:
    backup = row(note=text, damaged=text, rule=text)
    return Outcome("list", text, facts=(Fact(text, text),), plan=(PlanRow(text, True, text, text),),
                   checks=(CheckRow(text, False, text),), spaces=(SpaceView(text, (backup,)),),
                   warnings=(text,), next_steps=(text,), backup_id=text, undo_id=text)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_in_its_line_and_is_no_command(text: str) -> None:
    shown = table.outcome(full(text), NOW)
    clean = table.outcome(full("x"), NOW)
    assert len(shown.splitlines()) == len(clean.splitlines())
    assert "::" not in shown
    assert "##[" not in shown
    assert "\x1b" not in shown


def test_a_backup_says_where_it_may_go_and_how_long_it_stays() -> None:
    lines = table.backups((row(held=True, note="before the audit"),), NOW).splitlines()
    assert lines[1].startswith("production_20261122T202000Z_daily  2 h 0 min    1.5 GB  2,310 documents, 4.2 GB")
    assert [line.strip() for line in lines[2:]] == [
        "restore to: staging (unattended or by hand), production (by hand), preview (unattended)",
        "kept: until its hold is released",
        "held",
        "note: before the audit",
    ]


def test_private_facts_are_left_out_where_everyone_reads() -> None:
    facts = (Fact("Bucket", "fac-private-s3", private=True), Fact("Took", "2 s"))
    assert "fac-private-s3" in table.facts(facts)
    assert table.facts(facts, public=True) == "Took  2 s"


def test_a_plan_counts_what_stays_and_what_goes() -> None:
    rows = (PlanRow("a", True, "newest", "It is the newest."), PlanRow("b", False, "keep 7 days", "It is older."))
    shown = table.outcome(Outcome("purge", "Purge of dev", plan=rows, dry_run=True), NOW)
    assert shown.endswith("1 is kept, 1 would go")
