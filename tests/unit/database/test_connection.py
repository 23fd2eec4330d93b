"""Addresses of databases: what is kept, and what is never shown."""

from __future__ import annotations

import psycopg2
import pytest

from fac_backup.database.connection import Database, kind_of, version_text
from fac_backup.plain.errors import FailedError, UsageError

URL = "postgres://ann:s%40crt%2Fpw@db.example.gov:5433/the%20data?sslmode=require&options=-c%20geqo%3Doff"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "PGHOST", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "leaks-if-passed-on")


def test_child_programs_get_the_address_in_variables() -> None:
    env = Database(URL).env()
    assert env["PGHOST"] == "db.example.gov"
    assert env["PGPORT"] == "5433"
    assert env["PGUSER"] == "ann"
    assert env["PGPASSWORD"] == "s@crt/pw"
    assert env["PGDATABASE"] == "the data"
    assert env["PGSSLMODE"] == "require"
    assert env["PGOPTIONS"] == "-c geqo=off"


def test_child_programs_get_nothing_else_of_ours() -> None:
    assert "leaks-if-passed-on" not in Database("postgres://ann@h/d").env().values()


def test_options_are_added_behind_the_addresss_own_and_escaped() -> None:
    env = Database(URL).env(options={"timezone": "UTC", "application_name": "a b\\c"})
    assert env["PGOPTIONS"] == "-c geqo=off -c timezone=UTC -c application_name=a\\ b\\\\c"


def test_another_database_of_the_same_server_keeps_everything_else() -> None:
    other = Database(URL).with_name("x=y 'z'")
    assert other.name == "x=y 'z'"
    assert other.env()["PGHOST"] == "db.example.gov"
    assert Database(URL).env("other")["PGDATABASE"] == "other"


def test_nothing_of_the_address_is_in_its_repr() -> None:
    text = repr(Database(URL)) + str(Database(URL))
    for part in ("crt", "ann", "example", "5433", "data?"):
        assert part not in text


def test_the_password_is_named_as_a_secret_in_both_its_forms() -> None:
    assert Database(URL).secrets == ("s@crt/pw", "s%40crt%2Fpw")
    assert Database("postgres://h/d").secrets == ()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://ann:hunter2@h/d",
        "postgres://ann:hunter2%zz@h/d",
        "postgres://ann:hunter2@h/d?nonsense=hunter2",
        "postgres://ann:hunter2@h:5432/",
        "host=h password=hunter2",
        "hunter2",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        Database(url)
    assert "hunter2" not in raised.value.line()
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_server_that_is_down_is_one_sentence_without_its_address() -> None:
    with pytest.raises(FailedError) as raised:
        Database("postgres://annie:hunter2@127.0.0.1:1/d").connect()
    line = raised.value.line()
    assert "is down or cannot be reached" in line
    for part in ("127.0.0.1", "annie", "hunter2"):
        assert part not in line


def test_an_error_is_named_by_its_kind_not_by_its_text() -> None:
    assert kind_of(psycopg2.OperationalError("server closed the connection; row (secret)")) == "the connection was lost"


@pytest.mark.parametrize(("number", "text"), [(150018, "15.18"), (90624, "9.6.24"), (180006, "18.6")])
def test_versions_read_as_people_write_them(number: int, text: str) -> None:
    assert version_text(number) == text
