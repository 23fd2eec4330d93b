"""Signed S3 requests with almost nothing between us and the socket, for what a backup does by the thousand: write a
piece, read a piece, copy a document on the server.

The wire's own requests are built and signed by botocore, which costs 1 to 1.5 ms of processor time each; this spends
0.3 ms (docs/performance.md). It takes only the plain road: one request on a kept connection and the answer 200. For all
else (another status, a broken connection, a proxy, a key it would have to think about) it says None, and the caller
asks the wire, which knows about retries, regions and errors. A request may therefore be sent twice: this is only for
requests to which that does no harm.

Signature: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
import html
import re
import select
import socket
import ssl
import threading
import time
import weakref
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from .wire import Wire

SLOW_DOWN = frozenset({429, 503})
"""Statuses by which a server asks for fewer requests."""

_NOTHING = hashlib.sha256(b"").hexdigest()
_LONGEST_ANSWER = 1 << 20
_TOGETHER = 64 * 1024
"""A body up to this size travels in one packet train with its head."""
_SAFE = "/-_.~"
_ETAG = re.compile(rb"<ETag>([\x21-\x7e]{1,200}?)</ETag>")
_SHA256 = re.compile(rb"<ChecksumSHA256>([A-Za-z0-9+/]{43}=)</ChecksumSHA256>")


class Express:
    """Requests to one bucket; keys are full keys. Safe to use from several threads."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._signing: tuple[tuple[str, str, str], bytes] = (("", "", ""), b"")
        self._tls: ssl.SSLContext | None = None
        self._usable: bool | None = None
        weakref.finalize(self, _close_all, self._idle)

    def copy(
        self, source_bucket: str, source_key: str, key: str, *, if_match: str, sha256: bool
    ) -> tuple[str, str | None] | None:
        """Copy an object of at most 5 GiB if it has the ETag ``if_match`` (with quotes); the copy's ETag, and its
        content's SHA-256 (hex) where that was asked for and the server computes it. None: ask the wire.
        """
        if not if_match.isascii() or not if_match.isprintable():
            return None
        headers = {
            "x-amz-copy-source": f"/{source_bucket}/{quote(source_key, safe=_SAFE)}",
            "x-amz-copy-source-if-match": if_match,
        }
        if sha256:
            headers["x-amz-checksum-algorithm"] = "SHA256"
        answer = self._ask("PUT", key, headers, b"", _LONGEST_ANSWER)
        return _result(answer) if answer is not None else None

    def put(self, key: str, data: bytes) -> bool:
        """Write an object, whatever was there; False: ask the wire."""
        answer = self._ask("PUT", key, {}, data, _LONGEST_ANSWER)
        return answer is not None and b"<Error>" not in answer[:200]

    def get(self, key: str, *, limit: int) -> bytes | None:
        """The bytes of an object that has at most ``limit``; None: ask the wire."""
        return self._ask("GET", key, {}, b"", limit)

    def close(self) -> None:
        """Close the connections that nobody uses at this moment."""
        with self._lock:
            idle = self._idle[:]
            self._idle.clear()
        _close_all(idle)

    def _is_usable(self) -> bool:
        """Whether the road to this bucket is plain: credentials, and no proxy on the way."""
        if self._usable is None:
            from botocore.utils import get_environ_proxies

            assert self._wire.client  # noqa: S101 - made now, if it was not: it knows the address
            self._usable = self._wire._credentials is not None and not get_environ_proxies(self._wire._base)
        return self._usable

    def _ask(self, method: str, key: str, headers: Mapping[str, str], body: bytes, limit: int) -> bytes | None:
        """The body of an answer 200, None for everything else."""
        if not self._is_usable():
            return None
        from botocore.exceptions import BotoCoreError

        place = urlsplit(self._wire._base)
        try:
            head = self._signed(method, place.netloc, f"{place.path}/{quote(key, safe=_SAFE)}", headers, body)
            connection = self._connection(place.scheme, place.hostname or "", place.port)
            try:
                status, answer = connection.ask(head, body, limit)
            except BaseException:
                connection.close()
                raise
        except (OSError, ValueError, BotoCoreError):
            return None
        if connection.stays:
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()
        self._wire.slowed += status in SLOW_DOWN
        return answer if status == 200 else None

    def _signed(self, method: str, host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        wire = self._wire
        keys = wire._credentials.get_frozen_credentials()
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        payload = hashlib.sha256(body).hexdigest() if body else _NOTHING
        signed = {**headers, "host": host, "x-amz-content-sha256": payload, "x-amz-date": moment}
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        names = sorted(signed)
        listed = ";".join(names)
        lines = "".join(f"{name}:{signed[name]}\n" for name in names)
        asked = hashlib.sha256(f"{method}\n{path}\n\n{lines}\n{listed}\n{payload}".encode()).hexdigest()
        scope = f"{moment[:8]}/{wire._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{asked}"
        signature = hmac.digest(self._key(keys.secret_key, moment[:8], wire._region), text.encode(), "sha256").hex()
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
        )
        sent = "".join(f"{name}: {signed[name]}\r\n" for name in names)
        length = f"content-length: {len(body)}\r\n" if method == "PUT" else ""
        return f"{method} {path} HTTP/1.1\r\n{sent}authorization: {authorization}\r\n{length}\r\n".encode("ascii")

    def _key(self, secret: str, day: str, region: str) -> bytes:
        wanted = (secret, day, region)
        known, key = self._signing
        if known != wanted:
            key = f"AWS4{secret}".encode()
            for part in (day, region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._signing = (wanted, key)
        return key

    def _connection(self, scheme: str, host: str, port: int | None) -> _Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            if connection.host == host and connection.alive():
                return connection
            connection.close()
        tuning = self._wire.tuning
        plain = socket.create_connection((host, port or (443 if scheme == "https" else 80)), tuning.connect_timeout)
        plain.settimeout(tuning.read_timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return _Connection(
                host, self._context().wrap_socket(plain, server_hostname=host) if scheme == "https" else plain
            )
        except BaseException:
            plain.close()
            raise

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                from botocore.httpsession import get_cert_path

                self._tls = ssl.create_default_context(cafile=get_cert_path(self._wire._http._verify))
            return self._tls


def _close_all(connections: list[_Connection]) -> None:
    for connection in connections:
        connection.close()


def _result(body: bytes) -> tuple[str, str | None] | None:
    """What a ``CopyObjectResult`` says; None for anything else (an error may come with status 200)."""
    etag = _ETAG.search(body) if b"<CopyObjectResult" in body[:500] else None
    if etag is None:
        return None
    digest = _SHA256.search(body)  # of an object in parts it is a hash of hashes, "…-3", which does not match
    return html.unescape(etag[1].decode()), b64decode(digest[1]).hex() if digest else None


class _Connection:
    """One kept connection: a request out, an answer in."""

    def __init__(self, host: str, plain: socket.socket) -> None:
        self.host = host
        self.stays = True
        self._socket = plain
        self._file: IO[bytes] = plain.makefile("rb")

    def alive(self) -> bool:
        """Whether the server has not closed it meanwhile (nothing may be waiting to be read)."""
        return not select.select([self._socket], [], [], 0)[0]

    def ask(self, head: bytes, body: bytes, limit: int) -> tuple[int, bytes]:
        """Send a request; status and body of the answer, which has at most ``limit`` bytes.

        Raises OSError or ValueError for what is no plain answer.
        """
        if len(body) <= _TOGETHER:
            self._socket.sendall(head + body)
        else:
            self._socket.sendall(head)
            self._socket.sendall(body)
        status, headers = self._head()
        while 100 <= status < 200:
            status, headers = self._head()
        self.stays = headers.get(b"connection", b"").lower() != b"close"
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            return status, self._chunked()
        return status, self._exactly(int(headers.get(b"content-length", b"0")), limit)

    def _head(self) -> tuple[int, dict[bytes, bytes]]:
        line = self._line()
        if not line.startswith(b"HTTP/1.1 "):
            raise ValueError("not an answer of HTTP/1.1")
        status = int(line[9:12])
        headers = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
            if len(headers) > 100:
                raise ValueError("too many headers")
        return status, headers

    def _line(self) -> bytes:
        line = self._file.readline(65536)
        if not line.endswith(b"\n"):
            raise OSError("the connection broke")
        return line.rstrip(b"\r\n")

    def _exactly(self, size: int, limit: int) -> bytes:
        if not 0 <= size <= limit:
            raise ValueError("too long an answer")
        data = self._file.read(size)
        if len(data) != size:
            raise OSError("the connection broke")
        return data

    def _chunked(self) -> bytes:
        parts = []
        while size := int(self._line().partition(b";")[0], 16):
            parts.append(self._exactly(size, _LONGEST_ANSWER))
            self._line()
            if len(parts) > 1000:
                raise ValueError("too long an answer")
        while self._line():
            pass
        return b"".join(parts)

    def close(self) -> None:
        """Close it, whatever state it is in."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._socket.close()
