"""The command line for people: mistakes are answered by one line, the shell completes what it can know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "fac-backup"
MATRIX = "version: 1\nwho: {users: [alice]}\nspaces: {production: {protected: true}, preview: {}}\n"


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], **more}
    return subprocess.run([PROGRAM, *arguments], cwd=folder, env=env, text=True, capture_output=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "action-matrix.yml").write_text(MATRIX)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("lst",), "There is no command 'lst'; did you mean 'list'?"),
        (("list", "--spcae", "x"), "No such option '--spcae'. Did you mean '--space'?"),
        (("list", "--space", "prodction"), "There is no space 'prodction' in the matrix; did you mean 'production'?"),
        (("list",), "No space is named. Nothing was changed. Spaces are: production, preview."),
        (("backup", "--space", "preview", "--kind", "dayly"), "of kind 'dayly'; did you mean 'daily'?"),
        (("verify", "--space", "preview", "--level", "deep"), "'deep' is not one of 'objects', 'restore'"),
    ],
)
def test_a_mistake_is_answered_by_one_line_with_the_nearest_right_word(
    folder: Path, arguments: tuple[str, ...], answer: str
) -> None:
    done = run(folder, *arguments, FAC_BACKUP_BUCKET="s3://nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert answer in done.stderr
    assert len(done.stderr.splitlines()) <= 2, "one line, and that no identity was checked"


def test_wrong_usage_is_json_too_and_inside_actions_has_outputs_and_a_summary(folder: Path) -> None:
    files = {name: str(folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    done = run(folder, "verify", "--json", "--level", "deep", GITHUB_ACTIONS="true", **files)
    assert json.loads(done.stdout)["exit_code"] == done.returncode == 2
    assert "::error" in done.stderr
    assert "exit-code<<" in (folder / "GITHUB_OUTPUT").read_text()
    assert "exit-code-2" in (folder / "GITHUB_STEP_SUMMARY").read_text()


def test_who_is_in_the_wrong_folder_is_told_so(tmp_path: Path) -> None:
    done = run(tmp_path, "list", "--space", "production")
    assert "this folder has no action-matrix.yml" in done.stderr
    assert done.returncode == 2


def test_the_shell_completes_commands_options_spaces_and_kinds(folder: Path) -> None:
    script = f"""
    eval "$(_FAC_BACKUP_COMPLETE=bash_source {PROGRAM})"
    offered() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _fac_backup_completion "$1"
      echo "${{COMPREPLY[@]}}"; }}
    offered {PROGRAM} re
    offered {PROGRAM} list --sp
    offered {PROGRAM} restore --target p
    offered {PROGRAM} backup --kind pre-d
    offered {PROGRAM} list --backup-id x
    """
    done = subprocess.run(["bash", "-c", script], cwd=folder, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == ["restore", "--space", "production preview", "pre-deploy", ""]
    assert done.stderr == ""


@pytest.mark.parametrize("inside", [False, True])
def test_an_unexpected_error_is_told_by_its_class_for_its_text_may_hold_a_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], inside: bool
) -> None:
    from fac_backup.cli import common
    from fac_backup.cli.main import main

    def fail(*_: object, **__: object) -> None:
        raise ValueError("row of somebody: 123-45-6789")

    files = {name: folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    monkeypatch.setattr(common, "surroundings", fail)
    monkeypatch.setattr(sys, "argv", ["fac-backup", "list"])
    for name, path in {**files, "GITHUB_ACTIONS": "true" if inside else ""}.items():
        monkeypatch.setenv(name, str(path))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = "".join(capsys.readouterr()) + "".join(path.read_text() for path in files.values() if path.exists())
    assert "Unexpected ValueError in fac-backup list" in said
    assert "123-45" not in said
