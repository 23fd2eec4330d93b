"""``fac-backup verify``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup verify --space dev                                   (the newest backup, every object)
  fac-backup verify --space dev --backup-id ID --level restore    (the rehearsal, in a scratch database)
  fac-backup verify --space dev --level age                       (only: is the newest backup young enough)
  fac-backup verify --space dev --live                            (the live tables beside the newest backup's)
"""


@click.command("verify", epilog=EPILOG)
@option("--space", default="", help="The space. With one space only: that.")
@option("--backup-id", default="", help="Which backup. Default: the newest.")
@option("--level", type=click.Choice(["objects", "restore", "age"]), default="objects", help="objects: everything "
        "that the manifest names is there and whole. restore: restored into a scratch database and compared. age: "
        "only whether the newest backup is young enough (--max-age-hours, else 26 hours).")  # fmt: skip
@option("--live", is_flag=True, help="Compare the live tables' rows with the backup's counts.")
@option("--max-age-hours", type=click.FloatRange(0), default=None, help="Fail if the newest backup is older.")
@option("--report-issue", is_flag=True, help="Inside Actions: a failure opens an issue for this "
        "space and kind of check, the next success closes it.")  # fmt: skip
@option("--ping-url", default="", help="A dead man's switch: URL/start, then URL or URL/fail is requested.")
@common
def command(
    console: Console, space: str, backup_id: str, level: str, live: bool, max_age_hours: float | None,
    report_issue: bool, ping_url: str,
) -> None:  # fmt: skip
    """Prove that a backup is whole, rehearse its restore, or look whether the newest one is young enough.

    A backup that was removed from the bucket without a purge is named as a warning at every level.
    The rehearsal needs a server for its scratch database: FAC_BACKUP_SCRATCH_DATABASE_URL, else DATABASE_URL's.
    """
    from fac_backup.operations import in_space
    from fac_backup.operations.verify import VerifyRequest
    from fac_backup.operations.verify_report import reported
    from fac_backup.operations.watchdog import watched

    here = around(console)

    request = VerifyRequest(space, backup_id, level, live, max_age_hours)
    with watched(ping_url):
        if report_issue:
            result = reported(here, request, lambda: in_space.verify(request, here))
        else:
            result = in_space.verify(request, here)
    console.finish(result)
