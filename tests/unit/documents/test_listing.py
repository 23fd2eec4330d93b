"""The listing's format: what is written is read, and nothing else is taken for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fac_backup.documents.entry import Entry, object_key, object_name, parse
from fac_backup.documents.listing import Listing, Written, compress, write
from fac_backup.plain.errors import IntegrityError


@dataclass
class Memory:
    """As much of a bucket as a listing needs."""

    objects: dict[str, bytes] = field(default_factory=dict)

    def stream(self, key: str, *, if_match: str | None = None) -> Iterator[bytes]:
        data = self.objects[key]
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    def upload_stream(self, key: str, chunks: Iterable[bytes], **_: Any) -> str:
        self.objects[key] = b"".join(chunks)
        return "etag"


def entry(key: str, **other: Any) -> Entry:
    given_ = {"size": 3, "etag": "0" * 32, "modified": 1795000000, "object": object_name(key, "0" * 32, 3, 1795000000)}
    return Entry(key=key, **{**given_, **other})


def stored(*entries: Entry) -> tuple[Memory, Listing]:
    memory = Memory()
    listing, _ = write(memory, "l", "uploads", (one.line() for one in entries))  # type: ignore[arg-type]
    return memory, listing


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)


@given(st.sets(KEYS, max_size=20))
def test_any_keys_come_back_as_they_were_and_in_the_order_of_their_bytes(keys: set[str]) -> None:
    ordered = sorted(keys, key=str.encode)
    _, listing = stored(*map(entry, ordered))
    assert [found.key for found in listing.entries()] == ordered
    assert listing.count == len(keys)


def test_a_line_is_json_and_holds_no_line_feed_of_its_key() -> None:
    line = entry('a\nb\u2028\x00"c').line()
    assert line.count(b"\n") == 1
    assert json.loads(line)["key"] == 'a\nb\u2028\x00"c'


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{}", b"[]", b"not json", b"\xff\xfe", entry("a").line()[:-5],
        entry("a").line().replace(b'"size":3', b'"size":-3'),
        entry("a").line().replace(b'"size":3', b'"size":"3"'),
        entry("a").line().replace(b'"size":3', b'"size":3,"more":1'),
        entry("a").line().replace(b'"key":"a"', b'"key":""'),
        entry("a").line().replace(b'"key":"a"', b'"key":"\\ud800"'),
        b'{"key":"' + "é".encode() * 600 + b'"' + entry("a").line()[len(b'{"key":"a"') :],
        entry("a").line().replace(b'"object":"', b'"object":"../'),
        entry("a").line().replace(b'"modified":1795000000', b'"modified":1e400'),
        entry("a").line().replace(b'"etag":"0', b'"etag":"\\n0'),
    ],
)  # fmt: skip
def test_a_damaged_line_is_an_integrity_error_that_shows_nothing_of_it(line: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse(line.rstrip(b"\n"))
    assert len(caught.value.line()) < 400
    assert "1795000000" not in caught.value.line()


def test_every_flipped_or_cut_byte_of_a_stored_listing_is_noticed() -> None:
    memory, listing = stored(*(entry(f"document {number:03}") for number in range(40)))
    whole = memory.objects["l"]
    for at in range(len(whole)):
        for broken in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :]):
            memory.objects["l"] = broken
            with pytest.raises(IntegrityError):
                listing.verify()
    memory.objects["l"] = whole + b"x"
    with pytest.raises(IntegrityError):
        listing.verify()


def test_keys_out_of_order_or_twice_are_noticed() -> None:
    for keys in ("ba", "aa"):
        _, listing = stored(*(entry(key) for key in keys))
        with pytest.raises(IntegrityError, match="order"):
            list(listing.entries())


def test_a_bomb_is_stopped_at_the_stated_size() -> None:
    memory, listing = stored(entry("a"))
    memory.objects["l"] = zstandard.compress(b"\n" * (1 << 28), 19)
    with pytest.raises(IntegrityError, match="longer"):
        list(listing.lines())
    endless = replace(listing, size=1 << 40)
    memory.objects["l"] = zstandard.compress(b"x" * (1 << 26), 3)
    with pytest.raises(IntegrityError, match="line without end"):
        list(endless.lines())


def test_an_empty_listing_is_a_listing() -> None:
    _, listing = stored()
    assert (list(listing.entries()), listing.count, listing.size) == ([], 0, 0)


def test_what_was_written_is_accounted_for_exactly() -> None:
    written = Written()
    lines = [entry(f"k{number:05}").line() for number in range(5000)]
    packed = list(compress(lines, written))
    assert (written.count, written.size) == (5000, sum(map(len, lines)))
    assert written.stored == sum(map(len, packed))


def test_each_version_of_a_document_has_a_stored_name_of_its_own() -> None:
    first = object_name("a", "e", 1, 2)
    others = {
        object_name("b", "e", 1, 2), object_name("a", "f", 1, 2), object_name("a", "e", 2, 2),
        object_name("a", "e", 1, 3), object_name("a", "e", 1, 2, "again"), object_name("a\ne", "1", 2, 2),
    }  # fmt: skip
    assert len(others | {first}) == 7
    assert object_key("uploads", first) == f"documents/uploads/{first[:2]}/{first}"
