"""The issue about a failed verification."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fac_backup.hosting.github.issues import CHECKS, report
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


def test_each_space_and_kind_of_check_has_one_issue_of_fixed_text_which_its_next_success_closes(
    world: World, run: Run
) -> None:
    assert report(run, "writer", "dev", "age", failed=False) == "nothing"
    assert [report(run, "writer", "dev", check, failed=True) for check in CHECKS] == ["opened"] * len(CHECKS)
    assert report(run, "writer", "dev", "age", failed=True) == "commented"
    assert report(run, "writer", "production", "age", failed=False) == "nothing"
    assert len(world.issues) == len(CHECKS)
    age, *others = world.issues
    assert set(age["body"].replace(run.url, "").split()) <= set(
        (CHECKS["age"] + " [The run]() says what happened and what to do next."
         " The next run that passes this check closes this issue.").split()
    )  # fmt: skip
    assert report(run, "writer", "dev", "age", failed=False) == "closed"
    assert age["state"] == "closed"
    assert len(age["comments_made"]) == 2
    assert {issue["state"] for issue in others} == {"open"}, "a success closes its own issue only"
    assert report(run, "writer", "dev", "age", failed=True) == "opened"


@pytest.mark.parametrize("token", ["job-token", "", "wrong"])
def test_an_issue_that_cannot_be_written_hides_nothing(world: World, run: Run, token: str) -> None:
    assert report(run, token, "dev", "age", failed=True) == "failed"
    assert world.issues == []
