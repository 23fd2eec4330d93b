"""The short form of ``make torture``: the same code, few attempts, the seed printed by a failure."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.torture.rows import ROWS, run_row
from tests.torture.table import Row

SHORT = {
    "kill backup": 1,
    "kill restore beside": 2,
    "kill restore in place": 2,
    "kill purge": 1,
    "network faults": 5,
    "damaged bytes": 4,
    "random inputs": 150,
    "busy application": 1,
    "seven weeks": 1,
}


def test_the_short_form_has_every_row() -> None:
    assert SHORT.keys() == ROWS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_nothing_is_lost(name: str, pg18: PostgresServer, s3: S3Server, tmp_path: Path) -> None:
    row = Row(name, secrets.randbelow(10**6))
    run_row(row, pg18, s3, tmp_path, list(range(SHORT[name])), short=True)
    assert not row.lost
    assert row.tried == SHORT[name]
