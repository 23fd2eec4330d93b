"""Following a task's log in log-cache: messages come late, twice or not at all, and the service may be away.

``log-cache`` keeps what it got, ordered by time stamp, for some minutes; it promises nothing
(https://docs.cloudfoundry.org/loggregator/log-ops-guide.html). So a log is for people, never for decisions.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Iterator
from typing import Any

from fac_backup.hosting.cloudfoundry.client import App, Client
from fac_backup.plain.errors import FacBackupError

_log = logging.getLogger(__name__)
_WINDOW = 20 * 10**9
"""How late a line may come and still be shown, nanoseconds."""
_PAGE = 1000
"""Envelopes that log-cache gives at once, at most."""
_PAGES = 20
"""Of one look; the next one goes on there."""
NUMBERED = re.compile(r"(\d{1,9})\| ?(.*)", re.DOTALL)
"""Our program numbers its lines inside a task, so that missing ones are noticed (``entry``)."""


class TaskLog:
    """The lines of one task, each once, in the order of arrival."""

    def __init__(self, client: Client, app: App, task_name: str, since: int) -> None:
        self._client, self._app = client, app
        self._source = f"APP/TASK/{task_name}"
        self._newest = since
        self._seen: dict[tuple[int, str, str], None] = {}
        self._numbers: set[int] = set()
        self._behind = False
        """Whether the last look ended before the log did."""
        self.silent = False
        """Whether log-cache could not be read the last time."""
        self.any = False
        """Whether any line came: the task's sign of life."""

    def new_lines(self) -> Iterator[str]:
        """Lines that have not been given yet. Never raises for log-cache's own trouble: it is said once.

        What the app itself logs, say a line a request, comes in between and counts for a page like ours.
        """
        start = max(0, self._newest - (0 if self._behind else _WINDOW))
        self._behind = True
        for _ in range(_PAGES):
            try:
                envelopes = self._client.read_logs(self._app, start, _PAGE)
            except FacBackupError as error:
                if not self.silent:
                    _log.warning("The task's log cannot be read at the moment (%s); the task goes on", error.what)
                self.silent, self._behind = True, False
                return
            self.silent = False
            for envelope in envelopes:
                line = self._line(envelope)
                if line is not None:
                    self.any = True
                    yield line
            last = max((_stamp(envelope) for envelope in envelopes), default=0)
            self._newest = max(self._newest, last)
            if len(envelopes) < _PAGE:
                self._behind = False
                break
            start = max(last, start + 1)
        oldest = self._newest - 2 * _WINDOW
        for key in [key for key in self._seen if key[0] < oldest]:
            del self._seen[key]

    @property
    def missing(self) -> int:
        """How many of our program's lines did not arrive."""
        return max(self._numbers, default=0) - len(self._numbers)

    def _line(self, envelope: dict[str, Any]) -> str | None:
        tags, log = envelope.get("tags") or {}, envelope.get("log") or {}
        if tags.get("source_type") != self._source:
            return None
        stamp, payload = _stamp(envelope), str(log.get("payload") or "")
        try:
            text = base64.b64decode(payload, validate=True).decode("utf-8", "replace")
        except (ValueError, binascii.Error):
            return None
        key = (stamp, payload, str(log.get("type")))
        if key in self._seen:
            return None
        self._seen[key] = None
        numbered = NUMBERED.fullmatch(text)
        if numbered:
            self._numbers.add(int(numbered[1]))
            return numbered[2]
        return text


def _stamp(envelope: dict[str, Any]) -> int:
    try:
        return int(envelope.get("timestamp") or 0)
    except (TypeError, ValueError):
        return 0
