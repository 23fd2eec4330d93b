"""The head of an archive: its table of contents, in a small file that pg_restore can seek in.

pg_restore runs in parallel from a file only, and reads no data for a schema: the first pieces of the archive, up to
the end of its table of contents, are file enough for everything but the data.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fac_backup.database.clients import Client
from fac_backup.plain.errors import FailedError, IntegrityError
from fac_backup.plain.manifest import Archive
from fac_backup.plain.protocols import PieceSource

# "215; 1259 16385 TABLE public tall owner"; a tag may hold blanks, so only the beginning is taken apart.
_LINE = re.compile(r"(\d+); (\d+) (\d+) (.*)")

# Descriptions of more than one word (the calls of ArchiveEntry in pg_dump.c), longest first where one begins another.
_DESCRIPTIONS = (
    "ACCESS METHOD", "BLOB METADATA", "CHECK CONSTRAINT", "COMMENT", "CONSTRAINT", "DATABASE PROPERTIES",
    "DEFAULT ACL", "ENCODING", "EVENT TRIGGER", "FK CONSTRAINT", "FOREIGN DATA WRAPPER", "FOREIGN TABLE",
    "INDEX ATTACH", "LARGE OBJECT", "LARGE OBJECTS", "MATERIALIZED VIEW DATA", "MATERIALIZED VIEW",
    "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURAL LANGUAGE", "PUBLICATION TABLES IN SCHEMA", "PUBLICATION TABLE",
    "ROW SECURITY", "SECURITY LABEL", "SEQUENCE OWNED BY", "SEQUENCE SET", "SHELL TYPE", "STATISTICS DATA",
    "SUBSCRIPTION TABLE", "TABLE ATTACH", "TABLE DATA", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "USER MAPPING",
)  # fmt: skip

MOST_HEAD_BYTES = 1 << 30
"""No table of contents is longer than this: a forged archive must not fill the disk."""


@dataclass(frozen=True)
class Entry:
    """One line of an archive's table of contents."""

    number: int
    catalog: int
    """Oid of the catalog that the object is described in, 0 if none."""
    oid: int
    description: str
    """What it is: ``TABLE``, ``TABLE DATA``, ``ACL``, …"""
    rest: str
    """Schema, tag and owner, as pg_restore shows them: with blanks, unquoted, line feeds made blanks. Where nobody owns
    it (an extension), it ends with a blank.
    """
    line: str
    """The whole line, as ``--use-list`` wants it."""

    @property
    def shown(self) -> str:
        """For people, without the owner: ``EXTENSION - hstore``."""
        name = self.rest.rsplit(" ", 1)[0]
        return f"{self.description} {name.removeprefix('- ')}".strip()


@dataclass(frozen=True)
class Head:
    """An archive's head as a file, and what its table of contents lists."""

    file: Path
    client: Client
    entries: tuple[Entry, ...]
    pieces: int
    """How many of the archive's first pieces it consists of."""

    def of(self, *descriptions: str) -> tuple[Entry, ...]:
        """The entries that are one of ``descriptions``, in order."""
        return tuple(entry for entry in self.entries if entry.description in descriptions)

    def write_list(self, file: Path, entries: Iterable[Entry]) -> Path:
        """Write a list for ``--use-list`` that holds ``entries`` only; return ``file``."""
        file.write_text("".join(f"{entry.line}\n" for entry in entries), encoding="utf-8", errors="surrogateescape")
        return file


def parse(listing: str) -> tuple[Entry, ...]:
    """The entries of what ``pg_restore --list`` prints.

    >>> parse("; comment\\n7; 1259 16385 TABLE DATA public tall owner\\n")[0].description
    'TABLE DATA'
    """
    entries = []
    for line in listing.split("\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        text = match[4]
        words = [word for word in _DESCRIPTIONS if text.startswith(word + " ")]
        description = max(words, key=len) if words else text.split(" ", 1)[0]
        entries.append(
            Entry(int(match[1]), int(match[2]), int(match[3]), description, text[len(description) + 1 :], line)
        )
    return tuple(entries)


def fetch_head(archive: Archive, pieces: PieceSource, client: Client, directory: Path) -> Head:
    """Write the archive's first pieces into a file below ``directory``, until pg_restore accepts it.

    Each piece is verified by ``pieces`` before it is written. Raises IntegrityError if the whole archive does not do.
    """
    file = directory / "archive-head"
    taken, size, attempt_at = 0, 0, 1
    with file.open("wb") as output:
        for piece in archive.pieces:
            output.write(pieces.read(piece))
            taken += 1
            size += piece.size
            if taken < attempt_at and taken < len(archive.pieces):
                continue
            output.flush()
            listing = list_contents(file, client)
            if listing is not None:
                return Head(file, client, parse(listing), taken)
            if size > MOST_HEAD_BYTES:
                break
            attempt_at *= 2  # so that a long table of contents is not read again for every piece of it
    raise IntegrityError(
        "The archive of this backup has no table of contents that pg_restore can read",
        next_step="Choose another backup (`fac-backup list`), and keep this bucket as it is for the analysis.",
    )


def list_contents(file: Path, client: Client) -> str | None:
    """What ``pg_restore --list`` says of ``file``; None if it cannot read it (yet)."""
    command: Sequence[str] = (client.program("pg_restore"), "--list", str(file))
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, stdin=subprocess.DEVNULL, env=plain_environment()
        )
    except OSError:
        raise FailedError("pg_restore could not be started") from None
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None


def script_of(head: Head, entries: Iterable[Entry], directory: Path, codec: str) -> str:
    """The SQL that pg_restore would run for ``entries`` (none of them data), as text; nothing is executed."""
    chosen = head.write_list(directory / "chosen-entries", entries)
    command = (
        head.client.program("pg_restore"), "--no-owner", f"--use-list={chosen}", "--file=-", str(head.file),
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, env=plain_environment())
    if done.returncode != 0:
        raise IntegrityError("pg_restore cannot read the archive's table of contents")
    return done.stdout.decode(codec, "surrogateescape")


def plain_environment() -> dict[str, str]:
    """The environment of a pg_restore that talks to no server."""
    library_path = os.environ.get("LD_LIBRARY_PATH")
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **({"LD_LIBRARY_PATH": library_path} if library_path else {})}
