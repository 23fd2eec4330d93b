"""Runs workflows with act, without Docker and without the network: a consumer's repository beside this library.

What is not GitHub about it, and nothing else is: ``uses: $/x`` becomes ``owner/repo/x@ref`` in a scratch copy of this
library; third-party actions are small stand-ins; there are no environments, so secrets are given by name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIBRARY = "fac/backup-actions"
REF = "v1"
TIMEOUT = 240
COPIED = (
    "actions", "backup", "restore", "purge", "list", "verify", "sweep", "authorize",
    "lib", "tools", ".github", "requirements.lock", "action-matrix.yml", "pyproject.toml",
)  # fmt: skip
TOKEN_ACTION = "actions/create-github-app-token@bcd2ba49218906704ab6c1aa796996da409d3eb1"

TOKEN_STAND_IN = """\
name: Stand-in for actions/create-github-app-token
description: Gives the private key as the token, so that a test chooses it; without a key it fails, as the action does
inputs:
  client-id: {description: "", required: true}
  private-key: {description: "", required: true}
  owner: {description: "", required: false}
  permission-members: {description: "", required: false}
outputs:
  token: {description: "", value: "${{ steps.t.outputs.token }}"}
runs:
  using: composite
  steps:
    - id: t
      shell: bash
      run: |
        [ -n "$KEY" ] || { echo "::error::Input required and not supplied: private-key"; exit 1; }
        echo "token=$KEY" >> "$GITHUB_OUTPUT"
      env:
        KEY: ${{ inputs.private-key }}
"""

UPLOAD_ACTION = "actions/upload-artifact@bbbca2ddaa5d8feaa63e36b76fdaad77386f024f"

UPLOAD_STAND_IN = """\
name: Stand-in for actions/upload-artifact
description: Copies the file into a folder where a test finds it
inputs:
  name: {description: "", required: true}
  path: {description: "", required: true}
  if-no-files-found: {description: "", required: false}
  retention-days: {description: "", required: false}
runs:
  using: composite
  steps:
    - shell: bash
      run: if [ -e "$FILE" ]; then mkdir -p "ARTIFACTS/$NAME" && cp "$FILE" "ARTIFACTS/$NAME/"; fi
      env:
        NAME: ${{ inputs.name }}
        FILE: ${{ inputs.path }}
