"""``fac-backup import``."""

from __future__ import annotations

import click

from fac_backup.cli.common import Console, around, common, option

EPILOG = """\b
Examples:
  fac-backup import --space dev --database default-web1-2026-11-21-220000.psql.bin --media web1-2026-11-21-220100.tar
  fac-backup import --space dev --database old.psql.gz --media uploads=old.tar.gz --note "last of django-dbbackup"
  fac-backup import --space dev --database old.dump --media live       (the documents as they are now)
  aws s3 cp s3://old/db.psql.bin - | fac-backup import --space dev --database - --media live
"""


@click.command("import", epilog=EPILOG)
@option("--space", default="", help="The space whose backup it becomes. With one space only: that.")
@option("--database", required=True, help="A .psql.bin, .psql or .dump, gzipped or not; - is standard input.")
@option("--media", multiple=True, help="FILE or LABEL=FILE: a .tar or .tar.gz of documents; live: as they are now.")
@option("--note", default="", help="A line for people, shown by list.")
@option("--confirm", default="", help="Inside Actions: the space's name once more.")
@common
def command(console: Console, space: str, database: str, media: tuple[str, ...], note: str, confirm: str) -> None:
    """Take an archive of django-dbbackup into the catalog, as a backup like any other.

    It is restored into a scratch database first; from that and from the documents an ordinary backup is taken. The
    space's own database and documents are not touched. Import only what you made: an archive is SQL.
    """
    from fac_backup.operations.import_ import ImportRequest, run

    request = ImportRequest(space, database, media, note=note, confirm=confirm)
    console.finish(run(request, around(console)))
