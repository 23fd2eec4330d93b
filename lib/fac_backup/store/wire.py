"""Signed S3 requests with little between us and the socket.

boto3 spends about 2.5 ms of processor time on a request, most of it in its parameter and answer models; with 20,000
documents that is what a backup waits for. This sends the same request, signed by botocore's own signer through
botocore's own HTTP session (proxies, certificates, time limits as boto3 has them): half the cost (docs/performance.md).
obstore is faster still for what it can do, but normalizes keys (``a//b``, a leading slash, ``..``), refuses some, and
copies within one bucket only. Rare operations stay with boto3.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote

from fac_backup.plain.errors import FacBackupError
from fac_backup.plain.locations import BucketAddress

from .express import SLOW_DOWN, Express
from .s3_errors import RETRIED_CODES, RETRIED_STATUS, for_answer, for_exception


@dataclass(frozen=True)
class Tuning:
    """How patiently a bucket is spoken to. Seconds and bytes."""

    attempts: int = 6
    """A request is sent at most this often; between attempts an exponential pause with full jitter."""
    first_pause: float = 0.2
    longest_pause: float = 10.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    copy_limit: int = 5 * 1024**3
    """CopyObject takes no more (docs.aws.amazon.com, "Copying objects"); larger objects are copied in parts."""
    copy_part: int = 512 * 1024**2
    upload_part: int = 16 * 1024**2


@dataclass(frozen=True)
class Reply:
    """An answer with status 2xx (or one of ``accept``)."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    attempts: int
    """How often the request was sent: with more than one, a lost answer may hide that the first one took effect."""
    raw: Any = field(default=None, repr=False)
    """The unread answer, where ``stream`` was asked for."""


def error_code(body: bytes) -> str:
    """The ``<Code>`` of an S3 error document, "" if there is none."""
    _, found, rest = body[:65536].partition(b"<Code>")
    return rest.partition(b"</Code>")[0][:80].decode("ascii", "replace").strip() if found else ""


_opening = threading.Lock()


@cache
def _loader() -> Any:
    """botocore's descriptions of services, read once for all buckets: 0.2 s a bucket otherwise."""
    from botocore.loaders import create_loader

    return create_loader()


