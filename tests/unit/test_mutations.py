"""The breaks of tests/mutations.py fit the code as it is, name tests that exist, and leave no guarantee out."""

from __future__ import annotations

import ast

import pytest

from tests.mutations import LIB, MUTATIONS, ROOT, Mutation, table


def test_every_guarantee_has_a_break_and_the_page_shows_them_all() -> None:
    assert {one.guarantee for one in MUTATIONS} == set(range(1, 12))
    assert table() in (ROOT / "docs/guarantees.md").read_text(), "python -m tests.mutations --table"


@pytest.mark.parametrize("one", MUTATIONS, ids=lambda one: one.what.replace(" ", "-"))
def test_a_break_still_applies_and_its_tests_exist(one: Mutation) -> None:
    broken = one.broken((ROOT / LIB / one.file).read_text())
    compile(broken, one.file, "exec")
    for test, function in zip(one.tests, one.names, strict=True):
        tree = ast.parse((ROOT / "tests" / test.partition("::")[0]).read_text())
        assert function in {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}, test
