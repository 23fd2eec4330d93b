"""The daily procedure in spaces: production's task backs up, staging's task restores from it, nothing stays bound."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.support.cloudfoundry import Binding, CloudFoundry, User
from tests.support.cloudfoundry.fac import APP, ORG, Fac, build
from tests.support.cloudfoundry.fixtures import s3_users  # noqa: F401
from tests.support.cloudfoundry.small_bundle import write
from tests.support.django_project import MANAGE, Project
from tests.support.egress import FAR, EgressProxy
from tests.support.postgres import PostgresServer, bin_dir
from tests.support.s3 import S3Server

SPACE = """
  {name}:
    store: {name}
    binding: ephemeral
    after_restore: sql/after.sql
    instances:
      database: fac-db
      documents: {{private: fac-private-s3, public: fac-public-s3}}
      backups: backups
"""
MATRIX = """
version: 1
time_zone: America/New_York
repositories: [fac/fac]
who: {{team: fac/admins}}
cloud_foundry:
  api: "{api}"
  organization: {org}
  app: {app}
  restart: rolling
  before_restore: ["echo nobody may write now"]
  after_restore: ["echo $((40 + 2)) caches are warm"]
spaces:{spaces}
paths:
  - {{source: production, target: staging, when: [unattended, manual], before_swap: sql/sanitise.sql}}
  - {{source: production, target: preview, when: [unattended, manual]}}
"""
SPACES = ("production", "staging", "preview")


@dataclass
class Stage:
    """The stand-in, the databases, and the command line on a runner."""

    cloud: CloudFoundry
    fac: Fac
    s3: S3Server
    folder: Path
    bundles: Path
    proxy: EgressProxy | None = None
    """The only way to S3 for the runner and for all apps; the databases are beside it."""
    tables: list[str] = field(default_factory=list)
    said: str = ""
    """What the last command printed on stderr."""
    producer: User | None = None
    """The account of production, which sees no other space."""

    def task(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run ``fac-backup`` in mode: task; its JSON document."""
        return self._run(words, code, self.environment(*words))

    def environment(self, *words: str) -> dict[str, str]:
        """What a job of the space that is worked on would set: its account, and the source's."""
        env = {
            "FAC_BACKUP_MODE": "task", "FAC_BACKUP_BUNDLES": str(self.bundles),
            "FAC_BACKUP_TASK_PYTHON": f"{sys.version_info[0]}.{sys.version_info[1]}",
            "FAC_BACKUP_TASK_MEMORY_MB": "512", "FAC_BACKUP_RUN_URL": "https://github.com/fac/fac/actions/runs/1",
            **(self.proxy.env if self.proxy else {}),
        }  # fmt: skip
        for option, which in (("--space", "CF"), ("--target", "CF"), ("--source", "SOURCE_CF")):
            if option in words:
                there = words[words.index(option) + 1]
                user = self.producer if self.producer and there == "production" else self.fac.user
                env |= {f"FAC_BACKUP_{which}_USERNAME": str(user.name), f"FAC_BACKUP_{which}_PASSWORD": user.password}
        return env

    def direct(self, space: str, *words: str) -> dict[str, Any]:
        """Run it where everything can be reached, by plain variables."""
        there = self.fac.instances[space]
        documents = " ".join(f"{label}=s3://{there[f'fac-{label}-s3'].bucket}" for label in ("private", "public"))
        return self._run(words, 0, self.s3.env() | {
            "DATABASE_URL": self.fac.databases[space], "FAC_BACKUP_DOCUMENTS": documents,
            "FAC_BACKUP_BUCKET": f"s3://{there['backups'].bucket}",
            "FAC_BACKUP_SOURCE_BUCKET": f"s3://{self.fac.instances['production']['backups'].bucket}",
        })  # fmt: skip

    def start(self, words: tuple[str, ...], env: dict[str, str]) -> subprocess.Popen[str]:
        """The command line, running."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FAC_BACKUP", "GITHUB"))
        }
        return subprocess.Popen(
            [sys.executable, "-m", "fac_backup", *words, "--json"], cwd=self.folder, env=kept | env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ended(self, process: subprocess.Popen[str], words: tuple[str, ...], code: int) -> dict[str, Any]:
        """Its JSON document, once it has ended with that exit code; no secret was printed."""
        stdout, stderr = process.communicate(timeout=250)
        self.said = stderr
        assert process.returncode == code, f"{stdout}\n{stderr}"
        secrets = [key for binding in self.cloud.world.bindings for key in _secrets(binding.credentials)]
        assert all(secret not in stdout + stderr for secret in [self.fac.user.password, *secrets])
        self.tables.append(f"after {' '.join(words)}\n{self.table()}")
        found: dict[str, Any] = json.loads(stdout)
        return found

    def _run(self, words: tuple[str, ...], code: int, env: dict[str, str]) -> dict[str, Any]:
        return self.ended(self.start(words, env), words, code)

    def table(self) -> str:
        """All bindings, keys, temporary instances, tasks, and the locks and pins in the stores."""
        client, lines = self.s3.client(), [self.cloud.world.table()]
        for space, instances in self.fac.instances.items():
            for entry in client.list_objects_v2(Bucket=instances["backups"].bucket).get("Contents", []):
                kind = entry["Key"].split("/")[1]
                if kind in ("locks", "pins"):
                    with suppress(client.exceptions.NoSuchKey):  # released since we listed it
                        raw = client.get_object(Bucket=instances["backups"].bucket, Key=entry["Key"])["Body"].read()
                        if kind == "pins" or json.loads(raw)["holders"]:
                            lines.append(f"{kind[:-1]}  {space}  {entry['Key']}")
        return "\n".join(lines)

    @contextmanager
    def watched(self, name: str) -> Iterator[None]:
        """Keep each different table that is seen while the block lasts."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.2):
                seen = f"during {name}\n{self.table()}"
                if seen not in self.tables:
                    self.tables.append(seen)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def rows(self, space: str, query: str = "SELECT id, report FROM audits ORDER BY id") -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.fac.databases[space])
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchall()
        finally:
            connection.close()

    def value(self, space: str, query: str) -> Any:
        return self.rows(space, query)[0][0]

    def documents(self, space: str) -> dict[str, tuple[bytes, str, dict[str, str]]]:
        client, found = self.s3.client(), {}
        for label in ("private", "public"):
            bucket = self.fac.instances[space][f"fac-{label}-s3"].bucket
            for entry in client.list_objects_v2(Bucket=bucket).get("Contents", []):
                if not entry["Key"].startswith(".fac-backup/"):
                    got = client.get_object(Bucket=bucket, Key=entry["Key"])
                    found[f"{label}/{entry['Key']}"] = got["Body"].read(), got["ContentType"], got["Metadata"]
        return found


