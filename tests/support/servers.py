"""Servers that tests share. Started by a test session, or by hand so that many sessions reuse them:

.venv/bin/python -m tests.support.servers /tmp/fac-servers.json     (stops with Ctrl-C)
FAC_TEST_SERVERS=/tmp/fac-servers.json .venv/bin/pytest tests/integration
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from .postgres import PostgresServer
from .s3 import S3Server


def shared() -> dict[str, Any] | None:
    """The servers that somebody started by hand, if ``FAC_TEST_SERVERS`` names their file."""
    path = os.environ.get("FAC_TEST_SERVERS")
    return json.loads(Path(path).read_text()) if path else None


def where(pg18: PostgresServer, pg15: PostgresServer, s3: S3Server) -> str:
    """What the file says of running servers."""
    return json.dumps({
        "pg18": {"port": pg18.port, "password": pg18.password},
        "pg15": {"port": pg15.port, "password": pg15.password},
        "s3": {"access_key": s3.access_key, "secret_key": s3.secret_key, "port": s3.port},
    })  # fmt: skip


def shared_postgres(major: int) -> PostgresServer | None:
    """The PostgreSQL server of that major that was started by hand, if any."""
    running = shared()
    if running is None:
        return None
    return PostgresServer(major, port=running[f"pg{major}"]["port"], password=running[f"pg{major}"]["password"])


def shared_s3() -> S3Server | None:
    """The S3 server that was started by hand, if any."""
    running = shared()
    return None if running is None else S3Server(**running["s3"])


def main() -> None:
    """Start PostgreSQL 18 and 15 and SeaweedFS, write where they are, wait for a signal, stop them."""
    with PostgresServer(18) as pg18, PostgresServer(15) as pg15, S3Server() as s3:
        path = Path(sys.argv[1])
        path.write_text(where(pg18, pg15, s3))
        print(f"PostgreSQL 18 and 15 and SeaweedFS run; {path} says where. Ctrl-C stops them.", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
