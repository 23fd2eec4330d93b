"""What is backed up: a database shaped like the FAC's, and documents. Deterministic."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg2
from tests.support.fac_like import add_submissions, documents, fill
from tests.support.s3 import S3Server

SUBMISSIONS = 200_000
"""At scale 1: about 1.5 GB on disk, with indexes."""

CONTENT_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def build_database(url: str, submissions: int) -> int:
    """Fill an empty database; its size in bytes."""
    fill(url, submissions)
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        row = cursor.fetchone()
    connection.close()
    assert row
    return int(row[0])


class Growth:
    """New submissions for a database, day by day."""

    def __init__(self, url: str, submissions: int) -> None:
        self._url = url
        self._first = submissions
        self._next = submissions + 1

    def append(self, share: float) -> int:
        """Append ``share`` of the first number of submissions, with their awards and findings; how many."""
        count = max(1, round(self._first * share))
        connection = psycopg2.connect(self._url)
        with connection, connection.cursor() as cursor:
            add_submissions(cursor, self._next, self._next + count - 1)
        connection.close()
        self._next += count
        return count

    def touch(self, rows: int) -> None:
        """Change ``rows`` findings that are spread evenly over their table."""
        connection = psycopg2.connect(self._url)
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "UPDATE finding_text SET contains_chart = NOT contains_chart "
                "WHERE id %% greatest(1, (SELECT max(id) / %s FROM finding_text)) = 0",
                (rows,),
            )
        connection.close()


def fingerprint(url: str) -> dict[str, tuple[int, str]]:
    """Rows and a sum of hashes of each table: equal for equal contents, whatever the order of rows."""
    connection = psycopg2.connect(url)
    found = {}
    with connection, connection.cursor() as cursor:
        cursor.execute("SET TimeZone = 'UTC'")
        for table in ("submission", "federal_award", "finding_text", "excel_file", "awards_by_year"):
            cursor.execute(f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {table} t")
            row = cursor.fetchone()
            assert row
            found[table] = (row[0], row[1])
    connection.close()
    return found


def put_documents(s3: S3Server, buckets: list[str], count: int) -> int:
    """Put the same ``count`` documents into each of ``buckets``; their bytes in one of them.

    The later buckets are filled after the first: a synchronization from the first into them finds nothing to do.
    """
    from obstore.store import S3Store

    contents = documents(count)
    for bucket in buckets:
        store = S3Store(
            bucket, endpoint=s3.endpoint, access_key_id=s3.access_key, secret_access_key=s3.secret_key,
            region="us-east-1", client_options={"allow_http": True},
        )  # fmt: skip

        def put(item: tuple[str, bytes], store: S3Store = store) -> None:
            key, body = item
            store.put(key, body, attributes={"Content-Type": CONTENT_TYPE, "uploaded-by": f"auditor-{len(body) % 10}"})

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(put, contents.items()))
    return sum(map(len, contents.values()))
