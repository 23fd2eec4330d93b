"""A consumer at GitHub with four spaces, for tests that run whole workflows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def spaces(pg18: PostgresServer, s3: S3Server, unique: str, tmp_path: Path) -> Iterator[dict[str, Space]]:
    """Four spaces, each marked as itself, each telling its own name. They share one backups bucket."""
    (tmp_path / "action-matrix.yml").write_text(MATRIX)
    backups = s3.bucket("backups")
    made = {name: make(name, unique, pg18, s3, backups) for name in ("production", "staging", "dev", "preview")}
    for name, space in made.items():
        space.fill(name)
        space.fac_backup("adopt", "--space", name, cwd=tmp_path)
    yield made
    for name, space in made.items():
        database = f"{unique}_{name}"
        pg18.execute("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        space.empty()


@pytest.fixture
def unmarked(pg18: PostgresServer, s3: S3Server, unique: str) -> Iterator[Space]:
    """A database and documents that nobody has marked yet."""
    space = make("alone", unique, pg18, s3, s3.bucket("backups"))
    space.fill("alone")
    yield space
    pg18.execute("postgres", f"DROP DATABASE IF EXISTS {unique}_alone WITH (FORCE)")
    space.empty()
