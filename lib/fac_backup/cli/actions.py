"""What a command leaves behind inside Actions: outputs, annotation, step summary. Imported only there."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from fac_backup.hosting.github import commands
from fac_backup.hosting.settings import private_words
from fac_backup.operations.result import Result, outputs_of
from fac_backup.plain.errors import FacBackupError
from fac_backup.report.summary import render
from fac_backup.report.views import Failure, Outcome

_folded = ExitStack()


def fold(operation: str) -> None:
    """Fold what is logged from now on under one line of the job's log; ``unfold`` ends it."""
    _folded.enter_context(commands.group(f"fac-backup {operation}: its log"))


def unfold() -> None:
    """End what ``fold`` began, if anything: results and failures stand open."""
    _folded.close()


def tell(result: Result) -> None:
    """Outputs and summary of a result."""
    outputs = {"result": json.dumps(result.as_json()), "exit-code": str(result.exit_code), **result.outputs()}
    commands.write_outputs(outputs, os.environ)
    commands.write_summary(render(result.outcome, hidden=private_words(os.environ)), os.environ)
    for warning in result.outcome.warnings:
        commands.annotate("warning", warning, title="fac-backup")


def tell_failure(operation: str, error: FacBackupError) -> None:
    """Outputs, annotation and summary of a failure; outputs are always written, refusals included."""
    data: dict[str, Any] = {"operation": operation, "exit_code": error.exit_code, "error": error.line(), **error.data}
    outputs = outputs_of(error.data)
    commands.write_outputs({**outputs, "result": json.dumps(data), "exit-code": str(error.exit_code)}, os.environ)
    commands.annotate("error", error.line(), title="fac-backup")
    title = f"{operation.capitalize()} was refused" if error.exit_code == 3 else f"{operation.capitalize()} failed"
    outcome = error.outcome if isinstance(error.outcome, Outcome) else Outcome(operation, title)
    commands.write_summary(
        render(replace(outcome, failure=Failure.of(error)), hidden=private_words(os.environ)), os.environ
    )
