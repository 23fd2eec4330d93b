"""``fac-backup doctor``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  GITHUB_TOKEN=$(gh auth token) fac-backup doctor --repository GSA-TTS/FAC
"""


@click.command("doctor", epilog=EPILOG)
@option("--repository", default="", help="owner/name on GitHub. Inside Actions: the run's own.")
@common
def command(console: Console, repository: str) -> None:
    """Check the settings at GitHub that guard the backups, and say which are missing and where they are set."""
    from fac_backup.operations.doctor import run

    console.finish(run(around(console), repository))
