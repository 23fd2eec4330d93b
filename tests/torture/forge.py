"""Runs ``fac-backup`` many times without starting Python each time: one process has imported it and forks.

Each command is a process of its own, in a process group of its own with the clients that it starts, so that SIGKILL
hits it as it would hit a job. ``old_objects`` lets purge take objects for older than the day that it leaves alone:
otherwise no kill would hit its sweep. ``lease`` shortens the leases of locks to so many seconds.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support.space import Done


@dataclass(frozen=True)
class Running:
    """A command that was started; its process group has the number ``pid``."""

    pid: int
    out: Path
    err: Path

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the command and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Forge:
    """The runner's side; a context manager."""

    def __enter__(self) -> Forge:
        self._folder = tempfile.TemporaryDirectory(prefix="fac-torture-")
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.forge"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._folder.cleanup()

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self, arguments: tuple[str, ...], env: Mapping[str, str], *, old_objects: bool = False, lease: float = 0
    ) -> Running:
        """Start a command."""
        self._count += 1
        stem = Path(self._folder.name) / str(self._count)
        out, err = stem.with_suffix(".out"), stem.with_suffix(".err")
        pid = self._ask(
            run=arguments,
            env=dict(env),
            out=str(out),
            err=str(err),
            cwd=self._folder.name,
            old_objects=old_objects,
            lease=lease,
        )
        return Running(int(pid), out, err)

    def wait(self, running: Running, timeout: float = 180.0) -> Done:
        """Wait for a command's end; code -9 is a kill. One that hangs is killed and has the code -99."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            running.kill()

        timer = threading.Timer(timeout, give_up)
        timer.start()
        code = int(self._ask(wait=running.pid))
        timer.cancel()
        # A child may have outlived the command that was killed alone: nothing of an attempt outlives it.
        running.kill()
        done = Done(-99 if late.is_set() else code, running.out.read_text(), running.err.read_text(errors="replace"))
        running.out.unlink()
        running.err.unlink()
        return done


def _set_default(function: Any, name: str, value: object) -> None:
    defaults = function.__kwdefaults__
    assert name in defaults
    defaults[name] = value


def _child(request: dict[str, Any]) -> None:
    """The forked process: become ``fac-backup``."""
    os.setpgid(0, 0)
    os.chdir(request["cwd"])
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["fac-backup", *request["run"]]
    if request["old_objects"]:
        from fac_backup.store import sweep

        _set_default(sweep.plan, "young", timedelta(0))
    if request["lease"]:
        from fac_backup.store.locks import Locks
        from fac_backup.store.store import Store

        _set_default(Store.__init__, "lease", request["lease"])
        _set_default(Locks.__init__, "slack", 1.0)
    from fac_backup.cli.main import main

    code = 70
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "run" in request:
            pid = os.fork()
            if pid == 0:
                _child(request)
            with suppress(OSError):
                os.setpgid(pid, pid)
            answer = pid
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        print(answer, flush=True)


def _warm_up() -> None:
    """Import all that commands import, most of it only when they need it, and let botocore read its descriptions."""
    from importlib import import_module
    from pkgutil import walk_packages

    import fac_backup

    for module in walk_packages(fac_backup.__path__, "fac_backup."):
        if not module.name.endswith("__main__") and ".dbbackup" not in module.name:
            import_module(module.name)
    for name in ("boto3", "botocore.httpsession", "cryptography.hazmat.primitives.asymmetric.ed25519", "rich.progress"):
        import_module(name)
    from fac_backup.plain.locations import BucketAddress, S3Credentials
    from fac_backup.store.bucket import Bucket

    address = BucketAddress("warm", "", S3Credentials("k", "s", "", "us-east-1", "http://127.0.0.1:9"))
    Bucket(address).client()
    gc.freeze()  # what is here stays shared with the children


if __name__ == "__main__":
    time.tzset()
    _warm_up()
    _serve()
