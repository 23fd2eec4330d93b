"""Inside the task: fetch the order from the store, run the operation, leave its result there.

The bundle's ``__main__`` calls ``run_order`` with the command line as a function, so that this room needs not know it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, TextIO

from fac_backup.hosting.cloudfoundry import s3
from fac_backup.hosting.vcap import Services
from fac_backup.plain.errors import FacBackupError, IntegrityError
from fac_backup.plain.locations import BucketAddress
from fac_backup.plain.text import one_line

_VARIABLE = re.compile(r"FAC_BACKUP_[A-Z0-9_]+")


class Numbered(io.TextIOBase):
    """Writes each line with its number before it, so that the reader of the log notices missing ones."""

    _last = 0  # of all streams of this process: the numbers of stdout and stderr are one row

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._begun = stream, ""

    def write(self, text: str) -> int:
        """Pass on whole lines; keep the rest until its end comes."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            Numbered._last += 1
            self._stream.write(f"{Numbered._last}| {line}\n")
        self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Nothing waits but a line without its end."""

    def close_line(self) -> None:
        """Write a last line that has no end."""
        if self._begun:
            self.write("\n")


def run_order(word: str, main: Callable[[list[str]], int], env: MutableMapping[str, str]) -> int:
    """Carry out the order that ``word`` (JSON) points to; the exit code of the operation.

    ``main`` takes arguments, prints its JSON document on stdout and returns an exit code. ``env`` is the environment,
    changed by the order's FAC_BACKUP_* variables.
    """
    out, err = sys.stdout, Numbered(sys.stderr)
    sys.stderr = err
    printed = io.StringIO()
    sys.stdout = printed
    try:
        task = json.loads(word)
        bucket, order = None, task
        if "key" in task:  # else a person typed the order into the command (bin/fac-backup-task)
            bucket = Services.from_env(env).bucket(str(task["instance"]), str(task.get("prefix") or ""))
            order = fetch_order(bucket, str(task["key"]), str(task["sha256"]))
        folder = Path(tempfile.mkdtemp(prefix="fac-backup-order-"))
        os.chdir(folder)
        for name, text in order.get("files", {}).items():
            _write(folder, name, text)
        env.update({k: str(v) for k, v in order.get("env", {}).items() if _VARIABLE.fullmatch(k)})
        code = main([str(argument) for argument in order["arguments"]])
        if bucket:
            _leave_result(bucket, str(order["result"]), code, printed.getvalue())
        else:
            print(printed.getvalue(), file=err)
        return code
    except FacBackupError as error:
        print(f"fac-backup: {error.line()}", file=err)
        return error.exit_code
    finally:
        sys.stdout = out
        err.close_line()


def _write(folder: Path, name: str, text: str) -> None:
    """A file of the order, in the folder that its name says. Raises IntegrityError for a name that leads elsewhere."""
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise IntegrityError("The order has a file that would lie outside its folder")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def fetch_order(bucket: BucketAddress, key: str, sha256: str) -> dict[str, Any]:
    """The order, if it is the one that the command names. Raises IntegrityError."""
    raw = s3.fetch(bucket, key)
    if raw is None or hashlib.sha256(raw).hexdigest() != sha256:
        raise IntegrityError(
            "The order in the store is not the one that this task was given", next_step="Run it again."
        )
    order: dict[str, Any] = json.loads(raw)
    return order


def _leave_result(bucket: BucketAddress, key: str, code: int, printed: str) -> None:
    try:
        document: Any = json.loads(printed) if printed.strip() else {}
    except ValueError:
        document = {}
    result: Mapping[str, Any] = {"exit_code": code, "document": document}
    try:
        s3.leave(bucket, key, json.dumps(result).encode())
    except FacBackupError as error:  # the exit code still says how it went
        print(f"The result could not be left in the store: {one_line(error.what)}", file=sys.stderr)
