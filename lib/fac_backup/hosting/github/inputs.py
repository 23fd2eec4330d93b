# ruff: noqa: E501 - a table of sentences reads better unbroken
"""Every input and output of the composite actions, once: ``tools/generate_actions.py`` writes each ``action.yml``.

An action sets *every* variable listed here, empty where it has no such input: a value left behind by an earlier step
(through ``GITHUB_ENV``) is thereby gone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Input:
    """One input: its name in YAML, what it says to people, its default."""

    name: str
    description: str
    default: str = ""
    required: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that carries it."""
        return "FAC_BACKUP_" + self.name.replace("-", "_").upper()


_ID = "A backup id, for example production_20261122T201653Z_daily."

INPUTS: dict[str, Input] = {
    item.name: item
    for item in (
        Input("operation", "What is asked for: backup, restore, purge, list, verify or sweep.", required=True),
        Input("space", "The space, as the matrix names it. Without a matrix there is one: default."),
        Input("kind", "The kind of backup: pre-deploy, daily, manual or one that the matrix declares. Default: from the event."),
        Input("note", "A sentence that the backup carries, for people."),
        Input("backup-id", _ID),
        Input("engine", "Who reads the data: fac-backup or django-dbbackup. Default: as the matrix says."),
        Input("archives", "With django-dbbackup: the folder that holds what `dbbackup` and `mediabackup` wrote in a step before."),
        Input("source", "The space whose backup is restored.", required=True),
        Input("target", "The space that is replaced.", required=True),
        Input("confirm", "The target's name, typed a second time. Needed for every restore that a person starts."),
        Input("resume", "true: finish the restore that a killed run left unfinished."),
        Input("dry-run", "true: print the plan and change nothing.", default="false"),
        Input("level", "objects (every object is there and whole), restore (a rehearsal in a scratch database) or age (only: is the newest backup younger than `max-age-hours`, here 26 by default).", default="objects"),
        Input("live", "true: compare the live tables' rows with the backup's counts, instead of looking at the backup. Needs `database-url`.", default="false"),
        Input("report-issue", "true: open an issue when this check of this space fails, and close it when it passes again. Needs `issues: write`."),
        Input("max-age-hours", "Fail if the newest backup (in `list`: of the kind that is given) is older than so many hours. Default: no limit; in `verify` with `level: age` 26."),
        Input("html", "A folder into which the catalog is written as one page, index.html, to be kept as an artifact."),
        Input("authorized-at", "The output of the same name of the action `authorize`, where a job before this one asked it."),
        Input("ping-url", "A dead man's switch, from a secret: URL/start, then URL or URL/fail is requested (as healthchecks.io has it)."),
        Input("mode", "direct: this runner reaches database and buckets. task: the work runs inside the Cloud Foundry application."),
        Input("database-url", "postgres://user:password@host:port/name, from a secret."),
        Input("bucket", "Where backups are kept: s3://name or s3://name/prefix."),
        Input("bucket-credentials", "JSON in the shape of a cloud.gov S3 binding, from a secret. Default: AWS's own chain (OIDC, AWS_*)."),
        Input("documents", "label=s3://name[/prefix], several separated by spaces; none if there are no documents."),
        Input("documents-credentials", "JSON in the shape of a cloud.gov S3 binding, or an object of label to binding, from a secret."),
        Input("scratch-database-url", "A server for the rehearsal's scratch database, from a secret. Default: the one of `database-url`."),
        Input("source-bucket", "In a restore: the source's backups bucket, where it is not the target's."),
        Input("source-bucket-credentials", "JSON in the shape of a cloud.gov S3 binding for `source-bucket`, from a secret."),
        Input("signing-key", "An Ed25519 private key in PEM form that signs backups and the tombstones of purged ones, from a secret. Default: no signature."),
        Input("cf-api", "Cloud Foundry's API, for example https://api.fr.cloud.gov."),
        Input("cf-org", "The Cloud Foundry organization."),
        Input("cf-space", "The Cloud Foundry space. Default: as the matrix says."),
        Input("cf-app", "The application in that space."),
        Input("cf-username", "The service account's user name, from a secret."),
        Input("cf-password", "The service account's password, from a secret."),
        Input("source-cf-username", "A service account of the source's space. Default: the same account."),
        Input("source-cf-password", "Its password, from a secret."),
        Input("task-memory-mb", "Memory of the task, in MiB."),
        Input("task-disk-mb", "Disk of the task, in MiB."),
        Input("restart", "The application around a restore in mode task: none, rolling (restarted afterwards) or stop (stopped before, started after). Default: what the matrix says."),
        Input("shards", "Into how many jobs the documents are split. Set by the reusable workflows, which have the jobs (docs/scale.md)."),
        Input("shard-stage", "With `shards`: what this job does of it."),
        Input("shard", "With `shards`: which of them this job does, from 1."),
        Input("jobs", "How many connections and workers at the same time. Default: cores + 1."),
        Input("github-token", "Reads this run's record and settings: needs `actions: read` and `contents: read`.", default="${{ github.token }}"),
        Input("members-token", "Reads the team's members: a GitHub App's token with Members: read. GITHUB_TOKEN cannot."),
    )
}  # fmt: skip

