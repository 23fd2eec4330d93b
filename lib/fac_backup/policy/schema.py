"""The JSON schema of the matrix, for editors and CI.

Written by ``python -m fac_backup.policy.schema > action-matrix.schema.json``.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from typing import Any

from fac_backup.policy import model
from fac_backup.policy.model import Matrix


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12), made from the model."""
    schema: dict[str, Any] = Matrix.model_json_schema(by_alias=True)
    _describe(schema)
    _close(schema)
    # `staging:` with nothing below it is a space that says nothing about itself.
    spaces = schema["properties"]["spaces"]["patternProperties"]
    for pattern, space in spaces.items():
        spaces[pattern] = {"anyOf": [space, {"type": "null"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "action-matrix.yml",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _describe(schema: dict[str, Any]) -> None:
    """Give each key the docstring below its field. Pydantic can, but reads the source at every start of the program."""
    parts = {**schema["$defs"], Matrix.__name__: schema}
    for made in ast.parse(inspect.getsource(model)).body:
        if not isinstance(made, ast.ClassDef) or made.name not in parts:
            continue
        for field, text in zip(made.body, made.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    key = getattr(model, made.name).model_fields[name].alias or name
                    parts[made.name]["properties"][key]["description"] = inspect.cleandoc(said)


def _close(part: Any) -> None:
    """Refuse keys that are no names: the model does, and its generated schema leaves that open."""
    if isinstance(part, dict):
        if "patternProperties" in part:
            part.setdefault("additionalProperties", False)
        for inner in part.values():
            _close(inner)
    elif isinstance(part, list):
        for inner in part:
            _close(inner)


def schema_text() -> str:
    """The schema as the file holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
