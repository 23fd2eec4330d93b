"""Our restore equals stock's: the short form of ``python -m tests.support.equality``."""

from __future__ import annotations

import pytest

from fac_backup.database.connection import Database
from fac_backup.database.dump import DumpOptions
from tests.support.equality import FAST_LANE, PLAIN, compare_zoo, normalized
from tests.support.postgres import PostgresServer


@pytest.mark.parametrize(
    ("major", "options", "superuser"), [(18, FAST_LANE, True), (18, PLAIN, False), (15, FAST_LANE, False)]
)
def test_our_restore_of_the_zoo_equals_stocks(
    request: pytest.FixtureRequest, major: int, options: DumpOptions, superuser: bool
) -> None:
    diff, said = compare_zoo(request.getfixturevalue(f"pg{major}"), options, superuser=superuser)
    assert diff == []
    assert "37 tables" in said or "38 tables" in said


def test_the_comparison_sees_a_changed_row_a_lost_grant_and_a_moved_sequence(pg18: PostgresServer, unique: str) -> None:
    pg18.create_database(unique)
    pg18.execute(
        unique,
        "CREATE TABLE t (a int)",
        "INSERT INTO t VALUES (1), (2)",
        "CREATE SEQUENCE s",
        "GRANT SELECT ON t TO PUBLIC",
    )
    superuser = Database(pg18.url(unique))
    before = normalized(superuser, 18)
    for change, back in (
        ("UPDATE t SET a = 3 WHERE a = 1", "UPDATE t SET a = 1 WHERE a = 3"),
        ("REVOKE SELECT ON t FROM PUBLIC", "GRANT SELECT ON t TO PUBLIC"),
        ("SELECT setval('s', 5)", "SELECT setval('s', 1, false)"),
    ):
        pg18.execute(unique, change)
        assert normalized(superuser, 18) != before
        pg18.execute(unique, back)
        assert normalized(superuser, 18) == before
    pg18.execute("postgres", f"DROP DATABASE {unique} WITH (FORCE)")
