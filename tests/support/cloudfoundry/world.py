"""What there is in the stand-in: organizations, spaces, apps, instances, bindings, tasks, jobs, users. Plain state."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def guid() -> str:
    return str(uuid.uuid4())


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(eq=False)
class Thing:
    """What every resource has."""

    name: str | None
    guid: str = field(default_factory=guid, kw_only=True)
    created_at: str = field(default_factory=now, kw_only=True)
    labels: dict[str, str] = field(default_factory=dict, kw_only=True)
    annotations: dict[str, str] = field(default_factory=dict, kw_only=True)


@dataclass(eq=False)
class Org(Thing):
    pass


@dataclass(eq=False)
class Space(Thing):
    org: Org
    memory_quota_mb: int = 16384


@dataclass(eq=False)
class User(Thing):
    """A service account. ``roles`` maps a space's guid to ``developer`` or ``auditor``."""

    password: str = field(repr=False)
    roles: dict[str, str] = field(default_factory=dict)
    password_expired: bool = False


@dataclass(eq=False)
class App(Thing):
    space: Space
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    droplet: Path | None = None
    """The app's files, of which each container gets a copy in its HOME; None: it has none."""
    staged: bool = True
    state: str = "STARTED"
    file_based_services: bool = False
    start_fails: bool = False
    started_with: list[dict[str, Any]] = field(default_factory=list)
    """The VCAP_SERVICES that each process got that ever started: what must never hold the backups' credentials."""
    task_count: int = 0


@dataclass(eq=False)
class Instance(Thing):
    """``kind`` is the label in VCAP_SERVICES: ``s3``, ``aws-rds`` or ``user-provided``."""

    space: Space
    kind: str
    plan: str = "basic"
    credentials: dict[str, Any] = field(default_factory=dict, repr=False)
    bucket: str = ""
    shared_into: list[Space] = field(default_factory=list)
    busy_until: float = 0.0
    """While ``time.monotonic()`` is less, an operation of the instance is in progress."""

    @property
    def managed(self) -> bool:
        return self.kind != "user-provided"

    @property
    def busy(self) -> bool:
        return time.monotonic() < self.busy_until


@dataclass(eq=False)
class Binding(Thing):
    type: str
    instance: Instance
    app: App | None
    operation: str = "create"
    state: str = "initial"
    """``initial``, ``in progress``, ``succeeded`` or ``failed``, of ``operation``."""
    description: str = ""
    credentials: dict[str, Any] = field(default_factory=dict, repr=False)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        return self.operation == "create" and self.state == "succeeded"


@dataclass(eq=False)
class Job(Thing):
    operation: str
    state: str = "PROCESSING"
    errors: list[dict[str, Any]] = field(default_factory=list)
    thread: threading.Thread | None = field(default=None, repr=False)


@dataclass(eq=False)
class Task(Thing):
    app: App
    command: str
    sequence: int
    memory_in_mb: int
    disk_in_mb: int
    state: str = "RUNNING"
    failure_reason: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    thread: threading.Thread | None = field(default=None, repr=False)


@dataclass(eq=False)
class Deployment(Thing):
    app: App
    polls: int = 0
    value: str = "ACTIVE"
    reason: str = "DEPLOYING"


@dataclass(eq=False)
class Line:
    """One log message; shown once ``visible_at`` (monotonic seconds) has come."""

    timestamp: int
    source_type: str
    payload: bytes
    stream: str
    visible_at: float


@dataclass
class World:
    """Everything, behind one lock."""

    orgs: list[Org] = field(default_factory=list)
    spaces: list[Space] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    apps: list[App] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)
    logs: dict[str, list[Line]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def space(self, org: str, name: str, **settings: Any) -> Space:
        """The space, made with its organization where they do not exist."""
        found = next((o for o in self.orgs if o.name == org), None)
        if found is None:
            self.orgs.append(found := Org(org))
        space = next((s for s in self.spaces if s.name == name and s.org is found), None)
        if space is None:
            self.spaces.append(space := Space(name, found, **settings))
        return space

    def user(self, name: str, password: str, roles: dict[Space, str] | None = None) -> User:
        """A service account: ``{space: "developer" | "auditor"}``."""
        user = User(name, password, {space.guid: role for space, role in (roles or {}).items()})
        self.users.append(user)
        return user

    def app(self, space: Space, name: str, **settings: Any) -> App:
        """An app; each start records the services that its processes got."""
        app = App(name, space, **settings)
        self.apps.append(app)
        return app

    def instance(self, space: Space, name: str, kind: str = "s3", **settings: Any) -> Instance:
        """A service instance that is ready."""
        instance = Instance(name, space, kind, **settings)
        self.instances.append(instance)
        return instance

    def services_of(self, app: App) -> dict[str, list[dict[str, Any]]]:
        """VCAP_SERVICES as a process or a task that starts now gets it: bindings whose creation succeeded."""
        services: dict[str, list[dict[str, Any]]] = {}
        for binding in self.bindings:
            if binding.app is not app or not binding.usable:
                continue
            instance = binding.instance
            entry = {
                "label": instance.kind,
                "name": binding.name or instance.name,
                "tags": [],
                "instance_guid": instance.guid,
                "instance_name": instance.name,
                "binding_guid": binding.guid,
                "binding_name": binding.name,
                "credentials": binding.credentials,
                "syslog_drain_url": None,
                "volume_mounts": [],
            }
            if instance.managed:
                entry |= {"provider": None, "plan": instance.plan}
            services.setdefault(instance.kind, []).append(entry)
        return services

    def start(self, app: App) -> None:
        """Processes of the app start now and keep what is bound now."""
        app.state = "STARTED"
        app.started_with.append(self.services_of(app))

    def temporary(self) -> list[str]:
        """What a finished run must not have left: labelled bindings, keys, instances and apps, tasks that still run."""
        named = [f"{b.type} binding {b.name or '(unnamed)'} of {b.instance.name} in {b.instance.space.name} "
                 f"({b.operation} {b.state})" for b in self.bindings if b.labels]  # fmt: skip
        named += [f"instance {i.name} in {i.space.name}" for i in self.instances if i.labels]
        named += [f"app {a.name} in {a.space.name} ({a.state})" for a in self.apps if a.labels]
        return named + [f"task {t.name}" for t in self.tasks if t.state in ("RUNNING", "CANCELING", "PENDING")]

    def table(self) -> str:
        """All bindings, keys, user-provided instances and running tasks, for people."""
        rows = [("what", "space", "instance", "app", "name", "state")]
        for b in self.bindings:
            rows.append((b.type, b.instance.space.name or "", b.instance.name or "", (b.app and b.app.name) or "",
                         b.name or "", f"{b.operation} {b.state}"))  # fmt: skip
        rows += [("instance", i.space.name or "", i.name or "", "", "", i.kind)
                 for i in self.instances if not i.managed]  # fmt: skip
        rows += [("task", t.app.space.name or "", "", t.app.name or "", t.name or "", t.state)
                 for t in self.tasks if t.state in ("RUNNING", "CANCELING")]  # fmt: skip
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