class Wire:
    """Requests to one bucket. Safe to use from several threads; connects when first used."""

    def __init__(self, address: BucketAddress, *, role: str, jobs: int, tuning: Tuning) -> None:
        self.address = address
        self.role = role
        self.jobs = jobs
        self.tuning = tuning
        self._lock = threading.Lock()
        self._client: Any = None
        self._base = ""
        self._region = ""
        self._credentials: Any = None
        self._http: Any = None
        self.slowed = 0
        """How often the server has asked for fewer requests (503, SlowDown)."""
        self.express = Express(self)
        """The short road for what is done by the thousand."""

    @property
    def client(self) -> Any:
        """A boto3 client with the same credentials, for what is rare. Raises FacBackupError if it cannot be made."""
        self._connect()
        return self._client

    def _connect(self, region: str = "") -> None:
        with self._lock:
            if self._client is not None and region in ("", self._region):
                return
            try:
                with _opening:
                    self._open(region)
            except Exception as error:
                raise for_exception(error, self.role, "connect") from None

    def _open(self, region: str) -> None:
        import boto3
        import botocore.session
        from botocore.config import Config
        from botocore.httpsession import URLLib3Session
        from botocore.utils import get_environ_proxies

        given = self.address.credentials
        underlying = botocore.session.Session()
        underlying.register_component("data_loader", _loader())
        session = boto3.session.Session(
            botocore_session=underlying,
            aws_access_key_id=given.access_key_id or None,
            aws_secret_access_key=given.secret_access_key or None,
            aws_session_token=given.session_token or None,
            region_name=region or given.region or None,
        )
        endpoint = given.endpoint if not given.endpoint or "://" in given.endpoint else f"https://{given.endpoint}"
        timeouts = (self.tuning.connect_timeout, self.tuning.read_timeout)
        client = session.client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=session.region_name or "us-east-1",
            config=Config(
                signature_version="s3v4",
                retries={"mode": "standard", "total_max_attempts": self.tuning.attempts},
                connect_timeout=timeouts[0],
                read_timeout=timeouts[1],
                max_pool_connections=self.jobs + 4,
                # Other stores than AWS's refuse the newer checksums; requests are signed with their body's SHA-256.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        # boto3 itself says where and in which style (path or virtual host, FIPS, custom endpoint) the bucket answers.
        signed = client.generate_presigned_url("head_bucket", Params={"Bucket": self.address.name})
        self._base = signed.partition("?")[0].rstrip("/")
        self._region = client.meta.region_name
        if self._region == "aws-global":
            self._region = "us-east-1"
        self._credentials = session.get_credentials()
        certificates = underlying.get_config_variable("ca_bundle")  # AWS_CA_BUNDLE and the configuration file
        self._http = URLLib3Session(
            verify=certificates or True,
            proxies=get_environ_proxies(self._base),
            timeout=timeouts,
            max_pool_connections=self.jobs + 4,
            # urllib3 sends head and body one after the other; without this the body waits up to 40 ms for the server's
            # acknowledgement of the head, and botocore leaves out urllib3's own options.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._client = client

    def url(self, key: str, query: Iterable[tuple[str, str]] = ()) -> str:
        """Where the object with the full ``key`` answers ("" for the bucket itself)."""
        asked = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query))
        return f"{self._base}/{quote(key, safe='/-_.~')}{'?' + asked if asked else ''}"

    def request(
        self,
        method: str,
        key: str,
        doing: str,
        *,
        query: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        stream: bool = False,
        accept: tuple[int, ...] = (),
    ) -> Reply:
        """Send one request, again where that may help, and return the answer. Raises FacBackupError otherwise.

        ``key`` is the full key in the bucket; ``doing`` completes "is not allowed to …". A body that begins with an
        ``<Error>`` document despite status 200 (a long server-side copy may) is an error like any other.
        """
        self._connect()
        query = tuple(query)
        attempt = 0
        while True:
            attempt += 1
            last = attempt >= self.tuning.attempts
            try:
                answer = self._send(method, self.url(key, query), headers=headers or {}, body=body, stream=stream)
                status = int(answer.status_code)
                content = b"" if stream and status < 300 else _whole(method, answer)
            except FacBackupError:
                raise
            except Exception as error:
                failure = for_exception(error, self.role, doing, attempt)
                if last or not _is_transient(error):
                    raise failure from None
                self._pause(attempt)
                continue
            self.slowed += status in SLOW_DOWN
            code = error_code(content) if status >= 300 or b"<Error>" in content[:200] else ""
            if (status < 300 and not code) or status in accept:
                found = {name.lower(): value for name, value in answer.headers.items()}
                return Reply(status, found, content, attempt, answer.raw if stream else None)
            moved = answer.headers.get("x-amz-bucket-region", "")
            if moved and moved != self._region and not last and status in (301, 307, 400):
                self._connect(moved)
                continue
            if last or not (status in RETRIED_STATUS or code in RETRIED_CODES):
                raise for_answer(status, code, self.role, doing, attempt)
            self._pause(attempt)

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        stream: bool,
    ) -> Any:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import NoCredentialsError

        if self._credentials is None:
            raise NoCredentialsError
        request = AWSRequest(method, url, headers=dict(headers), data=body, stream_output=stream)
        S3SigV4Auth(self._credentials.get_frozen_credentials(), "s3", self._region).add_auth(request)
        return self._http.send(request.prepare())

    def _pause(self, attempt: int) -> None:
        longest = min(self.tuning.longest_pause, self.tuning.first_pause * 2 ** (attempt - 1))
        time.sleep(random.uniform(0, longest))  # noqa: S311 - jitter, no secret


def _whole(method: str, answer: Any) -> bytes:
    """The answer's body. botocore's session leaves it to its caller to notice that a body was cut short."""
    content = bytes(answer.content or b"")
    length = answer.headers.get("content-length", "")
    if method != "HEAD" and length.isdigit() and len(content) != int(length):
        raise ConnectionError("the body was cut short")
    return content


def _is_transient(error: Exception) -> bool:
    """Whether sending again may help: broken, refused and late connections; not a bad certificate or missing key."""
    from botocore import exceptions as boto
    from urllib3 import exceptions as urllib3

    if isinstance(error, (boto.SSLError, boto.ProxyConnectionError)):
        return False
    return isinstance(error, (boto.HTTPClientError, boto.ConnectionError, urllib3.HTTPError, OSError))
