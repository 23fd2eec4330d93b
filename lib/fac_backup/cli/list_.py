"""``fac-backup list``."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup list --space production
  fac-backup list --space dev --kind daily --newest               (its id alone, for a script)
  fac-backup list --space dev --before "2026-11-22 18:30"         (UTC: those from before the accident)
  fac-backup list --space dev --json | jq '.backups[0]'
  fac-backup list --space dev --html catalog/          (one page, to open in a browser)
"""


@click.command("list", epilog=EPILOG)
@option("--space", default="", help="The space whose backups are shown. With one space only: that.")
@option("--kind", default="", help="Only backups of this kind.")
@option("--before", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"]), default=None,
        help="Only backups from before this moment, in UTC.")  # fmt: skip
@option("--newest", is_flag=True, help="Print the id of the newest one that can be restored, "
        "and nothing else; exit code 4 if there is none.")  # fmt: skip
@option("--max-age-hours", type=click.FloatRange(0), default=None, help="Fail if the newest backup is older.")
@option("--html", type=click.Path(file_okay=False), default="", help="Write the catalog page into this folder.")
@common
def command(
    console: Console, space: str, kind: str, before: datetime | None, newest: bool, max_age_hours: float | None,
    html: str,
) -> None:  # fmt: skip
    """Show what can be restored now, where to, how old and how big it is, and when it will be purged by which rule."""
    from fac_backup.operations import in_space
    from fac_backup.operations.listing import ListRequest, run

    moment = before.replace(tzinfo=UTC) if before else None
    with in_space.with_store(around(console), space) as there:
        console.finish(run(ListRequest(space, kind, moment, newest, html, max_age_hours), there))
