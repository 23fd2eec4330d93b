"""Pages of a LIST, in every form in which servers write them, and an order that is not that of the keys."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fac_backup.store import listing
from fac_backup.store.listing import ObjectInfo

MOMENTS = st.datetimes(datetime(2006, 3, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
# What XML can carry: no control characters, no lone surrogates.
KEYS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
INFOS = st.builds(
    ObjectInfo,
    KEYS,
    st.integers(0, 10**13),
    st.from_regex(r'"[0-9a-f]{32}(-[0-9]{1,4})?"', fullmatch=True),
    MOMENTS,
)
EXTRA = (
    "<StorageClass>STANDARD</StorageClass>",
    "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>",
    "<Owner><ID>admin</ID><DisplayName>admin</DisplayName></Owner>",
)
STRANGE = (
    "<Owner/>",
    "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus>",
    "\n  ",
    "<!-- -->",
)


def written(info: ObjectInfo, draw: st.DrawFn, *, encoded: bool, strange: bool) -> str:
    """An object as some server may write it."""
    quotes = draw(st.sampled_from(("&quot;", "&#34;", '"', "")))
    moment = info.modified.isoformat(timespec="microseconds").replace("+00:00", draw(st.sampled_from(("Z", "+00:00"))))
    parts = [
        f"<Key>{quote(info.key, safe='/-_.~') if encoded else escape(info.key)}</Key>",
        f"<Size>{info.size}</Size>",
        f"<ETag>{quotes}{info.etag[1:-1]}{quotes}</ETag>",
        f"<LastModified>{moment}</LastModified>",
        *draw(st.lists(st.sampled_from(EXTRA), unique=True)),
        *([draw(st.sampled_from(STRANGE))] if strange else ()),
    ]
    return f"<Contents>{''.join(draw(st.permutations(parts)))}</Contents>"


@st.composite
def pages(draw: st.DrawFn, *, encoded: bool = True, strange: bool = False) -> tuple[list[ObjectInfo], bytes]:
    """Objects, and the page that lists them."""
    infos = draw(st.lists(INFOS, min_size=1, max_size=5))
    at = draw(st.integers(0, len(infos) - 1)) if strange else -1
    items = "".join(written(info, draw, encoded=encoded, strange=number == at) for number, info in enumerate(infos))
    head = "<EncodingType>url</EncodingType>" if encoded else ""
    space = draw(st.sampled_from(("", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"')))
    end = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    if draw(st.booleans()):
        head, end = head + end, ""
    start = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return infos, f"{start}<ListBucketResult{space}>{head}{items}{end}</ListBucketResult>".encode()


@given(pages())
def test_a_page_in_the_usual_form_is_read_without_the_xml_parser(page: tuple[list[ObjectInfo], bytes]) -> None:
    infos, body = page
    assert listing._parse(body, "it") == (infos, "t")
    found, rest = listing._quickly(body.decode())
    assert found == infos
    assert [one for one in ElementTree.fromstring(rest).iter() if one.tag.endswith("Contents")] == []


@given(st.one_of(pages(strange=True), pages(encoded=False), pages(encoded=False, strange=True)))
def test_a_page_in_any_other_form_is_read_all_the_same(page: tuple[list[ObjectInfo], bytes]) -> None:
    infos, body = page
    assert listing._parse(body, "it") == (infos, "t")


@pytest.mark.parametrize("count", [0, 9, 10, 11, 57])
def test_an_order_that_is_not_that_of_the_keys_is_sorted_on_disk_where_it_is_long(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(listing, "RUN", 10)
    monkeypatch.setattr(listing, "_BLOCK", 3)
    infos = [
        ObjectInfo(f"{number * 31 % 64:02}é", number, f'"{number}"', datetime(2026, 11, 29, 1, 2, 3, number, UTC))
        for number in range(count)
    ]
    assert list(listing._sorted(iter(infos))) == sorted(infos)
