"""The facts that a decision rests on, as plain values. ``hosting`` gathers them; nothing here asks anybody anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum


class Membership(StrEnum):
    """What GitHub said when asked whether a person belongs to the team. Only ``MEMBER`` lets anybody in."""

    MEMBER = "member"
    """200, ``state: active``."""
    PENDING = "pending"
    """200, ``state: pending``: invited, not accepted."""
    NOT_FOUND = "not found"
    """404: no member, or a token that may not see."""
    NO_PERMISSION = "no permission"
    """401 or 403."""
    UNKNOWN_USER = "unknown user"
    BOT = "bot"
    RATE_LIMITED = "rate limited"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server error"
    MALFORMED = "malformed"
    NOT_CHECKED = "not checked"
    """Nobody asked: no token, for example."""


class Trouble(StrEnum):
    """Why one of GitHub's records is not known. Each is a refusal wherever that record is needed."""

    NOT_FOUND = "GitHub knows none (404), or the token may not see it"
    NO_PERMISSION = "the token may not read it"
    RATE_LIMITED = "GitHub's rate limit is reached"
    TIMEOUT = "GitHub did not answer in time"
    SERVER_ERROR = "GitHub answered with an error of its own"
    MALFORMED = "GitHub's answer could not be understood"
    NOT_ASKED = "nobody asked"


class Stage(StrEnum):
    """When the decision is made: in the job ``authorize``, or just before the target is touched."""

    AUTHORIZE = "authorize"
    ACT = "act"


@dataclass(frozen=True)
class Request:
    """What is asked for, to the letter as it came. Empty texts were not given."""

    operation: str
    _: KW_ONLY
    space: str = ""
    """For every operation but a restore."""
    source: str = ""
    target: str = ""
    kind: str = ""
    backup_id: str = ""
    confirm: str = ""
    dry_run: bool = False
    """Of a purge or a sweep. A restore is decided on in full, dry or not."""
    release: bool = False
    """``hold --release``."""
    resume: bool = False
    """``restore --resume``: finish what a killed restore began; source and id stand in its journal."""
    continued: bool = False
    """A later stage of a restore in shards: it needs the plan of this very run, which was admitted within its hour."""

    @property
    def subject(self) -> str:
        """The space that is worked on."""
        return self.target if self.operation == "restore" else self.space


@dataclass(frozen=True)
class Run:
    """What the runner's own variables say about the workflow run."""

    inside_actions: bool = False
    repository: str = ""
    event: str = ""
    attempt: int = 0
    actor: str = ""
    triggering_actor: str = ""
    ref: str = ""
    """The full ref, such as ``refs/heads/main``."""
    default_branch: str = ""
    """Its short name, from the API or the event."""
    workflow_path: str = ""
    """The caller's workflow file, such as ``.github/workflows/deploy.yml``."""


@dataclass(frozen=True)
class Record:
    """What GitHub's record of this attempt of the run says (``GET …/actions/runs/{id}/attempts/{n}``)."""

    repository: str
    event: str
    attempt: int
    actor: str
    triggering_actor: str
    head_branch: str


@dataclass(frozen=True)
class Environment:
    """A GitHub environment as it is set up."""

    name: str
    required_reviewers: bool
    default_branch_only: bool
    """Whether jobs of other branches and tags are kept out, but for those that the matrix lets people start from."""


@dataclass(frozen=True)
class Approval:
    """One review of the run's deployment to an environment."""

    environment: str
    user: str
    approved: bool


@dataclass(frozen=True)
class FirstAttempt:
    """What attempt 1 of this run was doing, for a re-run that finishes it."""

    source: str
    target: str
    backup_id: str
    """Empty if it failed before it had made a backup."""
    failed: bool


@dataclass(frozen=True)
class Facts:
    """Everything that ``authorization.decide`` may look at. What was not gathered says so, and counts as a no."""

    request: Request
    run: Run
    stage: Stage = Stage.ACT
    record: Record | Trouble = Trouble.NOT_ASKED
    memberships: Mapping[str, Membership] = field(default_factory=dict)
    """User name to answer."""
    environment: Environment | Trouble = Trouble.NOT_ASKED
    approvals: tuple[Approval, ...] | Trouble = Trouble.NOT_ASKED
    first_attempt: FirstAttempt | Trouble = Trouble.NOT_ASKED
    made_by_this_run: bool | None = None
    """Whether the manifest of the backup says that this very run (any attempt) made it; None: not known."""
    authorized_seconds_ago: float | None = None
    """Age of the job ``authorize``'s decision; None where there was no such job."""
    started_seconds_ago: float | None = None
    """Since when this attempt of the run waits or works, by GitHub's record; None: not known."""


@dataclass(frozen=True)
class Needs:
    """What must be gathered before ``decide`` can say yes."""

    record: bool
    membership_of: tuple[str, ...]
    """User names, each once; empty where no team is asked."""
    environment: str | None
    """Name of the environment whose settings must be read."""
    approvals: bool
    first_attempt: bool
    made_by_this_run: bool


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    sentence: str
    """For people; text from outside in it is one printable line, but not yet safe for Markdown or HTML."""
