"""What every operation needs to know of the world: the matrix, the places, the run, the clock."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from fac_backup import __version__
from fac_backup.hosting.scripts import no_scripts, script_beside
from fac_backup.hosting.settings import Places, places_from
from fac_backup.plain.errors import UsageError
from fac_backup.plain.locations import BucketAddress
from fac_backup.plain.manifest import Run
from fac_backup.policy.matrix import DEFAULT, Matrix, load
from fac_backup.report.progress import Progress, choose

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """This moment, aware, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Surroundings:
    """Everything around one operation. Made once, at the edge; operations read it and change nothing in it."""

    matrix: Matrix
    matrix_from: str
    """Which file at which commit decided, in words."""
    has_matrix: bool
    inside_actions: bool
    env: Mapping[str, str] = field(repr=False)
    jobs: int = 3
    clock: Callable[[], datetime] = utc_now
    doing: str = "fac-backup"
    """The operation, as whoever waits for its lock is told."""
    matrix_commit: str = ""
    lock_wait: float | None = None
    """Seconds to wait for a lock, where somebody has said; None: what the operation finds right."""
    script: Callable[[str], str] = field(default=no_scripts, repr=False)
    """The text of an SQL file that the matrix names, from where the matrix came from. Raises FacBackupError."""

    @property
    def transfers(self) -> int:
        """Requests to S3 at the same time: they wait for the network, not for a core."""
        return max(16, 4 * self.jobs)

    def patience(self, usual: float) -> float:
        """Seconds to wait for a lock."""
        return usual if self.lock_wait is None else self.lock_wait

    @property
    def who(self) -> str:
        """Who works here, for locks: the run, or this process. Never a host."""
        if self.inside_actions:
            from fac_backup.hosting.github.run import run_from

            return run_from(self.env).label
        # Inside a task of the app the runner that started it says who it is (operations.in_space).
        return self.env.get("FAC_BACKUP_RUN_WHO") or f"(process {os.getpid()})"

    def one_space(self, name: str) -> str:
        """``name``, or the only space there is. Raises UsageError for an unknown one, or if none is named of many."""
        if not name and len(self.matrix.spaces) > 1:
            raise UsageError("No space is named", next_step=f"Spaces are: {', '.join(self.matrix.spaces)}.")
        if not self.has_matrix and name not in ("", *self.matrix.spaces):
            raise self.no_matrix(name)
        self.matrix.space(name or next(iter(self.matrix.spaces)))
        return name or next(iter(self.matrix.spaces))

    def no_matrix(self, space: str) -> UsageError:
        """That a space was named where no matrix is: the wrong folder, or a repository without one."""
        if self.inside_actions:
            return UsageError(
                f"There is no space {space[:60]!r}: the default branch has no action-matrix.yml",
                next_step="Add one that names the space, or leave the space out: without a matrix it is `default`.",
            )
        return UsageError(
            f"There is no space {space[:60]!r}: this folder has no action-matrix.yml",
            next_step="Change to the folder that holds it, or name the file with --matrix.",
        )

    def require_signatures(self, space: str) -> bool:
        """Whether unsigned backups of ``space`` count for nothing."""
        return self.matrix.space(space).require_signatures

    @property
    def attempt(self) -> int:
        """Which attempt of the run this is; 1 outside Actions."""
        text = self.env.get("GITHUB_RUN_ATTEMPT", "1") if self.inside_actions else "1"
        return int(text) if text.isdigit() else 1

    @property
    def restore_url(self) -> str:
        """Address of the page where a restore is started by hand; empty where it is not known."""
        repository = self.env.get("GITHUB_REPOSITORY", "")
        server = self.env.get("GITHUB_SERVER_URL", "https://github.com")
        return f"{server}/{repository}/actions/workflows/restore.yml" if self.inside_actions and repository else ""

    def progress(self) -> Progress:
        """How far things are: bars on a terminal, a line now and then in a job's log."""
        return choose(in_actions=self.inside_actions, write=log.info)

    def default_kind(self) -> str:
        """The kind where none is named: inside Actions from the event, elsewhere manual (docs/format.md)."""
        if not self.inside_actions:
            return "manual"
        event = self.env.get("GITHUB_EVENT_NAME", "")
        return {"schedule": "daily", "workflow_dispatch": "manual"}.get(event, "pre-deploy")

    def places(self, space: str, *, source: bool = False) -> Places:
        """Where the data of ``space`` is. Raises UsageError for a malformed or contradictory setting."""
        places = places_from(self.env, self.matrix.space(space).instances, source=source)
        declared = self.matrix.store(space)
        if declared.startswith("s3://") and places.bucket is not None:
            expected = BucketAddress.parse(declared)
            if (expected.name, expected.prefix) != (places.bucket.name, places.bucket.prefix):
                raise UsageError(
                    f"The bucket given is not the store that the matrix names for {space}",
                    next_step="Give the bucket of the matrix, or correct `store` there.",
                )
        return places

    @property
    def run(self) -> Run:
        """Who and what runs this, for manifests, locks and the audit."""
        if not self.inside_actions:
            given = self.env
            return Run(
                tool=__version__, actor=given.get("FAC_BACKUP_RUN_ACTOR", ""), url=given.get("FAC_BACKUP_RUN_URL", "")
            )
        from fac_backup.hosting.github.run import run_from

        run = run_from(self.env)
        return Run(tool=__version__, actor=run.triggering_actor or run.actor, url=run.url)


def surroundings(
    *,
    doing: str,
    matrix_file: str,
    inside_actions: bool,
    jobs: int,
    lock_wait: float | None = None,
    env: Mapping[str, str] | None = None,
) -> Surroundings:
    """Find the matrix that applies and describe the world around an operation.

    Inside Actions the matrix is the library's own, or the consumer's from its default branch (docs/security.md);
    elsewhere ``matrix_file``, or ``action-matrix.yml`` in this folder if there is one. Raises UsageError.
    """
    env = os.environ if env is None else env
    if inside_actions:
        if matrix_file:
            raise UsageError(
                "--matrix is refused inside GitHub Actions: the policy comes from the default branch",
                next_step="Leave it out; change action-matrix.yml on the default branch instead.",
            )
        from fac_backup.hosting.github.facts import matrix_of_run

        found = matrix_of_run(env)
        return Surroundings(
            found.matrix,
            found.origin,
            found.has_matrix,
            True,
            env,
            jobs,
            doing=doing,
            matrix_commit=found.commit,
            lock_wait=lock_wait,
            script=found.script,
        )
    path = Path(matrix_file or "action-matrix.yml")
    if not path.is_file():
        if matrix_file:
            raise UsageError(f"There is no file {matrix_file}", next_step="Give the path of the matrix.")
        return Surroundings(DEFAULT, "no matrix", False, False, env, jobs, doing=doing, lock_wait=lock_wait)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The matrix cannot be read ({type(error).__name__})", next_step="It must be UTF-8 text."
        ) from None
    beside = partial(script_beside, path.parent, f"the folder of {path.name}")
    return Surroundings(
        load(text, path.name), path.name, True, False, env, jobs, doing=doing, lock_wait=lock_wait, script=beside
    )
