"""The rows of the table: what each is called, how often it is tried at full length, and what runs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

from . import kills
from .forge import Forge
from .table import Row
from .world import World


@dataclass(frozen=True)
class Kind:
    """How a row is run: on a world of its own (a role with or without CREATEDB), or on nothing."""

    full: int
    run: Callable[[Row, World, list[int]], None]
    createdb: bool = True


ROWS = {
    "kill backup": Kind(200, kills.run),
    "kill restore beside": Kind(200, kills.run),
    "kill restore in place": Kind(200, kills.run, createdb=False),
    "kill purge": Kind(200, kills.run),
}


def run_row(row: Row, pg: PostgresServer, s3: S3Server, folder: Path, numbers: list[int]) -> None:
    """Run the attempts ``numbers`` of one row in a world of its own."""
    kind, began = ROWS[row.name], time.monotonic()
    with Forge() as forge:
        world = World(pg, s3, folder, f"t{token_hex(4)}", createdb=kind.createdb, forge=forge)
        try:
            kind.run(row, world, numbers)
        finally:
            world.close()
            row.seconds = time.monotonic() - began
