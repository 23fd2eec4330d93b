"""docs/break-glass/restore.sh, executed on a PATH that has nothing but the programs that it names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import zstandard

from fac_backup.database.connection import Database
from fac_backup.store.signing import Signer, new_private_pem
from tests.support.equality import normalized, stock_restore
from tests.support.postgres import PostgresServer, bin_dir
from tests.support.s3 import S3Server
from tests.support.space import Done, Space
from tests.support.zoo import zoo

from .test_runbook import blocks

SCRIPT = Path(__file__).parents[2] / "docs" / "break-glass" / "restore.sh"

HOSTILE = ("file:/etc/hostname", "-rf", "--help", "line\nfeed", "ünï/c ödé", "$(touch x)`touch y`", "'\";--")
"""Keys of documents that would be something else as a local path, an option, SQL or shell."""


@pytest.fixture(scope="module")
def key() -> str:
    return new_private_pem()


def trusting(key: str) -> str:
    """Settings of a space whose backups that key must have signed."""
    public = "".join(Signer.from_pem(key).public_pem().splitlines()[1:-1])
    return f", public_keys: [{public}], require_signatures: true"


@pytest.fixture
def space(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str, key: str) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique, dev=trusting(key))
    (tmp_path / "dev.pem").write_text(Signer.from_pem(key).public_pem())
    zoo(pg18, unique)
    made.adopt()
    yield made
    made.close()


def back_up(space: Space, key: str, pages: str = "16") -> str:
    done = space.run(
        "backup", "--space", "dev", "--kind", "daily", "--range-threshold", "65536", "--range-pages", pages, "--json",
        env={"FAC_BACKUP_SIGNING_KEY": key},
    )  # fmt: skip
    assert done.code == 0, done.err
    return str(done.json["backup_id"])


def program(name: str) -> Path:
    """Where a program really is: a version manager's stand-in needs more on its PATH than itself."""
    found = shutil.which(name)
    if found and Path(found).parent.name == "shims":
        asked = subprocess.run(["pyenv", "which", name], capture_output=True, text=True, check=False)
        found = asked.stdout.strip() or None
    assert found, f"{name} is not installed: run `make setup` as root"
    return Path(found)


