"""Quoting of identifiers for SQL and for pg_dump's patterns: the one place where names become part of a statement."""

from __future__ import annotations

from psycopg2 import extensions


def quoted(name: str) -> str:
    """``"na""me"``: exact in SQL, and exact as a pattern of pg_dump and psql."""
    if "\0" in name:
        raise ValueError("an identifier cannot contain NUL")
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """``"schema"."name"``."""
    return f"{quoted(schema)}.{quoted(name)}"


def codec_of(server_encoding: str) -> str | None:
    """Python's name for a server's encoding, in which names are given to it; None where Python has none."""
    if server_encoding == "SQL_ASCII":
        return "utf-8"
    codec = extensions.encodings.get(server_encoding) or extensions.encodings.get(server_encoding.replace("_", ""))
    return codec if isinstance(codec, str) else None
