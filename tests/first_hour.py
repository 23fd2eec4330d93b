"""README.md as a new user does it, with a clock: from an empty folder to a scheduled backup, a mistake, a restore.

``.venv/bin/python -m tests.first_hour`` does everything anew and writes the log of docs/first-hour.md. What is not the
real thing: act for GitHub's runner, a local server for its API, SeaweedFS for S3, this commit for the tag ``v1``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from html import unescape
from pathlib import Path
from secrets import token_hex

from .support.act import ROOT, Act, Ran
from .support.github_api import Token, World, serve
from .support.postgres import PostgresServer
from .support.s3 import S3Server
from .support.servers import shared_postgres, shared_s3

PAGE = ROOT / "docs" / "first-hour.md"
BEGIN, END = "<!-- made by `python -m tests.first_hour`: begin -->\n", "<!-- end -->\n"
PROJECT = "django==5.2.8 django-storages[s3]==1.14.6 psycopg2-binary"
MODELS = """
from django.db import models


class Invoice(models.Model):
    customer = models.CharField(max_length=80)
    paper = models.FileField(upload_to="invoices/")
"""
SETTINGS = """
import os
from urllib.parse import urlsplit

_url = urlsplit(os.environ["DATABASE_URL"])
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": _url.path[1:], "USER": _url.username,
                         "PASSWORD": _url.password, "HOST": _url.hostname, "PORT": _url.port}}
INSTALLED_APPS += ["shop"]
STORAGES = {"default": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"bucket_name": "UPLOADS"}},
            "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
"""
FILL = """
from django.core.files.base import ContentFile
from shop.models import Invoice
for n in range(200):
    Invoice(customer=f"customer {n}").paper.save(f"{n}.pdf", ContentFile(b"%PDF " + str(n).encode() * 999))
"""
COUNT = """
from shop.models import Invoice
papers = [one.paper.read() for one in Invoice.objects.all()]
print(len(papers), "invoices,", sum(map(len, papers)), "bytes of papers")
"""


ACCIDENT = """
from shop.models import Invoice
for one in Invoice.objects.all():
    one.paper.delete()
    one.delete()
"""


class Terminal:
    """Runs what a person types, and keeps what the terminal shows, with the time since the beginning."""

    def __init__(self, folder: Path, env: dict[str, str], hidden: dict[str, str]) -> None:
        self.folder, self.env, self.hidden = folder, env, hidden
        self.began = time.monotonic()
        self.lines: list[str] = []

    def say(self, text: str, mark: str = "") -> None:
        """Note a line, with the time if it begins something."""
        for secret, shown in self.hidden.items():
            text = text.replace(secret, shown)
        seconds = round(time.monotonic() - self.began)
        clock = f"{seconds // 60}:{seconds % 60:02d}" if mark else ""
        line = f"{clock:>5}  {mark}{text}".rstrip()
        print(line, flush=True)
        self.lines.append(line)

    def type(self, command: str, *, shown: str = "", last: int = 6, fails: bool | None = False) -> str:
        """Run a command; its output, of which the last lines are noted."""
        self.say(shown or command, "$ ")
        done = subprocess.run(
            ["bash", "-ec", command], cwd=self.folder, env=self.env, check=False, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        lines = done.stdout.rstrip().splitlines()
        for line in [*(["…"] if len(lines) > last > 0 else []), *lines[-last:]][: last + 1 if last else 0]:
            self.say(line)
        if fails is not None and (done.returncode != 0) != fails:
            print(done.stdout)
            raise SystemExit(f"first hour: `{command}` ended with exit code {done.returncode}")
        return done.stdout


class Trial:
    """The user, the project, the repository at GitHub."""

    def __init__(self, terminal: Terminal, act: Act, world: World, api: str, secrets: dict[str, str]) -> None:
        self.terminal, self.act, self.world, self.api, self.secrets = terminal, act, world, api, secrets
        self.run_id = 7000

    def commit(self, words: str) -> None:
        """Commit and push: what the default branch holds is what GitHub's API answers with."""
        self.terminal.type(f"git add -A && git commit -qm '{words}' && git push -q", last=0)
        matrix = self.act.consumer / "action-matrix.yml"
        if matrix.is_file():
            self.world.matrix(matrix.read_text())

    def github(self, what: str, workflow: str, event: str, inputs: dict[str, str] | None = None) -> Ran:
        """GitHub runs a workflow; its summary."""
        self.run_id += 1
        self.world.run_id, self.world.attempts = self.run_id, {}
        self.world.attempt(1, event=event, path=f".github/workflows/{workflow}")
        self.terminal.say(f"(GitHub) {what}", "· ")
        ran = self.act.run(
            workflow, event=event, api=self.api, inputs=inputs, secrets=self.secrets, run_id=self.run_id,
            env={"GITHUB_REPOSITORY_OWNER": "octo"},
        )  # fmt: skip
        told = [str(line["content"]) for line in ran.lines if line.get("command") == "summary"]
        for line in plain("\n".join(dict.fromkeys(told))):  # act tells each one twice
            self.terminal.say(f"  {line}")
        if not ran.passed:
            print(ran.log() or ran.raw)
            raise SystemExit(f"first hour: {workflow} failed")
        self.terminal.say(f"(GitHub) {workflow} is green", "· ")
        return ran


