"""Start the stand-in by hand: the FAC's organization with its four spaces, apps, databases and buckets.

    python -m tests.support.cloudfoundry [--json FILE]

It prints where it is and whom to log in as; Ctrl-C stops it. ``FAC_TEST_SERVERS`` reuses running PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.servers import shared_postgres

from .fac import build
from .server import CloudFoundry


def main() -> None:
    """Start, say where, wait for Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write address, user and password to this file as well")
    chosen = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    with ExitStack() as stack:
        s3 = stack.enter_context(S3Server())
        postgres = shared_postgres(18) or stack.enter_context(PostgresServer(18))
        cloud = stack.enter_context(CloudFoundry(s3))
        fac = build(cloud, s3, postgres)
        where = {"CF_API": cloud.address, "CF_USERNAME": fac.user.name, "CF_PASSWORD": fac.user.password,
                 "org": "gsa-tts-oros-fac", "app": "gsa-fac", "s3": s3.env(), "databases": fac.databases}  # fmt: skip
        if chosen.json:
            chosen.json.write_text(json.dumps(where, indent=1))
        print(
            json.dumps(where, indent=1),
            cloud.world.table(),
            *exports(where),
            "Ctrl-C stops it.",
            sep="\n\n",
            flush=True,
        )
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
        print(cloud.world.table())


def exports(where: dict[str, Any]) -> tuple[str, str]:
    """What to paste for ``python -m tests.support.cloudfoundry.cf``, and for ``fac-backup`` in mode: task."""
    names = ("CF_API", "CF_USERNAME", "CF_PASSWORD")
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    given = " ".join(f"FAC_BACKUP_{name}={where[name]}" for name in names)
    return (
        f"export {' '.join(f'{name}={where[name]}' for name in names)} CF_TARGET={where['org']}/staging",
        f"export FAC_BACKUP_MODE=task FAC_BACKUP_TASK_PYTHON={python} {given}",
    )


if __name__ == "__main__":
    main()
