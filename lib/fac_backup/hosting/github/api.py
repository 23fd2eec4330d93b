"""A small client for GitHub's REST API. Every outcome has a name; nothing fails open, no token shows.

Statuses, rate limits and their headers: https://docs.github.com/rest/using-the-rest-api.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3

from fac_backup.plain.errors import UsageError
from fac_backup.plain.text import duration

_log = logging.getLogger(__name__)

API_VERSION = "2022-11-28"
ANSWER_LIMIT = 8 * 1024 * 1024
"""Bytes of one answer; the largest that we read (a file of the contents API) is 1.4 MB."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PAGES = 50


class Outcome(StrEnum):
    """What became of one question to GitHub."""

    OK = "ok"
    NO_TOKEN = "no token"  # noqa: S105 (an outcome, not a password)
    BAD_TOKEN = "token not accepted"  # noqa: S105
    FORBIDDEN = "token lacks the permission"
    NOT_FOUND = "not found, or hidden from this token"
    MOVED = "moved"
    RATE_LIMITED = "rate limited"
    UNAVAILABLE = "GitHub answers with errors"
    UNREACHABLE = "GitHub cannot be reached"
    TIMED_OUT = "no answer in time"
    MALFORMED = "answer not understood"
    REFUSED = "request refused"


SENTENCES: dict[Outcome, str] = {
    Outcome.NO_TOKEN: "no token was given to ask GitHub with",
    Outcome.BAD_TOKEN: "GitHub does not accept the token: it is wrong, expired or revoked",
    Outcome.FORBIDDEN: "the token lacks the permission to read this",
    Outcome.NOT_FOUND: "GitHub answers 404: it does not exist, or this token may not see it",
    Outcome.MOVED: "GitHub answers that it has moved, and redirections are not followed",
    Outcome.RATE_LIMITED: "GitHub's rate limit is used up and does not open again soon enough",
    Outcome.UNAVAILABLE: "GitHub's API keeps answering with errors of its own",
    Outcome.UNREACHABLE: "GitHub's API cannot be reached",
    Outcome.TIMED_OUT: "GitHub's API did not answer in time",
    Outcome.MALFORMED: "GitHub's answer could not be understood",
    Outcome.REFUSED: "GitHub refused the request",
}
"""Half sentences, for "The membership of X could not be read: …"."""


@dataclass(frozen=True)
class Answer:
    """One answer. ``body`` is there only if ``outcome`` is OK."""

    outcome: Outcome
    status: int = 0
    body: Any = None

    @property
    def ok(self) -> bool:
        """Whether there is a body to read."""
        return self.outcome is Outcome.OK

    @property
    def reason(self) -> str:
        """The half sentence for what went wrong, empty if nothing did."""
        return SENTENCES.get(self.outcome, "")

    def mapping(self) -> Mapping[str, Any]:
        """The body as an object; empty for anything else."""
        return self.body if isinstance(self.body, dict) else {}