def _secrets(credentials: dict[str, Any]) -> list[str]:
    return [str(credentials[key]) for key in ("secret_access_key", "password") if key in credentials]


@pytest.fixture(scope="module")
def stage(
    s3_users: S3Server, pg15: PostgresServer, tmp_path_factory: pytest.TempPathFactory  # noqa: F811
) -> Iterator[Stage]:  # fmt: skip
    far = f"http://{FAR}:{s3_users.port}"
    with EgressProxy({FAR: s3_users.port}) as proxy, CloudFoundry(s3_users) as cloud:
        cloud.broker.endpoint = far
        fac = build(cloud, s3_users, pg15, SPACES)
        for app in fac.apps.values():
            app.environment |= proxy.env
        folder, bundles = tmp_path_factory.mktemp("runner"), tmp_path_factory.mktemp("dist")
        spaces = "".join(SPACE.format(name=name) for name in SPACES)
        (folder / "action-matrix.yml").write_text(MATRIX.format(api=cloud.address, org=ORG, app=APP, spaces=spaces))
        (folder / "sql").mkdir()
        (folder / "sql" / "sanitise.sql").write_text("UPDATE audits SET report = 'ü %' WHERE id < 10")
        (folder / "sql" / "after.sql").write_text("COMMENT ON TABLE audits IS 'restored'")
        write(bundles, real=True)
        made = Stage(cloud, fac, s3_users, folder, bundles, proxy)
        production = fac.spaces["production"]
        made.producer = cloud.world.user("production-deployer", "a-password-of-its-own", {production: "developer"})
        del fac.user.roles[production.guid]
        for space in SPACES:
            fill(made, space)
            made.direct(space, "adopt", "--space", space, "--confirm", space)
        yield made
        for url in fac.databases.values():
            name = url.rpartition("/")[2]
            pg15.execute("postgres", f'DROP DATABASE "{name}" WITH (FORCE)', f'DROP ROLE "{name}_owner"')