class Glass:
    """A new database, a new documents bucket, and the script with five or six programs to help it."""

    def __init__(self, space: Space, tool: str, folder: Path) -> None:
        self.space, self.tool, self.folder = space, tool, folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for name in ("openssl", "zstd", tool):
            (self.bin / name).symlink_to(program(name))
        for name in ("psql", "pg_restore"):
            (self.bin / name).symlink_to(bin_dir(18) / name)
        self.database = f"{space.unique}_glass"
        self.url = space.pg.create_database(self.database, owner=f"{space.unique}_owner")
        self.documents = space.s3.bucket("glass")
        self.runs = 0

    def run(self, backup_id: str, *more: str) -> Done:
        """Run the script, in a work folder of its own."""
        self.runs += 1
        work = self.folder / f"work-{self.runs}"
        work.mkdir()
        env = {"PATH": str(self.bin), **self.env()}
        done = subprocess.run(
            ["/bin/bash", SCRIPT, "--public-key", str(self.space.folder / "dev.pem"), "--work", str(work), *more,
             f"s3://{self.space.backups}", backup_id],
            env=env, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert all(file.stat().st_size == 0 for file in work.iterdir()), "no data is left in the work folder"
        return Done(done.returncode, done.stdout, done.stderr)

    def env(self) -> dict[str, str]:
        """Where everything is, as the script wants it."""
        s3 = self.space.s3
        env = {
            "HOME": str(self.space.folder), "PGHOST": "127.0.0.1", "PGPORT": str(self.space.pg.port),
            "PGUSER": f"{self.space.unique}_owner", "PGPASSWORD": f"{self.space.unique}_owner-pw",
            "PGDATABASE": self.database, "JOBS": "4", **s3.env(), "AWS_ENDPOINT_URL": s3.endpoint,
        }  # fmt: skip
        if self.tool == "rclone":
            env |= {
                "RCLONE_REMOTE": "vault", "RCLONE_CONFIG_VAULT_TYPE": "s3", "RCLONE_CONFIG_VAULT_PROVIDER": "Other",
                "RCLONE_CONFIG_VAULT_ACCESS_KEY_ID": s3.access_key, "RCLONE_CONFIG_VAULT_ENDPOINT": s3.endpoint,
                "RCLONE_CONFIG_VAULT_SECRET_ACCESS_KEY": s3.secret_key,
            }  # fmt: skip
        return env

    def objects(self) -> dict[str, tuple[bytes, str, dict[str, str]]]:
        """What arrived: bytes, content type, metadata."""
        client, found = self.space.s3.client(), {}
        for one in client.list_objects_v2(Bucket=self.documents).get("Contents", []):
            got = client.get_object(Bucket=self.documents, Key=one["Key"])
            found[one["Key"]] = (got["Body"].read(), got["ContentType"], got["Metadata"])
        return found

    def close(self) -> None:
        """Remove what was made."""
        self.space.s3.remove(self.documents)
        self.space.pg.execute("postgres", f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')


@pytest.mark.parametrize("tool", ["aws", "rclone"])
def test_a_backup_is_restored_by_stock_programs_alone(space: Space, tool: str, tmp_path: Path, key: str) -> None:
    few = tool == "aws"  # each call of it takes most of a second
    for number, name in enumerate(HOSTILE[:4] if few else HOSTILE):
        space.put(name, f"document {number}".encode() * 50, "text/x-glass")
    backup_id = back_up(space, key, "4096" if few else "16")
    wanted = {name: (got[0], got[1], {"length": str(len(got[0]))}) for name, got in space.all_documents().items()}
    glass = Glass(space, tool, tmp_path / "glass")
    try:
        done = glass.run(backup_id, "--documents", f"uploads=s3://{glass.documents}")
        outside = set() if tool == "aws" else {"line\nfeed"}
        assert done.code == (5 if outside else 0), done.err
        assert done.err.count("not restored") == len(outside)
        assert glass.objects() == {name: got for name, got in wanted.items() if name not in outside}
        stock = Database(space.pg.create_database(f"{space.unique}_stock", owner=f"{space.unique}_owner"))
        stock_restore(Database(space.url), stock, 18, None)
        assert normalized(Database(glass.url), 18) == normalized(stock, 18)
        if not few:
            assert glass.run(backup_id).code == 2, "a database that is not empty is left alone"
        assert {one.name for one in glass.folder.iterdir()} <= {"bin", "work-1", "work-2"}, "no key became a path"
    finally:
        glass.close()


def test_nothing_runs_that_is_not_signed_or_is_not_what_was_signed(space: Space, tmp_path: Path, key: str) -> None:
    space.put("a.txt", b"document")
    backup_id = back_up(space, key)
    client = space.s3.client()

    def stored(name: str) -> bytes:
        return bytes(client.get_object(Bucket=space.backups, Key=name)["Body"].read())

    glass = Glass(space, "rclone", tmp_path / "glass")

    def tables() -> int:
        connection = psycopg2.connect(glass.url)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
                return int((cursor.fetchone() or (-1,))[0])
        finally:
            connection.close()

    try:
        name = f"dev/catalog/{backup_id}.json"
        manifest = stored(name)
        client.put_object(Bucket=space.backups, Key=name, Body=manifest.replace(b'"note": ""', b'"note": "x"'))
        done = glass.run(backup_id)
        assert (done.code, tables()) == (5, 0)
        assert "was not signed by this key" in done.err

        later = backup_id.replace("_daily", "_manual")
        for end in ("", ".sig"):
            client.put_object(
                Bucket=space.backups, Key=f"dev/catalog/{later}.json{end}",
                Body=manifest if not end else stored(f"{name}.sig"),
            )  # fmt: skip
        done = glass.run(later)
        assert (done.code, tables()) == (5, 0)
        assert "another backup's" in done.err

        client.put_object(Bucket=space.backups, Key=name, Body=manifest)
        piece = json.loads(manifest)["database"]["archive"]["pieces"][0]
        bomb = zstandard.ZstdCompressor().compress(b"\0" * (piece["size"] + 64 * 1024 * 1024))
        where = f"dev/objects/{piece['sha256'][:2]}/{piece['sha256']}.zst"
        client.put_object(Bucket=space.backups, Key=where, Body=bomb)
        done = glass.run(backup_id)
        assert (done.code, tables()) == (5, 0)
        assert "a piece is not what the manifest says" in done.err
    finally:
        glass.close()


def test_the_runbooks_lines_for_when_github_is_gone_restore(
    pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str, key: str
) -> None:
    space = Space(pg18, s3, tmp_path, unique, dev=trusting(key)).fill(children=200, documents=3)
    (tmp_path / "dev.pem").write_text(Signer.from_pem(key).public_pem())
    backup_id = back_up(space, key)
    before = space.state()
    glass = Glass(space, "rclone", tmp_path / "glass")
    (glass.folder / "dev.pem").write_text(Signer.from_pem(key).public_pem())
    (glass.folder / "restore.sh").write_bytes(SCRIPT.read_bytes())
    again = f"{unique}_again"
    lines = "\n".join(blocks("GitHub is gone")).replace("dev_again", again)
    env = glass.env() | {
        "PATH": f"{bin_dir(18)}:{os.environ['PATH']}", "ID": backup_id, "BACKUPS": space.backups,
        "DOCUMENTS": glass.documents,
    }  # fmt: skip
    try:
        subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", lines], env=env, cwd=glass.folder, check=True, timeout=200
        )
        space.url, space.documents = space.pg.url(again, f"{unique}_owner", f"{unique}_owner-pw"), glass.documents
        assert space.state() == before
    finally:
        glass.close()
        space.close()
