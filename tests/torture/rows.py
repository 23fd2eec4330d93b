"""The rows of the table: what each is called, how often it is tried at full length, and what runs it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

from . import busy, damage, inputs, kills, network, weeks
from .forge import Forge
from .table import Row
from .world import World


@dataclass(frozen=True)
class Kind:
    """How a row is run: on a world of its own (a role with or without CREATEDB), or on nothing."""

    full: int
    run: Callable[[Row, World, list[int]], None]
    createdb: bool = True
    share: int = 50
    """So many attempts have a world together (0: all): what one of them may depend on."""
    alone: bool = False
    """While no other row runs."""


ROWS = {
    "busy application": Kind(20, busy.run, share=0, alone=True),
    "busy application, in place": Kind(20, busy.run, createdb=False, share=0, alone=True),
    "kill backup": Kind(200, kills.run),
    "kill restore beside": Kind(200, kills.run),
    "kill restore in place": Kind(200, kills.run, createdb=False),
    "kill purge": Kind(200, kills.run),
    "network faults": Kind(500, network.run),
    "damaged bytes": Kind(1000, damage.run, share=100),
    "random inputs": Kind(10_000, inputs.run, share=2000),
    "seven weeks": Kind(len(weeks.HISTORIES), weeks.run, share=1),
}


def run_row(
    row: Row,
    pg: PostgresServer,
    s3: S3Server,
    folder: Path,
    numbers: list[int],
    *,
    short: bool = False,
    forge: Forge | None = None,
) -> None:
    """Run the attempts ``numbers`` of one row in a world of its own. ``short``: a history of one week, not of seven."""
    kind, began = ROWS[row.name], time.monotonic()
    row.first = numbers[0]
    logging.getLogger("fac_backup").setLevel(logging.ERROR)
    with ExitStack() as stack:
        forge = forge or stack.enter_context(Forge())
        world = World(pg, s3, folder, f"t{token_hex(4)}", createdb=kind.createdb, forge=forge)
        stack.callback(world.close)
        try:
            if short and kind.run is weeks.run:
                weeks.run(row, world, numbers, days=7)
            else:
                kind.run(row, world, numbers)
        finally:
            row.seconds = time.monotonic() - began
