"""Is a backup whole? Said a second time, by docs/format.md alone and with nothing of the program.

Every object that a manifest names is there, and its bytes are what they should be: pieces and listings by their
SHA-256, stored documents by the SHA-256 in the listing or, where that is not known, by the MD5 that an ETag is. What
was read once is known by its key, ETag and size from then on, so that the next look costs one LIST.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import zstandard

from .table import require


@dataclass
class Whole:
    """Reads the stores of one space in one bucket; ``client`` is boto3's."""

    client: Any
    bucket: str
    _bodies: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    """Of manifests and listings."""
    _sums: dict[tuple[str, str, int], tuple[str, str]] = field(default_factory=dict)
    """SHA-256 of what an object is (of a piece: before compression) and MD5 of what is stored."""

    def require(self, start: str, backup_id: str, there: dict[str, tuple[str, int]] | None = None) -> dict[str, Any]:
        """The documents of a backup, by key, each as its line in the listing. Raises Lost unless all of it is whole.

        ``start`` is where the store is, with a slash at its end.
        """
        there = self._list(start) if there is None else there
        manifest = json.loads(self._body(start, f"catalog/{backup_id}.json", there, backup_id))
        for piece in _pieces(manifest["database"]):
            key = f"objects/{piece['sha256'][:2]}/{piece['sha256']}.zst"
            known = self._sum(start, key, there, backup_id, piece["size"])
            require(known[0] == piece["sha256"], f"{backup_id} is listed and not whole: another piece is stored")
            require(there[key][1] == piece["stored"], f"{backup_id}: a piece has another size than its manifest says")
        lines: dict[str, Any] = {}
        for part in manifest["documents"]:
            packed = self._body(start, part["listing"], there, backup_id)
            text = zstandard.ZstdDecompressor().decompress(packed, max_output_size=part["listing_size"])
            require(
                hashlib.sha256(text).hexdigest() == part["listing_sha256"], f"{backup_id}: another listing is stored"
            )
            for line in text.splitlines():
                entry = json.loads(line)
                key = f"documents/{part['label']}/{entry['object'][:2]}/{entry['object']}"
                sha256, md5 = self._sum(start, key, there, backup_id)
                wanted = (sha256, entry["sha256"]) if entry.get("sha256") else (md5, entry["etag"])
                right = there[key][1] == entry["size"] and wanted[0] == wanted[1]
                require(right, f"{backup_id} is listed and not whole: a stored document is another one")
                lines[entry["key"]] = entry
        return lines

    def require_all(self, start: str) -> list[str]:
        """All that is listed is whole; the ids."""
        there = self._list(start)
        ids = [
            key.removeprefix("catalog/").removesuffix(".json")
            for key in there
            if key.startswith("catalog/") and key.endswith(".json")
        ]
        for backup_id in ids:
            self.require(start, backup_id, there)
        return sorted(ids)

    def _list(self, start: str) -> dict[str, tuple[str, int]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
        return {
            one["Key"].removeprefix(start): (one["ETag"].strip('"'), one["Size"])
            for page in pages
            for one in page.get("Contents", [])
        }

    def _get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def _body(self, start: str, key: str, there: dict[str, tuple[str, int]], backup_id: str) -> bytes:
        require(key in there, f"{backup_id} is listed and not whole: {key.partition('/')[0]} lacks an object")
        known = (key, *there[key])
        if known not in self._bodies:
            self._bodies[known] = self._get(start + key)
        return self._bodies[known]

    def _sum(
        self, start: str, key: str, there: dict[str, tuple[str, int]], backup_id: str, size: int | None = None
    ) -> tuple[str, str]:
        require(key in there, f"{backup_id} is listed and not whole: {key.partition('/')[0]} lacks an object")
        known = (key, *there[key])
        if known not in self._sums:
            body = self._get(start + key)
            try:
                plain = body if size is None else zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
            except zstandard.ZstdError:
                plain = b""
            md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
            self._sums[known] = (hashlib.sha256(plain).hexdigest(), md5)
        return self._sums[known]


def _pieces(database: Any) -> Iterator[Any]:
    yield from database["archive"]["pieces"]
    for table in database["tables"]:
        for one in table["ranges"]:
            yield from one
