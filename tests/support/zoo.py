"""Fills a database with the zoo (zoo.sql): one of everything that is awkward to copy."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fac_backup.database.connection import Database

from .postgres import PostgresServer, bin_dir

_HERE = Path(__file__).parent


def zoo(server: PostgresServer, name: str, *, superuser: bool = False) -> str:
    """Make database ``name`` with the zoo in it; return its owner's address. ``superuser`` adds event triggers."""
    server.execute(
        "postgres",
        *(
            f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN;"
            " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            for role in ("zoo_reader", "zoo_writer")
        ),
    )
    url = server.create_database(name)
    run_sql(url, _HERE / "zoo.sql", server.major)
    if superuser:
        run_sql(server.url(name), _HERE / "zoo_superuser.sql", server.major)
    return url


def run_sql(url: str, script: Path, major: int) -> None:
    """Run a script with psql; a failure shows psql's own words."""
    done = subprocess.run(
        [bin_dir(major) / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", script],
        env=Database(url).env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
