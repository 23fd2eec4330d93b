"""The rooms use each other in one direction only (docs/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LIB = Path(__file__).parents[2] / "lib" / "fac_backup"

MAY_USE: dict[str, set[str]] = {
    "plain": set(),
    "policy": {"plain"},
    "store": {"plain"},
    "database": {"plain"},
    "documents": {"plain", "store"},
    "dbbackup": {"plain"},
    "report": {"plain", "policy"},
    "hosting": {"plain", "policy", "store"},
    "operations": {"plain", "policy", "store", "database", "documents", "dbbackup", "report", "hosting"},
    "cli": {"plain", "policy", "store", "operations", "report", "hosting"},
}


def rooms_used_by(path: Path) -> set[str]:
    """The rooms that a module imports, lazily or not."""
    used = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        used |= {name.split(".")[1] for name in names if name.startswith("fac_backup.")}
    return used


@pytest.mark.parametrize("room", sorted(MAY_USE))
def test_a_room_uses_only_the_rooms_below_it(room: str) -> None:
    for path in (LIB / room).rglob("*.py"):
        wrong = {used for used in rooms_used_by(path) if used in MAY_USE} - MAY_USE[room] - {room}
        assert not wrong, f"{path.relative_to(LIB)} imports {sorted(wrong)}"


def test_every_folder_of_the_package_is_a_room_with_rules() -> None:
    assert {path.parent.name for path in LIB.glob("*/__init__.py")} == set(MAY_USE)


def test_code_of_cloud_foundry_is_imported_only_inside_functions_elsewhere() -> None:
    for path in LIB.rglob("*.py"):
        if "cloudfoundry" in path.parts:
            continue
        for node in ast.parse(path.read_text()).body:
            assert "cloudfoundry" not in ast.unparse(node) or not isinstance(node, ast.Import | ast.ImportFrom), path
