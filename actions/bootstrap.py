"""Builds this job's Python environment and runs one action in it. Standard library only; started by bootstrap.sh.

The environment is made anew in RUNNER_TEMP for each job, from requirements.lock: wheels only, every one checked against
its hash. Only wheels are kept between jobs (in RUNNER_TOOL_CACHE): one that somebody changed there is refused by its
hash, where a kept environment would run it.
"""

from __future__ import annotations

import hashlib
import io
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
LOCKED = ["--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)]
COMPLETE = "complete.txt"
# botocore brings descriptions of 400 services in 2,000 files; writing them all takes twice as long as all else.
SERVICES = ("s3", "sts", "sso", "sso-oidc", "signin")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What the program may know. Everything else of the job's environment stays behind: PATH, PYTHON*, LD_*, BASH_ENV, PG*
# (they choose servers and options), VCAP_* (bindings go before inputs, and a runner has none), AWS_PROFILE,
# AWS_CONFIG_FILE and HOME (a profile may name a program to run).
KEPT = frozenset(  # one name after the other, read as a paragraph
    """
    LANG LC_ALL TZ TMPDIR USER LOGNAME CI DATABASE_URL HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy
    PIP_INDEX_URL PIP_CERT
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_REGION AWS_DEFAULT_REGION AWS_ENDPOINT_URL
    AWS_ENDPOINT_URL_S3 AWS_ENDPOINT_URL_STS AWS_ROLE_ARN AWS_ROLE_SESSION_NAME AWS_WEB_IDENTITY_TOKEN_FILE
    AWS_EC2_METADATA_DISABLED AWS_USE_FIPS_ENDPOINT AWS_USE_DUALSTACK_ENDPOINT AWS_STS_REGIONAL_ENDPOINTS
    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_CONTAINER_AUTHORIZATION_TOKEN
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_REQUEST_CHECKSUM_CALCULATION AWS_RESPONSE_CHECKSUM_VALIDATION
    """.split()  # noqa: SIM905
)
KEPT_PREFIXES = ("FAC_BACKUP_", "GITHUB_", "RUNNER_", "ACTIONS_ID_TOKEN_")


def cleaned(env: dict[str, str]) -> dict[str, str]:
    """The environment that the program gets."""
    kept = {k: v for k, v in env.items() if k in KEPT or k.startswith(KEPT_PREFIXES)}
    return kept | {"PATH": PATH, "HOME": pwd.getpwuid(os.getuid()).pw_dir}


def pip_environment(env: dict[str, str]) -> dict[str, str]:
    """The environment of pip: no secret. An index of one's own may be: hashes decide what is accepted from it."""
    no_secrets = {k: v for k, v in cleaned(env).items() if not k.startswith(("FAC_BACKUP_", "AWS_", "ACTIONS_"))}
    no_secrets.pop("DATABASE_URL", None)
    return no_secrets | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def build(venv: Path, wheels: Path, env: dict[str, str]) -> None:
    """Make the environment ``venv`` of locked wheels: from ``wheels`` if all are there and right, else from the index.

    pip chooses and fetches; unpacking is done here, since a wheel is a zip of what goes into site-packages and no
    command of ours needs scripts. It takes half a second where pip takes five.
    """
    # A task's bundle is built with pip; nothing else needs it, and making it takes seconds.
    without = [] if task_mode(env) else ["--without-pip"]
    run([sys.executable, "-I", "-m", "venv", *without, str(venv)], env)
    site = next((venv / "lib").glob("python3.*/site-packages"))
    if not unpack(wheels, site):
        with tempfile.TemporaryDirectory(dir=venv.parent) as scratch:
            fetched = Path(scratch) / "wheels"
            run([*pip(Path(scratch), env), "--quiet", "download", "--dest", str(fetched), *LOCKED], env)
            (fetched / COMPLETE).write_text("\n".join(sorted(path.name for path in fetched.glob("*.whl"))))
            if not unpack(fetched, site):
                raise SystemExit(fail("A package is not what requirements.lock says it is. Nothing was changed."))
            keep(fetched, wheels)
    # The package itself is run from this action's own checkout; the matrix and tools/ stand beside it there.
    (site / "fac-backup.pth").write_text(f"{ROOT / 'lib'}\n")


def task_mode(env: dict[str, str]) -> bool:
    """Whether the work is done inside a Cloud Foundry application."""
    return env.get("FAC_BACKUP_MODE") == "task"


def pip(scratch: Path, env: dict[str, str]) -> list[str]:
    """The command line of a pip: this Python's own, or one that is made for the purpose."""
    own = [sys.executable, "-I", "-m", "pip"]
    if subprocess.run([*own, "--version"], env=pip_environment(env), capture_output=True, check=False).returncode == 0:
        return own
    run([sys.executable, "-I", "-m", "venv", str(scratch / "pip")], env)
    return [str(scratch / "pip" / "bin" / "python"), "-I", "-m", "pip"]


def unpack(wheels: Path, site: Path) -> bool:
    """Unpack a complete set of wheels into ``site``. False, and nothing unpacked, if one is missing or not locked."""
    try:
        names = (wheels / COMPLETE).read_text().split()
        data = {name: (wheels / name).read_bytes() for name in names}
    except OSError:
        return False
    locked = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", LOCK.read_text()))
    if not names or not {hashlib.sha256(wheel).hexdigest() for wheel in data.values()} <= locked:
        return False
    for wheel in data.values():
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            archive.extractall(site, filter(needed, archive.namelist()))
    return True


def needed(name: str) -> bool:
    """Whether a file of a wheel is unpacked: all are, but for what describes services that we do not call."""
    service = re.match(r"botocore/data/([^/]+)/", name)
    return service is None or service[1] in SERVICES


def keep(fetched: Path, wheels: Path) -> None:
    """Keep the wheels for the next job where the runner lets us; whoever comes second changes nothing."""
    try:
        wheels.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=wheels.parent) as new:
            shutil.copytree(fetched, Path(new) / "wheels")
            if wheels.is_dir():  # they were there, and not accepted
                shutil.rmtree(wheels)
            (Path(new) / "wheels").rename(wheels)
    except OSError:
        pass


