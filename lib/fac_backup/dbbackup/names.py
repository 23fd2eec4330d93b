"""How django-dbbackup names its files (django-dbbackup 5.4, ``dbbackup/utils.py`` and ``settings.py``, defaults).

``{databasename}-{servername}-{datetime}.{extension}`` for a database, ``{servername}-{datetime}.{extension}`` for
media, the moment in the local time of the machine that made it. Its commands find backups by the date in the name,
media by ``.tar`` in it, and a database's by the database's key.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

DATE_FORMAT = "%Y-%m-%d-%H%M%S"

CUSTOM_CONNECTOR = "dbbackup.db.postgresql.PgDumpBinaryConnector"
"""The connector that reads ``pg_dump --format=custom``; the metadata of a backup names it."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}-\d{6}")


@dataclass(frozen=True)
class ArchiveName:
    """What the name of a file says about it. The content decides all the same."""

    kind: Literal["database", "media"]
    gzipped: bool
    encrypted: bool
    made: datetime | None
    """Naive: local time of whoever made it; None if the name holds no date."""


def parse(name: str) -> ArchiveName:
    """What ``name`` (a path or a key; only its last part counts) says.

    >>> parse("backups/default-web1-2026-11-22-201653.psql.bin.gz").gzipped
    True
    """
    last = name.rsplit("/", 1)[-1]
    found = _DATE.search(last)
    made = None
    if found:
        try:
            made = datetime.strptime(found[0], DATE_FORMAT)
        except ValueError:
            made = None
    return ArchiveName(
        kind="media" if re.search(r"\.(tar|tgz)(\.|$)", last) else "database",
        gzipped=bool(re.search(r"\.(gz|tgz)(\.|$)", last)),
        encrypted=".gpg" in last,
        made=made,
    )


def database_name(database_key: str, server: str, made: datetime, *, gzipped: bool = False) -> str:
    """What ``dbbackup`` would call a custom-format archive of ``DATABASES[database_key]`` made at ``made``."""
    return _collapse(f"{database_key}-{server}-{made.strftime(DATE_FORMAT)}.psql.bin") + (".gz" if gzipped else "")


def media_name(server: str, made: datetime, *, gzipped: bool = False) -> str:
    """What ``mediabackup`` would call an archive made at ``made``."""
    return _collapse(f"{server}-{made.strftime(DATE_FORMAT)}.tar") + (".gz" if gzipped else "")


def metadata_name(name: str) -> str:
    """The file beside a database's archive that says which connector reads it."""
    return f"{name}.metadata"


def metadata(engine: str = "django.db.backends.postgresql") -> bytes:
    """Its content. ``dbrestore`` refuses an archive whose ``engine`` is not the one in ``DATABASES``."""
    return json.dumps({"engine": engine, "connector": CUSTOM_CONNECTOR}).encode()


def _collapse(name: str) -> str:
    return re.sub(r"-+", "-", name).removeprefix("-")
