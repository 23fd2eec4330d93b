"""Grants and default privileges of an archive, one by one: those for roles that the target lacks are listed, not lost.

pg_restore would stop at the first role that does not exist, or, told to go on, only mention it among other things.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from fac_backup.database.connection import failure, kind_of
from fac_backup.database.contents import Head, script_of
from fac_backup.database.names import quoted
from fac_backup.database.statements import Token, joined, statements
from fac_backup.plain.text import one_line

DESCRIPTIONS = ("ACL", "DEFAULT ACL")


@dataclass(frozen=True)
class Statement:
    """One GRANT, REVOKE or ALTER DEFAULT PRIVILEGES, with the roles that it names (PUBLIC aside)."""

    sql: str
    roles: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """What became of the privileges."""

    applied: int
    missing_roles: tuple[str, ...]
    """Roles that the archive grants something to and the target lacks, sorted."""
    for_missing: int
    """How many statements named such a role and were left out."""
    refused: tuple[str, ...]
    """Statements that the server refused, with its reason: made safe to show, but names in them are as they are."""


def extract(
    head: Head, directory: Path, *, source_owner: str, target_owner: str, codec: str = "utf-8"
) -> tuple[Statement, ...]:
    """The privileges of the archive, in its order, with the source's owner replaced by the target's."""
    entries = head.of(*DESCRIPTIONS)
    if not entries:
        return ()
    return parse(script_of(head, entries, directory, codec), source_owner=source_owner, target_owner=target_owner)


def parse(script: str, *, source_owner: str, target_owner: str) -> tuple[Statement, ...]:
    """Those statements of ``script`` that grant or revoke; SET SESSION AUTHORIZATION and settings are left out.

    Rights that somebody else granted are granted by the target's owner instead: who restores cannot speak for others.

    >>> parse('GRANT ALL ON TABLE a.b TO old;', source_owner="old", target_owner="new")[0].sql
    'GRANT ALL ON TABLE a . b TO "new"'
    """
    found = []
    for statement in statements(script):
        if statement[0].is_word("GRANT", "REVOKE") or _is_default(statement):
            places = _role_places(statement)
            mapped = list(statement)
            roles = set()
            for place in places:
                name = statement[place].identifier or ""
                if statement[place].kind == "word" and name == "public":
                    continue
                role = target_owner if name == source_owner else name
                roles.add(role)
                mapped[place] = Token("name", quoted(role))
            found.append(Statement(joined(tuple(mapped)), frozenset(roles)))
    return tuple(found)


def _is_default(statement: Sequence[Token]) -> bool:
    return len(statement) > 3 and all(
        token.is_word(word) for token, word in zip(statement, ("ALTER", "DEFAULT", "PRIVILEGES"), strict=False)
    )


def _role_places(statement: Sequence[Token]) -> tuple[int, ...]:
    """Where role names stand: behind ``FOR ROLE`` of ALTER DEFAULT PRIVILEGES, behind the last TO or FROM, and behind
    GRANTED BY. Both are reserved words, so an object of that name is quoted.
    """
    places = []
    if len(statement) > 5 and _is_default(statement) and statement[3].is_word("FOR") and statement[4].is_word("ROLE"):
        places.append(5)
    last = max((i for i, token in enumerate(statement) if token.is_word("TO", "FROM")), default=None)
    if last is not None:
        places.append(last + 1)
    for i, token in enumerate(statement[:-2]):
        if i > (last or 0) and token.is_word("GRANTED") and statement[i + 1].is_word("BY"):
            places.append(i + 2)
    return tuple(place for place in places if place < len(statement))


def roles_of(found: Sequence[Statement]) -> frozenset[str]:
    """All roles that the statements name."""
    return frozenset().union(*(statement.roles for statement in found))


def lacking(session: Connection, roles: Collection[str]) -> frozenset[str]:
    """Those of ``roles`` that the server does not have."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY(%s::pg_catalog.name[])", (list(roles),)
        )
        have = {row[0] for row in cursor.fetchall()}
    return frozenset(roles) - have


def apply(session: Connection, found: Sequence[Statement]) -> Outcome:
    """Execute the statements in the session's transaction, each in a savepoint of its own; the caller commits.

    Raises FailedError only if the connection is lost.
    """
    missing = lacking(session, roles_of(found))
    applied = for_missing = 0
    refused = []
    with session.cursor() as cursor:
        for statement in found:
            if statement.roles & missing:
                for_missing += 1
                continue
            try:
                cursor.execute("SAVEPOINT one")
                cursor.execute(statement.sql)
                cursor.execute("RELEASE SAVEPOINT one")
                applied += 1
            except psycopg2.Error as error:
                if error.pgcode is None or session.closed:
                    raise failure(error, "Granting privileges failed") from None
                cursor.execute("ROLLBACK TO SAVEPOINT one")
                refused.append(f"{one_line(statement.sql)}: {kind_of(error)}")
    return Outcome(applied, tuple(sorted(missing)), for_missing, tuple(refused))
