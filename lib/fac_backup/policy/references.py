"""What one part of the matrix says about another: spaces and kinds that do not exist, pairs named twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fac_backup.plain.words import did_you_mean

if TYPE_CHECKING:
    from fac_backup.policy.model import Matrix

Location = tuple[str | int, ...]
"""Keys and indexes from the top of the matrix, for example ``("paths", 0, "source")``."""


def problems(matrix: Matrix) -> Iterator[tuple[Location, str]]:
    """Every contradiction inside ``matrix``: where it stands, and the sentence for it."""
    yield from _kinds(matrix)
    yield from _paths(matrix)
    for name, space in matrix.spaces.items():
        if space.require_signatures and not space.public_keys:
            yield (
                ("spaces", name, "require_signatures"),
                f"The space {name} requires signatures but names no public_keys to check them with",
            )


def _kinds(matrix: Matrix) -> Iterator[tuple[Location, str]]:
    for name, space in matrix.spaces.items():
        for index, kind in enumerate(space.kinds or ()):
            if kind not in matrix.all_kinds:
                yield (
                    ("spaces", name, "kinds", index),
                    f"There is no kind {kind!r}{did_you_mean(kind, matrix.all_kinds)}",
                )
            if kind in (space.kinds or ())[:index]:
                yield ("spaces", name, "kinds", index), f"The kind {kind!r} stands here twice"
        has = matrix.all_kinds if space.kinds is None else matrix.kinds_of(name)
        for kind in space.retention:
            if kind not in has:
                yield (
                    ("spaces", name, "retention", kind),
                    f"The space {name} has no backups of kind {kind!r}{did_you_mean(kind, has)}",
                )


def _paths(matrix: Matrix) -> Iterator[tuple[Location, str]]:
    seen: dict[tuple[str, str], int] = {}
    for index, path in enumerate(matrix.paths):
        for key, name in (("source", path.source), ("target", path.target)):
            if name not in matrix.spaces:
                yield ("paths", index, key), f"There is no space {name!r}{did_you_mean(name, matrix.spaces)}"
        pair = (path.source, path.target)
        if pair in seen:
            yield (
                ("paths", index),
                f"The path from {path.source} to {path.target} is already listed, as number {seen[pair] + 1} of paths",
            )
        seen.setdefault(pair, index)
        if len(set(path.when)) != len(path.when):
            yield ("paths", index, "when"), "The same word stands here twice"
        if "manual" in path.when and matrix.who is None:
            yield ("paths", index, "when"), "This path is for people, and the matrix does not say who: add `who:`"
