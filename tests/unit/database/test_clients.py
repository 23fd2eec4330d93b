"""Which client binaries are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from fac_backup.database import clients
from fac_backup.database.clients import Client, find_clients, for_dump, for_restore
from fac_backup.plain.errors import FailedError


def some(*majors: int) -> tuple[Client, ...]:
    return tuple(Client(major, Path(f"/usr/lib/postgresql/{major}/bin")) for major in majors)


def fake(folder: Path, major: int, *, answer: str | None = None) -> Path:
    folder.mkdir(parents=True)
    for program in clients.PROGRAMS:
        path = folder / program
        path.write_text(f"#!/bin/sh\necho '{answer or f'{program} (PostgreSQL) {major}.4 (Debian {major}.4-1)'}'\n")
        path.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PATTERNS", ())


def test_a_dump_is_made_by_the_servers_own_major() -> None:
    assert for_dump(some(18, 17, 16, 15), 16).major == 16


def test_without_it_the_nearest_newer_one_dumps() -> None:
    assert for_dump(some(18, 17, 14), 15).major == 17


def test_a_server_newer_than_every_client_is_an_error_that_names_the_package() -> None:
    with pytest.raises(FailedError) as raised:
        for_dump(some(16, 15), 18)
    assert "found: 16, 15" in raised.value.line()
    assert "postgresql-client-18" in raised.value.line()


@pytest.mark.parametrize(
    ("have", "target", "dumped_with", "chosen"),
    [
        ((18, 17, 16, 15), 15, 15, 15),
        ((18, 17, 16, 15), 18, 15, 18),
        ((18, 17, 16), 15, 15, 16),
        ((17, 15), 18, 15, 17),
        ((18, 15), 15, 18, 18),
        ((18, 17, 16), 15, 17, 17),
    ],
)
def test_a_restore_takes_a_major_that_reads_the_archive_and_is_near_the_target(
    have: tuple[int, ...], target: int, dumped_with: int, chosen: int
) -> None:
    assert for_restore(some(*have), target, dumped_with).major == chosen


def test_an_archive_newer_than_every_client_is_an_error_that_names_the_package() -> None:
    with pytest.raises(FailedError, match="written by pg_dump 18"):
        for_restore(some(16), 15, 18)


def test_programs_on_the_path_are_asked_for_their_version(tmp_path: Path) -> None:
    folder = fake(tmp_path / "bin", 17)
    assert find_clients(inside_actions=False, path=str(folder)) == (Client(17, folder),)


def test_inside_actions_the_path_is_not_looked_at(tmp_path: Path) -> None:
    assert find_clients(inside_actions=True, path=str(fake(tmp_path / "bin", 17))) == ()


def test_debians_wrapper_is_never_taken(tmp_path: Path) -> None:
    wrapper = tmp_path / "postgresql-common" / "pg_wrapper"
    wrapper.parent.mkdir()
    wrapper.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 18.0'\n")
    wrapper.chmod(0o755)
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in clients.PROGRAMS:
        (folder / program).symlink_to(wrapper)
    assert find_clients(inside_actions=False, path=str(folder)) == ()


def test_broken_and_incomplete_folders_are_passed_over(tmp_path: Path) -> None:
    broken = fake(tmp_path / "broken", 17, answer="something else")
    incomplete = fake(tmp_path / "incomplete", 16)
    (incomplete / "pg_restore").unlink()
    good = fake(tmp_path / "good", 15)
    path = f"{broken}:{incomplete}:{tmp_path / 'missing'}:{good}"
    assert find_clients(inside_actions=False, path=path) == (Client(15, good),)


def test_the_folders_of_debian_and_of_the_apt_buildpack_come_before_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian = fake(tmp_path / "usr/lib/postgresql/15/bin", 15)
    buildpack = fake(tmp_path / "vcap/deps/0/apt/usr/lib/postgresql/16/bin", 16)
    also_15 = fake(tmp_path / "path", 15)
    monkeypatch.setattr(
        clients,
        "PATTERNS",
        (f"{tmp_path}/usr/lib/postgresql/*/bin", f"{tmp_path}/vcap/deps/*/apt/usr/lib/postgresql/*/bin"),
    )
    assert find_clients(inside_actions=False, path=str(also_15)) == (Client(16, buildpack), Client(15, debian))


def test_outside_actions_nothing_is_ever_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "install_client", lambda major: pytest.fail("installed"))
    assert clients.with_installed(some(15), [18], inside_actions=False) == some(15)


def test_inside_actions_a_missing_major_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[int] = []
    monkeypatch.setattr(clients, "install_client", installed.append)
    monkeypatch.setattr(clients, "find_clients", lambda *, inside_actions: some(18, 15))
    assert clients.with_installed(some(15), [18, 15, 18], inside_actions=True) == some(18, 15)
    assert installed == [18]


def test_an_installation_that_fails_is_no_error_while_another_client_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_root", lambda *command: False)
    monkeypatch.setattr(clients, "find_clients", lambda *, inside_actions: some(18))
    assert for_dump(clients.with_installed(some(18), [15], inside_actions=True), 15).major == 18


def test_the_package_comes_from_postgresqls_repository_where_the_distribution_lacks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def root(*command: str) -> bool:
        ran.append(" ".join(command))
        return "postgresql-client-18" not in command[-1] or any("apt.postgresql.org.sh" in line for line in ran)

    monkeypatch.setattr(clients, "_root", root)
    clients.install_client(18)
    assert any(line.startswith("/usr/share/postgresql-common/pgdg/apt.postgresql.org.sh") for line in ran)
