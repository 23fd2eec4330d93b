"""Quoting of identifiers for SQL and for pg_dump's patterns: the one place where names become part of a statement."""

from __future__ import annotations


def quoted(name: str) -> str:
    """``"na""me"``: exact in SQL, and exact as a pattern of pg_dump and psql."""
    if "\0" in name:
        raise ValueError("an identifier cannot contain NUL")
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """``"schema"."name"``."""
    return f"{quoted(schema)}.{quoted(name)}"