"""


@dataclass(frozen=True)
class Ran:
    """How a workflow ended."""

    code: int
    lines: tuple[dict[str, Any], ...]
    """act's log, a line an object: ``job``, ``step``, ``msg``, ``stepResult``, ``jobResult``."""
    raw: str = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether the run is green."""
        return self.code == 0

    def log(self, job: str = "") -> str:
        """What the steps printed, of all jobs or of those whose name contains ``job``."""
        return "\n".join(
            str(line.get("msg", "")).rstrip("\n") for line in self.lines if job in str(line.get("job", ""))
        )

    def jobs(self) -> dict[str, str]:
        """Job to ``success`` or ``failure``; jobs that did not start are missing."""
        return {str(line["job"]): str(line["jobResult"]) for line in self.lines if "jobResult" in line}

    def summary(self, job: str = "") -> str:
        """The step summaries, of all jobs or of those whose name contains ``job``."""
        return "\n".join(
            str(line.get("content")) for line in self.lines
            if line.get("command") == "summary" and job in str(line.get("job", ""))
        )  # fmt: skip

    def outputs(self, step: str) -> dict[str, str]:
        """The outputs that a step with that id or name set, the last of each name."""
        found: dict[str, str] = {}
        for line in self.lines:
            if line.get("command") == "set-output" and (step in (line.get("stepID") or []) or step == line.get("step")):
                found[str(line.get("name"))] = str(line.get("arg"))
        return found


@dataclass
class Act:
    """One consumer's repository, ready to run workflows of it."""

    folder: Path
    repository: str = "octo/app"
    branch: str = "main"
    library: Path = field(init=False)
    consumer: Path = field(init=False)

    def __post_init__(self) -> None:
        self.library = self.folder / "library"
        self.consumer = self.folder / "consumer"
        (self.consumer / ".github" / "workflows").mkdir(parents=True)
        copy_library(self.library)
        self._stand_in("create-github-app-token", TOKEN_STAND_IN)
        self._stand_in("upload-artifact", UPLOAD_STAND_IN.replace("ARTIFACTS", str(self.artifacts)))
        actrc = self.folder / "config" / "act" / "actrc"
        actrc.parent.mkdir(parents=True)
        actrc.write_text("-P ubuntu-latest=-self-hosted\n")
        self._git("init", "-q", "-b", self.branch)
        self._git("remote", "add", "origin", f"https://github.com/{self.repository}.git")

    @property
    def artifacts(self) -> Path:
        """Where uploaded artifacts lie: a folder each."""
        return self.folder / "artifacts"

    def workflow(self, name: str, text: str) -> None:
        """Write a workflow of the consumer."""
        (self.consumer / ".github" / "workflows" / name).write_text(text)

    def run(
        self,
        workflow: str,
        *,
        event: str = "workflow_dispatch",
        api: str = "",
        inputs: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        actor: str = "alice",
        triggering_actor: str | None = None,
        run_id: int = 7001,
        attempt: int = 1,
        job: str = "",
    ) -> Ran:
        """Run one workflow, or one job of it, and wait for its end."""
        self._git("add", "-A")
        self._git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "--allow-empty", "-m", "now")
        event_file = self.folder / "event.json"
        event_file.write_text(json.dumps({"inputs": dict(inputs or {}), "repository": {"full_name": self.repository}}))
        secret_file = self.folder / "secrets"
        # GITHUB_TOKEN is what `github.token` gives.
        given = {"GITHUB_TOKEN": "job-token"} | dict(secrets or {})
        secret_file.write_text("".join(f"{name}='{value}'\n" for name, value in given.items()))
        secret_file.chmod(0o600)
        variables = {
            "GITHUB_RUN_ID": str(run_id),
            "GITHUB_RUN_ATTEMPT": str(attempt),
            "GITHUB_TRIGGERING_ACTOR": actor if triggering_actor is None else triggering_actor,
            "GITHUB_API_URL": api,
            **(env or {}),
        }
        command = [
            str(Path(sys.executable).parent / "act"), event, "--json", "--rm",
            "--action-offline-mode", "--no-cache-server",
            "-W", f".github/workflows/{workflow}", "-e", str(event_file), "--secret-file", str(secret_file),
            "--actor", actor, "--defaultbranch", self.branch,
            "--local-repository", f"{LIBRARY}@{REF}={self.library}",
            "--local-repository", f"{TOKEN_ACTION}={self.folder / 'create-github-app-token'}",
            "--local-repository", f"{UPLOAD_ACTION}={self.folder / 'upload-artifact'}",
        ]  # fmt: skip
        for name, value in variables.items():
            command += ["--env", f"{name}={value}"]
        if job:
            command += ["-j", job]
        done = subprocess.run(
            command, cwd=self.consumer, env=self._environment(), capture_output=True, text=True, timeout=TIMEOUT,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        return Ran(done.returncode, tuple(_lines(done.stdout)), done.stdout + done.stderr)

    def _environment(self) -> dict[str, str]:
        """act's own environment. The cache is kept between tests: it holds the wheels, which are checked by hash."""
        kept = {key: os.environ[key] for key in os.environ if key.startswith("PIP_") or key in ("PATH", "HOME", "LANG")}
        cache = ROOT / ".cache"
        cache.mkdir(exist_ok=True)
        return kept | {"XDG_CONFIG_HOME": str(self.folder / "config"), "XDG_CACHE_HOME": str(cache)}

    def _stand_in(self, name: str, text: str) -> None:
        folder = self.folder / name
        folder.mkdir()
        (folder / "action.yml").write_text(text)

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.consumer, check=True, capture_output=True)


def copy_library(to: Path) -> None:
    """A copy of this library in which act finds what ``$/`` names."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, to / name)
    for path in [*to.glob(".github/workflows/*.yml"), *to.glob("*/action.yml"), *to.glob("actions/*/action.yml")]:
        path.write_text(re.sub(r"uses: \$/(\S+)", rf"uses: {LIBRARY}/\1@{REF}", path.read_text()))


def _lines(output: str) -> list[dict[str, Any]]:
    found = []
    for line in output.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
