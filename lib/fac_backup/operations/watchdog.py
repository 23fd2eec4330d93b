"""Tell a dead man's switch that we began, and how it ended: a schedule that fell silent is noticed from outside.

The convention is that of healthchecks.io and its kin (https://healthchecks.io/docs/http_api/): ``URL/start``, then
``URL`` or ``URL/fail``. The URL is a secret: who knows it can say that all is well.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fac_backup.plain.errors import UsageError

log = logging.getLogger(__name__)


@contextmanager
def watched(url: str) -> Iterator[None]:
    """Ping ``url`` at the start and the end of the block; nothing if it is empty.

    A ping that fails is a warning, never a failure of what is watched. Raises UsageError for what is no https address
    (http is taken for this machine only).
    """
    if not url:
        yield
        return
    if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise UsageError("The ping URL must begin with https://", next_step="Correct FAC_BACKUP_PING_URL.")
    _ping(url, "/start")
    try:
        yield
    except BaseException:
        _ping(url, "/fail")
        raise
    _ping(url, "")


def _ping(url: str, what: str) -> None:
    import urllib3

    pool = urllib3.PoolManager(timeout=10.0, retries=False)  # urllib3 logs each of its own retries with the address
    for last in (False, True):
        try:
            answer = pool.request("POST", url.rstrip("/") + what)
        except urllib3.exceptions.HTTPError:
            if last:
                log.warning("The dead man's switch could not be reached")  # the exception would show the address
            continue
        if answer.status >= 400:
            log.warning("The dead man's switch answered %d", answer.status)
        return
