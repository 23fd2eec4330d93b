from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fac_backup.store.cuts import cut

chunks = st.lists(st.binary(max_size=400) | st.text("ab\n", max_size=400).map(str.encode), max_size=30)


@given(chunks)
def test_pieces_are_the_stream_and_keep_their_bounds(given_chunks: list[bytes]) -> None:
    found = list(cut(given_chunks, least=50, wanted=40, most=200))
    assert b"".join(found) == b"".join(given_chunks)
    assert all(50 <= len(piece) <= 200 for piece in found[:-1])
    assert all(0 < len(piece) <= 200 for piece in found[-1:])


@given(chunks, st.integers(1, 97))
def test_cuts_do_not_depend_on_how_the_stream_arrives(given_chunks: list[bytes], size: int) -> None:
    whole = b"".join(given_chunks)
    again = [whole[i : i + size] for i in range(0, len(whole), size)]
    assert list(cut(given_chunks, least=50, wanted=40, most=200)) == list(cut(again, least=50, wanted=40, most=200))


def _rows(seed: int, count: int, width: int) -> list[bytes]:
    rng = random.Random(seed)
    return [f"{i}\t{rng.randbytes(rng.randint(1, width)).hex()}\n".encode() for i in range(count)]


def test_a_row_inserted_in_the_middle_changes_few_pieces() -> None:
    for width in (20, 100, 3000):
        rows = _rows(1, 2_000_000 // width, width)
        before = set(cut(rows, least=20_000, wanted=15_000, most=200_000))
        after = list(
            cut(
                [*rows[: len(rows) // 2], b"a new row\n", *rows[len(rows) // 2 :]],
                least=20_000,
                wanted=15_000,
                most=200_000,
            )
        )
        new = [piece for piece in after if piece not in before]
        assert len(new) <= 4
        assert len(after) > 20


def test_pieces_come_out_near_the_wanted_size_whatever_a_row_is_wide() -> None:
    for width in (20, 300, 5000):
        found = list(cut(_rows(2, 3_000_000 // width, width), least=20_000, wanted=15_000, most=300_000))
        assert 22_000 < sum(map(len, found)) / len(found) < 60_000


def test_what_has_no_lines_is_cut_at_the_most() -> None:
    assert [len(piece) for piece in cut([b"x" * 1000], least=50, wanted=40, most=300)] == [300, 300, 300, 100]
