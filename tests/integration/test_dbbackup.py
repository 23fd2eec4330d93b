"""django-dbbackup, the real library in a real project on a real server, both ways."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest

from fac_backup.dbbackup.archive import open_database_archive
from fac_backup.dbbackup.library import run_dbbackup
from fac_backup.dbbackup.media import iter_media, write_media_tar
from fac_backup.dbbackup.names import database_name, media_name, metadata, metadata_name, parse
from fac_backup.dbbackup.sql import dump_custom, restore_custom, restore_plain
from fac_backup.plain.errors import FailedError
from tests.support.django_project import MANAGE, Project
from tests.support.postgres import PostgresServer, bin_dir

TABLES = ("records_submission", "records_finding", "django_migrations")


@pytest.fixture(scope="module", params=[15, 18])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    return request.getfixturevalue(f"pg{request.param}")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def filled(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with some submissions and reports; nobody changes it."""
    name = f"dbb{server.major}_{hashlib.sha256(str(tmp_path_factory.getbasetemp()).encode()).hexdigest()[:8]}"
    folder = tmp_path_factory.mktemp("project")
    (folder / "media").mkdir()
    (folder / "backups").mkdir()
    project = Project(server.create_database(name), folder / "media", folder / "backups", bin_dir(server.major))
    project.manage("migrate", "--no-color", "-v0")
    project.manage("fill", "30")
    yield project
    drop(server, name)


@pytest.fixture
def scratch(server: PostgresServer, unique: str) -> Iterator[str]:
    yield server.create_database(unique)
    drop(server, unique)


def drop(server: PostgresServer, name: str) -> None:
    server.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', f'DROP ROLE IF EXISTS "{name}_owner"')


def env(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    return {"PGHOST": parts.hostname or "", "PGPORT": str(parts.port), "PGUSER": parts.username or "",
            "PGPASSWORD": parts.password or "", "PGDATABASE": parts.path[1:]}  # fmt: skip


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, as text."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        found = {}
        for table in TABLES:
            cursor.execute(f"SELECT t::text FROM {table} t ORDER BY 1")
            found[table] = cursor.fetchall()
        cursor.execute("SELECT last_value, is_called FROM records_submission_id_seq")
        found["sequence"] = cursor.fetchall()
        return found


def schema(url: str, bin_folder: Path) -> str:
    """The stock dump of the schema, owners and the random bracket left out."""
    command = [bin_folder / "pg_dump", "--schema-only", "--no-owner"]
    done = subprocess.run(command, env=env(url), capture_output=True, text=True, check=True)
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def newest(folder: Path, ending: str) -> Path:
    (found,) = folder.glob(f"*{ending}")
    return found


# --- what the library made, taken in ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connector", "arguments", "ending", "format_"),
    [
        ("PgDumpBinaryConnector", (), ".psql.bin", "custom"),
        ("PgDumpBinaryConnector", ("--compress",), ".psql.bin.gz", "custom"),
        ("PgDumpConnector", (), ".psql", "plain"),
        ("PgDumpConnector", ("--compress",), ".psql.gz", "plain"),
    ],
)
def test_what_dbbackup_wrote_fills_a_scratch_database_with_the_same_rows_and_schema(
    filled: Project, scratch: str, tmp_path: Path, connector: str, arguments: tuple[str, ...], ending: str, format_: str
) -> None:
    project = replace(filled, connector=connector, backups=tmp_path)
    project.manage("dbbackup", "--noinput", *arguments)
    path = newest(tmp_path, ending)
    assert parse(path.name).made is not None
    with open_database_archive(path) as archive:
        assert (archive.format, archive.gzipped) == (format_, ending.endswith(".gz"))
        restore, program = (restore_custom, "pg_restore") if format_ == "custom" else (restore_plain, "psql")
        report = restore(str(project.bin_dir / program), env(scratch), archive.chunks)
    # The plain script gives everything to its owner, a role that exists here, but whose member we are not.
    assert (report.left_out > 0) == (format_ == "plain")
    assert rows(scratch) == rows(filled.database_url)
    assert schema(scratch, project.bin_dir) == schema(filled.database_url, project.bin_dir)