def run(command: list[str], env: dict[str, str], *, may_fail: bool = False) -> bool:
    """Run a command whose output is shown only if it fails."""
    done = subprocess.run(command, env=pip_environment(env), check=False, text=True, capture_output=True)
    if done.returncode != 0 and not may_fail:
        for line in (done.stdout + done.stderr).splitlines()[-20:]:
            print(f"| {line}".replace("::", ":\\:").replace("##[", "#\\#["), file=sys.stderr)
        sentence = "The Python environment of this action could not be built. Nothing was changed. "
        hint = "The lines above say why; usually this runner cannot reach the package index."
        raise SystemExit(fail(sentence + hint))
    return done.returncode == 0


def fail(sentence: str) -> int:
    """Say what happened as an annotation and an output, as the program itself would."""
    print(f"::error title=fac-backup::{sentence}", file=sys.stderr)
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a") as file:
            file.write("exit-code=1\n")
    return 1


def main() -> None:
    """Build the environment if this job has none yet, then become the program."""
    env = dict(os.environ)
    temp = Path(env.get("RUNNER_TEMP") or tempfile.gettempdir())
    lock = hashlib.sha256(LOCK.read_bytes() + f"{ROOT} {sys.version} {task_mode(env)}".encode()).hexdigest()[:16]
    home = temp / f"fac-backup-{lock}"
    ready = home / "ready"
    if not ready.exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True, mode=0o700)
        cache = Path(env.get("RUNNER_TOOL_CACHE") or temp)
        tag = f"{sys.version_info[0]}.{sys.version_info[1]}-{os.uname().machine}-{lock_sum()}"
        build(home / "venv", cache / "fac-backup-wheels" / tag, env)
        ready.touch()
    python = str(home / "venv" / "bin" / "python")
    os.execve(python, [python, "-I", "-m", "fac_backup.actions_entry", *sys.argv[1:]], cleaned(env))  # noqa: S606


def lock_sum() -> str:
    """Names a set of wheels."""
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]


if __name__ == "__main__":
    main()
