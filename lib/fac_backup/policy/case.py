"""One case to decide: the facts beside the matrix, and what follows from the two before any rule is asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from fac_backup.policy.facts import Facts, Request, Run
from fac_backup.policy.model import Matrix

Mode = Literal["unattended", "finish", "manual", "outside"]
"""How a run began; ``authorization`` says what each means."""


@dataclass(frozen=True)
class Case:
    """The facts beside the matrix, and what follows from the two."""

    facts: Facts
    matrix: Matrix

    @property
    def request(self) -> Request:
        """What is asked for."""
        return self.facts.request

    @property
    def run(self) -> Run:
        """The runner's account of the run."""
        return self.facts.run

    @cached_property
    def mode(self) -> Mode:
        """How the run began."""
        if not self.run.inside_actions:
            return "outside"
        # Resuming is a person's decision, whatever the event.
        if self.run.event != "schedule" or self.request.resume:
            return "manual"
        if self.run.attempt == 1:
            return "unattended"
        return "finish" if self.request.operation == "restore" or self.deletes else "manual"

    @cached_property
    def guarded(self) -> bool:
        """Whether the operation can harm a space or its backups, so that GitHub's record of the run must agree."""
        operation = self.request.operation
        if operation == "hold":
            return self.request.release
        return operation in ("adopt", "unlock", "import", "export", "restore") or self.deletes

    @cached_property
    def deletes(self) -> bool:
        """Whether it removes backups by the rules."""
        return self.request.operation in ("purge", "sweep") and not self.request.dry_run

    @cached_property
    def needs_person(self) -> bool:
        """Whether people are checked."""
        if not self.run.inside_actions or not self.guarded:
            return False
        return not (self.mode == "unattended" and (self.request.operation == "restore" or self.deletes))

    @cached_property
    def by_hand(self) -> bool:
        """Whether it must be a restore that a person has chosen and confirmed."""
        return self.request.operation == "restore" and self.mode in ("manual", "outside")

    @cached_property
    def undo(self) -> bool:
        """Whether this is a restore of a space from its own backups that the matrix does not list for people."""
        path = self.matrix.path(self.request.source, self.request.target)
        return (
            self.by_hand and self.request.source == self.request.target and (path is None or "manual" not in path.when)
        )

    @cached_property
    def environment(self) -> str:
        """The environment for the job; empty where the space is unknown."""
        subject = self.request.subject
        if subject not in self.matrix.spaces:
            return ""
        unattended = self.mode in ("unattended", "finish")
        harmless = self.request.operation in ("purge", "sweep", "hold", "doctor") and not self.guarded
        operation = "purge" if self.request.operation == "sweep" else self.request.operation
        return self.matrix.environment(operation, subject, unattended=unattended, dry_run=harmless)

    @cached_property
    def needs_environment(self) -> bool:
        """Whether the settings of that environment are checked."""
        approved = self.matrix.who is not None and bool(self.matrix.who.environment)
        return self.needs_person and (self.by_hand or approved)
