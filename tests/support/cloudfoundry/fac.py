"""The FAC's organization, as its repository describes it: four spaces, one app each, and their instances."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_hex
from urllib.parse import urlsplit

from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

from .server import CloudFoundry
from .world import App, Binding, Instance, Space, User

ORG = "gsa-tts-oros-fac"
APP = "gsa-fac"


@dataclass
class Fac:
    """What ``build`` made. ``instances`` are by space name, then instance name."""

    user: User
    spaces: dict[str, Space]
    apps: dict[str, App]
    instances: dict[str, dict[str, Instance]]
    databases: dict[str, str]


def build(
    cloud: CloudFoundry,
    s3: S3Server | None,
    postgres: PostgresServer | None,
    spaces: tuple[str, ...] = ("production", "staging", "dev", "preview"),
    *,
    bind_backups: bool = False,
) -> Fac:
    """Make the spaces. ``bind_backups``: as the FAC deploys today, ``backups`` is in the manifest and stays bound."""
    world, suffix = cloud.world, token_hex(3)
    fac = Fac(world.user("deployer", token_hex(12)), {}, {}, {}, {})
    for name in spaces:
        space = fac.spaces[name] = world.space(ORG, name)
        fac.user.roles[space.guid] = "developer"
        app = fac.apps[name] = world.app(space, APP)
        there = fac.instances[name] = {}
        for service in ("backups", "fac-private-s3", "fac-public-s3"):
            bucket = s3.bucket(f"{name}-{service}") if s3 else f"{name}-{service}"
            there[service] = world.instance(space, service, "s3", bucket=bucket)
        database: dict[str, str | int] = {"db_name": f"fac_{name}", "host": "db.invalid", "port": "5432",
                                          "username": "u", "password": "p"}  # fmt: skip
        if postgres:
            url = fac.databases[name] = postgres.create_database(f"fac_{name}_{suffix}")
            parts = urlsplit(url)
            database = {"db_name": parts.path[1:], "host": parts.hostname or "", "port": str(parts.port),
                        "username": parts.username or "", "password": parts.password or "", "uri": url}  # fmt: skip
        there["fac-db"] = world.instance(space, "fac-db", "aws-rds", plan="micro-psql", credentials=database)
        for service, instance in there.items():
            if service != "backups" or bind_backups:
                binding = Binding(None, "app", instance, app, state="succeeded")
                binding.credentials = cloud.broker.permanent(binding)
                world.bindings.append(binding)
        world.start(app)
    return fac
