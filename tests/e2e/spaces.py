"""Spaces for tests through act: databases and buckets of their own, marked, filled, and compared by a fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server


@dataclass
class Space:
    """One space: a small database and a bucket of documents, and where its backups go."""

    name: str
    url: str
    documents: str
    """Name of the bucket."""
    backups: str
    s3: S3Server = field(repr=False)
    folder: Path
    """Where the matrix is, for the command line."""

    @property
    def credentials(self) -> str:
        """JSON in the shape of a binding."""
        return json.dumps(
            {
                "access_key_id": self.s3.access_key,
                "secret_access_key": self.s3.secret_key,
                "region": "us-east-1",
                "endpoint": self.s3.endpoint,
            }
        )

    def secrets(self, prefix: str = "") -> dict[str, str]:
        """What the space's environment would hold, with ``prefix`` before each name."""
        values = {
            "DATABASE_URL": self.url,
            "BUCKET": f"s3://{self.backups}/all",
            "BUCKET_CREDENTIALS": self.credentials,
            "DOCUMENTS": f"private=s3://{self.documents}",
            "DOCUMENTS_CREDENTIALS": self.credentials,
        }
        return {prefix + key: value for key, value in values.items()}

    def environment(self) -> dict[str, str]:
        """The same as the command line reads it."""
        secrets = {key if key == "DATABASE_URL" else f"FAC_BACKUP_{key}": v for key, v in self.secrets().items()}
        return {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ} | secrets

    def fill(self, words: str) -> None:
        """Replace everything by rows and documents that tell ``words``."""
        with psycopg2.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS audit, finding")
            cursor.execute("CREATE TABLE audit (id bigint PRIMARY KEY, words text NOT NULL)")
            cursor.execute("CREATE TABLE finding (audit bigint REFERENCES audit, n int, PRIMARY KEY (audit, n))")
            cursor.execute("INSERT INTO audit SELECT g, %s || g FROM generate_series(1, 300) g", (words,))
            cursor.execute("INSERT INTO finding SELECT 1 + g % 300, g FROM generate_series(1, 500) g")
        connection.close()
        client = self.s3.client()
        for key in self._keys():
            if not key.startswith(".fac-backup/"):
                client.delete_object(Bucket=self.documents, Key=key)
        for number in range(5):
            body = f"{words} {number}".encode()
            client.put_object(Bucket=self.documents, Key=f"a/{words}-{number}.txt", Body=body, ContentType="text/plain")

    def fingerprint(self) -> str:
        """A hash of all rows and all documents; markers are not part of it."""
        digest = hashlib.sha256()
        with psycopg2.connect(self.url) as connection, connection.cursor() as cursor:
            for query in ("SELECT id, words FROM audit ORDER BY 1", "SELECT audit, n FROM finding ORDER BY 1, 2"):
                cursor.execute(query)
                digest.update(repr(cursor.fetchall()).encode())
        connection.close()
        client = self.s3.client()
        for key in sorted(self._keys()):
            if not key.startswith(".fac-backup/"):
                answer = client.get_object(Bucket=self.documents, Key=key)
                digest.update(repr((key, answer["ContentType"], answer["Body"].read())).encode())
        return digest.hexdigest()

    def stored(self) -> list[str]:
        """The keys in the backups bucket."""
        return sorted(_all_keys(self.s3.client(), self.backups))

    def remove(self) -> None:
        """Delete the buckets, so that a long session does not fill the server's volumes."""
        client = self.s3.client()
        for bucket in (self.documents, self.backups):
            if bucket in [one["Name"] for one in client.list_buckets()["Buckets"]]:
                for key in _all_keys(client, bucket):
                    client.delete_object(Bucket=bucket, Key=key)
                client.delete_bucket(Bucket=bucket)

    def fac_backup(self, *arguments: str) -> dict[str, Any]:
        """Run the command line outside Actions. Gives its JSON; fails if it fails."""
        program = Path(sys.executable).parent / "fac-backup"
        done = subprocess.run(
            [program, *arguments, "--json"],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def _keys(self) -> list[str]:
        return _all_keys(self.s3.client(), self.documents)


def make(name: str, unique: str, postgres: PostgresServer, s3: S3Server, backups: str, folder: Path) -> Space:
    """A space with an empty database; its backups bucket is given, since spaces may share one."""
    url = postgres.create_database(f"{unique}_{name}")
    return Space(name, url, s3.bucket(f"docs-{name}"), backups, s3, folder)


def _all_keys(client: Any, bucket: str) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]
