"""``fac-backup list``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup list --space production
  fac-backup list --space dev --json | jq -r '.backups[0].id'
  fac-backup list --space dev --html catalog/          (one page, to open in a browser)
"""


@click.command("list", epilog=EPILOG)
@option("--space", default="", help="The space whose backups are shown. With one space only: that.")
@option("--kind", default="", help="Only backups of this kind.")
@option("--max-age-hours", type=click.FloatRange(0), default=None, help="Fail if the newest backup is older.")
@option("--html", type=click.Path(file_okay=False), default="", help="Write the catalog page into this folder.")
@common
def command(console: Console, space: str, kind: str, max_age_hours: float | None, html: str) -> None:
    """Show what can be restored now, where to, how old and how big it is, and when it will be purged by which rule."""
    from fac_backup.operations import in_space
    from fac_backup.operations.listing import run

    with in_space.with_store(around(console), space) as there:
        console.finish(run(space, kind, html, there, max_age_hours))
