"""LIST: the keys of a bucket in order, page after page, parsed at C speed."""

from __future__ import annotations

import heapq
import pickle
import re
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
from typing import IO, NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from .s3_errors import BucketError
from .wire import Wire

RUN = 100_000
"""How many entries a server's own order is sorted by at a time, where that is not the order of the keys."""

_BLOCK = 1000
"""Entries written to and read from disk at a time."""

_ITEM = re.compile(
    r"<Contents>(?:"
    r"<(?:Key>([^<&]+)|LastModified>([^<&]+)|ETag>(?:&quot;|&#34;|\")?([^<&\"]+)(?:&quot;|&#34;|\")?|Size>(\d+)"
    r"|(?:StorageClass|ChecksumAlgorithm|ChecksumType)>[^<]*)</\w+>"
    r"|<Owner>(?:<\w+>[^<]*</\w+>)*</Owner>)+</Contents>"
)
"""An object in the form in which AWS, MinIO, R2 and SeaweedFS write it; its elements in any order."""

_by_key = attrgetter("key")
# Python compares strings by code point, which is the order of their UTF-8 bytes.


class ObjectInfo(NamedTuple):
    """One line of a listing. ``etag`` as S3 gives it, with its quotes; ``size`` in bytes; ``modified`` aware, UTC."""

    key: str
    size: int
    etag: str
    modified: datetime


