"""The matrix as values: every key of ``action-matrix.yml``, what it may hold, and what holds where it is left out.

The JSON schema for editors and CI is made from these classes (``schema.py``); their docstrings are its descriptions.
"""

from __future__ import annotations

import base64
import binascii
import zoneinfo
from datetime import tzinfo
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from fac_backup.plain.backup_id import NAME_PATTERN
from fac_backup.plain.errors import UsageError
from fac_backup.plain.manifest import Plain
from fac_backup.plain.words import did_you_mean

VERSION = 1
"""Version of the matrix. A program refuses a number that it does not know."""

KNOWN_KINDS = ("pre-deploy", "daily", "manual", "pre-restore")
"""Kinds that a matrix need not declare."""

ALWAYS_THERE = ("manual", "pre-restore")
"""Kinds that every space has, whatever its ``kinds`` say: a person may always back up, and a restore keeps an undo."""

When = Literal["unattended", "manual"]

Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
Login = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,38}$")]
Team = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[a-z0-9][a-z0-9_-]{0,99}$")]
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,38}/[A-Za-z0-9._-]{1,100}$")]
EnvironmentName = Annotated[str, Field(pattern=r"^(<target>|[A-Za-z0-9])([A-Za-z0-9._-]|<target>){0,99}$")]
RefPattern = Annotated[str, Field(pattern=r"^refs/(heads|tags)/[A-Za-z0-9._/*-]{1,200}$")]
WorkflowFile = Annotated[str, Field(pattern=r"^\.github/workflows/[A-Za-z0-9._-]{1,100}\.ya?ml$")]
StoreName = Annotated[
    str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*|[a-z0-9][a-z0-9./-]{0,62})$")
]
TableName = Annotated[str, Field(pattern=r"^[^.\x00-\x1f]{1,63}\.[^\x00-\x1f]{1,63}$")]
InstanceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
ApiAddress = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.-]{1,200}(:[0-9]{1,5})?$")]
SCRIPT = r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,60}/){0,8}[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}\.py$"
ScriptPath = Annotated[str, Field(pattern=SCRIPT)]
SQL = r"^(\.github/)?([A-Za-z0-9_][A-Za-z0-9_.-]{0,60}/){0,8}[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}\.sql$"
SqlFile = Annotated[str, Field(pattern=SQL)]
ShellLine = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,1000}$")]
Count = Annotated[int, Field(ge=1, le=36500)]
Text = Annotated[str, Field(max_length=300)]

PATTERN_SENTENCES: dict[str, str] = {
    rf"^{NAME_PATTERN}$": "is not a name: a small letter, then small letters, digits and '-', at most 31 in all",
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,38}$": "is not a GitHub user name",
    r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[a-z0-9][a-z0-9_-]{0,99}$": "is not a team: write it as organization/team-slug",
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,38}/[A-Za-z0-9._-]{1,100}$": "is not a repository: write it as owner/name",
    r"^(<target>|[A-Za-z0-9])([A-Za-z0-9._-]|<target>){0,99}$": (
        "is not an environment: letters, digits, '.', '_', '-' and <target>, which stands for the space's name"
    ),
    r"^refs/(heads|tags)/[A-Za-z0-9._/*-]{1,200}$": "is not a ref: write refs/heads/… or refs/tags/…, '*' for any text",
    r"^\.github/workflows/[A-Za-z0-9._-]{1,100}\.ya?ml$": "is not a workflow: write .github/workflows/NAME.yml",
    r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*|[a-z0-9][a-z0-9./-]{0,62})$": (
        "is not a store: a name of small letters, digits, '-', '.' and '/', or s3://bucket/prefix"
    ),
    r"^[^.\x00-\x1f]{1,63}\.[^\x00-\x1f]{1,63}$": "is not a table: write schema.table",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "is not the name of a Cloud Foundry organization, space, app or instance",
    SQL: "is not an SQL file: write its path from the root of the repository, such as sql/sanitise.sql, without '..'",
    SCRIPT: "is not a script: write backend/manage.py, without '..'",
    r"^[^\x00-\x1f\x7f]{1,1000}$": "is not one line of at most 1,000 characters",
    r"^https?://[A-Za-z0-9.-]{1,200}(:[0-9]{1,5})?$": "is not an address: write https://api.example.gov",
}
"""What people are told where a text does not have its form."""

