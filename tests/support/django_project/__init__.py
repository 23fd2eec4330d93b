"""A small Django project with django-dbbackup in it, shaped a little like the FAC: submissions with reports."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
MANAGE = HERE / "manage.py"


@dataclass(frozen=True)
class Project:
    """One instance of the project: its database, its documents, and the folder where dbbackup keeps what it makes."""

    database_url: str
    media: Path
    backups: Path
    bin_dir: Path
    connector: str = "PgDumpBinaryConnector"

    def env(self) -> dict[str, str]:
        """The whole environment of its management commands."""
        url = urlsplit(self.database_url)
        return {
            "PATH": os.environ["PATH"],
            "PROJECT_DATABASE": url.path[1:],
            "PROJECT_USER": url.username or "",
            "PROJECT_PASSWORD": url.password or "",
            "PROJECT_PORT": str(url.port),
            "PROJECT_MEDIA": str(self.media),
            "PROJECT_BACKUPS": str(self.backups),
            "PROJECT_BIN": str(self.bin_dir),
            "PROJECT_CONNECTOR": self.connector,
        }

    def manage(self, *arguments: str) -> str:
        """Run ``manage.py`` and return what it printed. Raises AssertionError with all of it if it fails."""
        done = subprocess.run(
            [sys.executable, str(MANAGE), *arguments], env=self.env(), capture_output=True, text=True, check=False,
            timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