@pytest.mark.parametrize("arguments", [(), ("--compress",)])
def test_what_mediabackup_wrote_gives_every_document(
    filled: Project, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    project = replace(filled, backups=tmp_path)
    project.manage("mediabackup", "--noinput", *arguments)
    path = newest(tmp_path, ".tar.gz" if arguments else ".tar")
    with path.open("rb") as stream:
        found = {entry.key: b"".join(entry.chunks()) for entry in iter_media(stream)}
    assert found == files(filled.media)
    assert len(found) == 10


# --- what we write, taken in by the library ---------------------------------------------------------------------------


@pytest.mark.parametrize("gzipped", [False, True])
def test_dbrestore_and_mediarestore_find_and_read_what_was_exported(
    filled: Project, scratch: str, tmp_path: Path, gzipped: bool
) -> None:
    project = replace(filled, database_url=scratch, media=tmp_path / "media", backups=tmp_path / "backups")
    project.media.mkdir()
    project.backups.mkdir()
    project.manage("migrate", "--no-color", "-v0")
    project.manage("fill", "3")
    made = datetime(2026, 11, 22, 20, 16, 53)
    archive = b"".join(dump_custom(str(project.bin_dir / "pg_dump"), env(filled.database_url)))
    name = database_name("default", "web1", made, gzipped=gzipped)
    (project.backups / name).write_bytes(gzip.compress(archive) if gzipped else archive)
    (project.backups / metadata_name(name)).write_bytes(metadata())
    documents = ((key, len(data), [data]) for key, data in files(filled.media).items())
    with (project.backups / media_name("web1", made, gzipped=gzipped)).open("wb") as stream:
        stream.writelines(write_media_tar(documents, compress=gzipped))
    uncompress = ("--uncompress",) if gzipped else ()
    # Nothing is named: the library must find the newest by itself.
    project.manage("dbrestore", "--noinput", "--pg-options=--no-owner", *uncompress)
    shutil.rmtree(project.media)
    project.manage("mediarestore", "--noinput", *uncompress)
    assert rows(scratch) == rows(filled.database_url)
    assert files(project.media) == files(filled.media)


def test_the_library_lists_what_was_exported_under_its_own_names(filled: Project, tmp_path: Path) -> None:
    project = replace(filled, backups=tmp_path)
    made = datetime(2026, 11, 22, 20, 16, 53)
    for name in (database_name("default", "web1", made, gzipped=True), media_name("web1", made)):
        (tmp_path / name).write_bytes(b"")
    listed = project.manage("listbackups", "--no-color")
    assert "default-web1-2026-11-22-201653.psql.bin.gz" in listed
    assert "web1-2026-11-22-201653.tar" in listed


# --- the library as the engine ----------------------------------------------------------------------------------------


def test_the_library_as_engine_makes_archives_that_are_taken_in(filled: Project, scratch: str, tmp_path: Path) -> None:
    made = run_dbbackup(MANAGE, filled.env(), tmp_path)
    with open_database_archive(made.database) as archive:
        restore_custom(str(filled.bin_dir / "pg_restore"), env(scratch), archive.chunks)
    assert rows(scratch) == rows(filled.database_url)
    assert made.media is not None
    with made.media.open("rb") as stream:
        assert {entry.key: b"".join(entry.chunks()) for entry in iter_media(stream)} == files(filled.media)


def test_a_failing_management_command_is_told_without_what_it_printed(filled: Project, tmp_path: Path) -> None:
    wrong = replace(filled, database_url=filled.database_url.replace("-pw@", "-wrong-secret@"))
    with pytest.raises(FailedError) as caught:
        run_dbbackup(MANAGE, wrong.env(), tmp_path)
    line = caught.value.line()
    assert "manage.py dbbackup ended with exit code 1" in line
    assert "secret" not in line
    assert "127.0.0.1" not in line


# --- archives that are not what they should be ------------------------------------------------------------------------

HEAD = b"--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n"


def test_statements_about_roles_that_the_server_lacks_are_counted_and_left_out(
    server: PostgresServer, scratch: str
) -> None:
    script = (
        HEAD
        + b"""CREATE TABLE t (a integer);
ALTER TABLE t OWNER TO a_role_of_elsewhere;
GRANT SELECT ON t TO "another one";
COPY t (a) FROM stdin;
1
2
\\.
"""
    )
    assert restore_plain(str(bin_dir(server.major) / "psql"), env(scratch), [script]).left_out == 2
    with closing(psycopg2.connect(scratch)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM t")
        assert cursor.fetchone() == (2,)


@pytest.mark.parametrize(
    "attack",
    [
        b"\\! touch {}\n", b"\\unrestrict\n\\! touch {}\n", b"\\unrestrict x\n\\! touch {}\n", b"\\o {}\nSELECT 1;\n",
        b"\\restrict x\n\\unrestrict x\n\\! touch {}\n", b"SELECT 1 \\g {}\n", b"\\copy (SELECT 1) TO '{}'\n",
        b"COPY (SELECT 1) TO PROGRAM 'touch {}';\n",
        b"\\setenv PSQL_PAGER 'touch {}'\n\\pset pager always\n\\d pg_class\n",
    ],
)  # fmt: skip
def test_a_forged_script_runs_no_program_and_writes_no_file(
    server: PostgresServer, scratch: str, tmp_path: Path, attack: bytes
) -> None:
    trap = tmp_path / "trap"
    tmp_path.chmod(0o777)
    script = HEAD + attack.replace(b"{}", str(trap).encode())
    for text in (script, b"\\restrict x\n" + script):
        with pytest.raises(FailedError):
            restore_plain(str(bin_dir(server.major) / "psql"), env(scratch), [text])
        assert not trap.exists()


def test_a_script_that_fails_names_its_line_and_state_and_no_row(server: PostgresServer, scratch: str) -> None:
    script = HEAD + b"CREATE TABLE t (a integer PRIMARY KEY, b text);\nINSERT INTO t VALUES (1, 'x'), (1, 'secret');\n"
    with pytest.raises(FailedError) as caught:
        restore_plain(str(bin_dir(server.major) / "psql"), env(scratch), [script])
    assert caught.value.what == "The script failed at line 8 (SQLSTATE 23505)"
    assert "secret" not in caught.value.line()


def test_a_cut_or_garbled_custom_archive_is_not_accepted(filled: Project, scratch: str) -> None:
    archive = b"".join(dump_custom(str(filled.bin_dir / "pg_dump"), env(filled.database_url)))
    for broken in (archive[:-2000], archive[:300], archive[:5000] + bytes(5000) + archive[10000:]):
        with pytest.raises(FailedError, match="pg_restore did not accept"):
            restore_custom(str(filled.bin_dir / "pg_restore"), env(scratch), [broken])


def test_a_dump_that_fails_says_so_and_does_not_look_whole(filled: Project) -> None:
    with pytest.raises(FailedError, match="pg_dump failed"):
        list(dump_custom(str(filled.bin_dir / "pg_dump"), {**env(filled.database_url), "PGDATABASE": "no_such"}))