def fill(stage: Stage, space: str) -> None:
    connection = psycopg2.connect(stage.fac.databases[space])
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE audits (id int PRIMARY KEY, report text)")
        cursor.execute("INSERT INTO audits SELECT n, %s || n FROM generate_series(1, 500) n", (f"{space} ",))
    connection.close()
    for label in ("private", "public"):
        for number in range(3):
            stage.s3.client().put_object(
                Bucket=stage.fac.instances[space][f"fac-{label}-s3"].bucket, Key=f"{space} {number}+ü.pdf",
                Body=f"{space} {label} {number}".encode(), ContentType="application/x-fac", Metadata={"n": str(number)},
            )  # fmt: skip


@pytest.mark.slow
def test_production_is_backed_up_by_its_task_and_staging_and_preview_become_equal(stage: Stage) -> None:
    stage.tables.append(f"before\n{stage.table()}")
    with stage.watched("the backup"):
        made = stage.task("backup", "--space", "production", "--kind", "daily")
    backup_id = made["backup_id"]
    assert stage.cloud.broker.asked[-1] == ("production", ("fac-private-s3", "fac-public-s3"))
    assert stage.cloud.world.temporary() == []

    words = ("restore", "--source", "production", "--backup-id", backup_id)
    with stage.watched("the restore"):
        restored = stage.task(*words, "--target", "staging", "--confirm", "staging")
    assert restored["undo_id"].startswith("staging_")
    assert stage.proxy is not None
    assert stage.proxy.refused == [], "everything knows the proxy and its password, and nothing but S3 is behind it"
    assert set(stage.proxy.passed) == {f"{method} {FAR}" for method in ("GET", "PUT", "HEAD", "POST", "DELETE")}
    ran = [str(task.name).split("-")[2] for task in stage.cloud.world.tasks if task.app.space.name == "staging"]
    assert ran == ["before", "restore", "after"]
    assert "nobody may write now" in stage.said
    assert "42 caches are warm" in stage.said
    assert len(stage.fac.apps["staging"].started_with) == 2  # and once more, by the rolling restart
    assert stage.cloud.world.temporary() == []
    stage.direct("preview", *words, "--target", "preview", "--confirm", "preview")

    assert stage.rows("preview") == stage.rows("production")
    # The path's SQL is on the runner alone: it travelled with the order, and so did the space's.
    sanitised = [(number, "ü %" if number < 10 else report) for number, report in stage.rows("production")]
    assert stage.rows("staging") == sanitised
    assert stage.value("staging", "SELECT obj_description('audits'::regclass)") == "restored"
    assert stage.documents("staging") == stage.documents("preview") == stage.documents("production")
    assert len(stage.documents("staging")) == 6
    listed = stage.task("list", "--space", "production")
    assert backup_id in json.dumps(listed)
    assert stage.cloud.world.temporary() == []
    for app in stage.fac.apps.values():  # no process of an app ever had the backups
        assert all(entry["name"] != "backups" for started in app.started_with for entry in started["s3"])
    # the key of production's store never entered a task of staging, not even in its environment
    for task in stage.cloud.world.tasks:
        owned = stage.fac.instances[str(task.app.space.name)]
        given = json.loads(task.environment["VCAP_SERVICES"])["s3"]
        assert {entry["credentials"]["bucket"] for entry in given} <= {i.bucket for i in owned.values()}
    during = "\n".join(table for table in stage.tables if table.startswith("during the restore"))
    for what in (
        "task  staging",
        "key   production  backups",
        "lock  staging  staging/locks/space.json",
        "pin  production",
    ):
        assert what in during
    for table in stage.tables:
        if not table.startswith("during"):
            assert not any(line.startswith(("lock", "pin", "key", "task")) for line in table.splitlines()), table
    print("\n\n".join(stage.tables))


@pytest.mark.slow
def test_a_backup_that_does_not_exist_is_exit_code_4_from_inside_the_task(stage: Stage) -> None:
    told = stage.task("restore", "--source", "production", "--target", "staging", "--confirm", "staging",
                      "--backup-id", "production_20200101T000000Z_daily", code=4)  # fmt: skip
    assert "error" in told
    assert stage.cloud.world.temporary() == []


