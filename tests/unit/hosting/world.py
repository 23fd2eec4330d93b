"""A consumer's repository at GitHub, and a run in it, for tests of what may be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fac_backup.hosting.github.facts import gather, matrix_of_run, moment_text
from fac_backup.policy.authorization import Decision, decide
from fac_backup.policy.facts import FirstAttempt, Request, Stage, Trouble
from tests.support.github_api import Token, World

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
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
    authorized_at: str = field(default_factory=lambda: moment_text(NOW))
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
            now=NOW,
            first_attempt=self.first,
            made_by_this_run=self.own,
        )
        return decide(facts, matrix)


def refusals(decision: Decision) -> str:
    """All refusing sentences, for comparisons."""
    assert not decision.allowed
    return "\n".join(f"{check.name}: {check.sentence}" for check in decision.refusals)


ROOT = Path(__file__).parents[3]
