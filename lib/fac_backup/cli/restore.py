"""``fac-backup restore``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup restore --source dev --target dev --backup-id dev_20261122T201653Z_daily --confirm dev --dry-run
  fac-backup restore --source dev --target preview --backup-id dev_20261122T201653Z_daily --confirm preview
  fac-backup restore --source dev --target dev --backup-id dev_20261122T211500Z_pre-restore --confirm dev     (undo)
  fac-backup restore --target dev --resume --confirm dev                               (finish what was killed)
  fac-backup restore --source dev --target dev --backup-id ID --confirm dev --beside dev_yesterday
"""


@click.command("restore", epilog=EPILOG)
@option("--source", default="", help="The space whose backup is restored.")
@option("--target", required=True, help="The space that is replaced.")
@option("--backup-id", default="", help="Which backup; `fac-backup list` shows the ids.")
@option("--confirm", default="", help="The target's name once more: this wipes it.")
@option("--dry-run", is_flag=True, help="Check everything, print the plan, change nothing.")
@option("--resume", is_flag=True, help="Finish the restore into the target that was killed.")
@option("--beside", default="", help="Restore the database alone into a new database of this name and stop there.")
@option("--only", multiple=True, help="With --beside: only these tables (schema.table), without foreign keys.")
@option("--before-swap-sql", type=click.Path(dir_okay=False), default="",
        help="SQL file to run in the new database before it is swapped in; its failure stops all. Refused inside "
        "Actions: `before_swap` of the path in the matrix.")  # fmt: skip
@option("--before-swap-command", default="",
        help="Program to run before the swap; its DATABASE_URL leads to the new database. Refused inside "
        "Actions.")  # fmt: skip
@option("--shards", type=click.IntRange(1), default=1, hidden=True, help="Into how many the documents are split.")
@option("--shard-stage", default="", hidden=True, help="With --shards: plan, add or finish (docs/scale.md).")
@option("--shard", type=click.IntRange(1), default=None, hidden=True, help="With --shard-stage add: which, from 1.")
@common
def command(
    console: Console, source: str, target: str, backup_id: str, confirm: str, dry_run: bool, resume: bool,
    beside: str, only: tuple[str, ...], before_swap_sql: str, before_swap_command: str,
    shards: int, shard_stage: str, shard: int | None,
) -> None:  # fmt: skip
    """Replace the database and the documents of TARGET by a backup of SOURCE.

    Everything that can be checked is checked first. The new database is built beside the old one and swapped in; the
    state before is kept as a pre-restore backup, whose id is the undo. Exit code 7 means that a person must act.
    """
    from fac_backup.operations.in_space import restore as run
    from fac_backup.operations.restore import RestoreRequest

    request = RestoreRequest(
        source, target, backup_id, confirm, dry_run, resume, beside, only, before_swap_sql, before_swap_command
    )
    if shards > 1 or shard_stage:
        from fac_backup.operations import sharded, sharded_restore

        sharding = sharded.Sharding(shard_stage, shards, shard or 0)
        console.finish(sharded_restore.run(request, sharding, around(console)))
    else:
        console.finish(run(request, around(console)))
