"""How this project reaches a database: addresses, sessions, and what to say when one cannot be had.

Sentences about failures name no host, no user and no password: in a public repository they are read by everyone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import psycopg2
from psycopg2 import errorcodes
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import parse_dsn

from fac_backup.database.pooler import refuse_transaction_pooler
from fac_backup.plain.errors import FailedError, UsageError

OLDEST_SERVER = 10
"""The oldest major version that is served: exported snapshots on standbys, identity columns, ``pg_sequences``."""

APPLICATION_NAME = "fac-backup"

_SCHEMES = ("postgres", "postgresql", "postgis", "pgsql")

# libpq's connection parameters and the environment variables that stand for them
# (https://www.postgresql.org/docs/current/libpq-envars.html). Parameters without a variable do not reach child
# programs.
_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "require_auth": "PGREQUIREAUTH",
    "channel_binding": "PGCHANNELBINDING",
    "service": "PGSERVICE",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcertmode": "PGSSLCERTMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslsni": "PGSSLSNI",
    "requirepeer": "PGREQUIREPEER",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
}

_DEFAULTS = {
    "application_name": APPLICATION_NAME,
    "connect_timeout": "15",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "6",
}

# What a child program may see of our environment: nothing that is a secret, nothing that changes which code it runs.
_PASSED_ON = ("HOME", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TMPDIR")

_ADDRESS_HELP = "Give it as postgres://user:password@host:5432/name, with special characters percent-encoded."


class Database:
    """One database on one server. Shows nothing of its address in ``repr``, and keeps the password out of every argv.

    ``called`` is what sentences call it ("the target's database").
    """

    def __init__(self, url: str, *, called: str = "the database") -> None:
        scheme, separator, rest = url.strip().partition("://")
        if not separator or scheme.lower() not in _SCHEMES:
            raise UsageError(f"The address of {called} is no PostgreSQL address", next_step=_ADDRESS_HELP)
        try:
            parameters = {key: str(value) for key, value in parse_dsn(f"postgresql://{rest}").items()}
        except psycopg2.Error:
            # libpq's message quotes the address, password included.
            raise UsageError(f"The address of {called} cannot be read", next_step=_ADDRESS_HELP) from None
        if not parameters.get("dbname"):
            raise UsageError(f"The address of {called} names no database", next_step=_ADDRESS_HELP)
        # Names come in Unicode, whatever the server's encoding is. Not for child programs: pg_dump would convert all
        # rows.
        self._parameters: dict[str, str] = {**_DEFAULTS, **parameters, "client_encoding": "UTF8"}
        self.called = called
        self._server_version: int | None = None
        self._pooler_is_harmless = False
        self.leases: dict[str, Connection] = {}
        """Databases made beside this one that are in use, each with the session that says so (``scratch.lease``)."""

    def __repr__(self) -> str:
        return f"<Database: {self.called}>"

    @property
    def name(self) -> str:
        """The database's name on its server. Not for logs of public repositories."""
        return self._parameters["dbname"]

    @property
    def user(self) -> str | None:
        """The role that the address names."""
        return self._parameters.get("user")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be masked wherever text from outside is shown: the password, and its percent-encoded form."""
        password = self._parameters.get("password", "")
        return tuple(dict.fromkeys(text for text in (password, quote(password, safe="")) if text))

    @property
    def private_words(self) -> tuple[str, ...]:
        """Besides :attr:`secrets`: what a public log must not show of the address (host, address, user, name)."""
        keys = ("host", "hostaddr", "user", "dbname")
        return tuple(self._parameters[key] for key in keys if self._parameters.get(key))

    @property
    def url(self) -> str:
        """The address as an application reads it, password and all: for a program's environment, never for a log."""
        given = {key: value for key, value in self._parameters.items() if key not in (*_DEFAULTS, "client_encoding")}
        # One of several hosts has its port behind itself.
        user, password = quote(given.pop("user", ""), safe=""), quote(given.pop("password", ""), safe="")
        login = f"{user}{':' + password if password else ''}@" if user else ""
        ports = given.pop("port", "").split(",")
        hosts = given.pop("host", "").split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        where = ",".join(_in_url(host) + (f":{port}" if port else "") for host, port in zip(hosts, ports, strict=False))
        name = quote(given.pop("dbname"), safe="")
        rest = urlencode(given, quote_via=quote)
        return f"postgresql://{login}{where}/{name}" + (f"?{rest}" if rest else "")

    def write_anyway(self) -> None:
        """Sessions from now on, and those of child programs, may write where others only read (``database.closed``)."""
        option = "-c default_transaction_read_only=off"
        given = self._parameters.get("options", "")
        if option not in given:
            self._parameters["options"] = f"{given} {option}".strip()

    def with_name(self, name: str, *, called: str | None = None) -> Database:
        """Another database on the same server, with the same credentials."""
        other = object.__new__(Database)
        other._parameters = {**self._parameters, "dbname": name}
        other.called = called or self.called
        other._server_version = self._server_version
        other._pooler_is_harmless = self._pooler_is_harmless
        other.leases = {}
        return other

    def connect(
        self, dbname: str | None = None, *, autocommit: bool = False, application_name: str | None = None
    ) -> Connection:
        """A session with all timeouts off and an empty ``search_path`` (only ``pg_catalog`` is found unqualified).

        Raises FailedError, in words, if there is none to be had, if the server is older than :data:`OLDEST_SERVER`,
        or if a transaction pooler stands between.
        """
        parameters = dict(self._parameters)
        if dbname is not None:
            parameters["dbname"] = dbname
        if application_name is not None:
            parameters["application_name"] = application_name
        session = self._open(parameters)
        try:
            self._prepare(session, parameters)
            session.autocommit = autocommit
        except psycopg2.Error as error:
            session.close()
            raise failure(error, f"A session with {self.called} broke at once") from None
        except BaseException:
            session.close()
            raise
        return session

    def _open(self, parameters: Mapping[str, str]) -> Connection:
        try:
            return psycopg2.connect(**parameters)  # type: ignore[call-overload, no-any-return]
        except psycopg2.Error as error:
            raise _no_connection(error, self.called) from None

    def _prepare(self, session: Connection, parameters: Mapping[str, str]) -> None:
        session.autocommit = True
        if session.info.server_version < OLDEST_SERVER * 10000:
            raise FailedError(
                f"The server of {self.called} is PostgreSQL {version_text(session.info.server_version)}: too old",
                next_step=f"PostgreSQL {OLDEST_SERVER} and newer are served.",
            )
        self._server_version = session.info.server_version
        with session.cursor() as cursor:
            # Before any SET: behind a transaction pooler a setting would stay with a connection that the application
            # uses.
            cursor.execute("SELECT pg_catalog.pg_backend_pid()")
            row = cursor.fetchone()
            if row and row[0] != session.info.backend_pid and not self._pooler_is_harmless:
                refuse_transaction_pooler(session, dict(parameters), self.called)
                self._pooler_is_harmless = True
            cursor.execute(
                "SELECT pg_catalog.set_config('search_path', '', false)"
                " UNION ALL SELECT pg_catalog.set_config(s.name, '0', false) FROM pg_catalog.pg_settings AS s"
                " WHERE s.name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',"
                " 'idle_session_timeout', 'transaction_timeout')"
            )

    @property
    def server_version(self) -> int:
        """``server_version_num``: 150018 for 15.18. Connects if no connection was made yet."""
        if self._server_version is None:
            self.connect().close()
        assert self._server_version is not None  # noqa: S101 - connect() has set it
        return self._server_version

    @property
    def server_major(self) -> int:
        """15 for 15.18."""
        return self.server_version // 10000

    def env(self, dbname: str | None = None, *, options: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment for a child program (pg_dump, …): the address in PG* variables, and little else.

        ``options`` are server settings for its session, passed in PGOPTIONS behind the address's own.
        """
        environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        environment["LC_ALL"] = "C"
        environment |= {
            _VARIABLES[key]: value for key, value in self._parameters.items() if key in _VARIABLES and value != ""
        }
        if dbname is not None:
            environment["PGDATABASE"] = dbname
        if options:
            ours = " ".join(f"-c {key}={_escape_option(value)}" for key, value in options.items())
            environment["PGOPTIONS"] = f"{environment.get('PGOPTIONS', '')} {ours}".strip()
        return environment


def _in_url(host: str) -> str:
    """An IPv6 address stands in brackets, a socket's folder is percent-encoded."""
    return f"[{host}]" if ":" in host else quote(host, safe="")


def _escape_option(value: str) -> str:
    """libpq's ``options`` are split at blanks; a backslash keeps one."""
    return "".join("\\" + char if char in "\\ \t\n" else char for char in value)


def version_text(server_version: int) -> str:
    """``15.18`` for 150018, ``9.6.24`` for 90624."""
    if server_version < 100000:
        return f"{server_version // 10000}.{server_version // 100 % 100}.{server_version % 100}"
    return f"{server_version // 10000}.{server_version % 10000}"


def is_standby(session: Connection) -> bool:
    """Whether the server is a hot standby: it can be read, not written."""
    return bool(_one(session, "SELECT pg_catalog.pg_is_in_recovery()"))


def require_writable(session: Connection, called: str) -> None:
    """Raise FailedError if the server, or this session by default, is read-only."""
    if is_standby(session):
        raise FailedError(
            f"The server of {called} is a read-only standby",
            next_step="Give the address of the primary server.",
        )
    if _one(session, "SELECT pg_catalog.current_setting('default_transaction_read_only')::pg_catalog.bool"):
        raise FailedError(
            f"Sessions with {called} are read-only by default (default_transaction_read_only)",
            next_step="Somebody set this for the server, the database or the role: find out why, then reset it.",
        )


def _one(session: Connection, query: str) -> Any:
    with session.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    return row[0] if row else None


def failure(error: psycopg2.Error, what: str, *, next_step: str = "") -> FailedError:
    """``error`` as a failure that can be shown: its kind, not its text, which may quote rows, hosts and
    statements.
    """
    return FailedError(f"{what}: {kind_of(error)}", next_step=next_step)


def kind_of(error: psycopg2.Error) -> str:
    """What kind of error the server or the connection reported, in words without data."""
    code = error.pgcode
    if code is None:
        text = str(error).lower()
        if "ssl" in text or "certificate" in text:
            return "the encrypted connection failed"
        if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
            return "the connection was lost"
        return type(error).__name__
    try:
        name = errorcodes.lookup(code).lower().replace("_", " ")
    except KeyError:
        name = type(error).__name__
    return f"{name} (SQLSTATE {code})"


# Texts of libpq and of the server (in English; a server that speaks another language falls to the last sentence).
_REASONS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("password authentication failed", "no password supplied", "authentication failed", 'role "'),
        "its server refuses this user or password",
        "Check the user and the password in the address; a service key that was deleted or rotated does this.",
    ),
    (
        ("pg_hba.conf",),
        "its server accepts no connection like this one (pg_hba.conf)",
        "The network address, or the missing encryption (sslmode=require), is not what the server allows.",
    ),
    (
        ("not currently accepting connections",),
        "it accepts no connections at the moment",
        "Somebody has closed it (ALLOW_CONNECTIONS false): find out who works on it.",
    ),
    (
        ("permission denied for database",),
        "this user may not connect to it",
        "GRANT CONNECT ON DATABASE to this user.",
    ),
    (
        ("too many clients", "too many connections", "connection slots are reserved", "remaining connection slots"),
        "its server has no free connection",
        "Try again with fewer --jobs or when fewer clients are connected.",
    ),
    (
        ("starting up", "shutting down", "in recovery mode", "not yet accepting connections"),
        "its server is starting up or shutting down",
        "Try again in a minute.",
    ),
    (
        ("does not exist",),
        "its server has no database of this name",
        "Check the name at the end of the address.",
    ),
    (
        ("could not translate host name", "name or service not known", "temporary failure in name resolution"),
        "the host name in its address cannot be resolved",
        "Check the host name, and that this machine may reach the network of the database.",
    ),
    (
        ("ssl", "certificate", "tls"),
        "no encrypted connection could be agreed on",
        "Check sslmode and sslrootcert in the address.",
    ),
    (
        ("connection refused", "timeout expired", "timed out", "no route to host", "unreachable", "no such file"),
        "its server is down or cannot be reached from here",
        "Check that the server runs, and that this machine may reach it.",
    ),
)


def _no_connection(error: psycopg2.Error, called: str) -> FailedError:
    text = str(error).lower()
    for signs, reason, next_step in _REASONS:
        if any(sign in text for sign in signs):
            return FailedError(f"No connection to {called}: {reason}", next_step=next_step)
    return FailedError(
        f"No connection to {called}: its server ended the attempt", next_step="Look into the server's own log."
    )