def objects(wire: Wire, base: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
    """Objects below ``base + prefix`` whose keys come after ``base + start_after``; keys relative to ``base``.

    AWS, MinIO and R2 list in UTF-8 byte order. SeaweedFS lists folder by folder (``a/b`` before ``a-b``): it is known
    by its Server header and sorted here, in runs that spill to disk. Any other disorder raises BucketError, because a
    comparison of two listings would silently go wrong.
    """
    pages = _pages(wire, base + prefix, base + start_after if start_after else "")
    first = next(pages, None)
    if first is None:
        return
    found = _chain(first[1], pages)
    ordered = _sorted(found) if first[0] else _checked(found, wire.role)
    cut = len(base)
    after = base + start_after if start_after else ""
    for key, size, etag, modified in ordered:
        if key > after:
            yield ObjectInfo(key[cut:], size, etag, modified)


def _chain(first: list[ObjectInfo], rest: Iterator[tuple[bool, list[ObjectInfo]]]) -> Iterator[ObjectInfo]:
    yield from first
    for _, page in rest:
        yield from page


def _pages(wire: Wire, prefix: str, start_after: str) -> Iterator[tuple[bool, list[ObjectInfo]]]:
    """Pages of at most 1,000 objects, each with whether this server lists by folders instead of by key."""
    token = ""
    while True:
        query = [("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix)]
        if token:
            query.append(("continuation-token", token))
        reply = wire.request("GET", "", "list objects", query=query) if not start_after or token else None
        by_folder = reply is not None and reply.headers.get("server", "").startswith("SeaweedFS")
        if reply is None:
            reply = wire.request("GET", "", "list objects", query=[*query, ("start-after", start_after)])
            by_folder = reply.headers.get("server", "").startswith("SeaweedFS")
            if by_folder:  # "after" means something else in a folder's order: read everything, leave out later
                start_after = ""
                continue
        page, token = _parse(reply.body, wire.role)
        yield by_folder, page
        if not token:
            return


def _parse(body: bytes, role: str) -> tuple[list[ObjectInfo], str]:
    try:
        page, rest = _quickly(body.decode())
        root = ElementTree.fromstring(rest)  # noqa: S314 - from the bucket's own server; expat bounds entity expansion
        space = _space(root, "ListBucketResult")
        encoded = root.findtext(f"{space}EncodingType") == "url"
        tags = (f"{space}Key", f"{space}Size", f"{space}ETag", f"{space}LastModified")
        if not encoded and page:
            page, root = [], ElementTree.fromstring(body)  # noqa: S314 - as above
        for item in root.iterfind(f"{space}Contents"):
            key, size, etag, modified = (item.findtext(tag) or "" for tag in tags)
            page.append(ObjectInfo(unquote_plus(key) if encoded else key, int(size), quoted(etag), _moment(modified)))
        token = root.findtext(f"{space}NextContinuationToken") or ""
        more = root.findtext(f"{space}IsTruncated") == "true"
        if more and not token:
            raise ValueError("there is more, but no way to ask for it")
        return page, token if more else ""
    except (ElementTree.ParseError, ValueError):
        raise BucketError(f"The list of objects that came from {role} cannot be read", next_step="Run again.") from None


def _quickly(text: str) -> tuple[list[ObjectInfo], str]:
    """A page's objects, and the page without them for the XML parser, which takes three times as long for a thousand
    objects. Where one of them has another form than usual: none, and all of it.

    Keys are taken for URL-encoded; who parses the rest sees whether they are.
    """
    begin, end = text.find("<Contents>"), text.rfind("</Contents>") + len("</Contents>")
    items = _ITEM.findall(text, begin, end) if begin >= 0 else []
    if len(items) != text.count("<Contents"):
        return [], text
    page = [
        ObjectInfo(unquote_plus(key) if "%" in key or "+" in key else key, int(size), f'"{etag}"', _moment(modified))
        for key, modified, etag, size in items
        if key and modified and etag and size
    ]
    return (page, text[:begin] + text[end:]) if items and len(page) == len(items) else ([], text)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _checked(found: Iterator[ObjectInfo], role: str) -> Iterator[ObjectInfo]:
    before = ""
    for info in found:
        if info.key < before:
            raise BucketError(f"The server of {role} lists keys out of order, so listings cannot be compared")
        before = info.key
        yield info


def _sorted(found: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
    run = sorted(islice(found, RUN), key=_by_key)
    if len(run) < RUN:
        yield from run
        return
    spilled = []
    while run:
        spilled.append(_unspill(_spill(run)))
        del run  # before the next one is read
        run = sorted(islice(found, RUN), key=_by_key)
    yield from heapq.merge(*spilled, key=_by_key)


def _spill(run: list[ObjectInfo]) -> IO[bytes]:
    file = tempfile.TemporaryFile(prefix="fac-list-")  # noqa: SIM115 - closed when its iterator ends
    for start in range(0, len(run), _BLOCK):
        pickle.dump([(*info[:3], info.modified.timestamp()) for info in run[start : start + _BLOCK]], file)
    file.seek(0)
    return file


def _unspill(file: IO[bytes]) -> Iterator[ObjectInfo]:
    with file:
        while True:
            try:
                block = pickle.load(file)  # noqa: S301 - an unnamed file that this process wrote
            except EOFError:
                return
            for key, size, etag, modified in block:
                yield ObjectInfo(key, size, etag, datetime.fromtimestamp(modified, UTC))


def quoted(etag: str) -> str:
    """An ETag with its quotes, as headers carry it; some servers leave them out in documents."""
    return etag if not etag or etag.startswith('"') else f'"{etag}"'


def copy_answer(body: bytes, role: str) -> tuple[str, str | None]:
    """ETag and, where the server computed it, SHA-256 (hex) from a CopyObjectResult."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - as above
        space = _space(root, "CopyObjectResult")
    except (ElementTree.ParseError, ValueError):
        raise BucketError(f"Whether {role} has made a copy cannot be read from its answer") from None
    digest = root.findtext(f"{space}ChecksumSHA256") or ""
    # A copy of a multipart object has a checksum of checksums, "…-3": no hash of the content.
    return quoted(root.findtext(f"{space}ETag") or ""), b64decode(
        digest
    ).hex() if digest and "-" not in digest else None


def _space(root: ElementTree.Element, name: str) -> str:
    """The namespace in front of ``name``, as ElementTree writes it. Raises ValueError if the root is something else."""
    space, found, rest = root.tag.rpartition(name)
    if not found or rest or (space and not space.endswith("}")):
        raise ValueError("another document than the one asked for")
    return space
