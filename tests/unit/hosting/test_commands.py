"""What the runner acts upon: nothing from outside becomes a command, an output or a delimiter of its own."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from fac_backup.hosting.github import commands


def test_an_annotation_stays_one_command_whatever_it_says() -> None:
    stream = io.StringIO()
    commands.annotate("error", "a\n::set-output name=x::y\r%0A##[error]", title="t::,\n", stream=stream)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("::error title=t%3A%3A%2C\\x0a::a\\x0a")


def test_a_secret_is_masked_whole_and_line_by_line_and_short_words_are_not() -> None:
    stream = io.StringIO()
    commands.mask(["line-1\nline-2", "abc", "", "line-1"], stream=stream)
    assert stream.getvalue().splitlines() == ["::add-mask::line-1%0Aline-2", "::add-mask::line-1", "::add-mask::line-2"]


def test_secrets_inside_urls_and_json_are_found() -> None:
    found = commands.secrets_in(
        {
            "DATABASE_URL": "postgres://user:p%40ss@host/db",
            "FAC_BACKUP_BUCKET_CREDENTIALS": json.dumps(
                {"private": {"access_key_id": "AKIA1", "secret_access_key": "sss1", "region": "us-east-1"}}
            ),
            "FAC_BACKUP_DOCUMENTS_CREDENTIALS": "{broken",
            "PATH": "/usr/bin",
        }
    )
    assert {"p%40ss", "p@ss", "AKIA1", "sss1", "{broken"} <= set(found)
    assert "us-east-1" not in found
    assert "/usr/bin" not in found


def test_an_output_cannot_end_early_and_begin_another(tmp_path: Path) -> None:
    path = tmp_path / "out"
    env = {"GITHUB_OUTPUT": str(path)}
    commands.write_outputs({"result": "a\nend-0\nallowed<<x\ntrue\nx", "allowed": "false"}, env)
    lines = path.read_text().splitlines()
    delimiter = lines[0].removeprefix("result<<")
    assert len(delimiter) > 30
    assert lines.index(delimiter) == len(lines) - 4
    assert lines[-3].startswith("allowed<<")
    assert lines[-2] == "false"


def test_a_summary_that_is_too_long_is_cut_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    env = {"GITHUB_STEP_SUMMARY": str(path)}
    commands.write_summary("first", env)
    commands.write_summary("row ü\n" * 400_000, env)
    assert path.stat().st_size <= 1024 * 1024
    assert path.read_text().startswith("first\n\n")
    assert "… cut" in path.read_text()


@pytest.mark.parametrize("write", [commands.write_outputs, commands.write_summary])
def test_outside_actions_nothing_is_written(write: object) -> None:
    write({} if write is commands.write_outputs else "x", {})  # type: ignore[operator]
