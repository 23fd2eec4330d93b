"""``fac-backup hold``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup hold --space dev --backup-id dev_20261122T201653Z_daily
  fac-backup hold --space dev --backup-id dev_20261122T201653Z_daily --release
"""


@click.command("hold", epilog=EPILOG)
@option("--space", default="", help="The backup's space. With one space only: that.")
@option("--backup-id", required=True, help="Which backup.")
@option("--release", is_flag=True, help="Let the retention rules decide again.")
@option("--confirm", default="", help="Inside Actions, with --release: the space's name once more.")
@common
def command(console: Console, space: str, backup_id: str, release: bool, confirm: str) -> None:
    """Keep a backup whatever the retention rules say, until it is released."""
    from fac_backup.operations import in_space
    from fac_backup.operations.hold import run

    with in_space.with_store(around(console), space) as there:
        console.finish(run(space, backup_id, release, confirm, there))
