"""What a task runs first, on the container's own Python: fetch the bundle, check it, become it.

This file travels inside the task's command, so it uses the standard library only and stays short. ``order`` is what the
command's one argument holds: ``bundles`` (Python version to address and SHA-256) and ``task`` (handed to the bundle).
Proxies are those of the container (``https_proxy``, ``no_proxy``), which urllib reads by itself.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any


def start(order: dict[str, Any]) -> None:  # noqa: D103
    print("The task has started", flush=True)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version not in order["bundles"]:
        sys.exit(f"No bundle for Python {version}; there are {sorted(order['bundles'])}")
    address, digest = order["bundles"][version]
    path = Path(tempfile.mkdtemp(prefix="fac-backup-"), "bundle.pyz")
    for attempt in (1, 2, 3):
        check = hashlib.sha256()
        try:
            with urllib.request.urlopen(address, timeout=60) as answer, path.open("wb") as file:  # noqa: S310
                while chunk := answer.read(1 << 20):
                    check.update(chunk)
                    file.write(chunk)
        except OSError as error:
            trouble = f"cannot be fetched ({getattr(error, 'code', type(error).__name__)})"
        else:
            if check.hexdigest() == digest:
                break
            trouble = "is not the one that was ordered"
        time.sleep(attempt)
    else:
        sys.exit(f"The bundle {trouble}")
    os.execv(sys.executable, [sys.executable, "-ISB", str(path), "task", json.dumps(order["task"])])  # noqa: S606


if "order" in globals():
    start(globals()["order"])
