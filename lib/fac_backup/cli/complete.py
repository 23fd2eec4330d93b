"""What the shell offers for an option's value: spaces and kinds of the matrix in this folder, ids of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def completion(name: str) -> Complete | None:
    """How the values of the option ``name`` are completed; None: not at all."""
    offered = {
        "--space": _spaces, "--source": _spaces, "--target": _spaces, "--confirm": _spaces, "--kind": _kinds,
        "--backup-id": _ids,
    }.get(name)  # fmt: skip
    if offered is None:
        return None

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
        # A key press must answer, or stay silent: whatever is wrong here, the command itself will say.
        try:
            return [word for word in offered(context) if word.startswith(begun)]
        except Exception:
            return []

    return complete


def _spaces(context: click.Context) -> Iterable[str]:
    from fac_backup.policy.matrix import load

    return load(Path(context.params.get("matrix") or "action-matrix.yml").read_text(encoding="utf-8")).spaces


def _kinds(context: click.Context) -> Iterable[str]:
    from fac_backup.policy.matrix import load

    return load(Path(context.params.get("matrix") or "action-matrix.yml").read_text(encoding="utf-8")).all_kinds


def _ids(context: click.Context) -> Iterable[str]:
    """The newest first."""
    from fac_backup.operations import opening
    from fac_backup.operations.surroundings import surroundings

    here = surroundings(
        doing="completion", matrix_file=context.params.get("matrix") or "", inside_actions=False, jobs=1
    )
    named = context.params.get("source") or context.params.get("space") or ""
    return [str(found) for found in reversed(opening.open_store(here, here.one_space(named)).catalog.ids())]
