"""One issue for each space whose verification fails: opened, commented on, closed when it passes again."""

from __future__ import annotations

import logging

from fac_backup.hosting.github.api import GitHub, in_repository
from fac_backup.hosting.github.run import Run
from fac_backup.plain.text import for_markdown

LABEL = "fac-backup"

_log = logging.getLogger(__name__)


def report(run: Run, token: str, space: str, failure: str) -> str:
    """Tell the repository's issues how the verification of ``space`` ended: ``failure`` is empty if it passed.

    Returns what was done: ``opened``, ``commented``, ``closed``, ``nothing`` or ``failed``. Never raises: an issue that
    could not be written must not hide the result of the verification, which makes the run red by itself.
    """
    github = GitHub(run.api_url, token)
    title = f"Verification of the backups of {space} failed"
    found = github.pages(in_repository(run.repository, "issues"), labels=LABEL, state="open")
    if not found.ok:
        _log.warning("The issues could not be read: %s (the job needs `permissions: issues: write`)", found.reason)
        return "failed"
    number = next(
        (one.get("number") for one in found.body if isinstance(one, dict) and one.get("title") == title), None
    )
    if failure:
        text = f"{for_markdown(failure, 2000)}\n\n[The run]({run.url})"
        if number is None:
            body = {"title": title, "body": text, "labels": [LABEL]}
            return _done(github.post(in_repository(run.repository, "issues"), body).ok, "opened")
        return _done(_comment(github, run, number, text), "commented")
    if number is None:
        return "nothing"
    said = _comment(github, run, number, f"It passes again: [the run]({run.url})")
    closed = github.patch(in_repository(run.repository, "issues", number), {"state": "closed"})
    return _done(said and closed.ok, "closed")


def _comment(github: GitHub, run: Run, number: int, text: str) -> bool:
    return github.post(in_repository(run.repository, "issues", number, "comments"), {"body": text}).ok


def _done(ok: bool, what: str) -> str:
    if not ok:
        _log.warning("The issue could not be written: the job needs `permissions: issues: write`")
    return what if ok else "failed"
