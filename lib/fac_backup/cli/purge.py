"""``fac-backup purge``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup purge --space production --dry-run
  fac-backup purge --space production
"""


@click.command("purge", epilog=EPILOG)
@option("--space", default="", help="The space whose store is purged. With one space only: that.")
@option("--dry-run", is_flag=True, help="Print the plan, change nothing.")
@common
def command(console: Console, space: str, dry_run: bool) -> None:
    """Remove the backups that the retention rules let go, then every object that nothing needs any more.

    The newest backup of each kind always stays, and so does one that is held. The plan says why, line by line. Where
    the matrix requires signatures, FAC_BACKUP_SIGNING_KEY signs the tombstones of what goes; without it nothing goes.
    """
    from fac_backup.operations import in_space
    from fac_backup.operations.purge import run

    with in_space.with_store(around(console), space) as there:
        console.finish(run(space, dry_run, there))
