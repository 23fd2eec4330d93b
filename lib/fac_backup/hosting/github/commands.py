"""Workflow commands, outputs and the step summary: the only place that writes what a runner acts upon.

Syntax: https://docs.github.com/actions/reference/workflow-commands-for-github-actions. Everything here goes to standard
error or to the runner's files, so that standard output stays free for a program's JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal, TextIO
from urllib.parse import unquote, urlsplit

from fac_backup.plain.text import one_line

Level = Literal["notice", "warning", "error"]

SUMMARY_LIMIT = 1024 * 1024 - 4096
"""Bytes of Markdown that one step may leave; GitHub shows nothing at all of a longer summary (its limit is 1 MiB)."""

SECRET_VARIABLES = (
    "DATABASE_URL",
    "FAC_BACKUP_DATABASE_URL",
    "FAC_BACKUP_SCRATCH_DATABASE_URL",
    "FAC_BACKUP_BUCKET_CREDENTIALS",
    "FAC_BACKUP_DOCUMENTS_CREDENTIALS",
    "FAC_BACKUP_SOURCE_BUCKET_CREDENTIALS",
    "FAC_BACKUP_GITHUB_TOKEN",
    "FAC_BACKUP_MEMBERS_TOKEN",
    "FAC_BACKUP_SIGNING_KEY",
    "FAC_BACKUP_PING_URL",
    "FAC_BACKUP_CF_PASSWORD",
    "FAC_BACKUP_SOURCE_CF_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
"""Variables whose content, and the secrets inside it, is masked before anything else happens."""

_SHORTEST_MASK = 4  # a shorter mask would blot out half of every log and protect nothing


def escape(text: str) -> str:
    """``text`` as the data of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """``text`` as the value of a workflow command's property."""
    return escape(text).replace(":", "%3A").replace(",", "%2C")


def annotate(level: Level, message: str, *, title: str = "", stream: TextIO | None = None) -> None:
    """Show ``message`` beside the run, as GitHub does for errors of compilers. Control characters become visible."""
    properties = f" title={escape_property(one_line(title))}" if title else ""
    _say(f"::{level}{properties}::{escape(one_line(message, 4000))}", stream)


@contextmanager
def group(title: str, *, stream: TextIO | None = None) -> Iterator[None]:
    """Fold what is logged meanwhile under ``title``."""
    _say(f"::group::{escape(one_line(title))}", stream)
    try:
        yield
    finally:
        _say("::endgroup::", stream)


def mask(values: Iterable[str], *, stream: TextIO | None = None) -> None:
    """Make the runner replace every one of ``values`` in all logs from now on, each of its lines for itself too.

    Call it before a secret is used for the first time. Values shorter than 4 characters are left out.
    """
    seen: set[str] = set()
    for value in values:
        for part in (value, *value.splitlines()):
            if len(part.strip()) >= _SHORTEST_MASK and part not in seen:
                seen.add(part)
                _say(f"::add-mask::{escape(part)}", stream)


def secrets_in(env: Mapping[str, str]) -> list[str]:
    """What must be masked of ``env``: whole values, passwords in URLs (as written and decoded), keys in JSON."""
    found: list[str] = []
    for name in SECRET_VARIABLES:
        value = env.get(name, "").strip()
        if not value:
            continue
        found.append(value)
        if value.startswith("{"):
            found += _json_secrets(value)
        elif "://" in value:
            found += url_secrets(value)
    return found


def url_secrets(url: str) -> list[str]:
    """The password of a URL, as written and decoded; empty for a URL without one or one that cannot be read."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []


def _json_secrets(text: str) -> list[str]:
    try:
        document = json.loads(text)
    except ValueError:
        return []
    found: list[str] = []

    def visit(node: Any, name: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                visit(value, str(key).lower())
        elif isinstance(node, list):
            for value in node:
                visit(value, name)
        elif isinstance(node, str) and any(word in name for word in ("secret", "password", "token", "uri", "url")):
            found.extend([node, *url_secrets(node)])
        elif isinstance(node, str) and "access_key" in name:
            found.append(node)

    visit(document, "")
    return found


def write_outputs(outputs: Mapping[str, str], env: Mapping[str, str]) -> None:
    """Append ``outputs`` to the file that ``GITHUB_OUTPUT`` names; does nothing where there is none.

    Values are framed by a random delimiter, so none of them can end early and begin another output.
    """
    path = env.get("GITHUB_OUTPUT", "")
    if not path:
        return
    with Path(path).open("a", encoding="utf-8") as file:
        for name, value in outputs.items():
            delimiter = f"end-{token_hex(16)}"
            file.write(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def write_summary(markdown: str, env: Mapping[str, str]) -> None:
    """Append Markdown to the step's summary, cut where GitHub would; foreign parts must be safe (plain.text)."""
    path = env.get("GITHUB_STEP_SUMMARY", "")
    if not path:
        return
    file = Path(path)
    room = SUMMARY_LIMIT - (file.stat().st_size if file.exists() else 0)
    data = (markdown.rstrip() + "\n\n").encode()
    if len(data) > room:
        note = "\n\n… cut: the whole is in the output `result`.\n".encode()
        data = data[: max(0, room - len(note))].decode(errors="ignore").rsplit("\n", 1)[0].encode() + note
    with file.open("ab") as opened:
        opened.write(data)


def _say(line: str, stream: TextIO | None) -> None:
    print(line, file=stream or sys.stderr, flush=True)
