"""A stand-in for S3 in memory that takes any key, as AWS's does and SeaweedFS does not (``//``, ``..``).

Only what this project asks for; signatures are not checked. It can be told to refuse server-side copies.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

KEPT = ("content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires")


@dataclass
class Thing:
    """One object."""

    data: bytes
    headers: dict[str, str]
    tags: bytes = b""
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'


class PlainS3(ThreadingHTTPServer):
    """The server; ``buckets`` maps names to objects by key."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets: dict[str, dict[str, Thing]] = {}
        self.refuses_copies = False
        self.copies_asked = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def plain_s3() -> Iterator[PlainS3]:
    """A running server."""
    server = PlainS3()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PlainS3

    def log_message(self, *_: Any) -> None:
        pass

    def _asked(self) -> tuple[dict[str, Thing] | None, str, dict[str, str], bytes]:
        path, _, query = self.path.partition("?")
        bucket, _, key = path[1:].partition("/")
        asked = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        return self.server.buckets.get(bucket), unquote(key), asked, body

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", headers.get("size", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fail(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def _show(self, thing: Thing | None) -> None:
        if thing is None:
            self._fail(404, "NoSuchKey")
        elif self.headers.get("if-match") not in (None, thing.etag):
            self._fail(412, "PreconditionFailed")
        else:
            more = {"x-amz-tagging-count": "1"} if thing.tags else {}
            modified = format_datetime(thing.modified, usegmt=True)
            size = {"size": str(len(thing.data))} if self.command == "HEAD" else {}
            self._answer(200, thing.data, ETag=thing.etag, Last_Modified=modified, **thing.headers, **more, **size)

    def do_HEAD(self) -> None:
        bucket, key, _, _ = self._asked()
        self._show(None if bucket is None else bucket.get(key))

    def do_GET(self) -> None:
        bucket, key, asked, _ = self._asked()
        if bucket is None:
            self._fail(404, "NoSuchBucket")
        elif "tagging" in asked:
            self._answer(200, bucket[key].tags or b"<Tagging><TagSet/></Tagging>")
        elif key:
            self._show(bucket.get(key))
        else:
            self._list(bucket, asked)

    def _list(self, bucket: dict[str, Thing], asked: dict[str, str]) -> None:
        after = asked.get("continuation-token") or asked.get("start-after", "")
        keys = sorted(key for key in list(bucket) if key.startswith(asked.get("prefix", "")) and key > after)
        page = keys[: int(asked.get("max-keys", 1000))]
        items = "".join(
            f"<Contents><Key>{quote(key, safe='')}</Key><Size>{len(bucket[key].data)}</Size>"
            f"<ETag>{escape(bucket[key].etag)}</ETag><LastModified>{bucket[key].modified:%Y-%m-%dT%H:%M:%S.000Z}"
            "</LastModified></Contents>"
            for key in page
        )
        more = len(page) < len(keys)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        self._answer(
            200,
            f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{items}{token}</ListBucketResult>".encode(),
        )

    def do_PUT(self) -> None:
        bucket, key, asked, body = self._asked()
        if bucket is None:
            self._fail(404, "NoSuchBucket")
            return
        if "tagging" in asked:
            bucket[key].tags = body
            self._answer(200)
            return
        if self.headers.get("if-none-match") == "*" and key in bucket:
            self._fail(412, "PreconditionFailed")
            return
        source = self.headers.get("x-amz-copy-source")
        kept = {
            name.lower(): value
            for name, value in self.headers.items()
            if name.lower() in KEPT or name.lower().startswith("x-amz-meta-")
        }
        if source is None:
            bucket[key] = Thing(body, kept)
            self._answer(200, ETag=bucket[key].etag)
            return
        self._copy(bucket, key, source, kept)

    def _copy(self, bucket: dict[str, Thing], key: str, source: str, kept: dict[str, str]) -> None:
        self.server.copies_asked += 1
        name, _, source_key = unquote(source.lstrip("/")).partition("/")
        if self.server.refuses_copies:
            self._fail(403, "AccessDenied")
            return
        thing = self.server.buckets.get(name, {}).get(source_key)
        if thing is None:
            self._fail(404, "NoSuchKey")
        elif self.headers.get("x-amz-copy-source-if-match") not in (None, thing.etag):
            self._fail(412, "PreconditionFailed")
        else:
            replaced = self.headers.get("x-amz-metadata-directive") == "REPLACE"
            bucket[key] = Thing(thing.data, kept if replaced else dict(thing.headers), thing.tags)
            self._answer(200, f"<CopyObjectResult><ETag>{escape(thing.etag)}</ETag></CopyObjectResult>".encode())

    def do_DELETE(self) -> None:
        bucket, key, _, _ = self._asked()
        if bucket is not None:
            bucket.pop(key, None)
        self._answer(204)

    def do_POST(self) -> None:
        bucket, _, _, body = self._asked()
        for item in ElementTree.fromstring(body).iter():
            if bucket is not None and item.tag.endswith("Key"):
                bucket.pop(item.text or "", None)
        self._answer(200, b"<DeleteResult/>")
