"""``fac-backup adopt``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Example:
  fac-backup adopt --space dev --confirm dev
"""


@click.command("adopt", epilog=EPILOG)
@option("--space", default="", help="The space that this database and these buckets are. With one space only: that.")
@option("--confirm", default="", help="Inside Actions: the space's name once more.")
@common
def command(console: Console, space: str, confirm: str) -> None:
    """Mark this database and these documents buckets as SPACE's, once, so that restores know them.

    What another space has marked is refused: somebody pasted the wrong address.
    """
    from fac_backup.operations.adopt import run

    console.finish(run(space, confirm, around(console)))
