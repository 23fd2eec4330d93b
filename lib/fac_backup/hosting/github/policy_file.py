"""Whose matrix decides: the library's own for the repositories that it names, else the consumer's default branch's.

Never the checked-out tree: whoever may push a branch could write a policy of their own there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import fac_backup
from fac_backup.hosting.github.api import Answer, GitHub, in_repository
from fac_backup.hosting.github.run import Run, run_from
from fac_backup.hosting.scripts import missing_script, no_scripts, script_beside
from fac_backup.plain.errors import RefusedError
from fac_backup.policy.matrix import DEFAULT, FILE_NAME, Matrix, load


@dataclass(frozen=True)
class Found:
    """The matrix that decides, and where it came from."""

    matrix: Matrix
    origin: str
    """Which file at which commit, in words."""
    commit: str
    """The consumer's commit, the library's ref, or empty where there is no matrix."""
    has_matrix: bool = True
    script: Callable[[str], str] = field(default=no_scripts, repr=False)
    """The text of an SQL file that lies beside the matrix, at the same commit. Raises RefusedError, UsageError."""


def matrix_of_run(env: Mapping[str, str]) -> Found:
    """The matrix for the run that ``env`` describes.

    Raises RefusedError where it cannot be read, UsageError where it is invalid: neither ever means "no matrix".
    """
    run = run_from(env)
    own = _own(env)
    if own is not None and any(named.lower() == run.repository.lower() for named in own.matrix.repositories):
        return own
    return from_default_branch(run, GitHub(run.api_url, env.get("FAC_BACKUP_GITHUB_TOKEN", "")))


def from_default_branch(run: Run, github: GitHub) -> Found:
    """The consumer's own matrix, at the commit that its default branch has now."""
    branch = default_branch(run, github)
    head = github.get(in_repository(run.repository, "branches", branch))
    commit = head.mapping().get("commit")
    sha = commit.get("sha") if isinstance(commit, dict) else None
    if not isinstance(sha, str) or len(sha) < 40 or not sha.isalnum():
        raise _unreadable(head, f"the branch {branch}")
    text = _text_at(run, github, sha, FILE_NAME)
    if text is None:  # the branch was readable with this very token, so the file is really not there
        return Found(
            DEFAULT, f"no {FILE_NAME} in {run.repository} at {sha[:12]}: a configuration without matrix", "", False
        )
    origin = f"{FILE_NAME} of {run.repository}, branch {branch}, commit {sha}"
    return Found(load(text), origin, sha, script=partial(_script_at, run, github, sha))


def _script_at(run: Run, github: GitHub, sha: str, name: str) -> str:
    """An SQL file of the commit whose matrix names it."""
    text = _text_at(run, github, sha, name)
    if text is None:
        raise missing_script(name, f"the commit {sha[:12]} of {run.repository}")
    return text


def _text_at(run: Run, github: GitHub, sha: str, name: str) -> str | None:
    """A file of a commit that was readable; None if it is not in it. Raises RefusedError where it is unreadable."""
    answer = github.get(in_repository(run.repository, "contents", *name.split("/")), ref=sha)
    if answer.status == 404:
        return None
    body = answer.mapping()
    content = body.get("content")
    if body.get("type") != "file" or body.get("encoding") != "base64" or not isinstance(content, str):
        raise _unreadable(answer, name)
    try:
        data = base64.b64decode(content)
        text = data.decode("utf-8")
    except (binascii.Error, ValueError):
        raise _unreadable(answer, name) from None
    if len(data) != body.get("size"):
        raise _unreadable(answer, name)
    return text


def default_branch(run: Run, github: GitHub) -> str:
    """The name of the default branch, from GitHub. Raises RefusedError where it cannot be read."""
    answer = github.get(in_repository(run.repository))
    name = answer.mapping().get("default_branch")
    if not isinstance(name, str) or not name:
        raise _unreadable(answer, f"the repository {run.repository}")
    return name


def _own(env: Mapping[str, str]) -> Found | None:
    """The matrix that came with this library, if any: beside the package in an action, at the root in a checkout."""
    package = Path(fac_backup.__file__).parent
    for path in (package / FILE_NAME, package.parents[1] / FILE_NAME):
        if path.is_file():
            ref = env.get("FAC_BACKUP_JOB_WORKFLOW_SHA") or env.get("FAC_BACKUP_ACTION_REF") or fac_backup.__version__
            library = env.get("FAC_BACKUP_ACTION_REPOSITORY") or "this library"
            beside = partial(script_beside, path.parent, f"{library} at {ref}")
            matrix = load(path.read_text(encoding="utf-8"))
            return Found(matrix, f"{FILE_NAME} of {library} at {ref}", ref, script=beside)
    return None


def _unreadable(answer: Answer, what: str) -> RefusedError:
    reason = answer.reason or "GitHub's answer could not be understood"
    return RefusedError(
        f"The policy could not be read ({what}): {reason}",
        next_step="The job needs `permissions: contents: read` and the input `github-token`; then run it again.",
    )