def plain(markdown: str) -> list[str]:
    """A summary without its marks, a line a row."""
    text = re.sub(r"</th><td>|(?<=\S) \| (?=\S)", "  ·  ", markdown)
    text = unescape(re.sub(r"<[^>]*>|^> ?|^#+ |```(text)?|[*`]|^\| | \|$", "", text, flags=re.M)).replace("\u200b", "")
    return [line for line in text.splitlines() if line.strip() and not set(line) <= set("|- ·")]


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language, without the indent of a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", (ROOT / "README.md").read_text(), re.M | re.S)
    return [re.sub(f"^{indent}", "", text, flags=re.M) for indent, text in found]


def main() -> None:
    """Do it, and write the page."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="first-hour-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        pg = shared_postgres(18) or stack.enter_context(PostgresServer(18))
        s3 = shared_s3() or stack.enter_context(S3Server())
        world = World()
        api = stack.enter_context(serve(world))
        name = f"shop_{token_hex(4)}"
        url = pg.create_database(name)
        stack.callback(pg.execute, "postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        log = first_hour(folder, url, s3, world, api)
    text = PAGE.read_text(encoding="utf-8")
    if BEGIN not in text:
        raise SystemExit(f"first hour: {PAGE.name} has no place for the log")
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    PAGE.write_text(f"{head}{BEGIN}\n```text\n{log}\n```\n{tail}", encoding="utf-8")


def first_hour(folder: Path, url: str, s3: S3Server, world: World, api: str) -> str:
    """All steps; the log."""
    suffix = token_hex(3)
    uploads, backups = f"shop-uploads-{suffix}", f"shop-backups-{suffix}"
    act = Act(folder / "act")
    published = folder / "published.git"
    subprocess.run(["git", "clone", "-q", "--bare", ROOT, published], check=True)
    subprocess.run(["git", "tag", "-f", "v1", "HEAD"], cwd=published, check=True, capture_output=True)
    pushed = folder / "pushed.git"
    subprocess.run(["git", "init", "-q", "--bare", pushed], check=True)
    keys = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    env = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "GIT_CONFIG_COUNT": "5", "GIT_AUTHOR_NAME": "Alice", "GIT_AUTHOR_EMAIL": "alice@example.com",
        "GIT_COMMITTER_NAME": "Alice", "GIT_COMMITTER_EMAIL": "alice@example.com",
        "GIT_CONFIG_KEY_0": f"url.{published}.insteadOf", "GIT_CONFIG_VALUE_0": "https://github.com/fac/backup-actions",
        "GIT_CONFIG_KEY_1": f"url.{pushed}.insteadOf", "GIT_CONFIG_VALUE_1": "https://github.com/octo/app.git",
        "GIT_CONFIG_KEY_2": "push.autoSetupRemote", "GIT_CONFIG_VALUE_2": "true",
        "GIT_CONFIG_KEY_3": "push.default", "GIT_CONFIG_VALUE_3": "current",
        "GIT_CONFIG_KEY_4": "advice.detachedHead", "GIT_CONFIG_VALUE_4": "false",
        **keys, "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": s3.endpoint, "DATABASE_URL": url,
        **{key: value for key, value in os.environ.items() if key.startswith("PIP_")},
    }  # fmt: skip
    hidden = {uploads: "shop-uploads", backups: "shop-backups", str(act.consumer): "~/app", s3.endpoint: "https://s3"}
    terminal = Terminal(act.consumer, env, hidden)
    trial = Trial(terminal, act, world, api, {"DATABASE_URL": url, **keys})

    terminal.say("# a Django project, its database, its uploads in S3: what you have already", "")
    terminal.type(
        "python3 -m venv ~/venv && ~/venv/bin/pip install -q " + PROJECT.replace("[", "\\[").replace("]", "\\]"),
        shown=f"python3 -m venv ~/venv && ~/venv/bin/pip install {PROJECT}",
    )
    terminal.type("~/venv/bin/django-admin startproject site_ . && ~/venv/bin/python manage.py startapp shop")
    with (act.consumer / "site_/settings.py").open("a") as settings:
        settings.write(SETTINGS.replace("UPLOADS", uploads))
    (act.consumer / "shop/models.py").write_text(MODELS)
    (act.consumer / ".gitignore").write_text("__pycache__\n")
    make_bucket(terminal, uploads)
    terminal.type("~/venv/bin/python manage.py makemigrations shop -v0 && ~/venv/bin/python manage.py migrate -v0")
    manage(terminal, FILL, "made 200 invoices, each with a paper in S3")
    counted = manage(terminal, COUNT, "how many?")
    terminal.say("# from here on the README, step by step", "")
    terminal.say("# 1. a bucket for backups, and a key", "")
    make_bucket(terminal, backups)
    terminal.say("# 2. Settings, Secrets: DATABASE_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY", "")
    terminal.say("# 3. the snippet, my buckets in it, one more line for an S3 that is not Amazon's", "")
    snippet, matrix = blocks("yaml")
    snippet = snippet.replace("my-app-uploads", uploads).replace("my-app-backups", backups)
    line = "      AWS_REGION: us-east-1\n"
    assert line in snippet
    act.workflow("backup.yml", snippet.replace(line, f"{line}      AWS_ENDPOINT_URL_S3: {s3.endpoint}\n"))
    trial.commit("Back up every day")
    terminal.say("# 4. Run workflow", "")
    trial.github("Actions, backup.yml, Run workflow", "backup.yml", "workflow_dispatch")
    terminal.say("# the night comes", "")
    made = trial.github("the schedule starts backup.yml", "backup.yml", "schedule")
    made = made.outputs("fac/backup-actions/backup@v1") or made.outputs("Back up")
    return finish(trial, matrix, backups, uploads, made["backup-id"], counted)


def finish(trial: Trial, matrix: str, backups: str, uploads: str, made: str, counted: str) -> str:
    """Who may restore, the mistake, the restore."""
    terminal, act, world = trial.terminal, trial.act, trial.world
    terminal.say("# 5. who may restore", "")
    (act.consumer / "action-matrix.yml").write_text(matrix.replace("your-github-name", "alice"))
    trial.commit("Say who may restore")
    terminal.say("# 6. mark the database and the buckets as this space's", "")
    pip, adopt, listing = commands()
    terminal.env |= {"FAC_BACKUP_BUCKET": f"s3://{backups}", "FAC_BACKUP_DOCUMENTS": f"s3://{uploads}"}
    terminal.type(
        f"python3 -m venv ~/tools && ~/tools/bin/{pip}".replace("pip install", "pip install -q"),
        shown=f"python3 -m venv ~/tools && ~/tools/bin/{pip}",
        last=2,
    )
    terminal.env["PATH"] = f"{terminal.env['HOME']}/tools/bin:{terminal.env['PATH']}"
    terminal.type(adopt)
    terminal.type(listing, last=20)
    terminal.say("# 7. the form for restores, and the environment that guards it", "")
    form = re.sub(r"options: \[.*\]", "options: [default]", (ROOT / "examples/workflows/restore.yml").read_text())
    act.workflow("restore.yml", re.sub(r" *members-.*\n", "", form))
    trial.commit("A form for restores")
    terminal.say("# Settings, Environments: default-restore, its reviewer, its branch, its secrets", "")
    world.environment("default-restore", branches=["main"], prevent_self_review=False)
    world.environment_secrets["default-restore"] = ["DATABASE_URL", "BUCKET", "BUCKET_CREDENTIALS"]
    world.repository_secrets = ["DATABASE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    world.tokens["admin"] = Token({"metadata", "actions", "contents", "secrets", "environments"}, {"octo"})
    terminal.env |= {"GITHUB_TOKEN": "admin", "GITHUB_API_URL": trial.api}
    terminal.type("fac-backup doctor --repository octo/app", last=40, fails=None,
                  shown="GITHUB_TOKEN=$(gh auth token) fac-backup doctor --repository octo/app")  # fmt: skip
    binding = json.dumps({"access_key_id": terminal.env["AWS_ACCESS_KEY_ID"], "region": "us-east-1",
                          "secret_access_key": terminal.env["AWS_SECRET_ACCESS_KEY"],
                          "endpoint": terminal.env["AWS_ENDPOINT_URL_S3"]})  # fmt: skip
    trial.secrets |= {"BUCKET": f"s3://{backups}", "BUCKET_CREDENTIALS": binding,
                      "DOCUMENTS": f"s3://{uploads}", "DOCUMENTS_CREDENTIALS": binding}  # fmt: skip
    terminal.say("# the accident", "")
    manage(terminal, ACCIDENT, "the wrong shell: all invoices and all papers deleted")
    manage(terminal, COUNT, "how many?")
    terminal.say("# the restore, from the form; alice, who is alone, lets it into its environment herself", "")
    world.approve("default-restore", "alice")
    fields = {"source": "default", "target": "default", "backup-id": made, "confirm": "default"}
    trial.github(
        f"Actions, Restore, Run workflow: source default, target default, {made}, confirm default",
        "restore.yml",
        "workflow_dispatch",
        fields,
    )
    if manage(terminal, COUNT, "how many?") != counted:
        raise SystemExit("first hour: the restore brought back something else")
    return "\n".join(terminal.lines)


def commands() -> tuple[str, ...]:
    """What the README has people type in step 6, without the comments."""
    block = next(text for text in blocks("sh") if "fac-backup adopt" in text)
    lines = [line.split("  #")[0].rstrip() for line in block.splitlines()]
    return lines[0], *lines[-2:]


def make_bucket(terminal: Terminal, name: str) -> None:
    """Make a bucket, as the console does."""
    code = f"import boto3; boto3.client('s3').create_bucket(Bucket='{name}')"
    terminal.type(f'~/venv/bin/python -c "{code}"', shown=f"aws s3 mb s3://{name}")


def manage(terminal: Terminal, code: str, shown: str) -> str:
    """Run Python in the project."""
    script = terminal.folder.parent / "typed.py"
    script.write_text(code)
    return terminal.type(f'~/venv/bin/python manage.py shell -v0 -c "$(cat {script})"',
                         shown=f"~/venv/bin/python manage.py shell    # {shown}")  # fmt: skip


if __name__ == "__main__":
    main()
