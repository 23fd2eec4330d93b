"""``fac-backup doctor``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  GITHUB_TOKEN=$(gh auth token) fac-backup doctor --repository GSA-TTS/FAC
  fac-backup doctor --repository owner/name --json
"""


@click.command("doctor", epilog=EPILOG)
@option("--repository", default="", help="owner/name. Inside Actions: this one.")
@common
def command(console: Console, repository: str) -> None:
    """Check the settings that guard the backups (environments, reviewers, branches) and say which are missing.

    Where FAC_BACKUP_BUCKET is given too, it also says whether a backup is gone from it that nobody purged, and
    what the bucket will soon delete by age (`max_object_age_days`).

    Each missing one comes with the link to the page where it is set. Exit code 1 if one that matters is missing.
    """
    from fac_backup.operations.doctor import run

    console.finish(run(around(console), repository))
