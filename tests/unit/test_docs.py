"""The documents: what is generated is fresh, every link leads somewhere, nothing tells where it was written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fac_backup.cli.main import COMMANDS
from fac_backup.hosting.github.inputs import ACTIONS
from fac_backup.report.views import Failure

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page: small letters, blanks to hyphens, signs left out."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", without_code(path.read_text()), re.M):
        text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for target in LINK.findall(without_code(page.read_text())):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), target


def test_pages_that_code_names_are_there() -> None:
    for path in [
        *ROOT.glob("lib/**/*.py"),
        *ROOT.glob("tools/*.py"),
        *ROOT.glob("*.toml"),
        *ROOT.glob("actions/*/action.yml"),  # not "**": act writes below .cache while this looks
        *ROOT.glob("*/action.yml"),
    ]:
        for name in re.findall(r"docs/[a-z-]+\.md", path.read_text()):
            assert (ROOT / name).exists(), f"{path.relative_to(ROOT)} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_workflow_that_a_page_names_is_there(page: Path) -> None:
    there = {path.stem for folder in (".github", "examples") for path in (ROOT / folder / "workflows").glob("*.yml")}
    assert set(re.findall(r"`([a-z-]+)` workflow", page.read_text())) <= there


def test_each_exit_code_has_its_heading_in_the_runbook_that_summaries_link_to() -> None:
    there = anchors(ROOT / "docs" / "operations.md")
    assert {Failure("", "", "", code).anchor for code in range(1, 8)} <= there


@pytest.mark.parametrize("line", ["tools/generate_format.py", "-m benchmarks.readme"])
def test_what_is_generated_is_what_would_be_written(line: str) -> None:
    done = subprocess.run([sys.executable, *line.split(), "--check"], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example_and_json(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fac_backup", command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Example" in done.stdout
    assert f"fac-backup {command}" in done.stdout
    assert "--json" in done.stdout


def test_no_page_names_a_place_of_whoever_wrote_it() -> None:
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(work|tmp/wt)\b", page.read_text()), page.name


def test_no_page_is_empty_and_the_first_hour_ends_with_the_data_as_they_were() -> None:
    for page in PAGES:
        assert page.read_text().strip(), page
    counts = re.findall(r"^ +(\d+ invoices, .*)$", (ROOT / "docs/first-hour.md").read_text(), re.M)
    assert counts[0] == counts[2] != counts[1]


def test_the_changelog_begins_with_the_version_that_a_release_would_have() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert version is not None
    assert newest is not None
    assert newest[1] in (version[1], "Unreleased")


def test_the_readme_names_every_action_and_every_workflow_to_call() -> None:
    text = (ROOT / "README.md").read_text()
    for name in ACTIONS:
        assert f"`fac/backup-actions/{name}@v1`" in text
    for path in ROOT.glob(".github/workflows/*.yml"):
        assert "workflow_call" not in path.read_text() or f"`{path.name}`" in text, path.name
