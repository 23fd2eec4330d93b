"""What the runner says about this run: the ``GITHUB_*`` variables and the event's payload.

The runner sets these anew for every step after the step's own ``env:``, and rewrites the event file (actions/runner,
``src/Runner.Worker/ExecutionContext.cs``). They are compared with GitHub's own record all the same (``facts.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fac_backup.plain.errors import UsageError

_REPOSITORY = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9_.-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9_.-]{1,100}")
_EVENT_LIMIT = 16 * 1024 * 1024  # GitHub delivers at most 25 MB; nothing we read needs that much


@dataclass(frozen=True)
class Run:
    """One run attempt, as the runner tells it."""

    repository: str
    """``owner/name`` of the repository whose workflow runs: the caller's, also inside a reusable workflow."""
    run_id: int
    attempt: int
    event: str
    actor: str
    """Who caused attempt 1."""
    triggering_actor: str
    """Who caused this attempt; empty where the runner does not say."""
    ref: str
    """``refs/heads/main``, ``refs/tags/v1`` or ``refs/pull/1/merge``."""
    sha: str
    api_url: str
    server_url: str
    workflow_ref: str = ""
    """The caller's workflow: ``owner/name/.github/workflows/x.yml@refs/heads/main``."""
    job_workflow_ref: str = ""
    """The workflow file that defines this job: the called one in a reusable workflow. Empty where unknown."""
    job_workflow_sha: str = ""
    job: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """What was typed into the dispatch form, if anything was."""

    @property
    def branch(self) -> str:
        """The branch's name, empty for a tag or a pull request."""
        return self.ref.removeprefix("refs/heads/") if self.ref.startswith("refs/heads/") else ""

    @property
    def tag(self) -> str:
        """The tag's name, empty for anything else."""
        return self.ref.removeprefix("refs/tags/") if self.ref.startswith("refs/tags/") else ""

    @property
    def url(self) -> str:
        """Where people see this run."""
        return f"{self.server_url}/{self.repository}/actions/runs/{self.run_id}"

    @property
    def label(self) -> str:
        """Who works here, for locks: repository, run and attempt."""
        return f"{self.repository} run {self.run_id} attempt {self.attempt}"


def run_from(env: Mapping[str, str]) -> Run:
    """The run that ``env`` describes. Raises UsageError where a variable that every runner sets is missing or odd."""
    repository = env.get("GITHUB_REPOSITORY", "")
    if not _REPOSITORY.fullmatch(repository):
        raise _not_a_run("GITHUB_REPOSITORY")
    return Run(
        repository=repository,
        run_id=_number(env, "GITHUB_RUN_ID"),
        attempt=_number(env, "GITHUB_RUN_ATTEMPT"),
        event=env.get("GITHUB_EVENT_NAME", ""),
        actor=env.get("GITHUB_ACTOR", ""),
        triggering_actor=env.get("GITHUB_TRIGGERING_ACTOR", ""),
        ref=env.get("GITHUB_REF", ""),
        sha=env.get("GITHUB_SHA", ""),
        api_url=env.get("GITHUB_API_URL", "https://api.github.com").rstrip("/"),
        server_url=env.get("GITHUB_SERVER_URL", "https://github.com").rstrip("/"),
        workflow_ref=env.get("GITHUB_WORKFLOW_REF", ""),
        job_workflow_ref=env.get("FAC_BACKUP_JOB_WORKFLOW_REF", ""),
        job_workflow_sha=env.get("FAC_BACKUP_JOB_WORKFLOW_SHA", ""),
        job=env.get("GITHUB_JOB", ""),
        inputs=_inputs(_event(env.get("GITHUB_EVENT_PATH", ""))),
    )


def _number(env: Mapping[str, str], name: str) -> int:
    text = env.get(name, "")
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise _not_a_run(name)
    return int(text)


def _not_a_run(variable: str) -> UsageError:
    return UsageError(
        f"This entry works only inside a step of GitHub Actions: {variable} is missing or malformed",
        next_step="Outside Actions use the command `fac-backup`.",
    )


def _event(path: str) -> dict[str, Any]:
    file = Path(path) if path else None
    if file is None or not file.is_file() or file.stat().st_size > _EVENT_LIMIT:
        return {}
    try:
        payload = json.loads(file.read_bytes())
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _inputs(event: dict[str, Any]) -> dict[str, str]:
    inputs = event.get("inputs")
    return {str(key): str(value) for key, value in inputs.items()} if isinstance(inputs, dict) else {}
