"""The issue about a failed verification."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fac_backup.hosting.github.issues import report
from fac_backup.hosting.github.run import Run, run_from
from tests.support.github_api import Token, World, serve
from tests.unit.hosting.world import Asked, consumer


@pytest.fixture
def world() -> World:
    world = consumer()
    world.tokens["writer"] = Token(permissions={"metadata", "issues:write"})
    return world


@pytest.fixture
def run(world: World) -> Iterator[Run]:
    with serve(world) as url:
        yield run_from(Asked(url).environment())


def test_a_failure_opens_one_issue_and_the_next_success_closes_it(world: World, run: Run) -> None:
    assert report(run, "writer", "dev", "") == "nothing"
    assert report(run, "writer", "dev", "A piece is missing @everyone <img>") == "opened"
    assert report(run, "writer", "dev", "Again") == "commented"
    assert report(run, "writer", "production", "") == "nothing"
    (issue,) = world.issues
    assert "@everyone" not in issue["body"]
    assert "<img" not in issue["body"]
    assert report(run, "writer", "dev", "") == "closed"
    assert issue["state"] == "closed"
    assert len(issue["comments_made"]) == 2
    assert report(run, "writer", "dev", "Later") == "opened"


@pytest.mark.parametrize("token", ["job-token", "", "wrong"])
def test_an_issue_that_cannot_be_written_hides_nothing(world: World, run: Run, token: str) -> None:
    assert report(run, token, "dev", "A piece is missing") == "failed"
    assert world.issues == []
