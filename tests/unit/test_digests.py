"""Many texts remembered as digests."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from unittest.mock import MagicMock, Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fac_backup.operations import renewing
from fac_backup.plain.digests import Digests
from fac_backup.store import sweep

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=50)


@given(TEXTS, TEXTS)
def test_exactly_what_was_added_is_found_whenever_it_is_asked_for(first: list[str], then: list[str]) -> None:
    found = Digests(first)
    assert all(text in found for text in first)
    assert not any(text in found for text in then if text not in first)
    found.update(then)
    assert all(text in found for text in [*first, *then])
    assert len(found) == len({*first, *then})


def names(count: int) -> Iterator[str]:
    return (f"documents/uploads/{number:064x}" for number in range(count))


def test_more_than_may_wait_unsorted_is_found_too_and_counted_once() -> None:
    found = Digests(chain(names(100_000), names(100_000)))
    assert all(key in found for key in islice(names(100_000), 0, None, 7))
    assert not any(f"{key}0" in found for key in names(1000))
    assert len(found) == 100_000


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """What is allocated meanwhile takes no more than ``size`` bytes at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


def test_the_documents_that_backups_need_take_twenty_bytes_each_in_a_sweep_however_many_backups_share_them() -> None:
    wanted, backup = sweep.Needed(), Mock(pieces=tuple)
    with at_most(20 * 100_000):
        for _ in range(3):
            wanted.add(backup, lambda _: names(100_000))
    assert all(wanted(key) for key in names(1000))
    assert not wanted("documents/uploads/xx")


def test_the_documents_of_a_backup_take_twenty_bytes_each_when_they_are_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(renewing, "references", lambda *_: names(100_000))
    opened, asked = MagicMock(), list[bool]()
    monkeypatch.setattr(renewing.renewal, "due", lambda _, __, ___, needed: asked.append(needed(next(names(1)))) or [])
    monkeypatch.setattr(renewing.renewal, "renew_small", lambda *_: renewing.renewal.Renewed())
    with at_most(25 * 100_000):
        renewing.renew_needed(opened, Mock(), database=Mock(tables=(), archive=Mock(pieces=())), made=())
    assert asked == [True]
