"""Reads ``action-matrix.yml``: whatever the text holds, the result is a Matrix or one UsageError that says where."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from fac_backup.plain.errors import UsageError
from fac_backup.plain.text import one_line
from fac_backup.policy.lint import Finding, lint
from fac_backup.policy.mistakes import sentence_for
from fac_backup.policy.model import Matrix, Path, Refs, Rule, Space, Who
from fac_backup.policy.positions import MisreadError, Place, read
from fac_backup.policy.schema import json_schema

__all__ = [
    "DEFAULT",
    "Finding",
    "Matrix",
    "Path",
    "Rule",
    "Space",
    "Who",
    "default_kind",
    "json_schema",
    "lint",
    "load",
]

FILE_NAME = "action-matrix.yml"

DEFAULT = Matrix(
    version=1,
    # Without a matrix there is nobody who could have said which tags are deployed; a tag is the usual way.
    refs=Refs(**{"pre-deploy": ("refs/tags/*",)}),
    spaces={"default": Space(retention={kind: Rule(keep_days=7) for kind in ("pre-deploy", "daily")})},
)
"""What holds where there is no matrix: one space, ``default``; every kind is kept 7 days; nothing can be restored."""


def default_kind(event: str) -> str:
    """The kind of a backup for which none was named, from the event (``GITHUB_EVENT_NAME``; empty outside Actions)."""
    return {"schedule": "daily", "workflow_dispatch": "manual", "": "manual"}.get(event, "pre-deploy")


def load(text: str, name: str = FILE_NAME) -> Matrix:
    """The matrix in ``text``; messages call it ``name``. Raises UsageError for everything that is not a matrix."""
    try:
        tree = read(text)
    except MisreadError as error:
        raise _mistake(name, error.place, error.sentence) from None
    if not isinstance(tree.value, dict):
        raise _mistake(name, tree.place, "A matrix is a mapping that begins with `version: 1`")
    try:
        return Matrix.model_validate(tree.value)
    except ValidationError as error:
        found = []
        for detail in error.errors(include_url=False):
            at, at_key, sentence = sentence_for(detail)
            # A key that is missing is often one that is misspelled below: what stands there is named first.
            found.append((detail["type"] == "missing", tree.find(at, at_key=at_key), sentence))
        found.sort(key=lambda item: (item[0], item[1].line, item[1].column))
        _, place, sentence = found[0]
        raise _mistake(name, place, sentence, more=len(found) - 1) from None


def lint_text(text: str, name: str = FILE_NAME) -> tuple[str, ...]:
    """Each finding of ``lint`` as ``name:LINE:COLUMN: severity: sentence``. Raises UsageError as ``load`` does."""
    findings = lint(load(text, name))
    tree = read(text)
    places = [(tree.find(finding.at, at_key=True), finding) for finding in findings]
    return tuple(
        f"{name}:{place.line}:{place.column}: {finding.severity}: {finding.sentence}" for place, finding in places
    )


def _mistake(name: str, place: Place, sentence: str, more: int = 0) -> UsageError:
    others: Any = f" ({more} more like it follow{'s' if more == 1 else ''} in the file)" if more else ""
    return UsageError(
        f"{name}:{place.line}:{place.column}: {one_line(sentence, 500)}{others}",
        next_step="Correct the file; action-matrix.schema.json lets an editor show what is possible.",
    )
