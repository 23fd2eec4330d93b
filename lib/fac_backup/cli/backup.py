"""``fac-backup backup``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup backup --space dev --kind daily
  fac-backup backup --space production --kind pre-deploy --note "release 2026-11-22"
  fac-backup backup --space dev --engine django-dbbackup --manage-py backend/manage.py
  fac-backup backup --json | jq -r .backup_id          (without a matrix: the space `default`)
"""


@click.command("backup", epilog=EPILOG)
@option("--space", default="", help="The space to back up. With one space only: that.")
@option("--kind", default="", help="A kind that the matrix declares, or pre-deploy, daily, manual. Inside Actions the "
        "event decides where there is no matrix; elsewhere the default is manual.")  # fmt: skip
@option("--note", default="", help="A line for people, shown by list.")
@option("--backup-id", default="", help="Use this id, for a runner that must know it beforehand.")
@option("--range-threshold", type=int, default=None, help="Tables of at least so many bytes are read in page ranges, "
        "by several connections (docs/performance.md). Default: 64 MiB; -1: none.")  # fmt: skip
@option("--range-pages", type=click.IntRange(1), default=None, help="Pages of 8 KiB in one range.")
@option("--engine", type=click.Choice(["", "fac-backup", "django-dbbackup"]), default="", help="Who reads the data: "
        "this program, or django-dbbackup, with its limits (docs/migrating.md). Default: the matrix's.")  # fmt: skip
@option("--archives", type=click.Path(file_okay=False), default="", help="With django-dbbackup: the folder that holds "
        "what `dbbackup` and `mediabackup` wrote just now. Needed inside Actions.")  # fmt: skip
@option("--manage-py", type=click.Path(dir_okay=False), default="", help="With django-dbbackup, outside Actions: the "
        "application's manage.py, to run the two. Default: as the matrix says.")  # fmt: skip
@option("--shards", type=click.IntRange(1), default=1, hidden=True, help="Into how many the documents are split.")
@option("--shard-stage", default="", hidden=True, help="With --shards: plan, copy or commit (docs/scale.md).")
@option("--shard", type=click.IntRange(1), default=None, hidden=True, help="With --shard-stage copy: which, from 1.")
@common
def command(
    console: Console, space: str, kind: str, note: str, backup_id: str, range_threshold: int | None,
    range_pages: int | None, engine: str, archives: str, manage_py: str, shards: int, shard_stage: str,
    shard: int | None,
) -> None:  # fmt: skip
    """Back up the database and the documents of a space, as one moment.

    Needs DATABASE_URL, FAC_BACKUP_BUCKET (s3://name/prefix) and FAC_BACKUP_DOCUMENTS (label=s3://name/prefix or none),
    or the bindings of Cloud Foundry. The backup exists when its manifest does; a run that fails leaves none.
    """
    from fac_backup.operations.backup import BackupRequest
    from fac_backup.operations.in_space import backup as run

    request = BackupRequest(space, kind, note, backup_id, range_threshold, range_pages, engine, archives, manage_py)
    if shards > 1 or shard_stage:
        from fac_backup.operations import sharded

        sharding = sharded.Sharding(shard_stage, shards, shard or 0)
        console.finish(sharded.run(request, sharding, around(console)))
    else:
        console.finish(run(request, around(console)))
