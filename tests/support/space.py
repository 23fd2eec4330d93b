"""A small space to work on: a database, documents, a backups bucket, and the command line as a function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from .postgres import PostgresServer
from .s3 import S3Server
from .terminal import Seen, seen

FAC_BACKUP = str(Path(sys.executable).parent / "fac-backup")

MATRIX = """\
version: 1
who: {users: [alice]}
kinds: {hourly: {keep_newest: 2}}
spaces:
  dev: {retention: {daily: {keep_days: 1}, pre-deploy: {keep_newest: 2}}%(dev)s}
  preview: {retention: {daily: {keep_days: 1}, pre-deploy: {keep_newest: 2}}%(dev)s}
paths:
  - {source: dev, target: dev, purpose: recovery, when: [manual, unattended]}
  - {source: dev, target: preview, purpose: testing, when: manual}
"""

SCHEMA = """
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE TABLE parent (id int PRIMARY KEY, name text NOT NULL, shade colour);
CREATE TABLE child (id serial PRIMARY KEY, parent_id int NOT NULL REFERENCES parent, note text,
    CHECK (length(note) < 500));
CREATE INDEX child_parent ON child (parent_id);
CREATE MATERIALIZED VIEW per_parent AS SELECT parent_id, count(*) AS n FROM child GROUP BY 1;
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """What ``--json`` printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def last(self) -> str:
        """The line that says what happened."""
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else ""


@dataclass
class Space:
    """One space with its places; ``name`` is what the matrix calls it."""

    pg: PostgresServer
    s3: S3Server
    folder: Path
    unique: str
    name: str = "dev"
    backups: str = ""
    dev: str = ""
    """More settings of the space in the matrix, beginning with a comma."""
    createdb: bool = True
    url: str = field(init=False)
    documents: str = field(init=False)
    matrix: Path = field(init=False)

    def __post_init__(self) -> None:
        self.url = self.pg.create_database(self.unique, createdb=self.createdb)
        self.documents = self.s3.bucket("docs")
        self.backups = self.backups or self.s3.bucket("backups")
        self.matrix = self.folder / f"matrix-{self.unique}.yml"
        self.matrix.write_text(MATRIX % {"dev": self.dev})

    def fill(self, children: int = 2000, documents: int = 30) -> Space:
        """Schema, rows, documents; then adopt."""
        self.sql(
            SCHEMA,
            "INSERT INTO parent SELECT g, 'parent ' || g, 'red' FROM generate_series(1, 20) g",
            "INSERT INTO child (parent_id, note) SELECT 1 + g % 20, md5(g::text)"
            f" FROM generate_series(1, {children}) g",
            "REFRESH MATERIALIZED VIEW per_parent",
        )
        for number in range(documents):
            self.put(f"folder/{number:04d}.txt", f"document {number}".encode() * 10, f"text/x-{number % 3}")
        self.adopt()
        return self

    def adopt(self) -> None:
        """Mark everything as ours."""
        done = self.run("adopt", "--space", self.name)
        assert done.code == 0, done.err

    def sql(self, *statements: str) -> None:
        """Run statements as the database's owner, all in one transaction."""
        connection = psycopg2.connect(self.url)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.close()

    def value(self, query: str) -> Any:
        """The first value of a query's first row."""
        connection = psycopg2.connect(self.url)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return (cursor.fetchone() or (None,))[0]
        finally:
            connection.close()

    def client(self) -> Any:
        """A boto3 client for its buckets."""
        return self.s3.client()

    def put(self, key: str, body: bytes, content_type: str = "text/plain") -> None:
        """Put a document, with metadata of its own."""
        self.client().put_object(
            Bucket=self.documents, Key=key, Body=body, ContentType=content_type, Metadata={"length": str(len(body))}
        )

    def env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a command on this space."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            **self.s3.env(),
            "DATABASE_URL": self.url,
            "FAC_BACKUP_BUCKET": f"s3://{self.backups}",
            "FAC_BACKUP_DOCUMENTS": f"uploads=s3://{self.documents}",
            "FAC_BACKUP_MATRIX": str(self.matrix),
            **(more or {}),
        }

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command without waiting, so that it can be killed."""
        return subprocess.Popen(
            [FAC_BACKUP, *arguments], env=self.env(env), cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 120) -> Done:
        """Run a command to its end."""
        process = self.start(*arguments, env=env)
        out, err = process.communicate(timeout=timeout)
        return Done(process.returncode, out, err)

    def on_terminal(self, *arguments: str, columns: int = 80) -> Seen:
        """Run a command as a person does who sits before a terminal."""
        return seen([FAC_BACKUP, *arguments], self.env(), columns=columns, cwd=self.folder)

    def backup(self, kind: str = "daily", *more: str) -> str:
        """Back up; the id. Fails the test if that fails."""
        done = self.run("backup", "--space", self.name, "--kind", kind, "--json", *more)
        assert done.code == 0, done.err
        return str(done.json["backup_id"])

    def restore(self, backup_id: str, *more: str, source: str = "", env: Mapping[str, str] | None = None) -> Done:
        """Restore into this space."""
        return self.run(
            "restore", "--source", source or self.name, "--target", self.name, "--backup-id", backup_id,
            "--confirm", self.name, "--json", *more, env=env,
        )  # fmt: skip

    def state(self) -> tuple[dict[str, Any], dict[str, tuple[bytes, str, str]]]:
        """What the database and the documents are: rows by table, and bytes, content type and metadata by key."""
        tables = {
            "parent": "SELECT array_agg(p ORDER BY id)::text FROM parent p",
            "child": "SELECT count(*) || ' ' || sum(hashtext(c::text)) FROM child c",
            "per_parent": "SELECT count(*) || ' ' || sum(n) FROM per_parent",
            "sequence": "SELECT last_value FROM child_id_seq",
            "objects": "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
        }
        return {name: self.value(query) for name, query in tables.items()}, self.all_documents()

    def all_documents(self) -> dict[str, tuple[bytes, str, str]]:
        """Bytes, content type and metadata of every document but the marker."""
        client = self.client()
        found = {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.documents):
            for one in page.get("Contents", []):
                if one["Key"].startswith(".fac-backup/"):
                    continue
                got = client.get_object(Bucket=self.documents, Key=one["Key"])
                metadata = json.dumps(got["Metadata"], sort_keys=True)
                found[one["Key"]] = (got["Body"].read(), got["ContentType"], metadata)
        return found

    def stored(self, prefix: str = "") -> list[str]:
        """Keys in this space's store."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.backups, Prefix=f"{self.name}/{prefix}")
        return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def databases(self) -> list[str]:
        """Databases of this space's name, scratch ones included."""
        connection = psycopg2.connect(self.pg.url("postgres"))
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE %s ORDER BY 1", (f"{self.unique}%",))
                return [name for (name,) in cursor.fetchall()]
        finally:
            connection.close()

    def close(self) -> None:
        """Drop its databases and buckets."""
        self.s3.remove(self.documents, self.backups)
        for name in self.databases():
            self.pg.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
