"""The short form of ``python -m tests.renewal_months``: across the 60th day."""

from __future__ import annotations

import psycopg2
import pytest

from fac_backup.plain.errors import FacBackupError
from tests.renewal_months import simulate
from tests.support.postgres import PostgresServer


@pytest.fixture
def url(pg18: PostgresServer, unique: str) -> str:
    made = pg18.create_database(unique)
    connection = psycopg2.connect(made)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 500) g")
    connection.close()
    return made


def test_what_is_kept_outlives_a_bucket_that_deletes_at_sixty_days(url: str) -> None:
    kept, _ = simulate(url, 4, age=58)
    assert kept == 5, "four days and the one that is held"


def test_without_renewal_the_same_bucket_destroys_the_backup_that_is_held(url: str) -> None:
    with pytest.raises(FacBackupError):
        simulate(url, 3, age=58, renewing=False)
