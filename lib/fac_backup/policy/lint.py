"""Mistakes of meaning in a matrix that reads well: each rule is one small function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from fac_backup.policy.model import Matrix

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Finding:
    """One mistake: ``error`` if data or safety is at stake, ``warning`` if it is only likely not meant."""

    severity: Literal["error", "warning"]
    at: Location
    """Keys and indexes from the top of the matrix."""
    sentence: str


def lint(matrix: Matrix) -> tuple[Finding, ...]:
    """All findings, errors first."""
    found = [finding for rule in _RULES for finding in rule(matrix)]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def _one_store(matrix: Matrix) -> Iterator[Finding]:
    stores = {name: matrix.store(name).rstrip("/") + "/" for name in matrix.spaces}
    for one, other in combinations(matrix.spaces, 2):
        first, second = stores[one], stores[other]
        if first.startswith(second) or second.startswith(first):
            yield Finding(
                "error",
                ("spaces", other, "store"),
                f"{one} and {other} have one store: whoever holds the key for {other} can destroy the backups of {one}",
            )


def _one_instance(matrix: Matrix) -> Iterator[Finding]:
    """Two spaces that work on one service instance of one Cloud Foundry space."""
    seen: dict[tuple[object, ...], tuple[str, str]] = {}
    for name, space in matrix.spaces.items():
        place = matrix.place(name)
        named = [("database", space.instances.database), ("backups", space.instances.backups)]
        named += [(f"documents.{label}", instance) for label, instance in space.instances.documents.items()]
        for role, instance in named:
            if instance is None:
                continue
            key = (place.organization, place.space, instance)
            if key in seen:
                other, its_role = seen[key]
                yield Finding(
                    "error",
                    ("spaces", name, "instances", *role.split(".")),
                    f"{role} of {name} and {its_role} of {other} are the same instance {instance}",
                )
            seen.setdefault(key, (name, role))


def is_production(matrix: Matrix, space: str) -> bool:
    """Whether ``space`` looks like one whose loss hurts.

    It is marked ``protected``; or it declares ``pre-deploy`` backups; or other spaces are filled from it.
    """
    own = matrix.space(space)
    declares = "pre-deploy" in (own.kinds or ()) or "pre-deploy" in own.retention
    return own.protected or declares or any(path.target != space for path in matrix.paths_from(space))


def _unattended_into_production(matrix: Matrix) -> Iterator[Finding]:
    for index, path in enumerate(matrix.paths):
        # Dev is filled from its own backup every day, and previews from dev: being a source alone is not enough.
        own_refresh = path.source == path.target and not matrix.space(path.target).protected
        declares = "pre-deploy" in (matrix.space(path.target).kinds or ())
        if "unattended" in path.when and is_production(matrix, path.target) and (declares or not own_refresh):
            yield Finding(
                "error",
                ("paths", index, "when"),
                f"An unattended restore into {path.target}: it is protected, is deployed to or is a source for others;"
                " nobody would be asked before it is overwritten",
            )


def _downhill(matrix: Matrix) -> Iterator[Finding]:
    for index, path in enumerate(matrix.paths):
        if path.source != path.target and matrix.space(path.target).protected:
            yield Finding(
                "warning", ("paths", index), f"{path.target} is protected, and this path fills it from {path.source}"
            )


def _recovery_that_changes(matrix: Matrix) -> Iterator[Finding]:
    for index, path in enumerate(matrix.paths):
        if path.before_swap is not None and path.source == path.target and is_production(matrix, path.target):
            yield Finding(
                "warning",
                ("paths", index, "before_swap"),
                f"{path.before_swap} changes what is put back into {path.target} from its own backups: a recovery would"
                " bring back other data than was backed up",
            )


def _no_undo(matrix: Matrix) -> Iterator[Finding]:
    for index, path in enumerate(matrix.paths):
        if path.undo == "none" and matrix.space(path.target).protected:
            yield Finding(
                "error", ("paths", index, "undo"), f"{path.target} is protected, and this restore cannot be undone"
            )


def _kind_without_retention(matrix: Matrix) -> Iterator[Finding]:
    for name, space in matrix.spaces.items():
        for kind in matrix.kinds_of(name) if space.kinds is not None or space.retention else tuple(matrix.kinds):
            if matrix.retention(name, kind) is None:
                yield Finding(
                    "warning",
                    ("spaces", name, "retention"),
                    f"{name} has no retention for {kind} backups: they are kept for ever",
                )


def _signatures_not_required(matrix: Matrix) -> Iterator[Finding]:
    for name, space in matrix.spaces.items():
        if space.public_keys and not space.require_signatures:
            yield Finding(
                "warning",
                ("spaces", name, "public_keys"),
                f"{name} names public keys but does not require signatures: a backup without one is accepted",
            )


def _case(matrix: Matrix) -> Iterator[Finding]:
    lists: list[tuple[Location, Iterable[str]]] = [(("repositories",), matrix.repositories)]
    if matrix.who is not None:
        lists.append((("who", "users"), matrix.who.users))
    for name, space in matrix.spaces.items():
        lists.append((("spaces", name, "exclude_data"), space.exclude_data))
        instances = (space.instances.database, space.instances.backups, *space.instances.documents.values())
        lists.append((("spaces", name, "instances"), {instance for instance in instances if instance}))
    environments = {
        matrix.environment(operation, space, unattended=unattended)
        for operation in ("backup", "list", "verify", "purge", "restore", "adopt")
        for space in matrix.spaces
        for unattended in (True, False)
    }
    lists.append((("environments",), environments))
    for at, words in lists:
        seen: dict[str, str] = {}
        for word in sorted(words):
            if word.lower() in seen:
                yield Finding("warning", at, f"{seen[word.lower()]!r} and {word!r} differ only in case")
            seen.setdefault(word.lower(), word)


def _unused(matrix: Matrix) -> Iterator[Finding]:
    for kind in matrix.kinds:
        if not any(kind in matrix.kinds_of(name) for name in matrix.spaces):
            yield Finding("warning", ("kinds", kind), f"No space has the kind {kind}")


def _shared_environment(matrix: Matrix) -> Iterator[Finding]:
    """An environment that serves unattended runs cannot ask reviewers, so it cannot guard what people start."""
    for index, path in enumerate(matrix.paths):
        by_hand = matrix.environment("restore", path.target, unattended=False)
        alone = {matrix.environment("restore", path.target, unattended=True)}
        alone |= {matrix.environment(operation, path.target, unattended=True) for operation in ("backup", "purge")}
        if "manual" in path.when and by_hand.lower() in {name.lower() for name in alone}:
            yield Finding(
                "error",
                ("paths", index),
                f"The environment {by_hand} serves both unattended runs and restores by hand: "
                "its reviewers would have to approve every daily run",
            )


_RULES = (
    _one_store,
    _one_instance,
    _unattended_into_production,
    _downhill,
    _recovery_that_changes,
    _no_undo,
    _kind_without_retention,
    _signatures_not_required,
    _case,
    _unused,
    _shared_environment,
)
