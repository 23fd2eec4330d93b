"""Doctor: each setting that is missing is named, with the page where it is set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fac_backup.hosting.github.api import GitHub
from fac_backup.operations import doctor
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import FailedError, UsageError
from fac_backup.policy.matrix import load
from tests.support.github_api import Token, World, serve
from tests.unit.hosting.world import MATRIX, consumer

REVIEW = {"type": "pull_request", "parameters": {"required_approving_review_count": 1}}


@pytest.fixture
def world() -> World:
    world = consumer()
    world.tokens["admin"] = Token(permissions={"metadata", "actions", "contents", "secrets"}, orgs={"octo"})
    world.files["a" * 40, ".github/CODEOWNERS"] = b"/action-matrix.yml @octo/admins\n/.github/ @octo/admins\n"
    world.rulesets = [{"target": "tag", "enforcement": "active", "rules": [REVIEW]}]
    return world


@pytest.fixture
def look(world: World) -> Iterator[Callable[..., Result]]:
    with serve(world) as url:

        def run(token: str = "admin", repository: str = "octo/app", matrix: str = MATRIX) -> Result:
            env = {"GITHUB_TOKEN": token, "GITHUB_API_URL": url}
            return doctor.run(Surroundings(load(matrix), "action-matrix.yml", True, False, env), repository)

        yield run


def failed(result: Result) -> list[str]:
    return [one["sentence"] for one in result.data["findings"] if one["passed"] is not True and one["matters"]]


def test_a_repository_that_is_set_up_passes(look: Callable[..., Result]) -> None:
    result = look()
    assert failed(result) == []
    assert result.exit_code == 0
    assert not result.outcome.warnings


def test_every_row_says_where_it_is_set(look: Callable[..., Result]) -> None:
    assert all(one["url"].startswith("https://") for one in look().data["findings"])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda w: w.environments.pop("preview-restore"), "preview-restore does not exist"),
        (lambda w: w.environment("preview-restore", reviewers=False, branches=["main"]), "no required reviewers"),
        (lambda w: w.environment("preview-restore", branches=None), "any branch"),
        (lambda w: w.environment("staging", reviewers=False, branches=["main", "*"]), "takes jobs of *"),
        (lambda w: w.environment("production", reviewers=False, branches=[]), "no branch at all"),
        (lambda w: w.repository_secrets.append("DATABASE_URL"), "DATABASE_URL can be read"),
        (lambda w: w.organization_secrets.append("CF_PASSWORD"), "CF_PASSWORD can be read"),
        (lambda w: (setattr(w, "protected", False), w.rulesets.clear()), "can change main"),
        (lambda w: w.teams.clear(), "team octo/admins could not be read"),
        (lambda w: w.workflows.append({"name": "Daily", "state": "disabled_inactivity"}), "Disabled workflows: Daily"),
        (lambda w: w.fault("environments/dev$", "500"), "dev could not be read"),
        (lambda w: w.fault("rules/branches", "garbage"), "rules of main could not be read"),
    ],
)
def test_what_is_missing_and_matters_is_named_and_fails(
    world: World, look: Callable[..., Result], spoil: Callable[[World], object], sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(GitHub.__init__.__kwdefaults__, "sleep", lambda _: None)
    spoil(world)
    result = look()
    assert any(sentence in one for one in failed(result)), failed(result)
    assert result.exit_code == 1
    assert result.outcome.failure is not None


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda w: w.files.pop(("a" * 40, ".github/CODEOWNERS")), "No CODEOWNERS"),
        (lambda w: w.environment("dev-restore", branches=["main"], prevent_self_review=False), "Prevent self-review"),
        (lambda w: w.environment("dev-restore", branches=["main"], admins_bypass=True), "Allow administrators"),
        (lambda w: w.environment("dev", branches=["main"]), "no unattended run passes"),
        (lambda w: w.tokens["admin"].permissions.discard("secrets"), "look there yourself"),
    ],
)
def test_what_is_missing_and_matters_less_is_a_warning(
    world: World, look: Callable[..., Result], spoil: Callable[[World], object], sentence: str
) -> None:
    spoil(world)
    result = look()
    assert result.exit_code == 0, failed(result)
    assert any(sentence in one for one in result.outcome.warnings), result.outcome.warnings


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("* @octo/admins\n", ""),
        ("# nobody\n/action-matrix.yml @octo/admins # the policy\n.github/ @octo/admins\n", ""),
        ("/action-matrix.yml\n", "nobody for action-matrix.yml and .github/workflows/"),
        ("/action-matrix.yml @octo/admins\n", "nobody for .github/workflows/"),
        ("* @octo/admins\n/action-matrix.yml\n", "nobody for action-matrix.yml"),
        ("/docs/action-matrix.yml @octo/admins\n/.github/ @octo/admins\n", "nobody for action-matrix.yml"),
    ],
)
def test_code_owners_are_who_the_last_line_that_fits_names(
    world: World, look: Callable[..., Result], text: str, sentence: str
) -> None:
    world.files["a" * 40, ".github/CODEOWNERS"] = text.encode()
    warnings = [one for one in look().outcome.warnings if "CODEOWNERS" in one]
    assert warnings == ([f".github/CODEOWNERS names {sentence}"] if sentence else [])


def test_self_review_matters_where_approvals_stand_for_people(world: World, look: Callable[..., Result]) -> None:
    world.environment("dev-restore", branches=["main"], prevent_self_review=False)
    result = look(matrix=MATRIX.replace("{team: octo/admins}", "environment"))
    assert any("Prevent self-review" in one for one in failed(result))


def test_tags_that_deploy_may_reach_the_space_but_not_its_restore(world: World, look: Callable[..., Result]) -> None:
    world.environment("production", reviewers=False, branches=["main"])
    world.branch_policies["production"].append({"name": "v*", "type": "tag"})
    matrix = MATRIX + "refs: {pre-deploy: ['refs/tags/v*']}\n"
    assert failed(look(matrix=matrix)) == []
    world.branch_policies["production-restore"].append({"name": "v*", "type": "tag"})
    assert any("production-restore takes jobs of v*" in one for one in failed(look(matrix=matrix)))


def test_without_a_repository_or_a_token_it_says_so(look: Callable[..., Result]) -> None:
    with pytest.raises(UsageError, match="repository"):
        look(repository="")
    with pytest.raises(UsageError, match="token"):
        look(token="")
    with pytest.raises(FailedError, match="could not be read"):
        look(repository="octo/other")
