"""Server-side copies with almost nothing between us and the socket, for the hundred thousand that a first backup makes.

The bucket's own ``copy_from`` builds and signs each request with botocore and spends 1.5 ms of processor time on it;
this spends 0.3 ms (docs/performance.md). It takes only the plain road: a signed PUT on a kept connection and the answer
200 with an ETag. Whatever else happens (another status, a broken connection, a proxy, a key it would have to think
about), it says None, and the caller asks ``copy_from``, which knows about retries, regions and errors. A copy may
therefore be made twice, which does no harm.

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
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from typing import IO
from urllib.parse import quote, urlsplit

from fac_backup.store.bucket import Bucket, CopyResult

_NOTHING = hashlib.sha256(b"").hexdigest()
_LONGEST_ANSWER = 1 << 20
_SAFE = "/-_.~"
_ETAG = re.compile(rb"<ETag>([\x21-\x7e]{1,200}?)</ETag>")
_SHA256 = re.compile(rb"<ChecksumSHA256>([A-Za-z0-9+/]{43}=)</ChecksumSHA256>")


class Express:
    """Copies into one bucket. Safe to use from several threads; close it when done."""

    def __init__(self, target: Bucket) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._signing: tuple[tuple[str, str, str], bytes] = (("", "", ""), b"")
        self._tls: ssl.SSLContext | None = None
        self._usable: bool | None = None

    def copy(self, source: Bucket, source_key: str, key: str, *, if_match: str, sha256: bool) -> CopyResult | None:
        """Copy one object of at most 5 GiB if it has the ETag ``if_match`` (with quotes); None: ask ``copy_from``."""
        if not self._is_usable() or not if_match.isascii() or not if_match.isprintable():
            return None
        headers = {
            "x-amz-copy-source": f"/{source.address.name}/{quote(source.full(source_key), safe=_SAFE)}",
            "x-amz-copy-source-if-match": if_match,
        }
        if sha256:
            headers["x-amz-checksum-algorithm"] = "SHA256"
        try:
            status, body = self._put(quote(self._target.full(key), safe=_SAFE), headers)
        except (OSError, ValueError):
            return None
        return _result(body) if status == 200 else None

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _is_usable(self) -> bool:
        """Whether the road to this bucket is plain: credentials, and no proxy on the way."""
        if self._usable is None:
            from botocore.utils import get_environ_proxies

            wire = self._target.wire
            self._target.client()
            self._usable = wire._credentials is not None and not get_environ_proxies(wire._base)
        return self._usable

    def _put(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        place = urlsplit(self._target.wire._base)
        path = f"{place.path}/{path}"
        request = self._signed(place.netloc, path, headers)
        connection = self._connection(place.scheme, place.hostname or "", place.port)
        try:
            answer = connection.ask(request)
        except BaseException:
            connection.close()
            raise
        if connection.stays:
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _signed(self, host: str, path: str, headers: Mapping[str, str]) -> bytes:
        wire = self._target.wire
        keys = wire._credentials.get_frozen_credentials()
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        signed = {**headers, "host": host, "x-amz-content-sha256": _NOTHING, "x-amz-date": moment}
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        names = sorted(signed)
        listed = ";".join(names)
        lines = "".join(f"{name}:{signed[name]}\n" for name in names)
        asked = hashlib.sha256(f"PUT\n{path}\n\n{lines}\n{listed}\n{_NOTHING}".encode()).hexdigest()
        scope = f"{moment[:8]}/{wire._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{asked}"
        signature = hmac.digest(self._key(keys.secret_key, moment[:8], wire._region), text.encode(), "sha256").hex()
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
        )
        sent = "".join(f"{name}: {signed[name]}\r\n" for name in names)
        return (f"PUT {path} HTTP/1.1\r\n{sent}authorization: {authorization}\r\ncontent-length: 0\r\n\r\n").encode(
            "ascii"
        )

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
        tuning = self._target.tuning
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

                self._tls = ssl.create_default_context(cafile=get_cert_path(self._target.wire._http._verify))
            return self._tls


def _result(body: bytes) -> CopyResult | None:
    """What a ``CopyObjectResult`` says; None for anything else (an error may come with status 200)."""
    etag = _ETAG.search(body) if b"<CopyObjectResult" in body[:500] else None
    if etag is None:
        return None
    digest = _SHA256.search(body)  # of an object in parts it is a hash of hashes, "…-3", which does not match
    return CopyResult(html.unescape(etag[1].decode()), b64decode(digest[1]).hex() if digest else None)


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

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; status and body of the answer. Raises OSError or ValueError for what is no plain answer."""
        self._socket.sendall(request)
        status, headers = self._head()
        while 100 <= status < 200:
            status, headers = self._head()
        self.stays = headers.get(b"connection", b"").lower() != b"close"
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            return status, self._chunked()
        return status, self._exactly(int(headers.get(b"content-length", b"0")))

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

    def _exactly(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_ANSWER:
            raise ValueError("too long an answer")
        data = self._file.read(size)
        if len(data) != size:
            raise OSError("the connection broke")
        return data

    def _chunked(self) -> bytes:
        parts = []
        while size := int(self._line().partition(b";")[0], 16):
            parts.append(self._exactly(size))
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
