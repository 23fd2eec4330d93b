"""Session settings under which data is read: pg_dump's own, and what makes COPY text the same every day."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from psycopg2.extensions import connection as Connection  # noqa: N812

READING: Mapping[str, str] = MappingProxyType(
    {
        # pg_dump sets these (setup_connection in pg_dump.c); timeouts and search_path are set at connecting.
        "datestyle": "ISO",
        "intervalstyle": "postgres",
        "extra_float_digits": "3",
        "row_security": "off",
        "synchronize_seqscans": "off",
        "restrict_nonsystem_relation_kind": "view, foreign-table",
        # Stable text, whatever the role's or the database's defaults are.
        "timezone": "UTC",
        "bytea_output": "hex",
        "quote_all_identifiers": "off",
    }
)

BY_RANGES: Mapping[str, str] = MappingProxyType(
    {
        **READING,
        # Otherwise a page range may be read by a sequential scan of the whole table.
        "enable_tidscan": "on",
        "enable_seqscan": "off",
        "max_parallel_workers_per_gather": "0",
    }
)


def apply_in_autocommit(session: Connection, settings: Mapping[str, str]) -> None:
    """Set what the server knows of ``settings`` for the whole session, which is put into autocommit: transactions are
    begun by hand.
    """
    session.autocommit = True
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.set_config(wanted.name, wanted.value, false)"
            " FROM unnest(%s::pg_catalog.text[], %s::pg_catalog.text[]) AS wanted(name, value)"
            " JOIN pg_catalog.pg_settings AS known ON pg_catalog.lower(known.name) = wanted.name",
            (list(settings.keys()), list(settings.values())),
        )
