"""Pages in a real browser: Debian's Chromium, driven by playwright-core, judged by axe-core (both from npm, locked)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CACHE = HERE.parents[2] / ".cache" / "browser"
CHROMIUM = shutil.which("chromium") or ""


@dataclass(frozen=True)
class View:
    """A window in which a page is looked at."""

    name: str
    width: int
    height: int
    scheme: str
    screenshot: str | None = None


VIEWS = tuple(
    View(f"{device}, {scheme}", width, height, scheme)
    for device, width, height in (("desk", 1280, 900), ("phone", 360, 740))
    for scheme in ("light", "dark")
)


def available() -> bool:
    """Whether Chromium and npm are installed (``make setup`` does it)."""
    return bool(CHROMIUM) and shutil.which("npm") is not None


def modules() -> Path:
    """The folder with the two npm packages; installed once, from the lock, by whoever comes first."""
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    CACHE.mkdir(parents=True, exist_ok=True)
    stamp = CACHE / "installed"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, CACHE / name)
            subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
                cwd=CACHE, check=True, capture_output=True, timeout=120,
            )  # fmt: skip
            stamp.write_text(wanted)
    return CACHE


def look(page: Path, views: tuple[View, ...] = VIEWS, *, steps: bool = False, axe: bool = True) -> dict[str, Any]:
    """Open ``page`` in each view; with ``steps`` also use it. What was seen, see ``check.mjs``."""
    ask = {
        "url": page.resolve().as_uri(),
        "modules": str(modules()),
        "chromium": CHROMIUM,
        "views": [vars(view) for view in views],
        "steps": steps,
        "axe": axe,
    }
    done = subprocess.run(
        ["node", str(HERE / "check.mjs")],
        input=json.dumps(ask),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr[-3000:])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