_PLACES = ("database-url", "bucket", "bucket-credentials", "documents", "documents-credentials")
_BUCKETS = ("bucket", "bucket-credentials")
_SOURCE = ("source-bucket", "source-bucket-credentials")
_CLOUD = ("mode", "cf-api", "cf-org", "cf-space", "cf-app", "cf-username", "cf-password")
_SOURCE_CLOUD = ("source-cf-username", "source-cf-password")
_TASK = ("task-memory-mb", "task-disk-mb")
_SHARDS = ("shards", "shard-stage", "shard")
_TOKENS = ("github-token", "members-token")


@dataclass(frozen=True)
class Action:
    """One composite action."""

    title: str
    description: str
    icon: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


ACTIONS: dict[str, Action] = {
    "backup": Action(
        "Back up",
        "Back up a space's PostgreSQL database and S3 documents, both of one moment.",
        "archive",
        ("space", "kind", "note", "backup-id", "engine", "archives", *_PLACES, "signing-key", *_CLOUD, *_TASK, *_SHARDS, "jobs", *_TOKENS),
        ("result", "exit-code", "backup-id", "shard-list", "database-bytes", "documents-count", "documents-bytes", "uploaded-bytes", "duration-seconds", "age-seconds"),
    ),
    "restore": Action(
        "Restore",
        "Replace a space's database and documents by a backup, if the matrix and GitHub say that this run may.",
        "rotate-ccw",
        ("source", "target", "backup-id", "confirm", "resume", "authorized-at", *_PLACES, *_SOURCE, "signing-key", *_CLOUD, *_SOURCE_CLOUD, *_TASK, "restart", *_SHARDS, "jobs", *_TOKENS),
        ("result", "exit-code", "backup-id", "undo-id", "shard-list", "database-bytes", "documents-count", "documents-bytes", "uploaded-bytes", "duration-seconds", "age-seconds"),
    ),
    "purge": Action(
        "Purge",
        "Remove the backups of a space that its retention rules let go. The newest of each kind stays.",
        "trash-2",
        ("space", "dry-run", "authorized-at", *_BUCKETS, "signing-key", *_CLOUD, *_TASK, "jobs", *_TOKENS),
        ("result", "exit-code", "duration-seconds"),
    ),
    "list": Action(
        "List",
        "Show what can be restored, where to, and until when.",
        "list",
        ("space", "max-age-hours", "kind", "html", *_BUCKETS, *_CLOUD, *_TASK, "jobs", *_TOKENS),
        ("result", "exit-code", "backup-id", "age-seconds", "duration-seconds"),
    ),
    "verify": Action(
        "Verify",
        "Prove that a backup is whole, rehearse its restore, or look whether the newest one is young enough.",
        "check-circle",
        ("space", "backup-id", "level", "live", "max-age-hours", "report-issue", "ping-url", *_PLACES, "scratch-database-url", *_CLOUD, *_TASK, "jobs", *_TOKENS),
        ("result", "exit-code", "backup-id", "duration-seconds", "age-seconds"),
    ),
    "sweep": Action(
        "Sweep",
        "Take away what a killed run left in a Cloud Foundry space: tasks, bindings and keys of ours, and start the app it had stopped.",
        "wind",
        ("space", "authorized-at", "cf-api", "cf-org", "cf-space", "cf-app", "cf-username", "cf-password", *_TOKENS),
        ("result", "exit-code"),
    ),
    "authorize": Action(
        "Authorize",
        "Decide whether this run may do an operation, and show every check. Needs no secret of the data.",
        "shield",
        ("operation", "space", "kind", "source", "target", "backup-id", "confirm", "dry-run", *_TOKENS),
        ("result", "exit-code", "allowed", "environment", "unattended", "authorized-at", "matrix-commit"),
    ),
}  # fmt: skip

