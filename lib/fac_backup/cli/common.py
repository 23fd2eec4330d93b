"""What all commands share: their common options, how results are printed, and how every failure ends as one line."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import click

from fac_backup.cli.complete import completion
from fac_backup.cli.streams import say
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings, surroundings
from fac_backup.plain.errors import STOPPED_THERE, FacBackupError, FailedError, Stopped, UsageError
from fac_backup.plain.text import for_log, one_line
from fac_backup.report.progress import above


@dataclass(frozen=True)
class Console:
    """What the common options say."""

    operation: str
    json: bool
    jobs: int
    lock_wait: float | None
    log_format: str
    debug: bool
    matrix: str
    inside_actions: bool

    def start(self) -> None:
        """Inside Actions: fold what is logged until the result under one line."""
        if self.inside_actions:
            from fac_backup.cli import actions

            actions.fold(self.operation)

    def finish(self, result: Result) -> None:
        """Print a result: JSON or text on stdout; inside Actions also outputs and step summary.

        Where stdout is closed or full, the operation is done all the same: one line on stderr has what must be known.
        """
        self._unfold()
        if self.json:
            text = json.dumps(result.as_json(), indent=1)
        else:
            from fac_backup.report import table

            text = result.printed or table.outcome(result.outcome, public=self.inside_actions)
        wrong = say(text)
        if wrong is not None:
            ids = {
                "backup": result.outcome.backup_id or result.data.get("backup_id"),
                "undo": result.data.get("undo_id"),
            }
            named = "".join(f" The {word} id is {one}." for word, one in ids.items() if one)
            why = f"The result could not be printed ({wrong.strerror})."
            say(f"fac-backup: {self._safe(f'{result.outcome.title}.{named} {why}')}", err=True)
        if self.inside_actions:
            from fac_backup.cli import actions

            actions.tell(result)
        if result.exit_code:
            raise click.exceptions.Exit(result.exit_code)

    def fail(self, error: FacBackupError) -> None:
        """Print a failure: one line on stderr; inside Actions also annotation, outputs and step summary."""
        self._unfold()
        if self.json:
            told = {"operation": self.operation, "exit_code": error.exit_code, "error": error.line(), **error.data}
            say(json.dumps(told))
        say(f"fac-backup: {self._safe(error.line())}", err=True)
        if self.inside_actions:
            from fac_backup.cli import actions

            actions.tell_failure(self.operation, error)

    def _unfold(self) -> None:
        if self.inside_actions:
            from fac_backup.cli import actions

            actions.unfold()

    def _safe(self, text: str) -> str:
        return for_log(text) if self.inside_actions or self.log_format == "github" else one_line(text, 2000)


def option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """A Click option that is also the environment variable ``FAC_BACKUP_<OPTION>``, shown in the help."""
    long_name = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "FAC_BACKUP_" + long_name.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, shell_complete=completion(long_name), **settings)


def common(function: Callable[..., None]) -> Callable[..., None]:
    """Add the common options, give the command a ``Console``, let every failure end as one line and an exit code."""

    @option("--json", "json_", is_flag=True, help="The result as one JSON document on stdout.")
    @option("--jobs", type=click.IntRange(1, 64), default=max(2, (os.cpu_count() or 1) + 1), show_default="cores + 1",
            help="Connections and workers at the same time.")  # fmt: skip
    @option("--lock-wait", type=click.FloatRange(0), default=None, show_default="10 to 15 minutes",
            help="Seconds to wait for whoever holds a lock of the store.")  # fmt: skip
    @option("--log-format", type=click.Choice(["text", "github"]), default="text", help="How log lines look.")
    @option("--debug", is_flag=True, help="Show the traceback of a failure.")
    @option("--matrix", type=click.Path(dir_okay=False), default="", help="The policy file. Default: action-matrix.yml "
            "in this folder, if there is one. Refused inside Actions.")  # fmt: skip
    @click.pass_context
    @functools.wraps(function)
    def command(
        context: click.Context,
        /,
        *,
        json_: bool,
        jobs: int,
        lock_wait: float | None,
        log_format: str,
        debug: bool,
        matrix: str,
        **options: Any,
    ) -> None:
        inside = bool((context.obj or {}).get("inside_actions")) or os.environ.get("GITHUB_ACTIONS") == "true"
        console = Console(context.info_name or "", json_, jobs, lock_wait, log_format, debug, matrix, inside)
        set_up_logging(console)
        # A cancelled job gets SIGINT, then SIGTERM: both unwind the stack, so that every `finally` runs.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)
        console.start()
        try:
            function(console, **options)
        except FacBackupError as error:
            console.fail(error)
            if debug:
                raise
            context.exit(error.exit_code)
        except Stopped as stopped:
            console.fail(stopped.told)
            context.exit(stopped.told.exit_code)
        except click.ClickException:
            raise
        except click.exceptions.Exit:
            raise
        except Exception as error:
            if debug:
                raise
            # The message of a foreign exception may hold a row or a secret: only its class is shown.
            failure = FailedError(
                f"Unexpected {type(error).__name__} in fac-backup {console.operation}",
                state="The operation stopped.",
                next_step="Run it again with --debug where its output is private, and report what it shows.",
            )
            console.fail(failure)
            context.exit(failure.exit_code)

    return cast(Callable[..., None], command)


def wrong_usage(error: click.ClickException, arguments: Sequence[str], *, inside_actions: bool) -> int:
    """Tell wrong usage as every other failure is told, by one line; the exit code."""
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "fac-backup"
    failure = UsageError(one_line(error.format_message(), 500), next_step=f"See `{command} --help`.")
    inside = inside_actions or os.environ.get("GITHUB_ACTIONS") == "true"
    operation = command.partition(" ")[2] or "fac-backup"
    Console(operation, "--json" in arguments, 1, None, "text", debug=False, matrix="", inside_actions=inside).fail(
        failure
    )
    return failure.exit_code


def around(console: Console) -> Surroundings:
    """The world around the operation: matrix, places, run."""
    return surroundings(
        doing=console.operation,
        matrix_file=console.matrix,
        inside_actions=console.inside_actions,
        jobs=console.jobs,
        lock_wait=console.lock_wait,
    )


def interrupt(number: int, _frame: object) -> None:
    """Turn the first signal into the end of the main thread; ignore what follows while that is handled."""
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_IGN)
    raise Stopped(
        FailedError(
            f"Interrupted by {signal.Signals(number).name}",
            state=STOPPED_THERE,
            next_step="Run it again when you want it.",
        )
    )


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Log lines on stderr; the text of every record is made safe here and nowhere else."""

    def __init__(self, safe: Callable[[str], str]) -> None:
        super().__init__(sys.stderr)
        self._safe = safe

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, above the bars that are shown, if any are."""
        try:
            above(self.format(record), self.stream)
        except Exception:
            self.handleError(record)

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return level + self._safe(record.getMessage())


def set_up_logging(console: Console) -> None:
    """Send the package's log to stderr. Other libraries' logs stay silent: some of them log credentials."""
    logger = logging.getLogger("fac_backup")
    logger.handlers = [_Handler(console._safe)]
    logger.setLevel(logging.DEBUG if console.debug else logging.INFO)
    logger.propagate = False
    # Without any handler Python prints other libraries' warnings to stderr; some of them show addresses.
    logging.getLogger().addHandler(logging.NullHandler())
