"""The small parts of loading: fetching ahead, threads, the table of contents, what pg_restore says, checksums."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fac_backup.database import checksum, restoring, scratch, swap
from fac_backup.database.contents import parse
from fac_backup.database.crew import Crew
from fac_backup.database.feed import Reading, fetched_ahead
from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import Piece
from tests.support.pieces import MemoryPieces


class Counting(MemoryPieces):
    """Notes how many bytes are out at most: read, and not yet taken."""

    def __init__(self) -> None:
        super().__init__()
        self.out = self.most = 0
        self._count = threading.Lock()

    def read(self, piece: Piece) -> bytes:
        with self._count:
            self.out += piece.size
            self.most = max(self.most, self.out)
        return super().read(piece)


def test_pieces_come_in_order_and_no_more_is_fetched_ahead_than_there_is_room_for() -> None:
    source = Counting()
    pieces = [source.add(bytes([i]) * 1000) for i in range(50)]
    got = []
    with ThreadPoolExecutor(4) as pool:
        for data in fetched_ahead(pieces, source, pool, room=5000):
            got.append(data[0])
            time.sleep(0.001)
            with source._count:
                source.out -= len(data)
    assert got == list(range(50))
    assert 2000 <= source.most <= 6000


class Telling(MemoryPieces):
    """Tells how many pieces have been asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.more = threading.Condition()

    def read(self, piece: Piece) -> bytes:
        with self.more:
            self.begun += 1
            self.more.notify_all()
        return super().read(piece)


def test_one_piece_is_on_its_way_while_another_is_loaded_though_there_is_room_for_neither() -> None:
    source = Telling()
    pieces = [source.add(bytes([i]) * 1000) for i in range(9)]
    with ThreadPoolExecutor(4) as pool:
        for number, data in enumerate(fetched_ahead(pieces, source, pool, room=700), start=1):
            assert data[0] == number - 1
            with source.more:
                assert source.more.wait_for(lambda number=number: source.begun == min(number + 1, 9), timeout=5)
            time.sleep(0.005)
            assert source.begun == min(number + 1, 9)


def test_a_missing_piece_is_raised_where_it_is_needed() -> None:
    source = MemoryPieces()
    pieces = [source.add(b"a"), source.add(b"b")]
    del source.kept[pieces[1].sha256]
    with ThreadPoolExecutor(2) as pool:
        coming = fetched_ahead(pieces, source, pool)
        assert next(coming) == b"a"
        with pytest.raises(IntegrityError):
            next(coming)


@given(st.lists(st.binary(max_size=20), max_size=10), st.integers(1, 30))
def test_chunks_are_read_as_a_file_whatever_the_sizes(chunks: list[bytes], size: int) -> None:
    reading = Reading(iter(chunks))
    parts = list(iter(lambda: reading.read(size), b""))
    assert b"".join(parts) == b"".join(chunks)
    assert all(len(part) <= size for part in parts)


def test_the_first_failure_stops_all_and_is_the_one_that_is_raised() -> None:
    released = threading.Event()

    def wait() -> None:
        assert released.wait(5)
        raise RuntimeError("because it was stopped")

    def fail() -> None:
        raise IntegrityError("the cause")

    crew = Crew("test")
    crew.on_stop(released.set)
    crew.start(wait)
    crew.start(fail)
    with pytest.raises(IntegrityError, match="the cause"):
        crew.__exit__(None, None, None)
    assert crew.stopped()


def test_a_table_of_contents_is_read_with_descriptions_of_several_words_and_owners_missing() -> None:
    entries = parse(
        "; a comment\n"
        "3; 2615 2200 SCHEMA - public owner\n"
        "2; 3079 16400 EXTENSION - hstore \n"
        "4; 0 0 COMMENT - EXTENSION hstore \n"
        "9; 0 16385 TABLE DATA public name with blanks owner\n"
        "12; 826 16390 DEFAULT ACL - DEFAULT PRIVILEGES FOR TABLES owner\n"
        "nonsense\n"
    )
    assert [(e.number, e.description, e.shown) for e in entries] == [
        (3, "SCHEMA", "SCHEMA public"),
        (2, "EXTENSION", "EXTENSION hstore"),
        (4, "COMMENT", "COMMENT EXTENSION hstore"),
        (9, "TABLE DATA", "TABLE DATA public name with blanks"),
        (12, "DEFAULT ACL", "DEFAULT ACL DEFAULT PRIVILEGES FOR TABLES"),
    ]