# The DER header of an Ed25519 SubjectPublicKeyInfo (RFC 8410): what `openssl pkey -pubout` writes before the 32 bytes.
_ED25519_HEADER = bytes.fromhex("302a300506032b6570032100")


def _time_zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        hint = did_you_mean(text, zoneinfo.available_timezones())
        raise PydanticCustomError(
            "time_zone",
            "{shown} is not a time zone such as America/New_York{hint}",
            {"shown": repr(text), "hint": hint},
        ) from None
    return text


def _public_key(text: str) -> str:
    """The base64 line of an Ed25519 public key, given as that line or as the whole PEM text."""
    lines = [line.strip() for line in text.strip().splitlines()]
    try:
        data = base64.b64decode("".join(line for line in lines if not line.startswith("-----")), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != len(_ED25519_HEADER) + 32 or not data.startswith(_ED25519_HEADER):
        raise PydanticCustomError(
            "public_key", "This is not an Ed25519 public key in PEM form, as `openssl pkey -pubout` prints it"
        )
    return base64.b64encode(data).decode()


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _none_is_empty(value: Any) -> Any:
    return {} if value is None else value


def _who(value: Any) -> Any:
    if isinstance(value, str) and value != "environment":
        raise PydanticCustomError(
            "who_word",
            "{shown} is not who: write {{team: organization/slug}}, {{users: [names]}} or the word environment",
            {"shown": repr(value[:60])},
        )
    return {"environment": True} if value == "environment" else value


def _by_when(value: Any) -> Any:
    return {"unattended": value, "manual": value} if isinstance(value, str) else value


TimeZone = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$"), AfterValidator(_time_zone)]
PublicKey = Annotated[str, Field(max_length=1000), AfterValidator(_public_key)]
PATTERN_SENTENCES[r"^[A-Za-z][A-Za-z0-9_+/-]*$"] = "is not a time zone such as America/New_York"


class Strict(Plain):
    """A part of the matrix: frozen, no unknown keys, no quiet conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Rule(Strict):
    """How long backups of one kind stay: exactly one of the two. The newest complete one always stays."""

    keep_newest: Count | None = None
    """Keep so many, the newest first."""
    keep_days: Count | None = None
    """Keep those whose date, in the matrix's time zone, is one of the last so many dates, today included."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Rule:
        if (self.keep_newest is None) == (self.keep_days is None):
            raise PydanticCustomError("rule", "A retention rule is either keep_newest: N or keep_days: N")
        return self

    def __str__(self) -> str:
        if self.keep_newest is not None:
            return f"keep the {self.keep_newest} newest" if self.keep_newest > 1 else "keep the newest"
        return f"keep {self.keep_days} days" if self.keep_days != 1 else "keep 1 day"


DEFAULT_RULES: dict[str, Rule] = {"manual": Rule(keep_days=7), "pre-restore": Rule(keep_days=7)}
"""Rules of kinds for which neither the space nor ``kinds`` gives one."""


class Who(Strict):
    """Who may do by hand what needs a person: exactly one of the three."""

    team: Team | None = None
    """Active members of a GitHub team, as organization/team-slug."""
    users: Annotated[tuple[Login, ...], Field(max_length=100)] = ()
    """These GitHub users."""
    environment: Literal[True] | None = None
    """Anybody, once somebody else has approved the run in the environment that the operation uses."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Who:
        if (self.team is not None) + bool(self.users) + (self.environment is not None) != 1:
            raise PydanticCustomError(
                "who", "who is exactly one of team: organization/team-slug, users: [names], or the word environment"
            )
        return self

    def __str__(self) -> str:
        if self.team is not None:
            return f"the team {self.team}"
        if self.users:
            return "the users " + ", ".join(self.users)
        return "somebody else's approval in the environment"


class ByWhen(Strict):
    """Environments of an operation: for unattended runs, and for what a person starts by hand."""

    unattended: EnvironmentName = "<target>"
    """Of runs that nobody starts by hand."""
    manual: EnvironmentName = "<target>-restore"
    """Of runs that a person starts."""


_TEMPLATE_OR_BY_WHEN = {
    "anyOf": [
        {"type": "string", "description": "One environment for both"},
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {"unattended": {"type": "string"}, "manual": {"type": "string"}},
        },
    ]
}
BothWays = Annotated[ByWhen, BeforeValidator(_by_when), WithJsonSchema(_TEMPLATE_OR_BY_WHEN)]


class Environments(Strict):
    """GitHub environments, one an operation; ``<target>`` stands for the name of the space that is worked on."""

    backup: EnvironmentName = "<target>"
    """For backup."""
    list: EnvironmentName = "<target>"
    """For list, and for every dry run."""
    verify: EnvironmentName = "<target>"
    """For verify."""
    purge: BothWays = ByWhen()
    """For purge."""
    restore: BothWays = ByWhen()
    """For restore, named after its target."""
    admin: EnvironmentName = "<target>-restore"
    """For adopt, unlock, hold --release, import and export."""


class Refs(Strict):
    """Refs beside the default branch, ``*`` standing for any text without ``/``."""

    manual: tuple[RefPattern, ...] = ()
    """From where a person may also start what needs ``who``."""
    pre_deploy: Annotated[tuple[RefPattern, ...], Field(alias="pre-deploy")] = ()
    """From where ``pre-deploy`` backups may also be made: the branches and tags that deployments run at."""


class CloudFoundry(Strict):
    """Where an application runs on Cloud Foundry. What a space leaves out comes from the top of the matrix."""

    api: ApiAddress | None = None
    """Address of the Cloud Foundry API."""
    organization: InstanceName | None = None
    """The Cloud Foundry organization."""
    space: InstanceName | None = None
    """The Cloud Foundry space; the matrix's own name of the space if left out."""
    app: InstanceName | None = None
    """The app that the service instances are bound to."""
    python: Literal["3.11", "3.12", "3.13", "3.14"] | None = None
    """The Python in the app's container; 3.12 if left out."""
    restart: Literal["none", "rolling", "stop"] | None = None
    """Of the app after a restore into it: rolling restarts it, stop keeps it stopped meanwhile; none if left out."""
    before_restore: Annotated[tuple[ShellLine, ...], Field(max_length=20)] | None = None
    """Commands that run as tasks of the app before a restore into it; a failure stops the restore."""
    after_restore: Annotated[tuple[ShellLine, ...], Field(max_length=20)] | None = None
    """Commands that run as tasks of the app after a restore into it that succeeded, before the restart."""


class Instances(Strict):
    """Names of the Cloud Foundry service instances of a space."""

    database: InstanceName | None = None
    """The PostgreSQL instance."""
    documents: dict[Name, InstanceName] = Field(default_factory=dict)
    """Label to instance."""
    backups: InstanceName | None = None
    """The S3 instance that its backups are kept in."""


class Space(Strict):
    """One environment of the application: a database, its documents, and where their backups are kept."""

    store: StoreName | None = None
    """Where its backups are kept; the space's own name if left out. With s3://…, a run must be given that bucket."""
    protected: bool = False
    """True for the space whose loss hurts (production): no unattended restore goes into it, whatever paths say."""
    kinds: tuple[Name, ...] | None = None
    """Kinds of backup that it has, besides manual and pre-restore; all known and declared ones if left out."""
    retention: dict[Name, Rule] = Field(default_factory=dict)
    """Kind to rule."""
    replace: Literal["beside", "in-place"] = "beside"
    """A restore builds the new database beside the old one, or wipes the old one where there is no room for that."""
    storage_gb: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many GiB its database server has for all databases together. A restore for which they do not do is refused
    before it begins."""
    keep_previous: Annotated[int, Field(ge=0, le=24 * 31)] = 0
    """For how many hours a replaced database is kept beside the new one; the next restore after that drops it."""
    after_restore: SqlFile | None = None
    """SQL that runs in its database after each restore into it, such as a GRANT: a file beside the matrix."""
    binding: Literal["existing", "ephemeral"] = "existing"
    """Whether the backups instance is bound all the time, or only for an operation."""
    instances: Annotated[Instances, BeforeValidator(_none_is_empty)] = Instances()
    """Its service instances on Cloud Foundry."""
    cloud_foundry: Annotated[CloudFoundry, BeforeValidator(_none_is_empty)] = CloudFoundry()
    """Where it runs on Cloud Foundry, as far as that differs from the top of the matrix."""
    max_object_age_days: Annotated[int, Field(ge=2, le=36500)] | None = None
    """After how many days its backups bucket deletes objects; objects in use are renewed at half of that."""
    engine: Literal["fac-backup", "django-dbbackup"] = "fac-backup"
    """Who reads the data of its backups. The library keeps its limits (docs/migrating.md)."""
    manage_py: ScriptPath = "manage.py"
    """With django-dbbackup, outside Actions: the application's manage.py, from its folder."""
    exclude_data: tuple[TableName, ...] = ()
    """Tables, as schema.table, whose rows are left out of backups."""
    public_keys: tuple[PublicKey, ...] = ()
    """Ed25519 public keys (PEM) that may have signed its backups."""
    require_signatures: bool = False
    """Whether a backup without a valid signature counts for nothing."""


class Path(Strict):
    """One way that a restore may go."""

    source: Name
    """The space whose backup is restored."""
    target: Name
    """The space that is replaced."""
    purpose: Text = ""
    """What it is for, as people are told."""
    when: Annotated[
        tuple[When, ...],
        BeforeValidator(_one_or_more),
        Field(min_length=1, max_length=2),
        WithJsonSchema(
            {
                "anyOf": [
                    {"enum": ["unattended", "manual"]},
                    {
                        "type": "array",
                        "items": {"enum": ["unattended", "manual"]},
                        "minItems": 1,
                        "maxItems": 2,
                        "uniqueItems": True,
                    },
                ]
            }
        ),
    ]
    """Whether restores go this way by themselves, by hand, or both."""
    undo: Literal["pre-restore", "none"] = "pre-restore"
    """Whether the restore first takes a pre-restore backup of its target."""
    before_swap: SqlFile | None = None
    """SQL that runs in the new database before it serves, to sanitise it for example: a file beside the matrix. If it
    fails, the target stays as it is. The undo of a restore runs none."""


class Matrix(Strict):
    """Who may do what: spaces, their stores and retention, restore paths, people."""

    version: Literal[1]
    """Version of this file."""
    time_zone: TimeZone = "UTC"
    """Whose dates "N days" counts."""
    repositories: tuple[Repository, ...] = ()
    """The repositories that this matrix is for; the one that holds it if left out."""
    who: (
        Annotated[
            Who,
            BeforeValidator(_who),
            WithJsonSchema(
                {
                    "anyOf": [
                        {"const": "environment", "description": "Whoever somebody else approves in the environment"},
                        {
                            "type": "object",
                            "additionalProperties": False,
                            "minProperties": 1,
                            "maxProperties": 1,
                            "properties": {
                                "team": {"type": "string", "description": "organization/team-slug"},
                                "users": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                            },
                        },
                    ]
                }
            ),
        ]
        | None
    ) = None
    """Who may do by hand what needs a person."""
    environments: Environments = Environments()
    """The GitHub environments that operations run in."""
    refs: Refs = Refs()
    """From which refs a run may work; the default branch always may."""
    deployments: tuple[WorkflowFile, ...] = ()
    """Workflow files whose runs are deployments: they may make pre-deploy backups at any ref."""
    cloud_foundry: CloudFoundry = CloudFoundry()
    """Where the spaces are on Cloud Foundry, as far as they have it in common."""
    kinds: dict[Name, Rule | None] = Field(default_factory=dict)
    """Kinds besides the four known ones, each with the rule for every space that has none of its own."""
    spaces: Annotated[
        dict[Name, Annotated[Space, BeforeValidator(_none_is_empty)]], Field(min_length=1, max_length=200)
    ]
    """Name to space."""
    paths: Annotated[tuple[Path, ...], Field(max_length=1000)] = ()
    """The ways that restores may go; no others are allowed but the undo of a restore."""

    @model_validator(mode="after")
    def _references(self) -> Matrix:
        from fac_backup.policy.references import problems

        for at, sentence in problems(self):
            raise PydanticCustomError("reference", "{sentence}", {"sentence": sentence, "at": at})
        return self

    @property
    def zone(self) -> tzinfo:
        """The time zone, ready for ``astimezone``."""
        return zoneinfo.ZoneInfo(self.time_zone)

    @property
    def all_kinds(self) -> tuple[str, ...]:
        """The known kinds and those that this matrix declares."""
        return KNOWN_KINDS + tuple(kind for kind in self.kinds if kind not in KNOWN_KINDS)

    def space(self, name: str) -> Space:
        """The space of that name, to the letter. Raises UsageError with the nearest name."""
        found = self.spaces.get(name)
        if found is None:
            raise UsageError(
                f"There is no space {name[:60]!r} in the matrix{did_you_mean(name, self.spaces)}",
                next_step=f"Spaces are: {', '.join(self.spaces)}.",
            )
        return found

    def kinds_of(self, space: str) -> tuple[str, ...]:
        """The kinds of backup that ``space`` has."""
        own = self.space(space).kinds
        if own is None:
            return self.all_kinds
        return own + tuple(kind for kind in ALWAYS_THERE if kind not in own)

    def kind(self, space: str, kind: str) -> str:
        """``kind``, if ``space`` has it. Raises UsageError with the nearest word."""
        kinds = self.kinds_of(space)
        if kind not in kinds:
            raise UsageError(
                f"The space {space} has no backups of kind {kind[:60]!r}{did_you_mean(kind, kinds)}",
                next_step=f"Its kinds are: {', '.join(kinds)}.",
            )
        return kind

    def retention(self, space: str, kind: str) -> Rule | None:
        """The rule for backups of ``kind`` in ``space``: its own, the kind's, the built-in one; None: all are kept."""
        return self.space(space).retention.get(kind) or self.kinds.get(kind) or DEFAULT_RULES.get(kind)

    def store(self, space: str) -> str:
        """Name or ``s3://`` address of where the backups of ``space`` are kept."""
        return self.space(space).store or space

    def path(self, source: str, target: str) -> Path | None:
        """The restore path between the two, if the matrix lists it."""
        return next((path for path in self.paths if (path.source, path.target) == (source, target)), None)

    def paths_to(self, target: str) -> tuple[Path, ...]:
        """The restore paths that end in ``target``."""
        return tuple(path for path in self.paths if path.target == target)

    def paths_from(self, source: str) -> tuple[Path, ...]:
        """The restore paths that begin in ``source``."""
        return tuple(path for path in self.paths if path.source == source)

    def may_undo(self, space: str, kind: str = "pre-restore") -> bool:
        """Whether a backup of ``kind`` may be put back into ``space`` by hand though no path says so.

        That is the undo of a restore: for ``pre-restore`` backups, wherever restores go.
        """
        return kind == "pre-restore" and bool(self.paths_to(space))

    def place(self, space: str) -> CloudFoundry:
        """Where ``space`` is on Cloud Foundry, with what it leaves out filled in from the top of the matrix."""
        own, common = self.space(space).cloud_foundry, self.cloud_foundry
        given = {
            name: value if value is not None else getattr(common, name)
            for name, value in ((name, getattr(own, name)) for name in CloudFoundry.model_fields)
        }
        return CloudFoundry.model_construct(**{**given, "space": given["space"] or space})

    def environment(self, operation: str, target: str, *, unattended: bool, dry_run: bool = False) -> str:
        """The GitHub environment of ``operation`` on the space ``target``; a dry run needs no more than ``list``."""
        names = self.environments
        if dry_run:
            template = names.list
        elif operation in ("backup", "list", "verify"):
            template = str(getattr(names, operation))
        elif operation in ("purge", "restore"):
            both: ByWhen = getattr(names, operation)
            template = both.unattended if unattended else both.manual
        else:
            template = names.admin
        return template.replace("<target>", target)
