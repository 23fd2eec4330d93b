"""Write docs/format-fields.md: every field of every object in the bucket, from the models that read and write them.

python tools/generate_format.py           writes it
python tools/generate_format.py --check   fails if it is not what would be written
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "lib"))

from fac_backup.documents import entry, marker, shards  # noqa: E402
from fac_backup.operations import stages  # noqa: E402
from fac_backup.plain import manifest  # noqa: E402
from fac_backup.plain.manifest import Plain  # noqa: E402
from fac_backup.store import locks, records  # noqa: E402

PAGE = ROOT / "docs" / "format-fields.md"
HEAD = """\
# Every field of what lies in the bucket

<!-- Made by tools/generate_format.py from the models that read and write these objects: edit there. -->

What the objects mean, and in which order they are written, says [format.md](format.md). All are UTF-8 JSON. What is
*required* has no default; an unknown field is refused. `moment` is ISO 8601 with an offset.
"""
OBJECTS: tuple[tuple[str, tuple[type[Plain], ...]], ...] = (
    ("The manifest: catalog/&lt;backup id&gt;.json", (
        manifest.Manifest, manifest.Run, manifest.Previous, manifest.Figures, manifest.Database, manifest.Archive,
        manifest.Piece, manifest.RangedTable, manifest.TableRows, manifest.SequenceValue, manifest.Documents,
    )),
    ("A line of a listing: backups/&lt;backup id&gt;/documents-&lt;label&gt;.jsonl.zst", (entry.Entry,)),
    ("A lock: locks/&lt;name&gt;.json", (locks.State, locks.Holder)),
    ("Records", (records.Hold, records.Tombstone, records.Pin, records.JournalEntry, records.AuditRecord)),
    ("The marker of documents: .fac-backup/space.json", (marker.Marker,)),
    ("What the stages of a sharded backup or restore leave for each other", (
        stages.Plan, stages.Part, stages.Added, shards.Shards,
    )),
)  # fmt: skip


def kind(schema: dict[str, Any]) -> str:
    """A JSON schema's type in a word or two, with its limits."""
    if schema.get("$ref", "").endswith("/JsonValue"):
        return "any JSON"
    if "$ref" in schema:
        return f"[{schema['$ref'].rpartition('/')[2]}](#{schema['$ref'].rpartition('/')[2].lower()})"
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    if schema.get("type") == "object":
        return f"object of {kind(schema.get('additionalProperties') or {})}"
    if schema.get("format") == "date-time":
        return "moment"
    word = str(schema.get("type", "any JSON"))
    limits = [f"`{schema['pattern']}`".replace("|", "\\|")] if "pattern" in schema else []
    for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")):
        limits += [f"{sign} {schema[key]:,}"] if key in schema else []
    limits += [f"at most {schema['maxLength']:,} characters"] if "maxLength" in schema else []
    return f"{word} ({', '.join(limits)})" if limits else word


def said(model: type[Plain]) -> dict[str, str]:
    """Field to the docstring below it."""
    body = next(
        one for one in ast.parse(textwrap.dedent(inspect.getsource(model))).body if isinstance(one, ast.ClassDef)
    )
    found = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[ast.unparse(field.target)] = " ".join(str(after.value.value).split()).replace("``", "`")
    return found


def table(model: type[Plain]) -> str:
    """One model."""
    schema = model.model_json_schema()
    words = said(model)
    about = " ".join((inspect.getdoc(model) or "").split()).replace("``", "`")
    lines = [f"### {model.__name__}", "", about, "", "| field | type | |", "|---|---|---|"]
    for name, field in schema["properties"].items():
        required = "*required*" if name in schema.get("required", ()) else ""
        remark = " ".join(part for part in (words.get(name, "").replace("|", "\\|"), required) if part)
        lines.append(f"| `{name}` | {kind(field)} | {remark} |")
    return "\n".join(lines)


def page() -> str:
    """The whole file."""
    parts = [HEAD.rstrip()]
    for title, models in OBJECTS:
        parts.append(f"## {title}")
        parts += [table(model) for model in models]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str]) -> int:
    """Write, or compare with ``--check``. Returns the exit code."""
    made = page()
    if PAGE.exists() and PAGE.read_text() == made:
        return 0
    print(("stale: " if "--check" in arguments else "wrote ") + str(PAGE.relative_to(ROOT)))
    if "--check" in arguments:
        return 1
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
