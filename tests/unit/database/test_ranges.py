"""Cutting tables into page ranges, and COPY text into pieces."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fac_backup.database import ranges
from fac_backup.database.archive import dump_command
from fac_backup.database.dump import equal_cuts
from fac_backup.database.inventory import Table
from fac_backup.database.names import codec_of
from fac_backup.database.ranges import PageRange, choose, copy_statement, page_ranges
from fac_backup.database.uploads import Uploads
from fac_backup.plain.manifest import Piece
from tests.support.pieces import MemoryPieces


def table(name: str = "t", *, schema: str = "public", oid: int = 1, size: int = 0, rangeable: bool = True) -> Table:
    return Table(
        oid=oid, schema=schema, name=name, kind="r", loaded_through_root=False, root_of_such=False, readable=True,
        rangeable=rangeable, columns=("id", 'a "b"'), size=size, pages=size // 8192,
    )  # fmt: skip


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_ranges_cover_every_page_once_and_the_last_one_is_open(pages: int, step: int) -> None:
    cut = list(page_ranges(pages, step))
    assert cut[0].first == 0
    assert [part.end for part in cut[:-1]] == [part.first for part in cut[1:]]
    assert cut[-1].end is None
    assert all(part.end is not None and part.end - part.first == step for part in cut[:-1])
    assert cut[-1].first < pages or pages == 0
    assert pages - cut[-1].first <= step


def test_a_range_is_read_from_this_table_only_with_quoted_names() -> None:
    statement = copy_statement(table('x"; DROP TABLE y; --', schema="S.1"), PageRange(4, 8))
    assert statement == (
        'COPY (SELECT "id", "a ""b""" FROM ONLY "S.1"."x""; DROP TABLE y; --"'
        " WHERE ctid >= '(4,0)'::pg_catalog.tid AND ctid < '(8,0)'::pg_catalog.tid) TO STDOUT"
    )


def test_the_last_range_has_no_end() -> None:
    assert copy_statement(table(), PageRange(4, None)).endswith("WHERE ctid >= '(4,0)'::pg_catalog.tid) TO STDOUT")


def test_big_tables_are_chosen_largest_first() -> None:
    tables = [table("small", oid=1, size=10), table("big", oid=2, size=900), table("bigger", oid=3, size=1000)]
    chosen = choose(tables, threshold=100, without_data=(), server_version=140000)
    assert [t.name for t in chosen] == ["bigger", "big"]


def test_tables_of_another_kind_or_without_data_stay_with_pg_dump() -> None:
    view, left_out = table("view", oid=1, rangeable=False), table("left_out", oid=2)
    assert choose([view, left_out], threshold=0, without_data=[left_out], server_version=180000) == []


def test_before_postgresql_14_there_is_no_fast_lane() -> None:
    assert choose([table()], threshold=0, without_data=(), server_version=130099) == []


def test_more_tables_than_arguments_can_name_stay_with_pg_dump() -> None:
    many = [table(f"{number:060}", oid=number, size=number) for number in range(20_000)]
    chosen = choose(many, threshold=0, without_data=(), server_version=180000)
    assert 0 < len(chosen) < 20_000
    assert (
        sum(len(argument) for argument in dump_command("pg_dump", "1", encoding="UTF8", without_data=chosen))
        < 1_000_000
    )


@pytest.mark.parametrize(
    ("encoding", "codec"), [("UTF8", "utf_8"), ("SQL_ASCII", "utf-8"), ("LATIN1", "iso8859_1"), ("MULE_INTERNAL", None)]
)
def test_statements_are_sent_in_the_servers_encoding(encoding: str, codec: str | None) -> None:
    assert codec_of(encoding) == codec


@pytest.mark.parametrize("write_size", [1, 7, 1000])
def test_copy_text_is_cut_alike_whatever_way_it_arrives(write_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PIECE_BYTES", 50)
    text = b"".join(b"%d\tsome text\n" % number for number in range(100))
    sink = MemoryPieces()
    with Uploads(sink, threads=2, room=100) as uploads:
        collector = ranges._Collector(uploads)
        for start in range(0, len(text), write_size):
            collector.buffer.write(text[start : start + write_size])
        pieces = [future.result() for future in collector.end_of_range()]
        collector.buffer.write(b"the next range\n")
        (after,) = collector.end_of_range()
        assert sink.read(after.result()) == b"the next range\n"
    assert b"".join(sink.read(piece) for piece in pieces) == text
    assert {piece.size for piece in pieces[:-1]} == {50}


class SlowPieces(MemoryPieces):
    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.most = 0
        self.guard = threading.Lock()

    def add(self, data: bytes) -> Piece:
        with self.guard:
            self.held += len(data)
            self.most = max(self.most, self.held)
        time.sleep(0.002)
        piece = super().add(data)
        with self.guard:
            self.held -= len(data)
        return piece


def test_no_more_bytes_are_on_their_way_than_there_is_room() -> None:
    sink = SlowPieces()
    with Uploads(sink, threads=8, room=3000) as uploads:
        for number in range(60):
            uploads.put(bytes([number]) * 1000)
    assert len(sink.kept) == 60
    assert 1000 <= sink.most <= 3000


def test_what_is_packed_in_place_is_not_kept_and_takes_its_own_room_only() -> None:
    sink = SlowPieces()
    buffer = bytearray(1000)
    with Uploads(sink, threads=8, room=3000) as uploads:
        for number in range(60):
            buffer[:] = bytes([number]) * 1000
            uploads.put_now(memoryview(buffer))
    assert {data[:1] for data in sink.kept.values()} == {bytes([number]) for number in range(60)}
    assert 1000 <= sink.most <= 3000


class FullStore(MemoryPieces):
    def add(self, data: bytes) -> Piece:
        raise OSError("no room")


def test_a_sink_that_fails_stops_who_feeds_it() -> None:
    def feed() -> None:
        with Uploads(FullStore(), threads=1, room=10) as uploads:
            for _ in range(1000):
                uploads.put(b"x" * 10)

    with pytest.raises(OSError, match="no room"):
        feed()


def test_equal_cuts_give_back_the_stream() -> None:
    chunks = [bytes([number % 256]) * 300_000 for number in range(40)]
    cut = list(equal_cuts(chunks))
    assert b"".join(cut) == b"".join(chunks)
    assert {len(piece) for piece in cut[:-1]} == {4 * 1024 * 1024}