@pytest.mark.slow
def test_a_path_that_the_matrix_does_not_list_is_refused_before_anything_is_bound(stage: Stage) -> None:
    stage.cloud.calls.clear()
    stage.task("restore", "--source", "staging", "--target", "production", "--confirm", "production",
               "--backup-id", "staging_20200101T000000Z_daily", code=3)  # fmt: skip
    assert stage.cloud.calls == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_cancelled_cancels_its_task_and_leaves_nothing(stage: Stage, number: int) -> None:
    stage.cloud.tasks.fate = "never"
    words = ("backup", "--space", "production", "--kind", "daily")
    already = len(stage.cloud.world.tasks)
    process = stage.start(words, stage.environment(*words))
    deadline = time.monotonic() + 100
    while len(stage.cloud.world.tasks) == already and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    stage.cloud.tasks.fate = ""
    process.send_signal(number)
    assert "Interrupted by SIG" in stage.ended(process, words, 1)["error"]
    assert stage.cloud.world.tasks[-1].failure_reason == "task was cancelled"
    assert stage.cloud.world.temporary() == []


@pytest.mark.slow
def test_django_dbbackup_of_the_app_makes_the_dump_inside_its_task(stage: Stage, tmp_path: Path) -> None:
    app = stage.fac.apps["preview"]
    project = Project(stage.fac.databases["preview"], tmp_path, tmp_path, bin_dir(15)).env()
    app.droplet = MANAGE.parent
    app.environment |= {key: value for key, value in project.items() if key != "PATH"}
    app.environment["PYTHONPATH"] = sysconfig.get_path("purelib")  # the app's own packages
    made = stage.task("backup", "--space", "preview", "--kind", "daily", "--engine", "django-dbbackup")
    assert (made["engine"], made["documents_count"]) == ("django-dbbackup", 6)
    assert stage.cloud.world.temporary() == []
    whole = stage.direct(
        "preview", "verify", "--space", "preview", "--level", "restore", "--backup-id", made["backup_id"]
    )
    assert "every table is equal (1 table)" in json.dumps(whole)

    words = ("backup", "--space", "preview", "--engine", "django-dbbackup", "--archives", "made")
    assert "A task makes its archives itself" in stage.task(*words, code=2)["error"]


@pytest.mark.slow
def test_sweep_goes_through_all_spaces_and_puts_right_what_a_dead_run_left(stage: Stage) -> None:
    labels = {"fac-backup-run": "dead", "fac-backup-until": "20200101T000000Z"}
    key = Binding("fac-backup-source-dead", "key", stage.fac.instances["staging"]["backups"], None, state="succeeded")
    key.labels = dict(labels)
    stage.cloud.world.bindings.append(key)
    # Production's is from a backup that could not take its binding away: it was red, and said what is and what to type.
    stage.cloud.broker.fail_unbind = ["no"] * 50
    told = stage.task("backup", "--space", "production", "--kind", "daily", code=1)
    stage.cloud.broker.fail_unbind = []
    assert "The backup in production itself is complete." in told["error"]
    assert f"cf target -o {ORG} -s production; cf unbind-service {APP} backups" in told["error"]
    next(binding for binding in stage.cloud.world.bindings if binding.labels).labels = dict(labels)
    stage.cloud.world.bindings[-1].labels = dict(labels)
    app = stage.fac.apps["staging"]
    app.state, app.labels = "STOPPED", dict(labels)

    # The account of staging and preview cannot see production: that is said, and is no reason to do less.
    done = stage.task("sweep", "--space", "staging")
    assert sorted(found["what"] for found in done["removed"]) == [f"key binding {key.name}", f"stopped app {APP}"]
    assert (app.state, app.labels) == ("STARTED", {})
    env = stage.environment("--space", "staging")
    told = stage.ended(stage.start(("sweep",), env), ("sweep",), 1)
    assert [trouble.split(";")[0] for trouble in told["troubles"]] == [
        f"production: There is no space production in organization {ORG}"
    ]
    assert len(stage.cloud.world.temporary()) == 1
    done = stage.task("sweep", "--space", "production")
    assert [found["space"] for found in done["removed"]] == ["production"]
    assert stage.cloud.world.temporary() == []
