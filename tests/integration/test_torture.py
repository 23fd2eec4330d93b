"""The short form of ``make torture``: the same code, few attempts, the seed printed by a failure."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.torture.__main__ import PAGE
from tests.torture.forge import Forge
from tests.torture.rows import ROWS, run_row
from tests.torture.table import BEGIN, END, Row, write_page

SHORT = {
    "busy application": 1,
    "busy application, in place": 1,
    "kill backup": 1,
    "kill restore beside": 1,
    "kill restore in place": 1,
    "kill purge": 1,
    "network faults": 5,
    "damaged bytes": 4,
    "random inputs": 150,
    "seven weeks": 1,
}


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    """One for all rows: it takes a second to import everything."""
    with Forge() as made:
        yield made


def test_the_short_form_has_every_row() -> None:
    assert SHORT.keys() == ROWS.keys()


def test_the_table_goes_between_the_marks_of_its_page_and_changes_nothing_else(tmp_path: Path) -> None:
    page, before = tmp_path / "torture.md", PAGE.read_text()
    page.write_text(before)
    write_page(page, [Row("kill purge", 7, tried=3, lost=["kill purge:1: a backup"])], 7, 1, 60, 2)
    after = page.read_text()
    assert "**1 lost**" in after
    assert "| kill purge | 3 attempts | 1 " in after
    assert "- lost: `kill purge:1: a backup`" in after
    assert before.partition(BEGIN)[0] == after.partition(BEGIN)[0]
    assert before.partition(END)[2] == after.partition(END)[2]


@pytest.mark.parametrize("name", ROWS)
def test_nothing_is_lost(name: str, pg18: PostgresServer, s3: S3Server, tmp_path: Path, forge: Forge) -> None:
    row = Row(name, secrets.randbelow(10**6))
    first = secrets.choice((0, 5))  # five operations in turn, both ways of a restore, several time zones
    run_row(row, pg18, s3, tmp_path, list(range(first, first + SHORT[name])), short=True, forge=forge)
    assert not row.lost
    assert row.tried == SHORT[name]
