"""Write each action.yml, the aliases at the root and docs/actions.md from lib/fac_backup/hosting/github/inputs.py.

python tools/generate_actions.py           writes them
python tools/generate_actions.py --check   fails if one of them is not what would be written
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "lib"))

from fac_backup.hosting.github.inputs import ACTIONS, INPUTS, OPTIONAL_IN, OUTPUTS, environment_of  # noqa: E402

HEADER = """\
# Made by tools/generate_actions.py from lib/fac_backup/hosting/github/inputs.py: edit there, then `make generate`.
"""
ALIAS = "# The same action as in actions/{name}, so that `uses: fac/backup-actions/{name}@v1` works too.\n"


def text(value: str) -> str:
    """A YAML double-quoted scalar, which JSON's is."""
    return json.dumps(value, ensure_ascii=False)


def action_yml(name: str, bootstrap: str, *, alias: bool = False) -> str:
    """The whole file; ``bootstrap`` is the script's path as seen from the folder of the action."""
    action = ACTIONS[name]
    lines = [HEADER.rstrip()]
    if alias:
        lines.append(ALIAS.format(name=name).rstrip())
    lines += [f"name: {text('fac-backup: ' + action.title)}", f"description: {text(action.description)}"]
    lines += ["author: FAC", "branding:", f"  icon: {action.icon}", "  color: blue", "", "inputs:"]
    for key in action.inputs:
        item = INPUTS[key]
        required = item.required and key not in OPTIONAL_IN.get(name, ())
        lines += [f"  {key}:", f"    description: {text(item.description)}", f"    required: {str(required).lower()}"]
        if not required:
            lines.append(f"    default: {text(item.default)}")
    lines += ["", "outputs:"]
    for key in action.outputs:
        lines += [
            f"  {key}:",
            f"    description: {text(OUTPUTS[key])}",
            f"    value: ${{{{ steps.run.outputs.{key} }}}}",
        ]
    lines += [
        "", "runs:", "  using: composite", "  steps:", f"    - name: {action.title}", "      id: run",
        "      # -p: bash reads neither BASH_ENV nor functions from the environment.",
        "      shell: /bin/bash --noprofile --norc -p -euo pipefail {0}",
        f"      run: exec /bin/bash -p \"$GITHUB_ACTION_PATH/{bootstrap}\" {name}",
        "      # Every variable that exists, empty if unused: what an earlier step left behind does not count.",
        "      env:",
    ]  # fmt: skip
    lines += [f"        {key}: {value or text('')}" for key, value in environment_of(name).items()]
    return "\n".join(lines) + "\n"


def actions_md() -> str:
    """docs/actions.md: inputs and outputs of every action as tables."""
    lines = ["# Inputs and outputs of the actions", "", "<!-- Made by tools/generate_actions.py -->", ""]
    lines += [
        "The names are the options of the command line. Every input reaches the program as a variable `FAC_BACKUP_…`,",
        "never as part of a shell line. The outputs are written whatever happened, refusals included.",
        "",
    ]
    for name, action in ACTIONS.items():
        lines += [f"## {name}", "", action.description, "", "| input | | default |", "|---|---|---|"]
        for key in action.inputs:
            item = INPUTS[key]
            required = item.required and key not in OPTIONAL_IN.get(name, ())
            default = "**required**" if required else f"`{item.default}`" if item.default else ""
            lines.append(f"| `{key}` | {item.description.replace('|', chr(92) + '|')} | {default} |")
        lines += ["", "| output | |", "|---|---|"]
        lines += [f"| `{key}` | {OUTPUTS[key]} |" for key in action.outputs]
        lines.append("")
    return "\n".join(lines)


def files() -> dict[Path, str]:
    """Path to content of everything that is generated here."""
    made: dict[Path, str] = {}
    for name in ACTIONS:
        made[ROOT / "actions" / name / "action.yml"] = action_yml(name, "../bootstrap.sh")
        made[ROOT / name / "action.yml"] = action_yml(name, "../actions/bootstrap.sh", alias=True)
    made[ROOT / "docs" / "actions.md"] = actions_md()
    return made


def main(arguments: list[str]) -> int:
    """Write, or compare with ``--check``. Returns the exit code."""
    stale = [path for path, content in files().items() if not path.exists() or path.read_text() != content]
    for path in stale:
        print(("stale: " if "--check" in arguments else "wrote ") + str(path.relative_to(ROOT)))
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files()[path])
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
