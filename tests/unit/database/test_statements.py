"""Scripts of pg_restore, taken apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fac_backup.database import privileges
from fac_backup.database.names import quoted
from fac_backup.database.statements import joined, statements, tokens
from fac_backup.plain.errors import IntegrityError

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=6))
def test_a_script_is_cut_where_statements_end_whatever_names_and_texts_hold(parts: list[tuple[str, str]]) -> None:
    script = "".join(f"-- a comment; '\nSELECT {literal(text)} AS {quoted(name)};\n" for name, text in parts)
    found = list(statements(script))
    assert len(found) == len(parts)
    for statement, (name, text) in zip(found, parts, strict=True):
        assert [token.text for token in statement] == ["SELECT", literal(text), "AS", quoted(name)]
        assert statement[-1].identifier == name


@given(TEXTS)
def test_any_text_is_either_taken_apart_or_refused(script: str) -> None:
    try:
        found = list(statements(script))
    except IntegrityError:
        return
    for statement in found:
        assert list(tokens(joined(statement))) == list(statement)


@pytest.mark.parametrize("script", ["SELECT 'a;", 'SELECT "a;', "SELECT $x$ a $y$;", "/* /* */ SELECT 1;", "SELECT 1"])
def test_a_quote_that_never_ends_is_refused(script: str) -> None:
    with pytest.raises(IntegrityError):
        list(statements(script))


def test_psqls_own_commands_around_the_script_are_left_out() -> None:
    script = "--\n-- dump\n--\n\n\\restrict abc\n\nSELECT 1;\n\n\\unrestrict abc\n\n"
    assert [joined(statement) for statement in statements(script)] == ["SELECT 1"]


@given(NAMES, NAMES, NAMES)
def test_the_sources_owner_becomes_the_targets_and_every_other_role_stays(owner: str, other: str, table: str) -> None:
    script = (
        "SET statement_timeout = 0;\n"
        f"REVOKE ALL ON TABLE {quoted(table)}.{quoted(owner)} FROM {quoted(owner)};\n"
        f"SET SESSION AUTHORIZATION {quoted(other)};\n"
        f"GRANT SELECT({quoted(owner)}) ON TABLE {quoted(table)}.{quoted(owner)} TO {quoted(other)}"
        " WITH GRANT OPTION;\n"
        "RESET SESSION AUTHORIZATION;\n"
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(owner)} IN SCHEMA {quoted(owner)}"
        f" REVOKE ALL ON TABLES  FROM {quoted(owner)};\n"
        f"GRANT ALL ON SCHEMA {quoted(owner)} TO PUBLIC;\n"
    )
    found = privileges.parse(script, source_owner=owner, target_owner="new owner")
    mapped = "new owner" if other == owner else other
    assert [statement.roles for statement in found] == [{"new owner"}, {mapped}, {"new owner"}, set()]
    assert found[0].sql == f'REVOKE ALL ON TABLE {quoted(table)} . {quoted(owner)} FROM "new owner"'
    assert found[2].sql == (
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "new owner" IN SCHEMA {quoted(owner)} REVOKE ALL ON TABLES FROM "new owner"'
    )
    assert found[3].sql.endswith("TO PUBLIC")
