"""`fac-backup import` and `export`, with the real django-dbbackup before and behind them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from tests.support.django_project import MANAGE, Project
from tests.support.postgres import PostgresServer, bin_dir
from tests.support.s3 import S3Server

from .test_dbbackup import drop, files, rows


class World:
    """A Django project whose documents live in S3 as well, and a store."""

    def __init__(self, project: Project, s3: S3Server, store: str, uploads: str) -> None:
        self.project, self.s3, self.store, self.uploads = project, s3, store, uploads

    def run(
        self, *arguments: str, stdin: Path | None = None, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"], **(environment or {}), **self.s3.env(),
            "DATABASE_URL": self.project.database_url,
            "FAC_BACKUP_BUCKET": f"s3://{self.store}/x", "FAC_BACKUP_DOCUMENTS": f"uploads=s3://{self.uploads}",
        }  # fmt: skip
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        with (stdin or Path(os.devnull)).open("rb") as stream:
            return subprocess.run(
                [sys.executable, "-m", "fac_backup", *arguments], env=environment, stdin=stream, capture_output=True,
                text=True, check=False, timeout=200, cwd="/",  # no matrix here: the library.s own is in the checkout
            )  # fmt: skip

    def done(
        self, *arguments: str, stdin: Path | None = None, environment: dict[str, str] | None = None
    ) -> dict[str, object]:
        found = self.run(*arguments, "--json", stdin=stdin, environment=environment)
        assert found.returncode == 0, found.stdout + found.stderr
        return json.loads(found.stdout)  # type: ignore[no-any-return]

    def keys(self, bucket: str) -> set[str]:
        pages = self.s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {found["Key"] for page in pages for found in page.get("Contents", [])}

    def databases(self) -> set[str]:
        with closing(psycopg2.connect(self.project.database_url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE '%%fac_new%%'")
            return {name for (name,) in cursor.fetchall()}


@pytest.fixture
def world(pg15: PostgresServer, s3: S3Server, unique: str, tmp_path: Path) -> Iterator[World]:
    for name in ("media", "backups"):
        (tmp_path / name).mkdir()
    project = Project(pg15.create_database(unique), tmp_path / "media", tmp_path / "backups", bin_dir(15))
    project.manage("migrate", "--no-color", "-v0")
    project.manage("fill", "12")
    yield World(project, s3, s3.bucket("store"), s3.bucket("uploads"))
    drop(pg15, unique)


@pytest.mark.parametrize("connector", ["PgDumpBinaryConnector", "PgDumpConnector"])
def test_archives_of_the_library_become_a_backup_and_archives_of_the_library_again(
    world: World, pg15: PostgresServer, tmp_path: Path, connector: str
) -> None:
    project = replace(world.project, connector=connector)
    project.manage("dbbackup", "--noinput", "--compress")
    project.manage("mediabackup", "--noinput")
    (database,) = [path for path in project.backups.iterdir() if ".psql" in path.name and path.suffix == ".gz"]
    (media,) = project.backups.glob("*.tar")
    before_rows, before_files = rows(project.database_url), files(project.media)

    made = world.done("import", "--database", str(database), "--media", str(media), "--note", "the old one")
    assert str(made["backup_id"]).endswith("_manual")
    assert made["engine"] == "import"
    assert made["documents_count"] == len(before_files)
    assert world.databases() == set()
    assert not [key for key in world.keys(world.store) if "/import-" in key]
    assert world.keys(world.uploads) == set()
    assert rows(project.database_url) == before_rows

    exported = tmp_path / "exported"
    world.done("export", "--backup-id", str(made["backup_id"]), "--to", str(exported))
    name = f"{Path(project.database_url).name}_back"
    back = replace(world.project, database_url=pg15.create_database(name), media=tmp_path / "back", backups=exported)
    back.media.mkdir()
    try:
        back.manage("migrate", "--no-color", "-v0")
        back.manage("dbrestore", "--noinput", "--pg-options=--no-owner")
        back.manage("mediarestore", "--noinput")
        assert rows(back.database_url) == before_rows
        assert files(back.media) == before_files
    finally:
        drop(pg15, name)


def test_an_archive_that_does_not_restore_leaves_no_backup_and_nothing_behind(world: World, tmp_path: Path) -> None:
    project = world.project
    project.manage("dbbackup", "--noinput")
    project.manage("mediabackup", "--noinput")
    (database,) = project.backups.glob("*.psql.bin")
    (media,) = project.backups.glob("*.tar")
    cut = tmp_path / "cut.psql.bin"
    cut.write_bytes(database.read_bytes()[:-1500])
    cut_media = tmp_path / "cut.tar"
    cut_media.write_bytes(media.read_bytes()[:5000])
    for archive, documents in ((cut, media), (database, cut_media)):
        failed = world.run("import", "--database", str(archive), "--media", str(documents))
        assert failed.returncode in (1, 5), failed.stderr
        assert "Traceback" not in failed.stderr
        assert world.databases() == set()
        assert not [key for key in world.keys(world.store) if "/import-" in key or "/catalog/" in key]


def test_big_tables_that_left_the_archive_are_in_the_export(world: World, tmp_path: Path) -> None:
    made = world.done("backup", "--range-threshold", "1", "--range-pages", "4")
    exported = tmp_path / "exported"
    world.done("export", "--backup-id", str(made["backup_id"]), "--to", str(exported), "--compress")
    back = replace(world.project, backups=exported)
    before = rows(back.database_url)
    back.manage("shell", "-c", "from records.models import Finding; Finding.objects.all().delete()")
    assert rows(back.database_url) != before
    back.manage("dbrestore", "--noinput", "--uncompress", "--pg-options=--no-owner")
    assert rows(back.database_url) == before
    assert world.databases() == set()
    assert not list(exported.glob("*.part"))


def test_media_of_unclear_labels_and_documents_that_nobody_gave_are_refused(world: World, tmp_path: Path) -> None:
    archive = tmp_path / "a.psql"
    archive.write_bytes(b"--\n-- PostgreSQL database dump\n--\n")
    missing = str(tmp_path / "none.tar")
    for media, sentence in (
        ((), "No documents are given for uploads"),
        (("--media", "other=x"), "belongs to no label"),
        (("--media", "-"), "Standard input can be read once"),
        (("--media", missing), "cannot be read"),
    ):
        source = "-" if "once" in sentence else str(archive)
        failed = world.run("import", "--database", source, *media)
        assert failed.returncode == 2
        assert sentence in failed.stderr


def test_an_archive_comes_in_by_standard_input_with_the_documents_as_they_are_now(world: World) -> None:
    world.project.manage("dbbackup", "--noinput")
    (database,) = world.project.backups.glob("*.psql.bin")
    world.s3.client().put_object(Bucket=world.uploads, Key="now.pdf", Body=b"%PDF")
    made = world.done("import", "--database", "-", "--media", "live", "--note", "x" * 1200, stdin=database)
    assert made["documents_count"] == 1, "and a note that is too long is cut"


def test_the_library_makes_the_archives_where_the_matrix_says_that_it_is_the_engine(
    world: World, tmp_path: Path
) -> None:
    matrix = tmp_path / "action-matrix.yml"
    matrix.write_text("version: 1\nspaces: {dev: {engine: django-dbbackup, manage_py: backend/manage.py}}\n")
    for arguments in ((), ("--manage-py", str(MANAGE))):
        done = world.run("backup", "--matrix", str(matrix), "--kind", "daily", "--json", *arguments,
                         environment=world.project.env())  # fmt: skip
        if not arguments:
            assert "There is no manage.py at the place" in done.stderr
            assert done.returncode == 2
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["backup_id"].startswith("dev_")
    assert made["backup_id"].endswith("_daily")
    assert made["documents_count"] == len(files(world.project.media))
    assert made["documents_bytes"] == sum(len(data) for data in files(world.project.media).values())
    assert made["engine"] == "django-dbbackup", "the manifest says who read the data"
    assert world.databases() == set()


def test_archives_that_the_librarys_commands_wrote_in_a_step_before_become_the_backup(
    world: World, tmp_path: Path
) -> None:
    asked = ("backup", "--engine", "django-dbbackup", "--archives", str(world.project.backups))
    inside = {"GITHUB_ACTIONS": "true"}
    assert "holds 0 archives of databases" in world.run(*asked).stderr
    world.project.manage("dbbackup", "--noinput", "--compress")
    world.project.manage("mediabackup", "--noinput")
    made = world.done(*asked)
    assert made["documents_count"] == len(files(world.project.media))
    exported = tmp_path / "exported"
    world.done("export", "--backup-id", str(made["backup_id"]), "--to", str(exported))
    assert {path.name.split(".", 1)[1] for path in exported.iterdir()} >= {"psql.bin", "tar"}
    refused = world.run("backup", "--engine", "fac-backup", "--archives", str(world.project.backups))
    assert "belong to --engine django-dbbackup" in refused.stderr
    assert world.run(*asked, environment=inside).returncode != 0, "inside Actions there is a gate"
