"""What is measured: ``fac-backup`` as its actions run it, one process an operation."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import measure
from .measure import Run
from .world import SCRIPTS, World, written

MATRIX = """\
version: 1
who: {users: [bench]}
spaces:
  dev:
  preview:
paths:
  - {source: dev, target: preview, when: manual, undo: none}
"""


@dataclass(frozen=True)
class Ours:
    """Two spaces, dev and preview, with all settings as they are unless told otherwise."""

    world: World

    @property
    def folder(self) -> Path:
        """The folder that it runs in, with the matrix."""
        folder = self.world.folder / "ours"
        folder.mkdir(exist_ok=True)
        (folder / "action-matrix.yml").write_text(MATRIX)
        return folder

    def run(self, bucket: str, database: str, documents: str, *arguments: str) -> Run:
        """One command. ``documents`` is a bucket's name, or empty for none."""
        env = self.env(bucket, database, documents)
        return measure.run([SCRIPTS / "fac-backup", *arguments], env=env, cwd=self.folder)

    def env(self, bucket: str, database: str, documents: str) -> dict[str, str]:
        """The whole environment of a command."""
        return self.world.env() | {
            "DATABASE_URL": database,
            "FAC_BACKUP_BUCKET": f"s3://{bucket}",
            "FAC_BACKUP_DOCUMENTS": f"uploads=s3://{documents}" if documents else "none",
        }

    def backup(self, bucket: str, database: str, documents: str = "", *options: str) -> Run:
        """Back up dev into ``bucket``; what was written there, all kinds of objects, is the bytes uploaded."""
        before = self.world.contents(bucket)
        run = self.run(bucket, database, documents, "backup", "--space", "dev", "--kind", "daily", "--json", *options)
        return replace(run, bytes_uploaded=written(before, self.world.contents(bucket)))

    def result(self, run: Run) -> dict[str, Any]:
        """What the command said."""
        said: dict[str, Any] = json.loads(run.output)
        return said

    def adopt(self, bucket: str, database: str, documents: str = "") -> None:
        """Mark a database as preview's."""
        self.run(bucket, database, documents, "adopt", "--space", "preview")

    def restore(self, bucket: str, database: str, backup_id: str, documents: str = "", *options: str) -> Run:
        """Replace preview by a backup of dev. No backup of preview is taken before: no contender takes one."""
        return self.run(
            bucket, database, documents, "restore", "--source", "dev", "--target", "preview",
            "--backup-id", backup_id, "--confirm", "preview", "--json", *options,
        )  # fmt: skip
