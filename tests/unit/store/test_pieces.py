"""A piece in memory: what is read from a bucket never takes more room than its manifest states."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any
from unittest.mock import MagicMock

import pytest

from fac_backup.database.uploads import Uploads
from fac_backup.plain.errors import IntegrityError
from fac_backup.store.pieces import Pieces, pack, unpack


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


def test_what_was_to_be_sent_when_a_dump_failed_can_be_sent_by_the_next_attempt() -> None:
    bucket: Any = MagicMock()
    busy, go = threading.Event(), threading.Event()

    def put(_key: str, _packed: bytes) -> bool:
        busy.set()
        return go.wait(10)

    bucket.wire.express.put.side_effect = put
    pieces = Pieces(bucket)

    def attempt() -> None:
        with Uploads(pieces, threads=1, room=1 << 20) as uploads:
            uploads.put_now(memoryview(b"being sent"))
            assert busy.wait(10)
            uploads.put_now(memoryview(b"waiting for a thread"))
            threading.Timer(0.2, go.set).start()
            raise RuntimeError("start over")

    with pytest.raises(RuntimeError, match="start over"):
        attempt()
    again = threading.Thread(target=lambda: pieces.add(b"waiting for a thread"), daemon=True)
    again.start()
    again.join(10)
    assert not again.is_alive()
    assert pieces.figures.uploaded_pieces == 2
