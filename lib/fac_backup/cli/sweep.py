"""``fac-backup sweep``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup sweep                       (all spaces of the matrix that this account can see)
  fac-backup sweep --space staging
"""


@click.command("sweep", epilog=EPILOG)
@option("--space", default="", help="Only this space of the matrix.")
@common
def command(console: Console, space: str) -> None:
    """Remove what a killed run left on Cloud Foundry: tasks, bindings and keys that carry our label.

    What a living run still looks after is kept, and what does not carry our label is never touched (docs/cloud-gov.md).
    """
    from fac_backup.operations.in_space import sweep

    console.finish(sweep(space, around(console)))
