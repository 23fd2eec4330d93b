"""The client of GitHub's API: each outcome by name, bounded waiting, nothing secret."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fac_backup.hosting.github.api import GitHub, Outcome, at, in_repository
from fac_backup.plain.errors import UsageError
from tests.support.github_api import Token, World, serve

RUN = in_repository("octo/app", "actions", "runs", 7001, "attempts", 1)


@pytest.fixture
def world() -> World:
    world = World()
    world.attempt(1)
    return world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with serve(world) as address:
        yield address


class Clock:
    """Counts what would have been slept."""

    def __init__(self) -> None:
        self.slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def client(url: str, token: str = "job-token", **settings: float) -> tuple[GitHub, Clock]:
    clock = Clock()
    return GitHub(url, token, sleep=clock.sleep, **settings), clock  # type: ignore[arg-type]


def test_an_answer_is_its_body(url: str) -> None:
    answer = client(url)[0].get(RUN)
    assert answer.ok
    assert answer.mapping()["actor"]["login"] == "alice"
    assert answer.reason == ""


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("500", Outcome.UNAVAILABLE),
        ("503", Outcome.UNAVAILABLE),
        ("drop", Outcome.UNREACHABLE),
        ("garbage", Outcome.MALFORMED),
        ("html", Outcome.MALFORMED),
        ("rate", Outcome.RATE_LIMITED),
        ("redirect", Outcome.MOVED),
        ("forbidden", Outcome.FORBIDDEN),
        ("404", Outcome.NOT_FOUND),
        ("422", Outcome.REFUSED),
        ("204", Outcome.MALFORMED),
    ],
)
def test_what_github_does_has_a_name_and_a_sentence(world: World, url: str, fault: str, outcome: Outcome) -> None:
    world.fault("attempts", fault)
    answer = client(url)[0].get(RUN)
    assert answer.outcome is outcome
    assert answer.reason
    assert answer.body is None


def test_a_slow_answer_is_given_up(world: World, url: str) -> None:
    world.fault("attempts", "slow")
    began = time.monotonic()
    answer = client(url, timeout=0.3, patience=2.0)[0].get(RUN)
    assert answer.outcome is Outcome.TIMED_OUT
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("fault", ["503", "drop", "secondary", "rate-soon"])
def test_what_passes_is_asked_again(world: World, url: str, fault: str) -> None:
    world.fault("attempts", fault, times=2)
    github, clock = client(url)
    assert github.get(RUN).ok
    assert 0 < clock.slept <= 60


def test_waiting_has_a_bound_for_all_requests_together(world: World, url: str) -> None:
    world.fault(".", "503")
    github, clock = client(url, patience=10)
    for _ in range(10):
        assert not github.get(RUN).ok
    assert clock.slept <= 10


def test_a_creation_is_never_tried_twice(world: World, url: str) -> None:
    world.fault("issues", "503")
    client(url)[0].post(in_repository("octo/app", "issues"), {"title": "x"})
    assert [request for request in world.requests if request[0] == "POST"] == [("POST", "/repos/octo/app/issues", 503)]


@pytest.mark.parametrize(
    ("token", "outcome"),
    [("", Outcome.NO_TOKEN), ("wrong", Outcome.BAD_TOKEN), ("old", Outcome.BAD_TOKEN), ("poor", Outcome.FORBIDDEN)],
)
def test_a_token_that_does_not_do_is_named(world: World, url: str, token: str, outcome: Outcome) -> None:
    world.tokens |= {"old": Token(expired=True), "poor": Token(permissions={"metadata"})}
    assert client(url, token)[0].get(RUN).outcome is outcome


def test_a_redirection_is_not_followed_with_the_token(world: World, url: str) -> None:
    world.fault("attempts", "redirect")
    client(url)[0].get(RUN)
    assert len(world.requests) == 1


def test_neither_token_nor_answer_shows(url: str) -> None:
    github, _ = client(url, "ghs_secret")
    assert "ghs_secret" not in repr(github) + repr(github.get(RUN))


@pytest.mark.parametrize("name", ["a/../../admin", "a?x=1", "a#b", "ü", "a b", "%2e%2e"])
def test_a_name_adds_no_level_to_a_path(name: str) -> None:
    assert at("orgs", name).count("/") == 2
    assert not set("?#. ") & set(at("orgs", name).split("/", 2)[2].replace("..", ""))


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        at("orgs", name, "teams")


@pytest.mark.parametrize("url", ["http://api.example.com", "ftp://api.example.com", "//x", ""])
def test_the_token_travels_only_encrypted(url: str) -> None:
    with pytest.raises(UsageError):
        GitHub(url, "t")


def test_pages_are_joined_and_a_broken_one_breaks_the_whole(world: World, url: str) -> None:
    world.branch_policies["production"] = [{"id": i, "name": f"b{i}"} for i in range(3)]
    world.environment("production", branches=["main"])
    path = in_repository("octo/app", "environments", "production", "deployment-branch-policies")
    assert client(url)[0].pages(path, "branch_policies").body == [{"id": 0, "name": "main", "type": "branch"}]
    world.fault("policies", "list")
    assert client(url)[0].pages(path, "branch_policies").outcome is Outcome.MALFORMED