def test_what_pg_restore_says_is_explained_without_rows() -> None:
    said = (
        "pg_restore: while PROCESSING TOC:\n"
        "pg_restore: from TOC entry 3341; 0 16385 TABLE DATA people owner\n"
        'pg_restore: error: COPY failed for table "people": ERROR:  invalid input syntax for type integer: "hunter2"\n'
        'CONTEXT:  COPY people, line 1, column a: "hunter2"\n'
    )
    error = restoring.explained(1, said)
    assert error.by_server
    assert "hunter2" not in error.line()
    assert "TABLE DATA people" in error.line()
    said = 'pg_restore: error: could not execute query: ERROR:  permission denied to create extension "x"\nHINT: no\n'
    assert 'permission denied to create extension "x"' in restoring.explained(1, said).line()
    lost = restoring.explained(1, "pg_restore: error: server closed the connection unexpectedly\n")
    assert not lost.by_server
    assert "connection to the server was lost" in lost.line()
    assert "signal 9" in restoring.explained(-9, "").line()


def test_only_the_one_setting_that_an_old_server_does_not_know_is_forgiven() -> None:
    harmless = (
        "pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter"
        ' "transaction_timeout"\n'
        "Command was: SET transaction_timeout = 0;\n"
    )
    end = "pg_restore: warning: errors ignored on restore: 2\n"
    assert restoring.only_harmless(harmless * 2 + end)
    assert not restoring.only_harmless(harmless)
    assert not restoring.only_harmless(end)
    other = "pg_restore: error: could not execute query: ERROR:  no\nCommand was: CREATE TABLE a ();\n"
    assert not restoring.only_harmless(harmless + other + end)
    posing = "pg_restore: error: could not execute query: ERROR:  no\nCommand was: SELECT 1\n" + harmless.split("\n")[1]
    assert not restoring.only_harmless(posing + "\n" + end)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63))
def test_a_scratch_databases_name_fits_and_says_what_it_is(name: str) -> None:
    made = swap.scratch_name(name, "new", "abc123")
    assert len(made.encode()) <= 63
    assert scratch.token_of(made, "new") == "abc123"
    with pytest.raises(ValueError, match="scratch_name"):
        scratch.token_of(made, "old")


def test_a_stored_list_of_names_is_split_as_the_server_wrote_it() -> None:
    assert swap.split_list('"$user", public, "a,""b"') == ["$user", "public", 'a,"b']
    assert swap.split_list("public") == ["public"]
    assert swap.split_list("") == []


def block(statement: str, *rows: str) -> bytes:
    return "".join(f"{line}\n" for line in (statement, *rows, "\\.")).encode()


@given(st.integers(1, 40))
def test_copy_blocks_are_added_up_without_regard_to_order_or_chunks(size: int) -> None:
    script = (
        b"-- COPY of nothing\nSET x = 'COPY';\n\n"
        + block('COPY public."a\nb" ("c\nd", e) FROM stdin;', "1\tx", "2\ty")
        + b"\n"
        + block("COPY public.root (v) FROM stdin;", "1", "3")
        + block("COPY public.root (v) FROM stdin;", "2")
        + block("COPY public.none  FROM stdin;", "", "")
    )
    sums = checksum.copy_blocks((script[i : i + size] for i in range(0, len(script), size)), "utf-8")
    root = checksum.Sum()
    root.add_text([b"3", b"2", b"1"])
    assert sums[checksum.TableKey("public", "root", ("v",))] == root
    assert sums[checksum.TableKey("public", "a\nb", ("c\nd", "e"))].rows == 2
    assert sums[checksum.TableKey("public", "none", ())].rows == 2
    with pytest.raises(IntegrityError, match="middle of a table"):
        checksum.copy_blocks([script[:-3]], "utf-8")


def test_two_equal_rows_are_not_the_same_as_none() -> None:
    once, thrice = checksum.Sum(), checksum.Sum()
    once.add_text([b"a"])
    thrice.add_text([b"a", b"a", b"a"])
    assert once != thrice
    assert thrice.total != once.total
