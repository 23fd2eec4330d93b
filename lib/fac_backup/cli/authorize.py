"""``fac-backup authorize``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

OPERATIONS = [
    "backup", "restore", "purge", "list", "verify", "adopt", "hold", "unlock", "sweep", "import", "export",
]  # fmt: skip

EPILOG = """\b
Examples:
  fac-backup authorize restore --source dev --target preview --backup-id ID --confirm preview
  fac-backup authorize purge --space production --json
"""


@click.command("authorize", epilog=EPILOG)
@click.argument("operation", type=click.Choice(OPERATIONS), envvar="FAC_BACKUP_OPERATION")
@option("--space", default="", help="The space that is worked on (not for restore).")
@option("--kind", default="", help="Of backup: the kind.")
@option("--source", default="", help="Of restore: the space whose backup is restored.")
@option("--target", default="", help="Of restore: the space that is replaced.")
@option("--backup-id", default="", help="Which backup.")
@option("--confirm", default="", help="The target's name once more.")
@option("--dry-run", is_flag=True, help="Decide about a dry run.")
@option("--resume", is_flag=True, help="Decide about finishing a killed restore.")
@common
def command(
    console: Console, operation: str, space: str, kind: str, source: str, target: str, backup_id: str, confirm: str,
    dry_run: bool, resume: bool,
) -> None:  # fmt: skip
    """Decide whether this run may do OPERATION, show every check, and touch nothing. Exit code 3: refused."""
    from fac_backup.operations.gate import Wish, show

    wish = Wish(
        operation, space=space, kind=kind, source=source, target=target, backup_id=backup_id, confirm=confirm,
        dry_run=dry_run, resume=resume,
    )  # fmt: skip
    console.finish(show(wish, around(console)))
