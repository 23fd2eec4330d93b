"""``fac-backup unlock``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup unlock --space dev                      (shows who works there, changes nothing)
  fac-backup unlock --space dev --owner OWNER        (breaks that one's locks)
"""


@click.command("unlock", epilog=EPILOG)
@option("--space", default="", help="The space whose store is locked. With one space only: that.")
@option("--owner", default="", help="Whose lock to break, as shown without this option.")
@option("--confirm", default="", help="Inside Actions, with --owner: the space's name once more.")
@common
def command(console: Console, space: str, owner: str, confirm: str) -> None:
    """Show who holds the locks of a store since when, and break the lock of one that is surely dead.

    A lock whose holder died is taken over by itself when its lease runs out; this is for those who cannot wait.
    """
    from fac_backup.operations.unlock import run

    console.finish(run(space, owner, confirm, around(console)))