class GitHub:
    """Asks one GitHub API with one token. Not for several threads at once.

    ``patience`` bounds, in seconds, all waiting for rate limits and repeated tries together; ``timeout`` one request.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 20.0,
        patience: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise UsageError("GITHUB_API_URL must begin with https://", next_step="The runner sets it; leave it alone.")
        self._url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self._pool = urllib3.PoolManager(retries=False)

    def __repr__(self) -> str:
        return f"GitHub({self._url!r}, token {'given' if self._token else 'missing'})"

    def get(self, path: str, **query: str | int) -> Answer:
        """Ask for ``path`` (already quoted, see ``at``), with ``query``. Never raises for what GitHub does."""
        return self._ask("GET", path + (f"?{urlencode(query)}" if query else ""), None)

    def pages(self, path: str, key: str = "", **query: str | int) -> Answer:
        """All items of a paged list (under ``key``, if answers are objects) in one; a failed page fails the whole."""
        items: list[Any] = []
        for page in range(1, _PAGES + 1):
            answer = self.get(path, per_page=100, page=page, **query)
            if not answer.ok:
                return answer
            batch = answer.mapping().get(key) if key else answer.body
            if not isinstance(batch, list):
                return Answer(Outcome.MALFORMED, answer.status)
            items += batch
            if len(batch) < 100:
                # A server that gives fewer a page than it was asked for would hide the rest.
                total = answer.mapping().get("total_count")
                whole = total is None or total == len(items)
                return Answer(Outcome.OK, answer.status, items) if whole else Answer(Outcome.MALFORMED, answer.status)
        return Answer(Outcome.MALFORMED)

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Create something. Tried once only, since a lost answer may have created it already."""
        return self._once("POST", path, body)[0]

    def patch(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Change something; repeating it does no harm."""
        return self._ask("PATCH", path, body)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        for pause in _pauses():
            answer, wait = self._once(method, path, body)
            if wait is None:
                return answer
            wait = max(wait, pause)
            if wait > self._patience:
                return answer
            self._patience -= wait
            _log.info("%s; next try in %s", answer.reason, duration(wait))
            self._sleep(wait)
        return answer

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[Answer, float | None]:
        """One request; with it how many seconds to wait before trying again, None for never."""
        if not self._token:
            return Answer(Outcome.NO_TOKEN), None
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": API_VERSION,
            "User-Agent": "fac-backup",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        deadline = time.monotonic() + self._timeout
        try:
            response = self._pool.request(
                method,
                self._url + path,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=min(5.0, self._timeout), read=self._timeout),
            )
            try:
                data = b"".join(_bounded(response, deadline))
            finally:
                response.close()
        except (TimeoutError, urllib3.exceptions.TimeoutError):
            return Answer(Outcome.TIMED_OUT), 1.0
        except OverflowError:
            return Answer(Outcome.MALFORMED), None
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return Answer(Outcome.UNREACHABLE), 1.0
        return self._judge(response.status, response.headers, data)

    def _judge(self, status: int, headers: Mapping[str, str], data: bytes) -> tuple[Answer, float | None]:
        if status in (200, 201):
            try:
                return Answer(Outcome.OK, status, json.loads(data)), None
            except (ValueError, RecursionError):  # the latter for an answer nested a thousand deep
                return Answer(Outcome.MALFORMED, status), None
        if status in (403, 429) and (wait := self._limited(status, headers)) is not None:
            return Answer(Outcome.RATE_LIMITED, status), wait
        outcome = {
            401: Outcome.BAD_TOKEN,
            403: Outcome.FORBIDDEN,
            404: Outcome.NOT_FOUND,
            301: Outcome.MOVED,
            302: Outcome.MOVED,
            307: Outcome.MOVED,
            308: Outcome.MOVED,
        }.get(status)
        if outcome is not None:
            return Answer(outcome, status), None
        if status >= 500:
            return Answer(Outcome.UNAVAILABLE, status), 1.0
        return Answer(Outcome.REFUSED if 400 <= status < 500 else Outcome.MALFORMED, status), None

    def _limited(self, status: int, headers: Mapping[str, str]) -> float | None:
        """Seconds until a rate limit opens again; None if this 403 is none."""
        after = headers.get("retry-after", "")
        if after.isdigit():
            return float(after)
        if headers.get("x-ratelimit-remaining") == "0":
            reset = headers.get("x-ratelimit-reset", "")
            return max(1.0, float(reset) - self._clock().timestamp() + 1) if reset.isdigit() else 60.0
        return 60.0 if status == 429 else None


def at(*parts: str | int) -> str:
    """A path of the API from its parts, each quoted: ``at("repos", owner, name)``. No part adds a level."""
    quoted = [quote(str(part), safe="") for part in parts]
    if any(part in ("", ".", "..") for part in quoted):
        raise UsageError("A name that GitHub must be asked about is empty or no name")
    return "/" + "/".join(quoted)


def in_repository(repository: str, *parts: str | int) -> str:
    """A path below ``/repos/{owner}/{name}``."""
    owner, _, name = repository.partition("/")
    return at("repos", owner, name, *parts)


def _pauses() -> Iterator[float]:
    yield from (1.0, 2.0, 4.0, 8.0)


def _bounded(response: urllib3.BaseHTTPResponse, deadline: float) -> Iterator[bytes]:
    size = 0
    while chunk := response.read1(65536):
        size += len(chunk)
        if size > ANSWER_LIMIT:
            raise OverflowError
        if time.monotonic() > deadline:
            raise TimeoutError
        yield chunk
