"""A consumer's repository at GitHub, and a run in it, for tests of what may be done.

``Asked.decide`` gathers the facts and decides. ``Asked.refused`` runs the whole Python step of the action, in this
process and with the variables that the action sets, beside a wire that trips: database and buckets are addresses at
which every connection is counted.
"""

from __future__ import annotations

import html
import io
import json
import logging
import os
import re
import signal
import socket
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from fac_backup import actions_entry
from fac_backup.hosting.github.facts import gather, matrix_of_run, moment_text
from fac_backup.hosting.github.inputs import ACTIONS, INPUTS, environment_of
from fac_backup.policy.authorization import Decision, decide
from fac_backup.policy.facts import FirstAttempt, Request, Stage, Trouble
from tests.support.github_api import Token, World

ID = "dev_20261122T191653Z_daily"

MATRIX = """\
version: 1
who: {team: octo/admins}
spaces:
  production: {protected: true}
  staging:
  dev:
  preview:
paths:
  - {source: production, target: staging, when: [unattended, manual]}
  - {source: dev, target: dev, when: [unattended, manual], undo: none}
  - {source: production, target: production, when: manual}
  - {source: dev, target: preview, when: manual}
"""


def consumer() -> World:
    """A repository with a matrix, a team with alice (active) and pat (pending), and guarded environments."""
    world = World()
    world.tokens["members"] = Token(permissions={"metadata"}, orgs={"octo"})
    world.users |= {"pat"}
    world.matrix(MATRIX)
    world.teams["octo", "admins"] = {"alice": "active", "carol": "active", "pat": "pending"}
    for space in ("production", "staging", "dev", "preview"):
        world.environment(space, reviewers=False, branches=["main"])
        world.environment(f"{space}-restore", branches=["main"])
    world.attempt(1)
    # A reviewer has let the run into each environment that has reviewers.
    for space in ("production", "staging", "dev", "preview"):
        world.approve(f"{space}-restore", "carol")
    return world


