"""A consumer at GitHub with four spaces, for tests that run whole workflows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex

import pytest

from tests.e2e.spaces import Space, make
from tests.support.act import Act
from tests.support.github_api import World, serve
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.unit.hosting.world import MATRIX, consumer


@pytest.fixture
def act(tmp_path: Path) -> Act:
    """A consumer's empty repository."""
    return Act(tmp_path / "act")


@pytest.fixture
def world() -> World:
    """GitHub, with a matrix, a team and guarded environments."""
    return consumer()


@pytest.fixture
def api(world: World) -> Iterator[str]:
    """Its API."""
    with serve(world) as url:
        yield url


@pytest.fixture(scope="module")
def spaces(pg18: PostgresServer, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Space]]:
    """Four spaces that share a backups bucket, each marked as itself and telling its own name. Shared by a module."""
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "action-matrix.yml").write_text(MATRIX)
    unique, backups = f"t{token_hex(4)}", s3.bucket("backups")
    made = {name: make(name, unique, pg18, s3, backups, folder) for name in ("production", "staging", "dev", "preview")}
    for name, space in made.items():
        space.fill(name)
    # Each command is a Python of its own: at the same time they take a quarter as long.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda space: space.fac_backup("adopt", "--space", space.name), made.values()))
    yield made
    for name, space in made.items():
        pg18.execute("postgres", f"DROP DATABASE IF EXISTS {unique}_{name} WITH (FORCE)")
        space.remove()


@pytest.fixture
def unmarked(pg18: PostgresServer, s3: S3Server, unique: str, tmp_path: Path) -> Iterator[Space]:
    """A database and documents that nobody has marked yet."""
    space = make("alone", unique, pg18, s3, s3.bucket("backups"), tmp_path)
    space.fill("alone")
    yield space
    pg18.execute("postgres", f"DROP DATABASE IF EXISTS {unique}_alone WITH (FORCE)")
    space.remove()
