"""HTTP to Cloud Foundry: time limits, retries where they are safe, a proxy where there is one, bounded answers."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from fac_backup.hosting.cloudfoundry.errors import UncertainError, UnreachableError
from fac_backup.plain.errors import UsageError

_log = logging.getLogger(__name__)

ANSWER_LIMIT = 32 * 1024 * 1024
"""Bytes of one answer; a page of 1,000 log lines of 64 KiB, the longest that Diego lets through, stays below."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Pace:
    """How patient the client is; tests are less so. Seconds."""

    connect: float = 10.0
    read: float = 60.0
    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 20.0
    poll_first: float = 0.5
    poll_longest: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def wait(self, attempt: int, asked: float | None = None) -> None:
        """Sleep after attempt number ``attempt``: doubling, jittered; or what the server ``asked`` for, bounded."""
        pause = self.first_wait * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, no secret)
        self.sleep(min(self.longest_wait, max(pause, asked or 0.0)))

    def poll(self, turn: int) -> None:
        """Sleep before looking again at something that takes its time."""
        self.sleep(min(self.poll_longest, self.poll_first * 1.5**turn))


@dataclass(frozen=True)
class Reply:
    """One answer: status, headers (case-insensitive), and the JSON document if there was one."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: dict[str, Any] = field(repr=False)


def check_address(address: str, what: str) -> str:
    """``address`` without a trailing slash. Raises UsageError unless it is https (or loopback, for tests)."""
    parts = urlsplit(address)
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if not secure or not parts.hostname or parts.username or parts.query:
        raise UsageError(
            f"{what} is not an https address", next_step="cloud.gov's API is https://api.fr.cloud.gov (`cf api`)."
        )
    return address.rstrip("/")


def same_platform(one: str, other: str) -> bool:
    """Whether two addresses share their parent domain: the password for ``one`` may be sent to no other."""
    first, second = urlsplit(one).hostname or "", urlsplit(other).hostname or ""
    return first == second or (first.count(".") >= 2 and first.partition(".")[2] == second.partition(".")[2])


class Http:
    """Sends requests; knows nothing of tokens. Safe for one thread at a time."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._pools: dict[str, urllib3.PoolManager] = {}

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, what: str,
        limit: float | None = None,
    ) -> Reply:  # fmt: skip
        """Send until there is an answer that is not the server's own trouble.

        Repeated: GET, DELETE and PATCH always; what makes something (POST) only where it certainly was not carried
        out: no connection, 429. Raises UnreachableError, or UncertainError where a POST may have been carried out.
        """
        repeatable = method != "POST" or url.endswith("/oauth/token")
        trouble = ""
        for attempt in range(1, self.pace.attempts + 1):
            asked: float | None = None
            try:
                reply = self._once(method, url, headers, body, limit)
            except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
                trouble = "it cannot be reached"
            except urllib3.exceptions.SSLError:
                raise UnreachableError(
                    f"{what}: the certificate of the API is not valid here", next_step="Check address and proxy."
                ) from None
            except (urllib3.exceptions.HTTPError, OSError) as error:
                timed_out = isinstance(error, urllib3.exceptions.ReadTimeoutError | TimeoutError)
                trouble = "it did not answer in time" if timed_out else "the connection broke"
                if not repeatable:
                    raise UncertainError(f"{what}: {trouble}, so it is unknown whether it was done") from None
            else:
                if reply.status != 429 and reply.status < 500:
                    return reply
                trouble = f"it answers {reply.status}"
                if reply.status != 429 and not repeatable:
                    raise UncertainError(f"{what}: {trouble}, so it is unknown whether it was done")
                asked = _retry_after(reply.headers)
            if attempt < self.pace.attempts:
                _log.debug("%s: %s; attempt %d of %d", what, trouble, attempt, self.pace.attempts)
                self.pace.wait(attempt, asked)
        raise UnreachableError(
            f"{what}: Cloud Foundry's API keeps failing ({trouble}, {self.pace.attempts} times)",
            next_step="Look at https://cloudgov.statuspage.io and run it again.",
        )

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limit: float | None
    ) -> Reply:
        read = self.pace.read if limit is None else limit
        response = self._pool(url).request(
            method, url, body=body, headers={"User-Agent": "fac-backup", "Accept": "application/json", **headers},
            timeout=urllib3.Timeout(connect=self.pace.connect, read=read), retries=False, redirect=False,
            preload_content=False,
        )  # fmt: skip
        try:
            raw = response.read(ANSWER_LIMIT + 1, decode_content=True)
        finally:
            response.release_conn()
        if len(raw) > ANSWER_LIMIT:
            raise urllib3.exceptions.HTTPError("the answer is too long")
        return Reply(response.status, response.headers, _document(raw))

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        key = f"{parts.scheme}://{parts.netloc}"
        if key not in self._pools:
            self._pools[key] = pool_for(url, maxsize=2)
        return self._pools[key]


def pool_for(url: str, **settings: Any) -> urllib3.PoolManager:
    """Connections to ``url``: through the proxy of ``https_proxy`` or ``http_proxy`` (with its password, if it has
    one), unless ``no_proxy`` exempts that host. ``settings`` are urllib3's."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme, "")
    if not proxy or parts.hostname in LOOPBACK or proxy_bypass(parts.netloc):
        return urllib3.PoolManager(**settings)
    there = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    headers = None
    if there.username is not None:
        headers = urllib3.make_headers(proxy_basic_auth=f"{unquote(there.username)}:{unquote(there.password or '')}")
    address = f"{there.scheme}://{there.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(address, proxy_headers=headers, **settings)


def _document(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw) if raw else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    reset = headers.get("X-RateLimit-Reset", "")
    return max(0.0, float(reset) - time.time()) if reset.isdigit() else None
