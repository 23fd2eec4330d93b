"""One issue for each space and kind of check: opened, commented on, closed when that check passes again.

Its text is fixed, and a link: who reads issues learns nothing of the data, and no text from outside comes into one.
"""

from __future__ import annotations

import logging

from fac_backup.hosting.github.api import GitHub, in_repository
from fac_backup.hosting.github.run import Run

LABEL = "fac-backup"

CHECKS: dict[str, str] = {
    "age": "The newest backup is older than it may be, or could not be looked up: see the runs of the daily workflow.",
    "objects": "The newest backup is not whole, or could not be read: make one now, and leave the bucket as it is.",
    "restore": "The rehearsal of a restore failed: a restore in earnest might fail too.",
    "live": "Tables of the newest backup are missing or empty in the live database, or could not be compared.",
    "catalog": "A backup that nobody purged is gone, or its manifest was changed: who else can write to the bucket?",
}
"""Kind of check to what its failure means."""

_log = logging.getLogger(__name__)


def title_of(space: str, check: str) -> str:
    """The title by which the issue is found again."""
    return f"Backups of {space}: the check `{check}` failed"


def report(run: Run, token: str, space: str, check: str, *, failed: bool) -> str:
    """Tell the repository's issues how ``check`` of ``space`` ended.

    Returns what was done: ``opened``, ``commented``, ``closed``, ``nothing`` or ``failed``. Never raises: an issue that
    could not be written must not hide the result of the verification, which makes the run red by itself.
    """
    github = GitHub(run.api_url, token)
    title = title_of(space, check)
    found = github.pages(in_repository(run.repository, "issues"), labels=LABEL, state="open")
    if not found.ok:
        _log.warning("The issues could not be read: %s (the job needs `permissions: issues: write`)", found.reason)
        return "failed"
    number = next(
        (one.get("number") for one in found.body if isinstance(one, dict) and one.get("title") == title), None
    )
    if failed:
        if number is None:
            link = f"[The run]({run.url}) says what happened and what to do next"
            text = f"{CHECKS[check]}\n\n{link}. The next run that passes this check closes this issue."
            body = {"title": title, "body": text, "labels": [LABEL]}
            return _done(github.post(in_repository(run.repository, "issues"), body).ok, "opened")
        return _done(_comment(github, run, number, f"Again: [the run]({run.url})"), "commented")
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
