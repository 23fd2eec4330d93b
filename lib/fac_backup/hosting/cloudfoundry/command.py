"""The command of a task: a shell line of at most 4,096 characters that everybody with the role can read.

So it holds nothing that must stay secret: where the bundle is (a presigned address of the program, which is public),
its SHA-256, and where the order is, with its SHA-256. The order itself lies in the store, behind the binding.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from fac_backup.hosting.cloudfoundry.tasks import COMMAND_LIMIT
from fac_backup.plain.errors import FailedError

_STUB = (
    "import base64,json,sys,zlib;order=json.loads(zlib.decompress(base64.urlsafe_b64decode(sys.argv[1])));"
    'exec(order.pop("bootstrap"))'
)


def command(bundles: Mapping[str, tuple[str, str]], task: Mapping[str, Any], python: str = "python3") -> str:
    """The shell line. ``bundles`` maps ``"3.12"`` to address and SHA-256. Raises FailedError if it gets too long."""
    order = {"bundles": {version: list(found) for version, found in bundles.items()}, "task": dict(task)}
    line = f"{python} -ISBc '{_STUB}' {encode({**order, 'bootstrap': _bootstrap()})}"
    if len(line) > COMMAND_LIMIT:
        raise FailedError(
            f"The task's command would have {len(line)} characters; Cloud Foundry takes {COMMAND_LIMIT}",
            next_step="Give the bundle of the container's Python version only (`cloud_foundry: python` in the matrix).",
        )
    return line


def encode(value: Mapping[str, Any]) -> str:
    """A JSON value as one word of ``[A-Za-z0-9_=-]``: nothing in it means anything to a shell."""
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(value, sort_keys=True).encode(), 9)).decode()


def decode(word: str) -> dict[str, Any]:
    """What ``encode`` made a word of."""
    value: dict[str, Any] = json.loads(zlib.decompress(base64.urlsafe_b64decode(word)))
    return value


def _bootstrap() -> str:
    """The bootstrap without its docstring and notes to linters."""
    source = (files(__package__) / "bootstrap.py").read_text(encoding="utf-8").split('"""', 2)[2]
    return re.sub(r"  # noqa.*", "", source).strip() + "\n"