@dataclass
class Asked:
    """One run, and what it asks for: by default a member's restore of dev into preview, which is allowed."""

    url: str
    operation: str = "restore"
    source: str = "dev"
    target: str = "preview"
    space: str = ""
    kind: str = ""
    backup_id: str = ID
    confirm: str = "preview"
    dry_run: bool = False
    event: str = "workflow_dispatch"
    attempt: int = 1
    actor: str = "alice"
    triggering_actor: str = "alice"
    ref: str = "refs/heads/main"
    authorized_at: str = field(default_factory=lambda: moment_text(datetime.now(UTC)))
    stage: Stage = Stage.ACT
    first: FirstAttempt | Trouble = Trouble.NOT_ASKED
    own: bool | None = None
    token: str = "job-token"
    members: str = "members"
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The variables of the step."""
        return {
            "GITHUB_REPOSITORY": "octo/app",
            "GITHUB_RUN_ID": "7001",
            "GITHUB_RUN_ATTEMPT": str(self.attempt),
            "GITHUB_EVENT_NAME": self.event,
            "GITHUB_ACTOR": self.actor,
            "GITHUB_TRIGGERING_ACTOR": self.triggering_actor,
            "GITHUB_REF": self.ref,
            "GITHUB_SHA": "a" * 40,
            "GITHUB_API_URL": self.url,
            "GITHUB_WORKFLOW_REF": f"octo/app/.github/workflows/restore.yml@{self.ref}",
            "FAC_BACKUP_GITHUB_TOKEN": self.token,
            "FAC_BACKUP_MEMBERS_TOKEN": self.members,
            "FAC_BACKUP_AUTHORIZED_AT": self.authorized_at,
            **self.env,
        }

    def refused(self, code: int = 3) -> str:
        """Run the Python step, see that it touches nothing and says why, and give the reasons of its summary."""
        with Wire() as wire, TemporaryDirectory() as folder:
            ran = self.step(Path(folder), wire.places())
        assert ran.code == code, ran.log
        assert wire.connections == 0, "database or buckets were asked for something"
        assert "Traceback" not in ran.log
        assert not [secret for secret in SECRETS if secret in ran.said()]
        assert ran.outputs["exit-code"] == str(code)
        assert json.loads(ran.outputs["result"])["exit_code"] == code
        assert not ran.outputs.get("environment")
        assert ran.outputs.get("allowed") != "true"
        assert ran.reasons(), ran.summary
        return ran.reasons()

    def step(self, folder: Path, places: dict[str, str]) -> Stepped:
        """Run the Python step of the action; ``places`` are its inputs for database and buckets."""
        action = "authorize" if self.stage is Stage.AUTHORIZE else self.operation
        given = places | {
            "operation": self.operation, "space": self.space, "source": self.source, "target": self.target,
            "kind": self.kind, "backup-id": self.backup_id, "confirm": self.confirm,
            "dry-run": str(self.dry_run).lower(),
            "github-token": self.token, "members-token": self.members, "authorized-at": self.authorized_at,
        }  # fmt: skip
        block = {name: "" if "${{" in value else value for name, value in environment_of(action).items()}
        block |= {INPUTS[name].variable: value for name, value in given.items() if name in ACTIONS[action].inputs}
        files = {name: folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        env = self.environment() | block | {name: str(path) for name, path in files.items()}
        log = io.StringIO()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        logger = logging.getLogger("fac_backup")
        with (
            patch.dict(os.environ, env, clear=True),
            patch.object(sys, "argv", ["fac-backup", action]),
            patch.object(logger, "handlers", []),
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            try:
                actions_entry.main()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
                logger.propagate = True
        texts = {name: path.read_text() if path.exists() else "" for name, path in files.items()}
        return Stepped(code, log.getvalue(), texts["GITHUB_STEP_SUMMARY"], _outputs(texts["GITHUB_OUTPUT"]))

    def decide(self) -> Decision:
        """Gather the facts from the API and decide, as the step does."""
        env = self.environment()
        request = Request(
            self.operation,
            space=self.space,
            source=self.source,
            target=self.target,
            kind=self.kind,
            backup_id=self.backup_id,
            confirm=self.confirm,
            dry_run=self.dry_run,
        )
        matrix = matrix_of_run(env).matrix
        facts = gather(
            request,
            matrix,
            env,
            stage=self.stage,
            now=datetime.now(UTC),
            first_attempt=self.first,
            made_by_this_run=self.own,
        )
        return decide(facts, matrix)


@dataclass(frozen=True)
class Stepped:
    """What a step left behind."""

    code: int
    log: str
    summary: str
    outputs: dict[str, str]

    def said(self) -> str:
        """Everything that somebody may read; masking commands, which no log shows, left out."""
        lines = [line for line in self.log.splitlines() if not line.startswith("::add-mask::")]
        return "\n".join([*lines, self.summary, *self.outputs.values()])

    def reasons(self) -> str:
        """What the summary says against it: the checks that failed, and what happened."""
        plain = html.unescape(self.summary).replace("\u200b", "")
        return "\n".join(
            re.sub(r"^[|] ❌\xa0[*][*]no[*][*] [|] (.*?) [|] (.*) [|]$", r"\1: \2", line)
            for line in plain.splitlines()
            if line.startswith("| ❌") or "**What happened:**" in line
        )


class Wire:
    """A port at which every connection is counted and closed."""

    def __enter__(self) -> Wire:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()
        return self

    def places(self) -> dict[str, str]:
        """Inputs of an action by which database and buckets are here."""
        endpoint = f"http://127.0.0.1:{self.port}"
        binding = json.dumps({"access_key_id": "AKIAK", "secret_access_key": SECRETS[1], "endpoint": endpoint})
        return {
            "database-url": f"postgres://app:{SECRETS[0]}@127.0.0.1:{self.port}/app",
            "bucket": "s3://backups", "bucket-credentials": binding,
            "documents": "private=s3://documents", "documents-credentials": binding,
        }  # fmt: skip

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


SECRETS = ("pa55-of-the-database", "secret-of-the-bucket", "job-token")


def _outputs(text: str) -> dict[str, str]:
    return {name: value for name, _, value in re.findall(r"^(\S+?)<<(\S+)\n(.*?)\n\2$", text, re.MULTILINE | re.DOTALL)}


def refusals(decision: Decision) -> str:
    """All refusing sentences, for comparisons."""
    assert not decision.allowed
    return "\n".join(f"{check.name}: {check.sentence}" for check in decision.refusals)


ROOT = Path(__file__).parents[3]
