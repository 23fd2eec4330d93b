"""Workflows, actions and examples are clean for the tools that know their rules."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module

import pytest
import yaml

from fac_backup.cli import authorize
from fac_backup.cli.main import COMMANDS
from fac_backup.hosting.github.inputs import ACTIONS, INPUTS, environment_of
from tests.support.act import TOKEN_ACTION
from tests.support.lint import ROOT, SCHEMAS, actionlint, actions, schema, workflows, zizmor

ACTION_FILES = actions()
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")


def test_zizmor_finds_nothing_even_if_pedantic() -> None:
    assert zizmor() == []


def test_actionlint_finds_nothing() -> None:
    assert actionlint(workflows()) == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_files_fit_their_schema(name: str) -> None:
    assert schema(name) == []


def test_the_actions_and_their_aliases_are_what_the_generator_writes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools/generate_actions.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_action_is_one_step_that_sets_every_variable() -> None:
    everything = {item.variable for item in INPUTS.values()}
    for path in ACTION_FILES:
        steps = yaml.safe_load(path.read_text())["runs"]["steps"]
        assert len(steps) == 1
        assert everything <= set(steps[0]["env"]), path
        assert "${{" not in steps[0]["run"], "inputs reach the program only through variables"


def test_all_actions_set_the_same_variables() -> None:
    assert len({tuple(environment_of(name)) for name in ACTIONS}) == 1


def test_what_others_wrote_is_pinned_to_a_commit_and_what_is_ours_to_the_running_one() -> None:
    for path in sorted((ROOT / ".github/workflows").glob("*.yml")):
        for line in path.read_text().splitlines():
            if match := re.match(r"\s*(?:- )?uses: (\S+)", line):
                assert match[1].startswith("$/") or PINNED.fullmatch(match[1]), f"{path.name}: {line}"


@pytest.mark.parametrize("name", ["backup", "restore", "purge", "list", "verify", "sweep"])
def test_a_reusable_workflow_decides_first_without_secrets_of_the_data(name: str) -> None:
    jobs = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())["jobs"]
    decide = jobs["authorize"]
    text = yaml.safe_dump(decide)
    assert set(re.findall(r"secrets\.(\w+)", text)) <= {"MEMBERS_APP_KEY", "MEMBERS_TOKEN"}
    asked = {step["with"]["operation"] for step in decide["steps"] if step["uses"] == "$/actions/authorize"}
    assert asked == {name}
    assert asked <= set(authorize.OPERATIONS), "the command that decides knows it"
    working = {key: job for key, job in jobs.items() if key != "authorize"}
    assert list(working)[-1] == name
    for job in working.values():
        assert "authorize" in (job["needs"] if isinstance(job["needs"], list) else [job["needs"]])
        assert job["environment"] == "${{ needs.authorize.outputs.environment }}"
    assert all("permissions" in job and "timeout-minutes" in job for job in jobs.values())


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_with_every_number_of_shards_either_the_shards_work_or_the_last_job_works_alone(name: str) -> None:
    _, *shared, last = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())["jobs"].values()
    assert [job["if"] for job in shared] == ["inputs.shards > 1"] * 2
    assert "(!(inputs.shards > 1) || needs." in last["if"], "no number is between the two"


def test_every_job_that_mints_the_members_token_does_so_under_the_same_condition() -> None:
    mints = []
    for name in ("restore", "purge", "sweep"):
        jobs = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())["jobs"]
        for key, job in jobs.items():
            found = [step for step in job["steps"] if step["uses"].startswith(TOKEN_ACTION.partition("@")[0])]
            assert len(found) == 1, f"{name}.{key} asks who may by itself"
            mints += found
    assert mints == [mints[0]] * len(mints)
    assert "github.event_name != 'schedule'" in mints[0]["if"], "a night by itself has no key and asks for nobody"


def test_no_other_workflow_mints_a_members_token() -> None:
    minting = {path.stem for path in workflows() if TOKEN_ACTION.partition("@")[0] in path.read_text()}
    assert minting == {"restore", "purge", "sweep"}


@pytest.mark.parametrize("name", ["backup", "restore", "purge", "list", "verify", "sweep"])
def test_a_reusable_workflow_gives_its_action_every_input_but_those_for_a_job_of_ones_own(name: str) -> None:
    given = set()
    jobs = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())["jobs"]
    for job in jobs.values():
        for step in job["steps"]:
            if step["uses"].startswith("$/actions/"):
                action = ACTIONS[step["uses"].removeprefix("$/actions/")]
                assert set(step["with"]) <= set(action.inputs), step["uses"]
                given |= set(step["with"])
    # A default that serves; what needs nobody's membership; steps of the caller's before ours; for a terminal.
    left_out = {"github-token", "members-token", "archives", "engine", "resume"}
    assert set(ACTIONS[name].inputs) - given <= left_out


def test_every_variable_that_a_command_or_the_code_reads_is_set_by_every_action() -> None:
    read = {
        variable
        for path in (ROOT / "lib").rglob("*.py")
        for variable in re.findall(r"(?<!_)FAC_BACKUP_[A-Z_]*[A-Z]", path.read_text())
    }
    for module, _ in COMMANDS.values():
        command = import_module(f"fac_backup.cli.{module}").command
        read |= {str(option.envvar) for option in command.params if option.envvar}
    assert read - set(environment_of("list")) == set()
