"""List what can be restored: where to, how old, how big, until when and by which rule."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from fac_backup.hosting.settings import private_words
from fac_backup.operations import catalog_view, gate, opening
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import FailedError, NoSuchBackupError
from fac_backup.report.views import CatalogView, Outcome
from fac_backup.report.words import moment

log = logging.getLogger(__name__)

NEVER = "Nothing was ever backed up at this place. If something was, check the bucket, its prefix and the space's name."


@dataclass(frozen=True)
class ListRequest:
    """What is asked for."""

    space: str = ""
    kind: str = ""
    before: datetime | None = None
    """Only backups whose moment is before this one (aware)."""
    newest: bool = False
    """Print the newest one's id and nothing else."""
    html: str = ""
    """A folder for the page; empty: none is written."""
    max_age_hours: float | None = None


def run(request: ListRequest, around: Surroundings) -> Result:
    """1. may this run;  2. read the catalog;  3. plan the retention;  4. show, or write the page."""
    space, kind, max_age_hours = around.one_space(request.space), request.kind, request.max_age_hours
    gate.admit(gate.Wish("list", space=space, kind=kind), around)
    if kind:
        around.matrix.kind(space, kind)
    store = opening.open_store(around, space)
    with ThreadPoolExecutor(3) as pool:  # two round trips in all, for a hundred backups
        checking, opening_it = pool.submit(store.bucket.check), pool.submit(store.open_for_reading)
        looking = pool.submit(catalog_view.of, store, around)
        checking.result()  # says best what is wrong with a bucket
        begun, view = opening_it.result(), looking.result()
    there = len(view.backups)
    before = request.before
    wanted = (row for row in view.backups if kind in ("", row.kind) and (before is None or row.created < before))
    view = replace(view, backups=tuple(wanted))
    none_left = f"0 of {there:,} backups match" if there and not view.backups else ""
    catalog = CatalogView(around.clock(), (view,), restore_url=around.restore_url)
    if request.html:
        _write_page(Path(request.html), catalog, private_words(around.env))
    sound = [row for row in view.backups if row.usable]
    newest = sound[0] if sound else None
    data = {
        "space": space,
        "backup_id": newest.id if newest else "",
        "age_seconds": round(newest.age_seconds) if newest else "",
        "backups": [catalog_view.as_json(row) for row in view.backups],
        "warnings": [notice.text for notice in view.notices],
    }
    next_steps = () if begun else (NEVER,)
    if none_left:
        next_steps = (f"{none_left}: leave out --kind or --before to see the others.",)
    outcome = Outcome("list", f"Backups of {space}", spaces=(view,), next_steps=next_steps)
    if max_age_hours is not None and (newest is None or newest.age_seconds > max_age_hours * 3600):
        error = FailedError(
            f"The newest {kind or ''} backup of {space} is older than {max_age_hours:g} hours".replace("  ", " ")
            if newest
            else f"There is no {kind} backup of {space}".replace("  ", " "),
            next_step="Look at the runs of the daily workflow: docs/operations.md, `cron is red`.",
        )
        error.outcome, error.data = outcome, data
        raise error
    if request.newest and newest and newest.verified and not newest.verified.passed:
        log.warning(
            "%s failed its verification on %s: `fac-backup verify --backup-id %s` says what is wrong with it",
            newest.id, moment(newest.verified.at), newest.id,
        )  # fmt: skip
    if request.newest and newest is None:
        raise NoSuchBackupError(
            f"There is no such backup of {space}" + (f": {none_left}" if none_left else ""),
            next_step=f"See `fac-backup list --space {space}`.",
        )
    return Result(outcome, data, printed=newest.id if request.newest and newest else "")


def _write_page(folder: Path, view: CatalogView, hidden: tuple[str, ...]) -> None:
    from fac_backup.report import page

    text = page.render(view, hidden=hidden)
    unfinished = folder / "index.html.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(folder / "index.html")
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise FailedError(
            f"The page cannot be written ({error.strerror})",
            state="A page that was there before is as it was.",
            next_step="Make room, or name another folder.",
        ) from None
