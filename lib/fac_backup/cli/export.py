"""``fac-backup export``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup export --space dev --backup-id dev_20261122T201653Z_daily --to exported/
  fac-backup export --space dev --backup-id ID --to exported/ --compress --server web1
"""


@click.command("export", epilog=EPILOG)
@option("--space", default="", help="The backup's space. With one space only: that.")
@option("--backup-id", required=True, help="Which backup; `fac-backup list` shows the ids.")
@option("--to", required=True, type=click.Path(file_okay=False), help="The folder for the archives.")
@option("--compress", is_flag=True, help="gzip them (then dbrestore and mediarestore need --uncompress).")
@option("--server", default="", help="The server's name in the file names. Default: the space's.")
@option("--confirm", default="", help="Inside Actions: the space's name once more.")
@common
def command(console: Console, space: str, backup_id: str, to: str, compress: bool, server: str, confirm: str) -> None:
    """Write a backup as archives that django-dbbackup reads, with its names: the way back.

    `manage.py dbrestore` and `mediarestore` find them once they lie in the storage that STORAGES['dbbackup'] names.
    """
    from fac_backup.operations.export import ExportRequest, run

    console.finish(run(ExportRequest(space, backup_id, to, compress, server, confirm), around(console)))
