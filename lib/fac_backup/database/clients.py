"""Which pg_dump, pg_restore and psql to run.

Never simply what PATH finds: Debian's ``pg_wrapper`` behind ``/usr/bin/pg_dump`` runs the newest version installed,
whatever the server is, and a version that does not fit is the most reported failure of backup actions.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fac_backup.plain.errors import FailedError

PATTERNS = ("/usr/lib/postgresql/*/bin", "/home/vcap/deps/*/apt/usr/lib/postgresql/*/bin")
"""Where Debian's packages put them, and where cloud.gov's apt buildpack does."""

PROGRAMS = ("pg_dump", "pg_restore", "psql")

_VERSION = re.compile(r"^\S+ \(PostgreSQL\) (\d+)")


@dataclass(frozen=True)
class Client:
    """The client programs of one major version."""

    major: int
    directory: Path

    def program(self, name: str) -> str:
        """The full path of ``pg_dump``, ``pg_restore`` or ``psql``."""
        return str(self.directory / name)


def find_clients(*, inside_actions: bool, extra: Iterable[Path] = (), path: str | None = None) -> tuple[Client, ...]:
    """All client versions of this machine, newest first; of one major the first that was found.

    Looks into ``extra``, then :data:`PATTERNS`, then, outside GitHub Actions only (there an earlier step may have
    changed it), into the folders of ``path`` (default: PATH). Each is asked for its version.
    """
    folders = [*extra, *(found for pattern in PATTERNS for found in sorted(Path("/").glob(pattern[1:])))]
    if not inside_actions:
        folders += [Path(part) for part in (path or os.environ.get("PATH", "")).split(os.pathsep) if part]
    found: dict[int, Client] = {}
    for folder in dict.fromkeys(folders):
        major = _major_of(folder)
        if major is not None:
            found.setdefault(major, Client(major, folder))
    return tuple(found[major] for major in sorted(found, reverse=True))


def _major_of(folder: Path) -> int | None:
    """The major version of the programs in ``folder``; None if one is missing, broken, or Debian's wrapper."""
    for program in PROGRAMS:
        path = folder / program
        if not os.access(path, os.X_OK) or path.resolve().name == "pg_wrapper":
            return None
    try:
        answer = subprocess.run(
            [folder / "pg_dump", "--version"],
            capture_output=True, text=True, timeout=20, check=True,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    match = _VERSION.match(answer.stdout)
    return int(match[1]) if match else None


def for_dump(clients: Sequence[Client], server_major: int) -> Client:
    """The server's own major, else the nearest newer one. Raises FailedError naming the package to install."""
    fitting = [client for client in clients if client.major >= server_major]
    if not fitting:
        raise _missing(clients, server_major, f"The server is PostgreSQL {server_major}, newer than any client here")
    return min(fitting, key=lambda client: client.major)


def for_restore(clients: Sequence[Client], target_major: int, dumped_with: int) -> Client:
    """A major that reads an archive of pg_dump ``dumped_with`` (so not older), as near as possible to the target's.

    Of those: the target's own; else the newest that is older than the target (an old client speaks to a newer server,
    but a newer client sets things that an older server does not know); else the oldest. Raises FailedError naming the
    package.
    """
    fitting = [client for client in clients if client.major >= dumped_with]
    if not fitting:
        wanted = max(dumped_with, target_major)
        raise _missing(clients, wanted, f"The archive was written by pg_dump {dumped_with}, newer than any client here")
    older = [client for client in fitting if client.major <= target_major]
    if older:
        return max(older, key=lambda client: client.major)
    return min(fitting, key=lambda client: client.major)


def _missing(clients: Sequence[Client], major: int, what: str) -> FailedError:
    have = ", ".join(str(client.major) for client in clients) or "none"
    return FailedError(
        f"{what} (found: {have})",
        next_step=f"Install the package postgresql-client-{major} (Debian, Ubuntu; or from apt.postgresql.org).",
    )


def install_client(major: int) -> None:
    """Install ``postgresql-client-<major>`` with apt, from PostgreSQL's own repository where the distribution lacks
    it.

    For GitHub's runners only, where the machine is thrown away after the job. Raises FailedError if it does not work.
    """
    package = f"postgresql-client-{major}"
    if _apt("install", package):
        return
    if _apt("update") and _apt("install", package):
        return
    script = "/usr/share/postgresql-common/pgdg/apt.postgresql.org.sh"
    if _apt("install", "postgresql-common", "ca-certificates") and _root(script, "-y") and _apt("install", package):
        return
    raise FailedError(
        f"The package {package} could not be installed",
        next_step=f"Install {package} in a step before this one, or use a runner image that has it.",
    )


def _apt(verb: str, *packages: str) -> bool:
    options = ["-qq", "-y", "-o", "DPkg::Lock::Timeout=120"]
    if verb == "install":
        options.append("--no-install-recommends")
    return _root("/usr/bin/apt-get", *options, verb, *packages)


def _root(*command: str) -> bool:
    """Run a command as root, quietly; whether it succeeded."""
    prefix = [] if os.geteuid() == 0 else ["/usr/bin/sudo", "-n"]
    environment = [
        "/usr/bin/env",
        "-i",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND=noninteractive",
        "LC_ALL=C",
    ]
    proxies = [f"{key}={os.environ[key]}" for key in ("http_proxy", "https_proxy", "no_proxy") if key in os.environ]
    try:
        done = subprocess.run(
            [*prefix, *environment, *proxies, *command],
            capture_output=True, timeout=600, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def with_installed(clients: Sequence[Client], majors: Iterable[int], *, inside_actions: bool) -> tuple[Client, ...]:
    """``clients``, and inside GitHub Actions also those of ``majors`` that were missing and could be installed now.

    A newer client that would serve is not good enough there: the server's own major is tried first, and its absence
    is no failure as long as another one fits.
    """
    if not inside_actions:
        return tuple(clients)
    have = {client.major for client in clients}
    missing = [major for major in dict.fromkeys(majors) if major not in have]
    for major in missing:
        try:
            install_client(major)
        except FailedError:
            continue  # for_dump and for_restore say what is missing, if nothing else fits
    return find_clients(inside_actions=True) if missing else tuple(clients)