OPTIONAL_IN: dict[str, tuple[str, ...]] = {"authorize": ("source", "target"), "verify": (), "list": ()}
"""Inputs that are required elsewhere and may be left out here."""

OUTPUTS: dict[str, str] = {
    "result": "The whole result as one JSON document; also of a refusal or a failure.",
    "shard-list": "The shards' numbers as a JSON array, for a workflow's `strategy.matrix`; empty without `shards`.",
    "exit-code": "0 done, 1 failed, 2 wrong usage, 3 refused, 4 no such backup, 5 damaged, 6 locked, 7 act now.",
    "backup-id": "The backup that was made, restored, verified, or is the newest of the list.",
    "undo-id": "The pre-restore backup of the target: restore it to undo this restore.",
    "database-bytes": "Size of the database.",
    "documents-count": "How many documents.",
    "documents-bytes": "Size of all documents.",
    "uploaded-bytes": "What was new in the store.",
    "duration-seconds": "How long it took.",
    "age-seconds": "Age of the backup when this ended.",
    "allowed": "true or false.",
    "environment": "The environment in which the job that works must run; empty unless allowed.",
    "unattended": "true if no person started this run.",
    "authorized-at": "When this was decided (UTC); the job that works takes none that is older than an hour.",
    "matrix-commit": "The commit whose action-matrix.yml decided.",
}

INTERNAL: dict[str, str] = {
    "FAC_BACKUP_JOB_WORKFLOW_REF": "${{ job.workflow_ref }}",
    "FAC_BACKUP_JOB_WORKFLOW_SHA": "${{ job.workflow_sha }}",
    "FAC_BACKUP_ACTION_REPOSITORY": "${{ github.action_repository }}",
    "FAC_BACKUP_ACTION_REF": "${{ github.action_ref }}",
    "FAC_BACKUP_LOG_FORMAT": "github",
}
"""Set by every action itself, not by the workflow that uses it."""

FORBIDDEN: tuple[str, ...] = (
    "FAC_BACKUP_MATRIX", "FAC_BACKUP_JSON", "FAC_BACKUP_DEBUG", "FAC_BACKUP_LOCK_WAIT", "FAC_BACKUP_RANGE_THRESHOLD",
    "FAC_BACKUP_RANGE_PAGES", "FAC_BACKUP_BEFORE", "FAC_BACKUP_NEWEST", "FAC_BACKUP_BESIDE", "FAC_BACKUP_ONLY", "FAC_BACKUP_BEFORE_SWAP_SQL",
    "FAC_BACKUP_BEFORE_SWAP_COMMAND",
    "FAC_BACKUP_RELEASE", "FAC_BACKUP_OWNER", "FAC_BACKUP_REPOSITORY", "FAC_BACKUP_DATABASE",
    "FAC_BACKUP_MEDIA", "FAC_BACKUP_MANAGE_PY", "FAC_BACKUP_TO", "FAC_BACKUP_COMPRESS", "FAC_BACKUP_SERVER",
    "FAC_BACKUP_BUNDLES", "FAC_BACKUP_TASK_PYTHON", "FAC_BACKUP_RUN_ACTOR", "FAC_BACKUP_RUN_URL", "FAC_BACKUP_RUN_WHO",
    "FAC_BACKUP_SOURCE_INDEX",
)  # fmt: skip
"""Options of the command line that exist and that no action offers: set, empty. More: see ``EMPTIED``."""

EMPTIED: tuple[str, ...] = (
    "BASH_ENV", "ENV", "LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE",
    "OPENSSL_CONF", "SSL_CERT_DIR", "SSL_CERT_FILE",
)  # fmt: skip
"""Variables by which an earlier step could make our shell or Python load something else: set, empty."""


def environment_of(action: str) -> dict[str, str]:
    """Every variable of the action's one step, in order, with the expression that gives its value."""
    offered = ACTIONS[action].inputs
    block = {
        item.variable: f"${{{{ inputs.{item.name} }}}}" if item.name in offered else "" for item in INPUTS.values()
    }
    return block | INTERNAL | dict.fromkeys(FORBIDDEN, "") | dict.fromkeys(EMPTIED, "")
