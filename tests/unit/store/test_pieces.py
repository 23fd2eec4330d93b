"""A piece in memory: what is read from a bucket never takes more room than its manifest states."""

from __future__ import annotations

import tracemalloc

import pytest

from fac_backup.plain.errors import IntegrityError
from fac_backup.store.pieces import pack, unpack


def test_a_bomb_takes_no_more_memory_than_its_piece_states() -> None:
    bomb = pack(b"\0" * 50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            unpack(bomb, 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
