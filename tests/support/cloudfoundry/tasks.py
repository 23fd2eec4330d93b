"""Tasks: local processes with the services of the moment at which they were posted, and their lines in log-cache."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from .world import App, Line, Task, World


class Tasks:
    """Starts, cancels and ends tasks. The attributes are hooks for tests."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fate = ""
        """``""`` runs it · ``never`` accepts and never starts · ``oom`` kills it for memory after its first line ·
        ``unknown`` runs it and then says that the outcome is unknown."""
        self.grace = 2.0
        """Seconds between SIGTERM and SIGKILL when a task is cancelled."""
        self.late_every = 0
        """Every n-th line becomes visible ``late_seconds`` later than it should."""
        self.late_seconds = 0.5
        self.repeat_every = 0
        self.lose_every = 0
        self._lines = 0

    def environment(self, app: App, folder: Path) -> dict[str, str]:
        """What a container of the app sees."""
        services = json.dumps(self.world.services_of(app))
        env = {
            "PATH": os.pathsep.join([str(Path(sys.base_prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]),
            "HOME": str(folder), "TMPDIR": str(folder), "USER": "vcap", "LANG": "C.UTF-8", "PYTHONPATH": "/nonexistent",
            "VCAP_APPLICATION": json.dumps({"application_name": app.name, "space_name": app.space.name}),
            "MEMORY_LIMIT": "3072m",
            **app.environment,
        }  # fmt: skip
        if app.file_based_services:
            path = folder / "vcap_services"
            path.write_text(services)
            env["VCAP_SERVICES_FILE_PATH"] = str(path)
        else:
            env["VCAP_SERVICES"] = services
        return env

    def start(self, task: Task) -> None:
        folder = Path(tempfile.mkdtemp(prefix="fac-task-", dir="/tmp"))
        if task.app.droplet is not None:
            shutil.copytree(task.app.droplet, folder, dirs_exist_ok=True)
        task.environment = self.environment(task.app, folder)
        task.environment["CF_TASK_GUID"] = task.guid
        if self.fate == "never":
            return
        task.process = subprocess.Popen(
            ["/bin/sh", "-c", task.command], cwd=folder, env=task.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        task.thread = threading.Thread(target=self._follow, args=(task, self.fate, folder), daemon=True)
        task.thread.start()

    def cancel(self, task: Task) -> None:
        task.state = "CANCELING"
        if task.process is None:
            self._finish(task, "FAILED", "task was cancelled")
            return
        self.signal(task, signal.SIGTERM)
        timer = threading.Timer(self.grace, self.signal, (task, signal.SIGKILL))
        timer.daemon = True
        timer.start()

    def signal(self, task: Task, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            assert task.process is not None
            os.killpg(task.process.pid, number)

    def stop(self) -> None:
        for task in self.world.tasks:
            if task.process is not None and task.process.poll() is None:
                self.signal(task, signal.SIGKILL)
        for task in self.world.tasks:
            if task.thread is not None:
                task.thread.join(5)

    def log(self, app: App, source_type: str, text: bytes, stream: str = "OUT") -> None:
        """One line into log-cache, with the tests' disturbances."""
        with self.world.lock:
            self._lines += 1
            number = self._lines
            if self.lose_every and number % self.lose_every == 0:
                return
            late = self.late_seconds if self.late_every and number % self.late_every == 0 else 0.0
            line = Line(time.time_ns(), source_type, text, stream, time.monotonic() + late)
            lines = self.world.logs.setdefault(app.guid, [])
            lines.append(line)
            if self.repeat_every and number % self.repeat_every == 0:
                lines.append(line)

    def _follow(self, task: Task, fate: str, folder: Path) -> None:
        process = task.process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        source = f"APP/TASK/{task.name}"

        def pump(stream: IO[bytes], name: str) -> None:
            for text in stream:
                self.log(task.app, source, text.rstrip(b"\n"), name)
                if fate == "oom":
                    self.signal(task, signal.SIGKILL)

        pumps = [threading.Thread(target=pump, args=(process.stdout, "OUT"), daemon=True),
                 threading.Thread(target=pump, args=(process.stderr, "ERR"), daemon=True)]  # fmt: skip
        for thread in pumps:
            thread.start()
        status = process.wait()
        for thread in pumps:
            thread.join(5)
        subprocess.run(["rm", "-rf", folder], check=False)
        code = 128 - status if status < 0 else status
        if task.state == "CANCELING":
            self._finish(task, "FAILED", "task was cancelled")
        elif fate == "unknown":
            self._finish(task, "FAILED", "Unable to determine completion status")
        elif fate == "oom":
            self._finish(task, "FAILED", "Exited with status 137 (out of memory)")
        elif code:
            self._finish(task, "FAILED", f"Exited with status {code}")
        else:
            self._finish(task, "SUCCEEDED", None)

    def _finish(self, task: Task, state: str, reason: str | None) -> None:
        with self.world.lock:
            task.state, task.failure_reason = state, reason
