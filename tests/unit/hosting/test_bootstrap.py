"""The script that starts every action: what it passes on, and which packages it accepts."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from fac_backup.hosting.github.inputs import EMPTIED, INPUTS
from tests.support.lint import ROOT


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with a lock of one small wheel."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "actions/bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny-1-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny/__init__.py", "VALUE = 1\n")
        for name in ("endpoints.json", "s3/2006-03-01/service-2.json.gz", "sts/x", "ec2/2016-11-15/service-2.json.gz"):
            archive.writestr(f"botocore/data/{name}", "")
    (wheels / module.COMPLETE).write_text("tiny-1-py3-none-any.whl")
    digest = hashlib.sha256((wheels / "tiny-1-py3-none-any.whl").read_bytes()).hexdigest()
    lock = tmp_path / "lock"
    lock.write_text(f"tiny==1 \\\n    --hash=sha256:{digest}\n")
    monkeypatch.setattr(module, "LOCK", lock)
    return module


def test_locked_wheels_are_unpacked(bootstrap: ModuleType, tmp_path: Path) -> None:
    assert bootstrap.unpack(tmp_path / "wheels", tmp_path / "site")
    assert (tmp_path / "site/tiny/__init__.py").read_text() == "VALUE = 1\n"
    assert sorted(path.name for path in (tmp_path / "site/botocore/data").iterdir()) == ["endpoints.json", "s3", "sts"]


def test_a_wheel_that_somebody_changed_on_a_shared_runner_is_not_unpacked(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    wheel = tmp_path / "wheels/tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tiny/evil.py", "")
    assert not bootstrap.unpack(tmp_path / "wheels", tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("missing", ["complete.txt", "tiny-1-py3-none-any.whl"])
def test_an_incomplete_set_of_wheels_is_not_unpacked(bootstrap: ModuleType, tmp_path: Path, missing: str) -> None:
    (tmp_path / "wheels" / missing).unlink()
    assert not bootstrap.unpack(tmp_path / "wheels", tmp_path / "site")


def test_wheels_are_kept_where_the_runner_lets_us_and_replace_bad_ones(bootstrap: ModuleType, tmp_path: Path) -> None:
    kept = tmp_path / "cache/deep/wheels"
    bootstrap.keep(tmp_path / "wheels", kept)
    (kept / "tiny-1-py3-none-any.whl").write_bytes(b"broken")
    bootstrap.keep(tmp_path / "wheels", kept)
    assert bootstrap.unpack(kept, tmp_path / "site")
    (tmp_path / "file").write_text("")
    bootstrap.keep(tmp_path / "wheels", tmp_path / "file/below")  # cannot be: no error


def test_only_what_the_program_may_know_is_passed_on(bootstrap: ModuleType) -> None:
    hostile = dict.fromkeys(
        (*EMPTIED, "PATH", "PGHOST", "PGOPTIONS", "PGSERVICEFILE", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE",
         "PYTHONBREAKPOINT", "PYTHONWARNINGS", "LD_DEBUG", "BASH_FUNC_x%%", "SHELLOPTS", "IFS", "BOTO_CONFIG",
         "REQUESTS_CA_BUNDLE", "HOME", "VCAP_SERVICES", "VCAP_SERVICES_FILE_PATH", "PYTHONUTF8",
         "DYLD_INSERT_LIBRARIES", "PIP_TARGET", "PIP_CONFIG_FILE"),
        "/evil",
    )  # fmt: skip
    wanted = {item.variable: "x" for item in INPUTS.values()} | {
        "GITHUB_RUN_ID": "1", "RUNNER_TEMP": "/t", "AWS_ACCESS_KEY_ID": "k", "HTTPS_PROXY": "p",
        "ACTIONS_ID_TOKEN_REQUEST_URL": "u",
    }  # fmt: skip
    cleaned = bootstrap.cleaned(hostile | wanted)
    assert cleaned == wanted | {"PATH": bootstrap.PATH, "HOME": pwd.getpwuid(os.getuid()).pw_dir}


def test_pip_is_told_no_secret(bootstrap: ModuleType) -> None:
    env = {"FAC_BACKUP_GITHUB_TOKEN": "s3cret", "AWS_SECRET_ACCESS_KEY": "s3cret", "DATABASE_URL": "s3cret",
           "VCAP_SERVICES": "s3cret", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "s3cret",
           "PIP_INDEX_URL": "https://mirror"}  # fmt: skip
    told = bootstrap.pip_environment(env)
    assert "s3cret" not in told.values()
    assert told["PIP_INDEX_URL"] == "https://mirror"


def test_the_shell_part_ignores_what_the_environment_would_make_it_run(tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("python3", "python3.11", "dirname", "env", "bash"):
        (evil / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/EVIL\n")
        (evil / name).chmod(0o755)
    (evil / "bashenv").write_text(f"touch {tmp_path}/EVIL\n")
    (evil / "sitecustomize.py").write_text(f"open('{tmp_path}/EVIL', 'w')\n")
    # Without RUNNER_TEMP's environment it would build one; a lock that is no file ends it before that.
    copy = tmp_path / "actions"
    copy.mkdir()
    for name in ("bootstrap.sh", "bootstrap.py"):
        shutil.copy(ROOT / "actions" / name, copy)
    env = {
        "PATH": f"{evil}:{os.environ['PATH']}", "BASH_ENV": str(evil / "bashenv"), "ENV": str(evil / "bashenv"),
        "PYTHONPATH": str(evil), "PYTHONSTARTUP": str(evil / "sitecustomize.py"), "RUNNER_TEMP": str(tmp_path),
        "BASH_FUNC_cd%%": f"() {{ touch {tmp_path}/EVIL; builtin cd \"$@\"; }}", "CDPATH": str(evil),
    }  # fmt: skip
    done = subprocess.run(
        ["/bin/bash", "--noprofile", "--norc", "-p", "-euo", "pipefail", "-c", f'exec "{copy}/bootstrap.sh" list'],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "requirements.lock" in done.stderr, done.stderr
    assert not (tmp_path / "EVIL").exists()
